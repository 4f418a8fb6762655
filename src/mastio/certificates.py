"""Public certificates that an administrator brings, and the next key's turn.

    give(vault, site, "mx.fortress.test", CHAIN)          signed for a key of the vault (`certificates.request`)
    give(vault, site, "mx.fortress.test", CHAIN, KEY)     with a key of the administrator's
    forget(vault, site, "mx.fortress.test")               from now on an authority signs again

A key of the MX stands in DNS (TLSA, RFC 7672) before it is used: one that nobody has announced is announced first,
and takes its turn when it is given a second time. The vault is changed in memory.
"""

import re
from enum import StrEnum

from mastio import pki, secrets
from mastio.errors import Exit, MastioError
from mastio.roles.certificates import given, names
from mastio.site.model import Site
from mastio.vault import Vault

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----", re.DOTALL)


class Outcome(StrEnum):
    """What became of a given certificate."""

    SHOWN = "shown"
    """The next apply has it shown."""
    ANNOUNCED = "announced"
    """Its key is the next one now: its TLSA record must be in DNS first."""


def known(site: Site, host: str) -> tuple[str, ...]:
    """The names in a host's certificate; MastioError when the site has no such host."""
    try:
        return names(site)[host]
    except KeyError:
        raise MastioError(
            f"{host} has no public certificate",
            hint=f"this site has {' and '.join(names(site))}",
            code=Exit.USAGE,
        ) from None


def give(vault: Vault, site: Site, host: str, chain: str, key: str = "") -> Outcome:
    """Takes a certificate with those above it. Raises MastioError when it does not serve the host."""
    wanted = known(site, host)
    blocks = _BLOCK.findall(chain.replace("\r\n", "\n"))
    if not blocks:
        raise _wrong(f"no certificate for {host} is there", "PEM, the server's certificate first")
    text = "".join(f"{it}\n" for it in blocks)
    try:
        digest, left, has = pki.key_digest(text), pki.days_left(text), pki.names(text)
        if key and pki.key_digest(key) != digest:
            raise _wrong(
                f"the key is not that of the certificate for {host}", "give both of a pair"
            )
    except (ValueError, TypeError, LookupError) as error:
        raise _wrong(
            f"what is given for {host} cannot be read: {error}", "PEM without a password"
        ) from None
    if missing := [it for it in wanted if it not in has and f"*.{it.partition('.')[2]}" not in has]:
        raise _wrong(
            f"the certificate is not for {', '.join(missing)}",
            f"it must be for {', '.join(wanted)}",
        )
    if left <= 0:
        raise _wrong(f"the certificate for {host} has expired", "give one that is in date")
    own, following = f"public/{host}/key", secrets.following(host)
    held = {pki.key_digest(vault[it]): it for it in (following, own) if it in vault}
    if digest not in held and not key:
        raise _wrong(
            f"the certificate is for no key of {host}",
            f"`mastio certificates request {host}` prints what an authority must sign; or give its key with --key",
        )
    if digest not in held and host == site.mx_host:
        vault.put(following, key)
        secrets.ensure(vault, site)
        return Outcome.ANNOUNCED
    vault.put(own, vault[held[digest]] if digest in held else key)
    vault.put(f"public/{host}/cert", text)
    vault.put(given(host), "given")
    if held.get(digest) == following:
        vault.drop(following)
    secrets.ensure(vault, site)
    return Outcome.SHOWN


def forget(vault: Vault, site: Site, host: str) -> None:
    """Lets an authority sign for a host again."""
    known(site, host)
    if given(host) not in vault:
        raise MastioError(
            f"nobody has given a certificate for {host}", hint="nothing to do", code=Exit.USAGE
        )
    vault.drop(given(host))
    secrets.ensure(vault, site)


def _wrong(message: str, hint: str) -> MastioError:
    return MastioError(message, hint=hint, code=Exit.DATA)
