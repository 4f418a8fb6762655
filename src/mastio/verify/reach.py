"""What should be reachable from where, from the flow matrix alone; and what a scan of it is worth. Pure.

A vantage sees these targets: from outside, the public addresses; from a machine of the site, every other
machine's addresses, and the firewall's in its own zone; from the tunnel of people's devices (`VPN`), all
addresses of all. Ports are `(transport, port)`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from mastio import services
from mastio.flows import ADMIN, INTERNET, VPN, FlowMatrix
from mastio.foreign import printable
from mastio.site.model import Address
from mastio.transport import OUTSIDE
from mastio.verify.model import Cell

Port = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Target:
    """An address to look at, and whose it is."""

    name: str
    address: Address


PUBLIC = "public"
"""The name of the perimeter's public addresses."""


def targets(matrix: FlowMatrix, vantage: str) -> tuple[Target, ...]:
    """What `vantage` looks at, each address once."""
    site = matrix.site
    if vantage == OUTSIDE:
        if matrix.firewall:
            return tuple(Target(PUBLIC, address) for address in site.public)
        return tuple(Target(it.name, address) for it in site.machines for address in it.addresses)
    found = [
        Target(machine.name, address)
        for machine in site.machines
        if machine.name != vantage
        for address in (*machine.addresses, *machine.inner)
    ]
    firewall = matrix.firewall
    if firewall and vantage != firewall.name:
        if vantage == VPN:
            nearest = (
                *(it for zone in site.zones for it in zone.routers),
                *(network[1] for network in site.vpn_networks),
            )
        else:
            nearest = site.zone(site.machine(vantage).zone).routers
        found += [Target(firewall.name, address) for address in nearest]
        found += [Target(PUBLIC, address) for address in site.public]
    return tuple({it.address: it for it in found}.values())


def expected(matrix: FlowMatrix, vantage: str, target: Target, source: Address) -> tuple[Port, ...]:
    """What should answer at `target` when `vantage` asks from `source`."""
    if vantage == OUTSIDE:
        strangers = {INTERNET}
        if any(source in network for network in matrix.site.admin_networks):
            strangers.add(ADMIN)
        flows = (
            matrix.published
            if target.name == PUBLIC
            else tuple(it for it in matrix.into(target.name) if it.source in (INTERNET, ADMIN))
        )
        known = {flow.service for flow in flows if flow.source in strangers}
    elif target.name == PUBLIC:
        # Published ports are for the internet; the site's machines know each other by their own addresses.
        known = set()
    else:
        # The firewall's other addresses lead nowhere: it is met at its own.
        known = {
            flow.service
            for flow in matrix.out_of(vantage)
            if flow.target == target.name and target.address in matrix.met(flow)
        }
    return tuple(
        sorted((str(kind), it.port) for it in known - services.SILENT for kind in it.transports)
    )


def cell(
    matrix: FlowMatrix,
    vantage: str,
    target: Target,
    scanned: dict[str, object],
    tried: int,
    wanted: tuple[Port, ...] | None = None,
) -> Cell:
    """One scanned address beside what was expected of it (`wanted`, when the matrix is not asked)."""
    if wanted is None:
        wanted = expected(matrix, vantage, target, ip_address(str(scanned["source"])))
    return Cell(
        vantage, target.name, str(target.address), wanted,
        _ports(scanned["open"]), _ports(scanned["closed"]), tried,
    )  # fmt: skip


def faults(one: Cell) -> Iterator[str]:
    """What is wrong with a cell, a sentence each."""
    where = f"{one.target} ({one.address})"
    if one.surplus:
        yield f"{where} answers on {listed(one.surplus)}: no flow allows that from {one.source}"
    if one.leaks:
        yield f"{where} is not filtered on {listed(one.leaks)} for {one.source}"
    if one.missing:
        yield f"{where} does not answer {one.source} on {listed(one.missing)}, as the flow matrix says"


def listed(ports: Iterable[Port], most: int = 8) -> str:
    """Ports as people write them, the first ones of many."""
    ports = tuple(ports)
    words = ", ".join(f"{number}/{kind}" for kind, number in ports[:most])
    return words if len(ports) <= most else f"{words} and {len(ports) - most} more"


def named(port: Port) -> str:
    """A port by the name of the service that has it, else as people write it."""
    kind, number = port
    for service in services.ALL:
        if service.port == number and kind in service.transports:
            return service.name + ("/udp" if kind == "udp" and len(service.transports) > 1 else "")
    return f"{number}/{kind}"


def _ports(found: object) -> tuple[Port, ...]:
    assert isinstance(found, list)  # noqa: S101 — what the probe returns
    return tuple(sorted((printable(str(kind)), int(number)) for kind, number in found))
