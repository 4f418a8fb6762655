"""How each generated secret is made anew, should somebody have read it.

    way("host/store/key", site, vault)            "mastio secrets rotate host/store"
    way("dkim/fortress.test/k1r", site, vault)    "mastio dkim rotate fortress.test --compromised"
    plain(["public/mx.fortress.test/key"], …)     refuses: that has an order to keep
    ELSEWHERE                                     secrets that no vault has, and why each is as it is

What a secret guards decides how it goes: most are replaced by the next apply; a key that stands in DNS follows
another that stood there before. A test asks for a way for whatever a vault may hold, and goes it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mastio.context import AUTHORITIES
from mastio.errors import Exit, MastioError
from mastio.roles.certificates import given
from mastio.roles.vpn import DEVICES
from mastio.site.model import Site

_NO_SECRETS = ("/ring", "request", "/given", *(f"/{it}" for it in AUTHORITIES[1:]))


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A secret that was born where it lies."""

    what: str
    places: tuple[str, ...]
    """Paths on a machine, with shell wildcards; none: on the administrator's side, or gone."""
    way: str
    """A command, or why there is none."""


ELSEWHERE: tuple[Elsewhere, ...] = (
    Elsewhere("the vault's key (an age identity)", (), "mastio secrets rekey"),
    Elsewhere(
        "a machine's ssh host key that administrators know", ("/etc/ssh/ssh_host_*_key",),
        "mastio rebuild MACHINE. Watch knows the machine by another: mastio secrets rotate host/MACHINE.",
    ),
    Elsewhere(
        "the key that seals the logs", (),
        "None is needed: each hour there is another, and the former is deleted.",
    ),
    Elsewhere(
        "the account with the authority of public certificates",
        ("/var/lib/mastio/certificates/acme/accounts/*/account_key.pem",),
        "None: who has read it was root on watch, where names are proven anyway; a watch that is rebuilt registers "
        "anew. It opens no server's key.",
    ),
    Elsewhere(
        "the key inside a repository of archives (borg)", (),
        "None: borg has no other key for what is archived already. It lies locked by backup/MACHINE/passphrase, "
        "which is rotated; who had both could read that machine's archives as long as he can read watch's disk.",
    ),
    Elsewhere(
        "keys that Debian's packages make and nobody uses",
        ("/etc/ssl/private/ssl-cert-snakeoil.key", "/etc/roundcube/config.inc.php.ucf-dist",
         "/var/lib/ucf/cache/:etc:roundcube:config.inc.php"),
        "None is needed: they open nothing.",
    ),
)  # fmt: skip


AFTER: tuple[tuple[str, str], ...] = (
    ("acme/tsig", "give the name server what `mastio certificates tsig` prints"),
    (
        "backup/*/passphrase",
        "print the key for paper anew (`mastio backup key`): the old sheet wants the old passphrase",
    ),
    ("copy/*", "give the host of the second copy what `mastio backup copy-key` prints"),
    (
        "vpn/key",
        "give each device anew: `mastio vpn revoke`, then `mastio vpn add`; none knows the new key",
    ),
    ("public/*/next", "put the new key's TLSA record into DNS (`mastio dns`)"),
    ("webmail/des-key", "whoever is logged in to the webmail logs in again"),
)
"""What must be done beside an apply when a secret was made anew."""


def way(name: str, site: Site, vault: Mapping[str, str]) -> str:
    """The command after which a secret of the vault is another; empty for what is none, or goes with another.

    For a certificate: that of its key.
    """
    part, _, rest = name.partition("/")
    if f"/{name}".endswith(_NO_SECRETS):
        return ""
    if part == "dkim":
        return f"mastio dkim rotate {rest.partition('/')[0]} --compromised"
    if name.startswith(DEVICES):
        return f"mastio vpn revoke {name.removeprefix(DEVICES)}"
    if part == "ca-next":
        return "mastio secrets rotate ca"
    if part == "public" and not name.endswith("/next"):
        host = rest.partition("/")[0]
        what = "give" if given(host) in vault else "rotate"
        return f"mastio certificates {what} {host}"
    return f"{_PLAIN}{name.removesuffix('/key').removesuffix('/cert')}"


_PLAIN = "mastio secrets rotate "


def plain(names: Iterable[str], site: Site, vault: Mapping[str, str]) -> None:
    """MastioError when one of the secrets must not just be made anew: what strangers know of it would be false.

    Nothing brings a server a certificate for a key that an authority has not signed for beforehand.
    """
    for name in names:
        command = way(name, site, vault)
        if name.startswith(DEVICES):
            raise MastioError(
                f"{name}: the device has the other half of this key",
                hint=f"nothing was changed; `{command}`, then `mastio vpn add` it anew",
                code=Exit.USAGE,
            )
        if command and not command.startswith(_PLAIN):
            raise MastioError(
                f"{name}: what follows it must be in DNS, or signed by an authority, before it is used",
                hint=f"nothing was changed; `{command}` keeps the order",
                code=Exit.USAGE,
            )
