"""What a site file need not say: the zones and machines of each topology, and their networks.

single      one machine `mail` on the internet, with its own firewall
webmail     the webmail apart from the rest, both on the internet
separated   firewall, gateway, store, webmail, watch, each in a zone of its own (the default)
split       as separated, with the receiving and the sending gateway apart
"""

import hashlib
from ipaddress import IPv4Network, IPv6Network, ip_network

from mastio.site.model import Address, Network, Role, Topology

PUBLIC_ZONE = "public"
"""The zone of machines that stand on the internet by themselves."""
FIRST_HOST = 10
"""The host number of the first machine in a zone; the firewall is number 1."""
DEFAULT_ZONES = ("mail", "web", "core", "mgmt", "out")
"""The zones' names; a zone's place here is the number of its default networks, from 1."""

_BEHIND = {
    Role.FIREWALL: "mgmt",
    Role.GATEWAY_IN: "mail",
    Role.GATEWAY_OUT: "mail",
    Role.STORE: "core",
    Role.WEBMAIL: "web",
    Role.WATCH: "mgmt",
}
_SERVING = tuple(role for role in Role if role is not Role.FIREWALL)


def machines(topology: Topology) -> dict[str, tuple[Role, ...]]:
    """The machines of `topology` and their roles."""
    gateways: dict[str, tuple[Role, ...]] = {"gateway": (Role.GATEWAY_IN, Role.GATEWAY_OUT)}
    match topology:
        case Topology.SINGLE:
            return {"mail": _SERVING}
        case Topology.WEBMAIL:
            rest = tuple(role for role in _SERVING if role is not Role.WEBMAIL)
            return {"mail": rest, "webmail": (Role.WEBMAIL,)}
        case Topology.SPLIT:
            gateways = {str(role): (role,) for role in (Role.GATEWAY_IN, Role.GATEWAY_OUT)}
    inner = {str(role): (role,) for role in (Role.STORE, Role.WEBMAIL, Role.WATCH)}
    return {"firewall": (Role.FIREWALL,), **gateways, **inner}


def usual_zone(roles: tuple[Role, ...], *, walled: bool) -> str:
    """Where a machine with `roles` stands when the site file does not say; empty without roles."""
    if not walled:
        return PUBLIC_ZONE
    if roles == (Role.GATEWAY_OUT,):
        return "out"
    return _BEHIND[roles[0]] if roles else ""


def default_networks(site: str, number: int) -> tuple[Network, Network]:
    """The networks of zone `number`: 10.77.N.0/24, and the /64 number N of the site's own prefix."""
    prefix = int(local_prefix(site).network_address) + (number << 64)
    return IPv4Network(f"10.77.{number}.0/24"), IPv6Network((prefix, 64))


def local_prefix(site: str) -> IPv6Network:
    """The site's unique local /48 (RFC 4193): fd, and 40 bits of a hash of its name.

    The RFC wants the bits random; a hash gives two sites different ones, and a site always the same.
    """
    bits = hashlib.sha256(site.encode()).digest()[:5]
    return IPv6Network((b"\xfd" + bits + bytes(10), 48))


def around(addresses: tuple[Address, ...]) -> Network:
    """The smallest network, at least a /24 or /64, that holds `addresses` (of one family)."""
    found: Network = ip_network(
        (addresses[0], 24 if addresses[0].version == 4 else 64), strict=False
    )
    while not all(address in found for address in addresses):
        found = found.supernet()
    return found
