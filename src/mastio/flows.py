"""The flow matrix: who may talk to whom, on which service, how it is protected, and why.

`POLICY` is the small table that an engineer reads and argues about. `expand(site)` turns it into the
`FlowMatrix` of a site's machines, and from the matrix *alone* come the perimeter's and every machine's
firewall rules, the addresses that services listen on, /etc/hosts, the certificates, and what
verification expects: what is not in it is closed.

>>> for flow in expand(site).into("store"): print(flow.source, flow.service.name)
gateway delivery
webmail imaps
...
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from mastio import services
from mastio.services import Service
from mastio.site.model import Address, Clients, Machine, Network, Role, Site

INTERNET = "internet"
"""The endpoint that stands for every address outside the site."""
ADMIN = "admin"
"""The endpoint that stands for the administrators' declared networks."""
VPN = "vpn"
"""The endpoint that stands for people's devices in the site's tunnel."""
MESH_INTERFACE = "mesh"
"""What each machine calls its end of the tunnels to others, where no firewall joins them."""


class Protection(StrEnum):
    """What protects a flow on the way."""

    OPPORTUNISTIC = "opportunistic TLS"
    TLS = "TLS"
    MUTUAL_TLS = "mutual TLS"
    USER = "TLS + user's password"
    KEYS = "ssh keys"
    WIREGUARD = "WireGuard keys"
    DNSSEC = "DNSSEC"
    SIGNED = "signed packages"
    NETWORK = "the site's own network"
    PLAIN = "plain, nothing secret"


