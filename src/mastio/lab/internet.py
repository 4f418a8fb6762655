"""The lab's internet: one segment around the site's public addresses, and who lives on it.

It is the /24 and the /64 that hold the public addresses (documentation networks in the demonstration
site), where everybody is a neighbour of everybody. All who are not the site are one machine,
`outside`, with an address for each part it plays. Host numbers read the same in both families:
`.53` and `::53`.

>>> [str(address) for address in nameserver(site)]
['203.0.113.53', '2001:db8:113::53']
"""

from ipaddress import ip_network

from mastio.errors import Exit, MastioError
from mastio.site.model import Address, Network, Site

SEGMENT = "internet"
"""The bridge's name, and what machines call their interface on it."""

_PREFIX = {4: 24, 6: 64}
_MTA, _NAMESERVER, _RESOLVER, _AUTHORITY, _STRANGER, _ADMIN = 100, 53, 54, 55, 66, 200


def networks(site: Site) -> tuple[Network, ...]:
    """The segment's networks, one of each address family that the site has in public."""
    found = {
        address.version: ip_network((address, _PREFIX[address.version]), strict=False)
        for address in site.public
    }
    return tuple(found[version] for version in sorted(found))


def mta(site: Site) -> tuple[Address, ...]:
    """Another organisation's mail server, and a browser's or any client's own address."""
    return _host(site, _MTA)


def nameserver(site: Site) -> tuple[Address, ...]:
    """Authoritative DNS: the root and all zones below it."""
    return _host(site, _NAMESERVER)


def resolver(site: Site) -> tuple[Address, ...]:
    """The resolver of `outside` itself."""
    return _host(site, _RESOLVER)


def authority(site: Site) -> tuple[Address, ...]:
    """A certificate authority."""
    return _host(site, _AUTHORITY)


def stranger(site: Site) -> tuple[Address, ...]:
    """A host without a name or a reputation."""
    return _host(site, _STRANGER)


def admin(site: Site) -> tuple[Address, ...]:
    """An administrator's workstation: the site's `admin_networks` in the lab."""
    return _host(site, _ADMIN)


def outside(site: Site) -> tuple[Address, ...]:
    """Every address of `outside`, the MTA's first."""
    parts = (
        mta(site), nameserver(site), resolver(site), authority(site), stranger(site), admin(site),
    )  # fmt: skip
    return tuple(address for part in parts for address in part)


def prefix(address: Address) -> int:
    """The prefix length with which `address` stands on the segment."""
    return _PREFIX[address.version]


def _host(site: Site, number: int) -> tuple[Address, ...]:
    """Host `number` of each network, in IPv6 written with the same digits."""
    addresses = tuple(
        network[number if network.version == 4 else int(str(number), 16)]
        for network in networks(site)
    )
    if taken := set(addresses) & set(site.public):
        raise MastioError(
            f"public address {min(map(str, taken))}: the lab's own internet needs it",
            hint="give the site a public address with a host number below 50",
            code=Exit.DATA,
        )
    return addresses
