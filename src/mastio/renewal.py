"""How the internal authority is followed by another without a moment in which machines disbelieve each other.

| step | what the vault then says | before the next step |
|---|---|---|
| `ANNOUNCE` | a successor is made; machines believe both | every machine must have it |
| `SIGN` | the successor signs all certificates anew, for the same keys; machines believe both | the same |
| `FORGET` | machines believe the successor alone | |

What the vault holds says which step comes next, so what was interrupted goes on where it stopped. An apply
works on all machines at once and in no order: that is why each step needs an apply of its own.

A renewal that nobody watches must not bring along what somebody is writing into the site file: `another` and
`foreign` tell its own changes from others.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import PurePosixPath

from mastio import pki, secrets
from mastio.dns import rings
from mastio.plan import Kind, MachinePlan, wanted
from mastio.site.model import Site
from mastio.state import HostState
from mastio.vault import Vault


class Step(StrEnum):
    """One of the three."""

    ANNOUNCE = "announce"
    SIGN = "sign"
    FORGET = "forget"

    @property
    def words(self) -> str:
        """For people."""
        return {
            Step.ANNOUNCE: "a new authority is made; machines believe both",
            Step.SIGN: "the new authority signs all certificates",
            Step.FORGET: "the former authority is believed no longer",
        }[self]


def step(vault: Vault) -> Step | None:
    """What comes next; None when nothing is due."""
    if "ca-former/cert" in vault:
        return Step.FORGET
    if "ca-next/key" in vault:
        return Step.SIGN
    if pki.days_left(vault["ca/cert"]) < pki.AUTHORITY_RENEW_DAYS:
        return Step.ANNOUNCE
    return None


def take(vault: Vault, site: Site, following: Step) -> tuple[str, ...]:
    """Changes the vault in memory by one step; the names of what was made."""
    match following:
        case Step.ANNOUNCE:
            # A name of its own: not every library tells two authorities of one name apart.
            title = f"{site.organisation[:32]} internal authority {secrets.today()}"
            key, certificate = pki.authority(title)
            vault.put("ca-next/key", key)
            vault.put("ca-next/cert", certificate)
            return ("ca-next",)
        case Step.SIGN:
            vault.put("ca-former/cert", vault["ca/cert"])
            for half in ("key", "cert"):
                vault.put(f"ca/{half}", vault[f"ca-next/{half}"])
                vault.drop(f"ca-next/{half}")
            return "ca", *secrets.ensure(vault, site)
        case Step.FORGET:
            vault.drop("ca-former/cert")
            return ()


def another(vault: Vault, site: Site) -> Mapping[str, str]:
    """The vault as if everything that is renewed had just been: other certificates, for the same keys."""
    copy = Vault(vault.folder, dict(vault))
    for name in vault:
        stem, _, half = name.rpartition("/")
        if half == "cert" and f"{stem}/given" not in vault:
            copy.drop(name)
    for authority in ("ca", "public-ca"):
        copy.drop(f"{authority}/key")
    secrets.ensure(copy, site)
    for domain in site.domains:
        before = secrets.ring_of(copy, domain)
        ring = rings.rotate(before, secrets.today())
        copy.put(rings.name(domain), rings.unparse(ring))
        # To make RSA keys takes long, and any will do.
        for old, new in zip(
            rings.following(before).selectors, rings.following(ring).selectors, strict=True
        ):
            copy.put(rings.key(domain, new), copy[rings.key(domain, old)])
    return copy


def touched(now: HostState, renewed: HostState) -> frozenset[str]:
    """The paths of a machine that a renewal changes."""
    before, after = wanted(now), wanted(renewed)
    return frozenset(it for it in before | after if before.get(it) != after.get(it))


def foreign(plan: MachinePlan, own: Iterable[str]) -> tuple[str, ...]:
    """What a plan has that is no renewal's: one whose own paths are `own`. What became of units is mending.

    A key that signs no longer leaves the folder of those that do.
    """
    own = frozenset(own)
    folders = {PurePosixPath(it).parent for it in own}
    paths = [
        it.path
        for it in plan.paths
        if it.path not in own
        and not (it.kind is Kind.REMOVE and PurePosixPath(it.path).parent in folders)
    ]
    rules = ["the firewall"] if plan.firewall else []
    return (*plan.packages, *(it.name for it in plan.users), *paths, *rules)
