"""From the flow matrix to nftables: the whole ruleset of one machine, as text that nft -f loads.

Every machine drops what the matrix does not declare, in both directions; what it drops it logs first,
rate-limited, to NFLOG group `nft.LOG_GROUP` with a prefix that names the chain. So does whoever faces the internet with
what begins there and is let in, and with mail that leaves: `mastio trace` tells of it. Three kinds of machines
differ only in which chains they get:

| | arrival, input, output | forward, inward, outward | limits per client |
|---|---|---|---|
| the perimeter firewall | yes | yes | in forward |
| a machine behind it | yes | – | – (the firewall has applied them) |
| a machine without a perimeter | yes | – | in input |

`internet` in a rule is every address that is not the site's. No interface is named: the reverse path
check ties each address to the interface that routes to it, so a stranger cannot wear a site address. But for
the tunnels between machines without a firewall: while one is down, nothing else may carry what belongs into it.

>>> print(ruleset(expand(site), site.machine("store")))
flush ruleset
table inet mastio { ...
"""

from collections.abc import Iterable, Iterator

from mastio import nft
from mastio.flows import ADMIN, INTERNET, MESH_INTERFACE, VPN, Flow, FlowMatrix
from mastio.services import DOORS, SMTP, Service
from mastio.site.model import Address, Machine, Network

BANS = "/var/lib/mastio/bans"
"""Where a machine that faces the internet keeps its bans; what ends in .nft there is part of the ruleset."""
REPLY_TTL = 128
"""The hop limit on replies of published services: not Linux' 64, so that nmap -O matches nothing."""

_FAMILIES = (4, 6)
_IP = {4: "ip", 6: "ip6"}
_OUTSIDERS = (INTERNET, ADMIN)
_COUNTED = (INTERNET, ADMIN, VPN)
"""Whose connections are limited."""


def ruleset(site_matrix: FlowMatrix, machine: Machine) -> str:
    """The nftables ruleset of `machine`: pure text, the same for the same site."""
    return _Table(site_matrix, machine).text()


