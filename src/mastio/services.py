"""The services of a site: the only place that knows port numbers.

>>> SMTP.port, SMTP.transports
(25, (<Transport.TCP: 'tcp'>,))
"""

from dataclasses import dataclass
from enum import StrEnum


class Transport(StrEnum):
    """Transport protocols, by their name in nftables and /etc/services."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True, order=True)
class Service:
    """Something that listens: its short name, port, transports and what it is for."""

    name: str
    port: int
    transports: tuple[Transport, ...]
    title: str


def _tcp(name: str, port: int, title: str) -> Service:
    return Service(name, port, (Transport.TCP,), title)


SMTP = _tcp("smtp", 25, "mail between organisations (RFC 5321)")
DELIVERY = _tcp(
    "delivery", 24, "cleaned mail on its way into the store (IANA: any private mail system)"
)
SUBMISSIONS = _tcp("submissions", 465, "authenticated submission by users (RFC 8314)")
RELAY = _tcp("relay", 587, "submitted mail on its way out through the gateway")
IMAPS = _tcp("imaps", 993, "reading mail (RFC 8314)")
SIEVE = _tcp("sieve", 4190, "managing filters (RFC 5804)")
PASSWORD = _tcp("password", 106, "a user changes the own password (poppassd, IANA 3com-tsmux)")
LEARN = _tcp("learn", 11334, "mail that users have judged, for the filter (as Rspamd's controller)")
HTTP = _tcp("http", 80, "redirect to https, ACME, MTA-STS")
HTTPS = _tcp("https", 443, "webmail")
DNS = Service("dns", 53, (Transport.TCP, Transport.UDP), "names (RFC 1035)")
SSH = _tcp("ssh", 22, "administration")
SYSLOG = _tcp("syslog", 6514, "logs, by RELP over TLS")
PROXY = _tcp("proxy", 3128, "Debian packages and signatures, allow-listed")
POLICIES = _tcp("policies", 3129, "MTA-STS policies of receivers, hosts mta-sts.* only")
NTP = Service("ntp", 123, (Transport.UDP,), "time (RFC 5905)")
WIREGUARD = Service("wireguard", 51820, (Transport.UDP,), "the tunnel of people's devices")
MESH = Service(
    "mesh", 51821, (Transport.UDP,), "the tunnels between machines that no firewall joins"
)

ALL: tuple[Service, ...] = (
    SMTP, DELIVERY, SUBMISSIONS, RELAY, IMAPS, SIEVE, PASSWORD, LEARN,
    HTTP, HTTPS, DNS, SSH, SYSLOG, PROXY, POLICIES, NTP, WIREGUARD, MESH,
)  # fmt: skip
"""Every service: what a scan looks for first, and how a port is called."""
DOORS: dict[Service, int] = {SYSLOG: 6515}
"""Services to which each caller has a door of its own, and the first of their ports. Callers know the service's port
alone; the target's firewall leads each to its door, and nobody reaches a door in another way."""
PEOPLES_DOORS: dict[Service, int] = {SUBMISSIONS: 10465}
"""Doors for people's own programs, where another certificate is shown than to the site's machines."""
INWARD: dict[Service, int] = {IMAPS: 10993, SUBMISSIONS: 10465}
"""On the receiving gateway's loopback: where the proxy of mail programs finds the way to the store."""
SILENT = frozenset((WIREGUARD, MESH))
"""Who does not know the right key gets no answer there at all: no look from outside finds them."""
EVERYWHERE = frozenset((WIREGUARD, MESH))
"""The kernel binds them to all addresses of a machine; its firewall says which one counts."""
BESIDE_MESH = frozenset((MESH, SSH))
"""What no tunnel between machines carries: itself, and the way by which it is built and mended."""
