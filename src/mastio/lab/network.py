"""The lab's wires: a network namespace that is the switch, and one for each machine.

    mastio-SITE            the switch: a bridge for each segment
    mastio-SITE.MACHINE    one end of a veth for each link, named after the segment

The box's own namespace gets no interface, address, route or rule. Addresses are none of the wires'
business: each machine's systemd-networkd sets them. See ip-netns(8), bridge(8).
"""

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from mastio.lab import command
from mastio.lab.model import LabMachine

_NAMESPACES = Path("/run/netns")
_LONGEST = 15
"""IFNAMSIZ - 1."""


def switch(site: str) -> str:
    """The name of the switch's namespace."""
    return f"mastio-{site}"


def namespace(site: str, machine: str) -> str:
    """The name of a machine's namespace. Machine names have no dot, so no two sites can meet."""
    return f"{switch(site)}.{machine}"


def interface(segment: str) -> str:
    """What a machine calls its interface on `segment`: its name, cut to what the kernel takes."""
    return segment if len(segment) <= _LONGEST else f"{segment[:10]}-{_digest(segment)[:4]}"


def namespaces(site: str) -> tuple[str, ...]:
    """All namespaces of the lab `site` that exist."""
    prefix = f"{switch(site)}."
    if not _NAMESPACES.is_dir():
        return ()
    names = (path.name for path in _NAMESPACES.iterdir())
    return tuple(sorted(it for it in names if it == switch(site) or it.startswith(prefix)))


def lay(site: str, segments: Iterable[str]) -> None:
    """Makes the switch and a bridge for each segment, those that are missing."""
    if switch(site) not in namespaces(site):
        command.run(["ip", "netns", "add", switch(site)])
    there = _names(switch(site))
    lines = []
    for bridge in sorted({interface(it) for it in segments} - there):
        lines += [f"link add name {bridge} type bridge", f"link set dev {bridge} up"]
    _batch(switch(site), lines)


def plug(site: str, machine: LabMachine) -> None:
    """Makes the machine's namespace anew and wires each of its links to the switch."""
    unplug(site, machine.name)
    name = namespace(site, machine.name)
    command.run(["ip", "netns", "add", name])
    lines = []
    for link in machine.links:
        outlet, end = port(machine.name, link.segment), interface(link.segment)
        lines += [
            f"link add name {outlet} type veth peer name {end} address {hardware(machine.name, link.segment)} "
            f"netns {name}",
            f"link set dev {outlet} master {end} up alias {machine.name}",
        ]
    _batch(switch(site), lines)


def unplug(site: str, machine: str) -> None:
    """Removes the machine's wires and namespace, if there are any."""
    if switch(site) in namespaces(site):
        links = json.loads(command.run(["ip", "-n", switch(site), "-json", "link"]) or "[]")
        ports = [it["ifname"] for it in links if it.get("ifalias") == machine]
        _batch(switch(site), [f"link del dev {port}" for port in ports])
    if namespace(site, machine) in namespaces(site):
        command.run(["ip", "netns", "delete", namespace(site, machine)])


def remove(site: str) -> None:
    """Removes every namespace of the lab, and with them bridges and wires."""
    for name in namespaces(site):
        command.run(["ip", "netns", "delete", name])


def addresses(name: str) -> frozenset[str]:
    """The usable addresses in namespace `name`, as `address/prefix`."""
    found = json.loads(command.run(["ip", "-n", name, "-json", "address"]) or "[]")
    return frozenset(
        f"{it['local']}/{it['prefixlen']}"
        for link in found
        for it in link.get("addr_info", ())
        if not it.get("tentative")
    )


def pull(site: str, segment: str) -> None:
    """Nothing gets through on a segment, as when its switch has no power; no machine sees its link go."""
    command.run(["ip", "-n", switch(site), "link", "set", "dev", interface(segment), "down"])


def mend(site: str, segment: str) -> None:
    """Ends `pull`."""
    command.run(["ip", "-n", switch(site), "link", "set", "dev", interface(segment), "up"])


def hardware(machine: str, segment: str) -> str:
    """A machine's address on a segment (EUI-48, locally administered): a reboot does not change a network card.

    >>> hardware("store", "core") == hardware("store", "core") != hardware("watch", "core")
    True
    """
    digest = sha256(f"{machine} {segment}".encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))


def port(machine: str, segment: str) -> str:
    """The switch's end of a machine's wire on a segment."""
    return f"p-{_digest(f'{machine}/{segment}')[:12]}"


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _names(name: str) -> set[str]:
    links = json.loads(command.run(["ip", "-n", name, "-json", "link"]) or "[]")
    return {link["ifname"] for link in links}


def _batch(name: str, lines: Sequence[str]) -> None:
    if lines:
        command.run(
            ["ip", "-n", name, "-batch", "-"], "\n".join(lines) + "\n", what=f"network {name}"
        )
