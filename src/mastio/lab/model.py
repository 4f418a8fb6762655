"""A machine as the lab makes it: packages, links and addresses; no mail in sight.

`machines` derives them from a site and its desired states: every machine of the site on the segment
of its zone, the firewall on all of them and on the internet, and `outside` on the internet. Without a
firewall every machine stands on the internet itself.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Any

from mastio.lab import internet
from mastio.site.model import Address, Machine, Role, Site
from mastio.state import HostState
from mastio.transport import OUTSIDE

Interface = IPv4Interface | IPv6Interface
_TUN = "/dev/net/tun"


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface: the segment it stands on (and is named after), addresses, default routers."""

    segment: str
    addresses: tuple[Interface, ...]
    routers: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class LabMachine:
    """One Debian machine to be made."""

    name: str
    hostname: str
    packages: tuple[str, ...] = ()
    debconf: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    devices: tuple[str, ...] = ()
    """Device files of the box that it may use."""

    def record(self) -> dict[str, object]:
        """Plain data for a JSON file; `recall` reads it."""
        return asdict(self) | {"links": [_record(link) for link in self.links]}


def recall(data: Mapping[str, Any]) -> LabMachine:
    """The machine that `LabMachine.record` wrote."""
    links = tuple(
        Link(
            link["segment"],
            tuple(ip_interface(it) for it in link["addresses"]),
            tuple(ip_address(it) for it in link["routers"]),
        )
        for link in data["links"]
    )
    return LabMachine(
        data["name"],
        data["hostname"],
        tuple(data["packages"]),
        tuple(data["debconf"]),
        links,
        tuple(data.get("devices", ())),
    )


def _record(link: Link) -> dict[str, object]:
    return {
        "segment": link.segment,
        "addresses": [str(it) for it in link.addresses],
        "routers": [str(it) for it in link.routers],
    }


def machines(site: Site, states: Mapping[str, HostState]) -> tuple[LabMachine, ...]:
    """The machines of `site` and `outside`, as the lab makes them; `states` has one for each. Pure."""
    behind = bool(site.carrying(Role.FIREWALL))
    joined = {it.name for it in site.machines if it.inner}
    links = {it.name: _links(site, it, behind=behind) for it in site.machines}
    links[OUTSIDE] = (Link(internet.SEGMENT, _on_internet(internet.outside(site))),)
    return tuple(
        LabMachine(
            name,
            name,
            tuple(sorted(states[name].packages)),
            states[name].debconf,
            its,
            # A kernel without WireGuard has it done by a program, which needs this; plain machines will have it, too.
            (_TUN,) if name in joined or "wireguard-go" in states[name].packages else (),
        )
        for name, its in links.items()
    )


def _links(site: Site, machine: Machine, *, behind: bool) -> tuple[Link, ...]:
    # The way to the rest of the world is a neighbour that drops it: packets leave, as they would.
    world = internet.mta(site)
    if machine.has(Role.FIREWALL):
        inner = (
            Link(zone.name, tuple(ip_interface((net[1], net.prefixlen)) for net in zone.networks))
            for zone in site.zones
        )
        return (*inner, Link(internet.SEGMENT, _on_internet(site.public), world))
    if not behind:
        return (Link(internet.SEGMENT, _on_internet(machine.addresses), world),)
    zone = site.zone(machine.zone)
    prefixes = {network.version: network.prefixlen for network in zone.networks}
    addresses = tuple(ip_interface((it, prefixes[it.version])) for it in machine.addresses)
    return (Link(zone.name, addresses, zone.routers),)


def _on_internet(addresses: tuple[Address, ...]) -> tuple[Interface, ...]:
    return tuple(ip_interface((it, internet.prefix(it))) for it in addresses)