class Party(StrEnum):
    """Who a policy row speaks of, beside the roles."""

    INTERNET = INTERNET
    ADMIN = ADMIN
    VPN = VPN
    EVERYONE = "every machine"


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One line of the policy table."""

    source: Role | Party
    target: Role | Party
    service: Service
    protection: Protection
    why: str
    when: Callable[[Site], bool] = bool
    """Whether a site needs it: all do unless told otherwise."""
    apart: bool = False
    """Only between machines: on one, both roles are one program, or the source has its own way."""
    beneath: bool = False
    """Only between machines that rows above join, and in both directions: it carries what these say."""


def _vpn(site: Site) -> bool:
    return site.clients is Clients.VPN


def _internet(site: Site) -> bool:
    return site.clients is Clients.INTERNET


def _joined(site: Site) -> bool:
    return any(machine.inner for machine in site.machines)


_R, _P = Role, Protection
POLICY: tuple[PolicyRow, ...] = (
    PolicyRow(Party.INTERNET, _R.GATEWAY_IN, services.SMTP, _P.OPPORTUNISTIC, "receive mail"),
    PolicyRow(Party.INTERNET, _R.WEBMAIL, services.HTTP, _P.PLAIN, "redirect to https"),
    PolicyRow(Party.INTERNET, _R.WEBMAIL, services.HTTPS, _P.TLS, "webmail for users"),
    PolicyRow(_R.GATEWAY_OUT, Party.INTERNET, services.SMTP, _P.OPPORTUNISTIC, "send mail"),
    PolicyRow(_R.GATEWAY_IN, Party.INTERNET, services.DNS, _P.DNSSEC, "resolve and validate names"),
    PolicyRow(_R.GATEWAY_OUT, Party.INTERNET, services.DNS, _P.DNSSEC, "resolve and validate names"),
    PolicyRow(_R.WATCH, Party.INTERNET, services.DNS, _P.DNSSEC, "find mirrors and time servers"),
    PolicyRow(_R.WATCH, Party.INTERNET, services.HTTP, _P.SIGNED, "fetch packages for all"),
    PolicyRow(_R.WATCH, Party.INTERNET, services.HTTPS, _P.TLS, "fetch packages and signatures"),
    PolicyRow(_R.WATCH, Party.INTERNET, services.NTP, _P.PLAIN, "keep the site's time"),
    PolicyRow(_R.GATEWAY_IN, _R.STORE, services.DELIVERY, _P.MUTUAL_TLS, "deliver cleaned mail"),
    PolicyRow(_R.GATEWAY_OUT, _R.STORE, services.DELIVERY, _P.MUTUAL_TLS, "deliver mail between users, cleaned too"),
    PolicyRow(_R.WEBMAIL, _R.STORE, services.IMAPS, _P.USER, "read mail"),
    PolicyRow(_R.WEBMAIL, _R.STORE, services.SUBMISSIONS, _P.USER, "submit mail"),
    PolicyRow(_R.WEBMAIL, _R.STORE, services.SIEVE, _P.USER, "edit filters"),
    PolicyRow(_R.WEBMAIL, _R.STORE, services.PASSWORD, _P.MUTUAL_TLS, "change the own password"),
    PolicyRow(_R.STORE, _R.GATEWAY_OUT, services.RELAY, _P.MUTUAL_TLS, "hand over submitted mail"),
    PolicyRow(_R.STORE, _R.GATEWAY_IN, services.LEARN, _P.MUTUAL_TLS,
              "tell the filter verdicts, and whom users write to"),
    PolicyRow(_R.GATEWAY_IN, _R.GATEWAY_OUT, services.RELAY, _P.MUTUAL_TLS, "bounces and delay notices",
              apart=True),
    PolicyRow(Party.EVERYONE, _R.WATCH, services.SYSLOG, _P.MUTUAL_TLS, "logs leave at once"),
    PolicyRow(Party.EVERYONE, _R.WATCH, services.PROXY, _P.SIGNED, "packages and signatures"),
    PolicyRow(_R.GATEWAY_OUT, _R.WATCH, services.POLICIES, _P.TLS, "fetch receivers' MTA-STS policies",
              apart=True),
    PolicyRow(Party.EVERYONE, _R.WATCH, services.NTP, _P.NETWORK, "one time for all logs"),
    PolicyRow(_R.WATCH, _R.STORE, services.DELIVERY, _P.MUTUAL_TLS, "alarms, also when the gateway is away"),
    PolicyRow(_R.WATCH, _R.GATEWAY_OUT, services.RELAY, _P.MUTUAL_TLS, "alarms to other organisations",
              when=lambda site: bool(site.alarms.outside)),
    PolicyRow(_R.WATCH, Party.EVERYONE, services.SSH, _P.KEYS, "the only way in"),
    PolicyRow(_R.WATCH, Party.INTERNET, services.SSH, _P.KEYS, "the second copy of backups",
              when=lambda site: site.backup.copied_by_ssh),
    PolicyRow(Party.ADMIN, _R.WATCH, services.SSH, _P.KEYS, "administrators come in"),
    PolicyRow(Party.INTERNET, _R.FIREWALL, services.WIREGUARD, _P.WIREGUARD, "people's devices come in", when=_vpn),
    PolicyRow(Party.VPN, _R.STORE, services.IMAPS, _P.USER, "read mail with programs of their own", when=_vpn),
    PolicyRow(Party.VPN, _R.STORE, services.SUBMISSIONS, _P.USER, "submit mail by the same", when=_vpn),
    PolicyRow(Party.INTERNET, _R.GATEWAY_IN, services.IMAPS, _P.USER, "mail programs, to a proxy", when=_internet),
    PolicyRow(Party.INTERNET, _R.GATEWAY_IN, services.SUBMISSIONS, _P.USER, "the same, to submit mail", when=_internet),
    PolicyRow(_R.GATEWAY_IN, _R.STORE, services.IMAPS, _P.USER, "log-ins that the proxy repeats", when=_internet),
    PolicyRow(_R.GATEWAY_IN, _R.STORE, services.SUBMISSIONS, _P.USER, "the same, to submit mail", when=_internet),
    PolicyRow(Party.EVERYONE, Party.EVERYONE, services.MESH, _P.WIREGUARD, "carries what they say to each other",
              when=_joined, beneath=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Flow:
    """One permitted conversation: `source` and `target` are machine names, `internet`, `admin` or `vpn`."""

    source: str
    target: str
    service: Service
    protection: Protection
    why: str


class FlowMatrix:
    """All permitted flows of a site. What is not here is closed."""

    def __init__(self, site: Site, flows: tuple[Flow, ...], inner: tuple[Flow, ...] = ()) -> None:
        self.site = site
        self.flows = flows
        self.inner = inner
        """Conversations of two roles on one machine, from its own address to its own address: no packet leaves it,
        no rule is needed, and no neighbour may do the same."""

    def into(self, machine: str) -> tuple[Flow, ...]:
        """The flows that end at `machine`."""
        return tuple(flow for flow in self.flows if flow.target == machine)

    def out_of(self, machine: str) -> tuple[Flow, ...]:
        """The flows that start at `machine`."""
        return tuple(flow for flow in self.flows if flow.source == machine)

    def inside(self, machine: str) -> tuple[Flow, ...]:
        """The flows from one role of `machine` to another of its own."""
        return tuple(flow for flow in self.inner if flow.source == machine)

    def allows(self, source: str, target: str, service: Service) -> bool:
        """Whether the policy lets `source` open `service` at `target`."""
        return (source, target, service) in self._cells

    def door(self, flow: Flow) -> int:
        """The port where `flow` arrives: its service's, or the caller's own door (`services.DOORS`)."""
        if flow.source == VPN:
            return services.PEOPLES_DOORS.get(flow.service, flow.service.port)
        first = services.DOORS.get(flow.service)
        if first is None:
            return flow.service.port
        return first + [it.name for it in self.site.machines].index(flow.source)

    @cached_property
    def _cells(self) -> frozenset[tuple[str, str, Service]]:
        return frozenset((flow.source, flow.target, flow.service) for flow in self.flows)

    @cached_property
    def firewall(self) -> Machine | None:
        """The perimeter firewall; None when machines stand on the internet by themselves."""
        return next(iter(self.site.carrying(Role.FIREWALL)), None)

    @cached_property
    def forwarded(self) -> tuple[Flow, ...]:
        """The flows that cross the perimeter firewall from one network to another."""
        if self.firewall is None:
            return ()
        name = self.firewall.name
        return tuple(
            flow
            for flow in self.flows
            if name not in (flow.source, flow.target)
            and self._zone(flow.source) != self._zone(flow.target)
        )

    @cached_property
    def published(self) -> tuple[Flow, ...]:
        """The flows from outside that reach a machine through a public address (DNAT)."""
        return tuple(flow for flow in self.forwarded if flow.source in (INTERNET, ADMIN))

    def _zone(self, endpoint: str) -> str:
        if endpoint == VPN:
            return VPN
        return INTERNET if endpoint in (INTERNET, ADMIN) else self.site.machine(endpoint).zone

    def tunnelled(self, flow: Flow) -> bool:
        """Whether `flow` is between two machines that have a tunnel for it (or inside one of these)."""
        joined = {it.name for it in self.site.machines if it.inner}
        return {flow.source, flow.target} <= joined and flow.service not in services.BESIDE_MESH

    def met(self, flow: Flow) -> tuple[Address, ...]:
        """The addresses of its target, a machine, where `flow` arrives."""
        machine = self.site.machine(flow.target)
        return machine.inside if self.tunnelled(flow) else machine.addresses

    def worn(self, flow: Flow) -> tuple[Address | Network, ...]:
        """What the source of `flow` is in packets: see `networks`."""
        if self.tunnelled(flow):
            return self.site.machine(flow.source).inside
        return self.networks(flow.source)

    def mesh(self, machine: str) -> tuple[Machine, ...]:
        """The machines to which `machine` has a tunnel."""
        flows = (it for it in self.out_of(machine) if it.service == services.MESH)
        return tuple(self.site.machine(it.target) for it in flows)

    def networks(self, endpoint: str) -> tuple[Address | Network, ...]:
        """What an endpoint is in packets: a machine's addresses, the administrators' networks.

        `internet` is everything that is *not* the site, so it has none of its own: ().
        """
        if endpoint == INTERNET:
            return ()
        if endpoint == ADMIN:
            return self.site.admin_networks
        if endpoint == VPN:
            return self.site.vpn_networks
        return self.site.machine(endpoint).addresses


def _endpoints(site: Site, party: Role | Party) -> tuple[str, ...]:
    match party:
        case Party.INTERNET:
            return (INTERNET,)
        case Party.ADMIN:
            return (ADMIN,) if site.admin_networks else ()
        case Party.VPN:
            return (VPN,) if site.vpn_networks else ()
        case Party.EVERYONE:
            return tuple(machine.name for machine in site.machines)
        case _:
            return tuple(machine.name for machine in site.carrying(party))


def expand(site: Site) -> FlowMatrix:
    """The policy table over the machines of `site`.

    No flow leads from a machine to itself; what two of its roles have to say to each other is `inner`. A flow that
    two roles of one machine both need appears once.
    """
    flows: dict[tuple[str, str, Service], Flow] = {}
    inner: dict[tuple[str, str, Service], Flow] = {}
    talking: set[frozenset[str]] = set()
    for row in POLICY:
        if not row.when(site):
            continue
        if row.beneath:
            talking = {frozenset(it[:2]) for it in flows if it[2] not in services.BESIDE_MESH}
        # What every machine does, each does for itself without asking.
        at_home = not row.apart and isinstance(row.source, Role) and isinstance(row.target, Role)
        for source in _endpoints(site, row.source):
            for target in _endpoints(site, row.target):
                if source == target and not at_home:
                    continue
                if row.beneath and frozenset((source, target)) not in talking:
                    continue
                flow = Flow(source, target, row.service, row.protection, row.why)
                kind = inner if source == target else flows
                kind.setdefault((source, target, row.service), flow)
    return FlowMatrix(site, tuple(flows.values()), tuple(inner.values()))
