"""The doors of a site: every declared flow that a vantage may use, as something to connect to. Pure.

>>> [door.words for door in doors(matrix, "webmail", services.IMAPS)]
['imaps at store (10.77.3.10)', 'imaps at store (fd…::a)']
"""

from dataclasses import dataclass

from mastio import services
from mastio.flows import INTERNET, FlowMatrix, Protection
from mastio.services import Service
from mastio.site.model import Address, Site
from mastio.transport import OUTSIDE

_OPENINGS = {
    services.SMTP: "smtp",
    services.DELIVERY: "smtp",
    services.RELAY: "smtp",
    services.SIEVE: "sieve",
}
"""What must be said before TLS begins; all others begin with it."""
_TUNNELS = frozenset((services.POLICIES,))
"""TLS is spoken through them, with the host behind: not with the door."""
_TLS = frozenset(
    (
        Protection.OPPORTUNISTIC,
        Protection.TLS,
        Protection.MUTUAL_TLS,
        Protection.USER,
    )
)


@dataclass(frozen=True, slots=True)
class Door:
    """One service at one address, as a vantage meets it; `target` is the machine behind it."""

    service: Service
    protection: Protection
    target: str
    address: Address

    @property
    def port(self) -> int:
        """Where to connect."""
        return self.service.port

    @property
    def opening(self) -> str:
        """What is said before TLS: "" for nothing, else the protocol that has STARTTLS."""
        return _OPENINGS.get(self.service, "")

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.service.name} at {self.target} ({self.address})"


def doors(matrix: FlowMatrix, vantage: str, *wanted: Service) -> tuple[Door, ...]:
    """The doors that `vantage` may knock at, of the `wanted` services or of all: its own among them, where one of its
    roles serves another."""
    site = matrix.site
    if vantage == OUTSIDE:
        flows = tuple(flow for flow in matrix.flows if flow.source == INTERNET)
    else:
        calls = (*matrix.out_of(vantage), *matrix.inside(vantage))
        flows = tuple(flow for flow in calls if flow.target != INTERNET)
    found: dict[tuple[Service, Address], Door] = {}
    for flow in flows:
        if flow.service in services.SILENT:
            continue
        behind = vantage == OUTSIDE and matrix.firewall
        addresses = site.public if behind else matrix.met(flow)
        for address in addresses:
            if not wanted or flow.service in wanted:
                door = Door(flow.service, flow.protection, flow.target, address)
                found.setdefault((flow.service, address), door)
    return tuple(found.values())


def published(site: Site) -> dict[Service, str]:
    """What strangers may meet, and by which name."""
    return {
        services.SMTP: site.mx_host,
        services.HTTPS: site.webmail_host,
        services.IMAPS: site.imap_host,
        services.SUBMISSIONS: site.imap_host,
    }


def secure(matrix: FlowMatrix, vantage: str) -> tuple[Door, ...]:
    """The doors where TLS is spoken."""
    return tuple(
        it for it in doors(matrix, vantage) if it.protection in _TLS and it.service not in _TUNNELS
    )
