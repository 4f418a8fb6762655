"""What was seen on a machine → what speaks against taking it. Pure.

`judge(seen, …)` gives `Objection`s: some can be overruled by somebody who knows better (`--anyway`), some cannot.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypedDict

from mastio import services
from mastio.site.model import Machine, Role, Site

RELEASE = "13"
_DISK, _MEMORY = 3000, 450
"""MiB that a machine needs at least, for the smallest role."""
_HARMLESS = frozenset(("unbound",))
_FIREWALLS = frozenset(("ufw", "firewalld", "fail2ban"))
_OWN = frozenset(
    ("sshd", "systemd", "systemd-resolve", "systemd-network", "chronyd", "dhclient", "dhcpcd")
)
"""Programs that a fresh Debian listens with."""


class Release(TypedDict):
    """/etc/os-release."""

    id: str
    version: str
    name: str


class Seen(TypedDict):
    """What `look` prints."""

    release: Release
    python: list[int]
    uid: int
    systemd: bool
    packages: list[str]
    installed: int
    listeners: list[tuple[str, int, str, bool]]
    """Transport, port, program, whether on loopback only."""
    mail: list[str]
    firewall: int
    ours: str
    memory: int
    disk: int
    free: int
    users: list[str]
    host: str


@dataclass(frozen=True, slots=True)
class Objection:
    """Something that speaks against taking a machine."""

    what: str
    final: bool = False
    """Nobody can overrule it."""


def judge(seen: Seen, site: Site, machine: Machine) -> tuple[Objection, ...]:
    """What speaks against it; () when it is fit."""
    return tuple(_objections(seen, site, machine))


def _objections(seen: Seen, site: Site, machine: Machine) -> Iterator[Objection]:
    release = seen["release"]
    if (release["id"], release["version"]) != ("debian", RELEASE):
        yield Objection(
            f"it runs {release['name'] or 'something unknown'}, not Debian {RELEASE}", final=True
        )
    if not seen["systemd"]:
        yield Objection("it does not run systemd", final=True)
    if seen["ours"] == site.name:
        return  # it is ours already: what is there, mastio put there
    if seen["ours"]:
        yield Objection(f"it belongs to the site {seen['ours']}")
    if seen["mail"]:
        yield Objection(f"there is mail: {_few(seen['mail'])}")
    foreign = [it for it in seen["packages"] if it not in _HARMLESS | _FIREWALLS]
    if foreign:
        yield Objection(f"it has been for something else: {_few(foreign)}")
    if walls := [it for it in seen["packages"] if it in _FIREWALLS]:
        yield Objection(f"{_few(walls)} would fight with the firewall")
    elif seen["firewall"]:
        yield Objection(
            f"it has a firewall of its own, {seen['firewall']} rules, that would be replaced"
        )
    if others := served(seen, [services.SSH.port]):
        yield Objection(f"it serves others: {_few(others)}")
    if seen["free"] < _DISK:
        yield Objection(f"{seen['free']} MiB of its disk are free, {_DISK} are the least")
    if seen["memory"] < _MEMORY:
        yield Objection(f"it has {seen['memory']} MiB of memory, {_MEMORY} are the least")


def served(seen: Seen, ports: Sequence[int]) -> list[str]:
    """What listens for others there, but for a fresh Debian's own and what is on `ports`."""
    return sorted(
        {
            f"{program or 'something'} ({transport} {port})"
            for transport, port, program, loopback in seen["listeners"]
            if not loopback and program not in _OWN and port not in ports
        }
    )


def comes_from(site: Site, machine: Machine, client: str) -> Objection | None:
    """Whether an administrator at the address `client` could still come in when the rules are in force."""
    return locked_out(site, client) if machine.has(Role.WATCH) else None


def locked_out(site: Site, client: str) -> Objection | None:
    """Whether somebody at the address `client`, if it is known, is none of the administrators by it."""
    if not client:
        return None
    address = ip_address(client)
    if any(address in it for it in site.admin_networks if it.version == address.version):
        return None
    return Objection(
        f"you come from {address}, and admins.networks does not have it: you would lock yourself out"
    )


def comes_with(site: Site, fingerprint: str, known: dict[str, str]) -> Objection | None:
    """Whether the key that opened is among the administrators'; `known` has their fingerprints."""
    if not fingerprint or fingerprint in known:
        return None
    return Objection(
        f"the key that opened it ({fingerprint}) is not in admins.keys: it would open nothing any more"
    )


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
