"""From where people log in: by whatever door, a network that is new for somebody is news.

The store hears of a device behind the proxy at the device's own address (docs/decisions/0051); of who uses the webmail
it hears the webmail's, and the webmail itself says the rest.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from mastio.digest.summary import EXAMPLE, WHEN

_MOST = 50_000


class Origins:
    """What addresses count as; no address is worked out twice."""

    def __init__(
        self,
        own: Iterable[IPv4Address | IPv6Address] = (),
        devices: Iterable[IPv4Network | IPv6Network] = (),
    ) -> None:
        """`own` are those of machines that log in for others; in `devices` each address is somebody's by itself."""
        self._own, self._devices = frozenset(own), tuple(devices)
        self._known: dict[bytes, str] = {}

    def of(self, address: bytes) -> str:
        """The network that an address counts as: an IPv4 /24, an IPv6 /48, a device. Empty: nobody's."""
        try:
            return self._known[address]
        except KeyError:
            if len(self._known) >= _MOST:
                self._known.clear()
            found = self._known[address] = self._find(address)
            return found

    def _find(self, address: bytes) -> str:
        try:
            one = ip_address(address.decode("ascii", "replace"))
        except ValueError:
            return ""
        if one.is_loopback or one in self._own:
            return ""
        if any(one in it for it in self._devices):
            return f"device {one}"
        return str(ip_network((one, 24 if one.version == 4 else 48), strict=False))


def came(reader: Any, user: bytes, address: bytes, text: bytes, line: bytes) -> None:
    """A user is in; news when from a network that is new. `reader` is a `lines.Reader`."""
    where = reader.memory.origins.of(address)
    if not where:
        return
    name = user.decode("utf-8", "backslashreplace")
    # A reader that is ahead remembers its own piece: what is none the second time there is none afterwards.
    if not reader.ahead or reader.memory.networks.new(reader.machine, name, where):
        reader.then(_network, name, where, text[:EXAMPLE], line[:WHEN])


def _network(reader: Any, name: str, where: str, text: bytes, line: bytes) -> None:
    networks = reader.memory.networks
    if networks.new(reader.machine, name, where):
        reader.news("networks", f"{name} from {where}", text, line)
        reader.filled(networks, name)