class _Table:
    """The rules of one machine, chain by chain."""

    def __init__(self, matrix: FlowMatrix, machine: Machine) -> None:
        self.matrix = matrix
        self.site = matrix.site
        self.machine = machine
        self.is_firewall = machine == matrix.firewall
        self.faces_internet = self.is_firewall or matrix.firewall is None

    def text(self) -> str:
        chains = [self._arrival(), self._input(), self._output()]
        if self.is_firewall:
            chains += [self._forward(), self._inward(), self._outward()]
        chains.append(self._doors())
        if self.faces_internet:
            chains.append(self._disguise())
        head = [
            "#!/usr/sbin/nft -f",
            f"# {self.site.internal_name(self.machine.name)}: everything here comes from the flow matrix.",
            "# What is not declared is logged and dropped, in both directions.",
            "flush ruleset",
            "",
            "table inet mastio {",
        ]
        body = [*self._sets()]
        if self._has_doors:
            body += nft.shut()
        if self.faces_internet:
            body += [*nft.banned(_FAMILIES), *nft.clients()]
        for chain in filter(None, chains):
            body += ["", *chain]
        # Data, not configuration: no match is no error, and a ban outlives a new ruleset and a reboot.
        tail = [f'include "{BANS}/*.nft"'] if self.faces_internet else []
        return "\n".join([*head, *(f"    {line}".rstrip() for line in body), "}", *tail, ""])

    # --- what the site is, in packets -----------------------------------------------------------

    def _site_elements(self, family: int) -> list[str]:
        """The site's own addresses: its zones, or without a firewall just its machines; and its devices' in the tunnel,
        which are not the internet."""
        own: Iterable[Address | Network]
        if self.matrix.firewall:
            own = (network for zone in self.site.zones for network in zone.networks)
        else:
            own = (it for one in self.site.machines for it in (*one.addresses, *one.inner))
        both = {*own, *self.site.vpn_networks}
        return [str(it) for it in sorted({it for it in both if it.version == family}, key=str)]

    def _sets(self) -> Iterator[str]:
        for family in _FAMILIES:
            yield f"set site{family} {{"
            yield '    comment "the site; the internet is all the rest"'
            yield f"    type ipv{family}_addr"
            yield "    flags interval"
            if elements := self._site_elements(family):
                yield f"    elements = {{ {', '.join(elements)} }}"
            yield "}"

    def _end(self, flow: Flow, family: int, side: str) -> str | None:
        """The match for an end of a flow, as `saddr` or `daddr`; None when it has no such family."""
        source = side == "saddr"
        if (flow.source if source else flow.target) == INTERNET:
            # A family that the site does not have outside leads nowhere: fail at once instead.
            known = any(it.version == family for it in self.site.public)
            return f"{_IP[family]} {side} != @site{family}" if known else None
        addresses = self.matrix.worn(flow) if source else self.matrix.met(flow)
        return nft.match(addresses, family, side)

    def _tunnels(self, interface: str, side: str, verdict: str) -> Iterator[str]:
        peers = [it for one in self.matrix.mesh(self.machine.name) for it in one.inner]
        if peers:
            yield "# What belongs into the tunnels to other machines comes and goes there, or not at all."
        for family in _FAMILIES:
            if match := nft.match(peers, family, side):
                yield f'{interface} != "{MESH_INTERFACE}" {match} {verdict}'

    def _flow_rules(
        self, flow: Flow, verdict: str, extra: str = "", port: int = 0
    ) -> Iterator[str]:
        """A flow as rules, one for each address family that both ends have; `port`: when not the service's."""
        for family in _FAMILIES:
            source = self._end(flow, family, "saddr")
            # What the firewall itself offers the internet stands at the public address: nothing is translated.
            own = self.is_firewall and flow.source == INTERNET and flow.target == self.machine.name
            target = (
                nft.match(self.site.public, family, "daddr")
                if own
                else self._end(flow, family, "daddr")
            )
            if source and target:
                match = nft.port(flow.service, port)
                words = (source, target, match, extra, verdict, _comment(flow))
                yield " ".join(word for word in words if word)

    @staticmethod
    def _leaving(flow: Flow) -> str:
        """The verdict on a flow that is allowed; mail that leaves the site is told of."""
        return "goto leaving" if (flow.target, flow.service) == (INTERNET, SMTP) else "accept"

    # --- chains ---------------------------------------------------------------------------------

    def _arrival(self) -> list[str]:
        """What is wrong whoever sends it."""
        banned = (
            (
                "# Banned: new conversations and those that had begun. Never the site, whatever a set says.",
                "ip saddr != @site4 ip saddr @banned4 counter drop",
                "ip6 saddr != @site6 ip6 saddr @banned6 counter drop",
                *(
                    f"{ip} saddr {it} {ip} saddr @banned{it.version} counter drop"
                    for it in self.site.vpn_networks
                    for ip in (_IP[it.version],)
                ),
            )
            if self.faces_internet
            else ()
        )
        # Who was away has forgotten who was talking: the site's machines hear it and begin anew. Silence would let
        # them wait for a quarter of an hour (tcp(7), tcp_retries2).
        midway = f"{_MIDWAY} goto forgotten"
        reset = "meta l4proto tcp reject with tcp reset"
        ends = [("spoofed", "drop"), ("nonsense", "drop"), ("forgotten", reset)]
        return nft.chain(
            "arrival",
            "filter hook prerouting priority mangle; policy accept;",
            "iif lo accept",
            *self._tunnels("iifname", "saddr", "goto spoofed"),
            *banned,
            "# Duplicate address detection and group reports come from no address (RFC 4862, RFC 3810).",
            "ip6 saddr :: icmpv6 type { nd-neighbor-solicit, mld2-listener-report } accept",
            "# Anti-spoofing: the way back to the sender must be the way it came (BCP 38, BCP 84).",
            "fib saddr . iif oif missing goto spoofed",
            "# Flags that no honest TCP sends together, and conversations that begin in the middle.",
            f"tcp flags & (fin | syn | rst | ack) != {_HONEST_FLAGS} goto nonsense",
            "# Conversations of the site's own machines from before we were away.",
            f"ip saddr @site4 ip daddr @site4 {midway}",
            f"ip6 saddr @site6 ip6 daddr @site6 {midway}",
            "ct state invalid goto nonsense",
            "ct state new tcp flags & (fin | syn | rst | ack) != syn goto nonsense",
        ) + [
            line
            for name, verdict in ends
            for line in (f"chain {name} {{", *nft.indent(nft.log_and(name, verdict)), "}")
        ]

    def _input(self) -> list[str]:
        router = (
            "icmpv6 type nd-router-advert ip6 hoplimit 255 ip6 saddr fe80::/10 accept"
            if self.faces_internet
            else "# Routes are configured: no router advertisement is believed."
        )
        rules: list[str] = []
        for flow in self.matrix.into(self.machine.name):
            outsider = flow.source in _OUTSIDERS and self.faces_internet
            # To its own door only as `_doors` has led it there.
            door = self.matrix.door(flow)
            extra = "ct status dnat" if door != flow.service.port else ""
            rules += self._flow_rules(flow, "jump client" if outsider else "accept", extra, door)
        return nft.chain(
            "input",
            "filter hook input priority filter; policy drop;",
            "iif lo accept",
            *self._shut(),
            *_CONVERSATIONS,
            *_NEIGHBOURS,
            router,
            "icmpv6 type mld-listener-query ip6 saddr fe80::/10 accept",
            *self._echo(),
            *rules,
            "# Broadcasts and multicasts are nobody's attack: not worth a line in the log.",
            "fib daddr type { broadcast, multicast, anycast } drop",
            *nft.log_and("input", "drop"),
        )

    def _output(self) -> list[str]:
        rules: list[str] = []
        for flow in self.matrix.out_of(self.machine.name):
            # The firewall has an address in each zone and the kernel chooses: match the target only.
            for family in _FAMILIES:
                target = self._end(flow, family, "daddr")
                if target and self._end(flow, family, "saddr"):
                    verdict = self._leaving(flow) if self.faces_internet else "accept"
                    rules.append(f"{target} {nft.port(flow.service)} {verdict} {_comment(flow)}")
        soliciting = (
            ("icmpv6 type nd-router-solicit ip6 hoplimit 255 accept",)
            if self.faces_internet
            else ()
        )
        return nft.chain(
            "output",
            "filter hook output priority filter; policy drop;",
            "oif lo accept",
            *self._tunnels("oifname", "daddr", "counter reject with icmpx admin-prohibited"),
            *_CONVERSATIONS,
            "# The end of a conversation that we have forgotten; the firewall's, said in the other's name.",
            "ip saddr @site4 ip daddr @site4 tcp flags & (syn | rst) == rst accept",
            "ip6 saddr @site6 ip6 daddr @site6 tcp flags & (syn | rst) == rst accept",
            "# A conversation from before these rules: its answers would be nonsense, so our program begins anew.",
            f"{_MIDWAY} reject with tcp reset",
            *_NEIGHBOURS,
            *soliciting,
            "icmpv6 type mld2-listener-report accept",
            *self._echo(),
            *rules,
            "# Our own programs hear at once that they may not, instead of waiting for a timeout.",
            *nft.log_and("output", "meta l4proto tcp reject with tcp reset"),
            "reject with icmpx admin-prohibited",
        )

    def _shut(self) -> Iterator[str]:
        """Doors that the watch has closed for a time (`roles/watch/doors.py`): within a conversation, too."""
        if self._has_doors:
            yield "# Who is led to a door that is closed hears so at once, within a conversation too."
            yield "ct status dnat tcp dport @shut counter reject with tcp reset"

    @property
    def _has_doors(self) -> bool:
        return any(it.service in DOORS for it in self.matrix.into(self.machine.name))

    def _doors(self) -> list[str]:
        """Callers that must be told apart: each is led to a port of its own, where only its certificate is taken."""
        rules: list[str] = []
        for flow in self.matrix.into(self.machine.name):
            if (door := self.matrix.door(flow)) == flow.service.port:
                continue
            for family in _FAMILIES:
                ip, source = _IP[family], self._end(flow, family, "saddr")
                own = [it for it in self.matrix.met(flow) if it.version == family]
                rules += [
                    f"{source} {ip} daddr {it} {nft.port(flow.service)} dnat {ip} to "
                    f"{f'[{it}]' if family == 6 else it}:{door} {_comment(flow)}"
                    for it in own
                    if source
                ]
        if not rules:
            return []
        return nft.chain("doors", "nat hook prerouting priority dstnat; policy accept;", *rules)

    def _forward(self) -> list[str]:
        rules: list[str] = []
        for flow in self.matrix.forwarded:
            if flow.source == INTERNET:
                rules += self._flow_rules(flow, "jump client", "ct status dnat")
            else:
                counted = flow.source in _COUNTED
                rules += self._flow_rules(flow, "jump client" if counted else self._leaving(flow))
        return nft.chain(
            "forward",
            "filter hook forward priority filter; policy drop;",
            *_CONVERSATIONS,
            *self._echo(),
            *rules,
            *nft.log_and("forward", "drop"),
        )

    def _inward(self) -> list[str]:
        """Public address and port → the machine that serves it; the client's address stays as it is.

        Several machines with one published service share its clients by a hash of the address.
        """
        groups: dict[tuple[str, Service], list[Flow]] = {}
        for flow in self.matrix.flows:
            if flow.source in _OUTSIDERS and flow.target != self.machine.name:
                groups.setdefault((flow.source, flow.service), []).append(flow)
        rules: list[str] = []
        for (_, service), flows in groups.items():
            for family in _FAMILIES:
                public = [str(it) for it in self.site.public if it.version == family]
                targets = [
                    str(address)
                    for flow in flows
                    for address in self.site.machine(flow.target).addresses
                    if address.version == family
                ]
                match = self._end(flows[0], family, "saddr")
                if not (public and targets and match):
                    continue
                ip = _IP[family]
                rules.append(
                    f"{match} {ip} daddr {{ {', '.join(public)} }} {nft.port(service)} "
                    f"dnat {ip} to {nft.choice(ip, targets)} {_comment(flows[0])}"
                )
        return nft.chain("inward", "nat hook prerouting priority dstnat; policy accept;", *rules)

    def _outward(self) -> list[str]:
        """What leaves wears the public address; the firewall's own calls wear the one peers know."""
        rules: list[str] = []
        for family in _FAMILIES:
            ip = _IP[family]
            public = [it for it in self.site.public if it.version == family]
            own = [it for it in self.machine.addresses if it.version == family]
            if public:
                rules.append(
                    f"{ip} saddr @site{family} {ip} daddr != @site{family} snat {ip} to {public[0]}"
                )
            if own:
                rules.append(
                    f"fib saddr type local {ip} daddr @site{family} snat {ip} to {own[0]}"
                    ' comment "not the address of whichever zone it is sent to"'
                )
        return nft.chain("outward", "nat hook postrouting priority srcnat; policy accept;", *rules)

    def _echo(self) -> Iterator[str]:
        for family, ip, icmp in ((4, "ip", "icmp"), (6, "ip6", "icmpv6")):
            match = [f"{ip} saddr @site{family} {ip} daddr @site{family}"]
            # A device in the tunnel meets what the matrix says, and nothing else.
            for network in (it for it in self.site.vpn_networks if it.version == family):
                match += [f"{ip} saddr != {network}", f"{ip} daddr != {network}"]
            yield (
                f"{' '.join(match)} {icmp} type echo-request "
                f'limit rate 10/second accept comment "ping inside the site"'
            )

    @staticmethod
    def _disguise() -> list[str]:
        """Only replies, and only outward: a TTL set on what is routed inward could feed a loop."""
        return nft.chain(
            "disguise",
            "filter hook postrouting priority mangle; policy accept;",
            f"meta l4proto tcp ct direction reply ip daddr != @site4 ip ttl set {REPLY_TTL}",
            f"meta l4proto tcp ct direction reply ip6 daddr != @site6 ip6 hoplimit set {REPLY_TTL}",
        )


_HONEST_FLAGS = "{ syn, syn | ack, ack, fin | ack, rst, rst | ack }"
_MIDWAY = "tcp flags & (syn | rst | ack) == ack ct state { invalid, new }"
"""A packet from the middle of a conversation that is not known (any more)."""
_CONVERSATIONS = (
    "# Conversations that a rule below let begin, and ICMP errors about them (RFC 4890, 4.3.1).",
    "ct state established,related accept",
)
_NEIGHBOURS = (
    "# Neighbour discovery never crosses a router: hop limit 255 proves it (RFC 4861, 11.2).",
    "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept",
)


def _comment(flow: Flow) -> str:
    """nft allows 128 bytes."""
    return f'comment "{f"{flow.source} to {flow.target}, {flow.service.name}: {flow.why}"[:120]}"'
