"""From the flow matrix to Suricata: what is spoken on each declared flow, and rules that tell of anything else. Pure.

    rules(matrix)       text for Suricata: a line for each flow and direction
    segments(matrix)    where it listens, so that each conversation is seen once

Suricata listens on the firewall's inner segments only: what nftables has let in is seen there with the addresses of
the machines, after or before translation; what it has refused never gets there and is in the packet log. A
conversation between two inner zones crosses two segments; the filter of the later one leaves it out.

A conversation of which the firewall saw the first packet is judged once its protocol is known, or known not to be
known (`failed`). One that was there before Suricata began is not judged: its protocol can no longer be told.

>>> print(rules(expand(site)))
alert tcp $EXTERNAL_NET any -> [10.77.1.10] 25 (msg:"mastio: internet > gateway smtp: not smtp"; ...
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mastio import services
from mastio.flows import INTERNET, VPN, Flow, FlowMatrix
from mastio.services import Service, Transport
from mastio.site.model import Address, Role

MARK = "mastio: "
"""How the messages of these rules begin."""
FIRST = 1_000_000
"""The first number of these rules: the range for local use begins here (Suricata's documentation, "sid")."""
INSIDE, OUTSIDE = 1, 3
"""Suricata's priorities: a machine of the site spoke; somebody on the internet did."""
OFTEN, WITHIN = 10, 60
"""So many alerts of one rule about one source are logged within so many seconds; the rest are only counted there."""
BEGINNING = 600
"""Octets that are the beginning of a conversation: what TLS says in them comes in whole records."""
ABROAD = "$EXTERNAL_NET"


@dataclass(frozen=True, slots=True)
class Wire:
    """What Suricata 7 makes of a service (`suricata --list-app-layer-protos`)."""

    first: str = ""
    """The protocol; empty: one that it does not know."""
    then: str = ""
    """What both sides may change to (STARTTLS, CONNECT)."""
    server: bool = True
    """Whether it knows the protocol by what a server says, too."""
    words: tuple[str, ...] = ()
    """With what a client begins, in a protocol that it does not know; what may follow is TLS."""


_TLS, _SMTP, _HTTP = Wire("tls"), Wire("smtp", "tls", server=False), Wire("http")
_PROXY = Wire("http", "tls")
WIRES: dict[Service, Wire] = {
    services.SMTP: _SMTP,
    services.DELIVERY: _SMTP,
    services.RELAY: _SMTP,
    services.SUBMISSIONS: _TLS,
    services.IMAPS: _TLS,
    # RFC 5804, 2: what a client may say before it has logged in.
    services.SIEVE: Wire(words=("STARTTLS", "CAPABILITY", "AUTHENTICATE", "NOOP", "LOGOUT")),
    services.PASSWORD: _TLS,
    services.LEARN: _TLS,
    services.HTTP: _HTTP,
    services.HTTPS: _TLS,
    services.DNS: Wire("dns"),
    services.SSH: Wire("ssh"),
    services.SYSLOG: _TLS,
    services.PROXY: _PROXY,
    services.POLICIES: _PROXY,
    services.NTP: Wire("ntp"),
    services.WIREGUARD: Wire(),
    services.MESH: Wire(),
}
"""What is spoken on each service."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One network of the firewall on which Suricata listens."""

    zone: str
    address: Address
    """The firewall's own address there: by it the interface is found."""
    filter: str
    """Which packets to take: pcap-filter(7)."""


def watched(matrix: FlowMatrix) -> bool:
    """Whether the site has intrusion detection: there is a perimeter firewall, and nobody switched it off."""
    return matrix.firewall is not None and matrix.site.ids.enabled


def segments(matrix: FlowMatrix) -> tuple[Segment, ...]:
    """Where it listens, for every two zones in one place.

    Only what goes to or from a declared port: nftables lets nothing else through, and a scan of all ports would make
    it remember each. Fragments have no ports, and are put together first.
    """
    ports = sorted({it.service.port for it in flows(matrix)})
    wanted = " or ".join((*(f"port {it}" for it in ports), *_FRAGMENTS))
    found, seen = [], list[str]()
    for zone in matrix.site.zones:
        if not any(it.zone == zone.name for it in matrix.site.machines):
            continue
        others = "".join(f" and not net {network}" for network in seen)
        found.append(Segment(zone.name, zone.routers[0], f"({wanted}){others}"))
        seen += map(str, zone.networks)
    return tuple(found)


def flows(matrix: FlowMatrix) -> tuple[Flow, ...]:
    """The flows that pass a segment of the firewall: those that it forwards, and its own inside."""
    if matrix.firewall is None:
        return ()
    name = matrix.firewall.name
    own = tuple(
        flow
        for flow in matrix.flows
        if name in (flow.source, flow.target) and INTERNET not in (flow.source, flow.target)
    )
    return (*matrix.forwarded, *own)


def home(matrix: FlowMatrix) -> str:
    """The site in Suricata's words."""
    return _list([str(it) for zone in matrix.site.zones for it in zone.networks])


def servers(matrix: FlowMatrix, *roles: Role) -> str:
    """Machines of some roles in Suricata's words."""
    return _list([str(it) for one in matrix.site.carrying(*roles) for it in one.addresses])


def message(flow: Flow) -> str:
    """What is told of a flow on which something else is spoken."""
    first = WIRES[flow.service].first
    what = f"not {first}" if first else "a protocol of others"
    return f"{MARK}{flow.source} > {flow.target} {flow.service.name}: {what}"


def rules(matrix: FlowMatrix) -> str:
    """All rules, the same for the same site."""
    lines = [
        "# What is spoken on each declared flow; everything here comes from the flow matrix.",
        "# A conversation is told of once (the flowbit), a source not for ever (the threshold).",
    ]
    number = FIRST
    for flow in flows(matrix):
        lines += ["", f"# {flow.source} to {flow.target}, {flow.service.name}: {flow.why}"]
        for transport in flow.service.transports:
            for head, words, options, priority in _of(matrix, flow, transport):
                number += 1
                said = f'msg:"{words}"; ' if words else ""
                lines.append(
                    f"alert {head} ({said}{options} priority:{priority}; sid:{number}; rev:1;)"
                )
    return "\n".join([*lines, ""])


def _of(
    matrix: FlowMatrix, flow: Flow, transport: Transport
) -> Iterator[tuple[str, str, str, int]]:
    """Header, message, options and priority of each rule about one flow."""
    wire = WIRES[flow.service]
    client, server = _ends(matrix, flow.source), _ends(matrix, flow.target)
    port = flow.service.port
    asks, answers = f"{client} any -> {server} {port}", f"{server} {port} -> {client} any"
    both = f"{client} any <> {server} {port}"
    begun = "established," if transport is Transport.TCP else ""
    asked = f"flow:{begun}to_server;"
    priority = OUTSIDE if flow.source in (INTERNET, VPN) else INSIDE
    answered = OUTSIDE if INTERNET in (flow.source, flow.target) else INSIDE
    wanted = [it for it in (wire.first, wire.then) if it] or ["failed"]
    other = " ".join(f"app-layer-protocol:!{it};" for it in wanted)
    said = message(flow)
    yield f"{transport} {asks}", said, f"{asked} {other} {_ONCE}", priority
    if wire.server:
        words = f"{said}, the answer"
        yield f"{transport} {answers}", words, f"flow:{begun}to_client; {other} {_ONCE}", answered
    if wire.first == "tls":
        yield f"{transport} {asks}", said, f"{asked} {_NO_RECORD} {_ONCE}", priority
    if wire.words:
        others = " ".join(f'content:!"{it}"; depth:{len(it)}; nocase;' for it in wire.words)
        yield f"{transport} {asks}", said, f"{asked} {_NO_RECORD} {others} {_ONCE}", priority
    if wire.first == "ssh":
        # Only the server was understood.
        event = "app-layer-event:applayer_detect_protocol_only_one_direction;"
        yield f"{transport} {asks}", said, f"{asked} {event} {_ONCE}", priority
    if wire.then:
        # TLS is right once the other protocol was there: it leaves a mark.
        mark = f"mastio.{wire.first}"
        sets = f"{asked} flowbits:set,{mark}; flowbits:noalert;"
        yield f"{wire.first} {asks}", "", sets, priority
        words = f"{said}, {wire.then} at once"
        unmarked = f"flow:{begun[:-1]}; flowbits:isnotset,{mark};"
        yield f"{wire.then} {both}", words, f"{unmarked} {_ONCE}", priority
        words = f"{said}, nor {wire.then} after the change to it"
        event = "app-layer-event:applayer_no_tls_after_starttls;"
        yield f"{transport} {both}", words, f"{event} {_ONCE}", priority


_ONCE = (
    "flowbits:isnotset,mastio.told; flowbits:set,mastio.told; "
    f"threshold:type limit, track by_src, seconds {WITHIN}, count {OFTEN};"
)
"""A conversation is told of once."""
_FRAGMENTS = ("ip[6:2] & 0x3fff != 0", "ip6[6] = 44")
"""More of them follow, or this is not the first (RFC 791, 3.1); the extension header of IPv6 (RFC 8200, 4.5)."""
_NO_RECORD = " ".join(
    (
        f"dsize:>0; stream_size:client,<,{BEGINNING};",
        *(f'content:!"|{kind} 03|"; depth:2;' for kind in ("14", "15", "16", "17")),
    )
)
"""What begins as no record of TLS does (RFC 8446, 5.1): of a few words Suricata does not say that they are no TLS."""


def _ends(matrix: FlowMatrix, endpoint: str) -> str:
    """An endpoint in Suricata's words."""
    found = [str(it) for it in matrix.networks(endpoint)]
    return _list(found) if found else ABROAD


def _list(items: list[str]) -> str:
    return f"[{','.join(dict.fromkeys(items))}]"
