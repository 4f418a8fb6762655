"""How things are said to nft(8): chains, ports, and what ends a packet's way.

>>> chain("input", "filter hook input priority filter; policy drop;", "iif lo accept", *log_and("input", "drop"))
['chain input {', '    type filter hook input priority filter; policy drop;', '    iif lo accept', ...
"""

from collections.abc import Iterable, Iterator

from mastio.services import Service
from mastio.site.model import Address, Network

LOG_GROUP = 77
"""The NFLOG group that ulogd2 listens to on every machine."""
ACCEPT = "accept"
"""In the log, instead of a chain's name: what was let in from outside, or out by mail."""
CLIENT_CONNECTIONS = 256
"""How many connections to published services one client may hold (IPv4 address or IPv6 /64)."""
CLIENT_RATE = "200/second burst 400 packets"
"""How fast one client may open them."""


def chain(name: str, kind: str, *rules: str) -> list[str]:
    """A chain as lines; `kind`: where in a packet's way it stands, and what becomes of what no rule names."""
    return [f"chain {name} {{", *indent((f"type {kind}", *rules)), "}"]


def indent(lines: Iterable[str]) -> list[str]:
    """Lines inside a block."""
    return [f"    {line}" for line in lines]


def log_and(name: str, verdict: str) -> tuple[str, str]:
    """The end of a chain: tell ulogd2, not more than it can write, then give the verdict."""
    return _log(name, "10/second burst 50"), f"counter {verdict}"


def _log(name: str, rate: str) -> str:
    # At once: else the kernel waits a second for more, and the line's time is not the packet's.
    to = f"group {LOG_GROUP} queue-threshold 1"
    return f'limit rate {rate} packets log prefix "mastio {name}:" {to}'


def port(service: Service, port: int = 0) -> str:
    """The match for a service's port, or another one for it."""
    port = port or service.port
    if len(service.transports) == 1:
        return f"{service.transports[0]} dport {port}"
    return f"meta l4proto {{ {', '.join(sorted(service.transports))} }} th dport {port}"


def choice(ip: str, targets: list[str]) -> str:
    """One of several addresses, for a client always the same."""
    if len(targets) == 1:
        return targets[0]
    pairs = ", ".join(f"{number} : {target}" for number, target in enumerate(targets))
    return f"jhash {ip} saddr mod {len(targets)} map {{ {pairs} }}"


def match(addresses: Iterable[Address | Network], family: int, side: str) -> str | None:
    """The match for any of `addresses` as `saddr` or `daddr`; None when there is none of the family."""
    found = [str(it) for it in addresses if it.version == family]
    if not found:
        return None
    any_of = found[0] if len(found) == 1 else f"{{ {', '.join(found)} }}"
    return f"{'ip' if family == 4 else 'ip6'} {side} {any_of}"


def banned(families: Iterable[int]) -> Iterator[str]:
    """The sets of banned clients: IPv4 addresses, IPv6 /64s; each for its time."""
    for family in families:
        yield f"set banned{family} {{"
        yield f"    type ipv{family}_addr"
        yield "    flags interval, timeout"
        yield "}"


def shut() -> Iterator[str]:
    """The set of doors that are closed, by their ports; each for its time."""
    yield from ("set shut {", "    type inet_service", "    flags timeout", "}")


def clients() -> Iterator[str]:
    """New connections from outside to a published service: limited for each client, and told of.

    A client is one IPv4 address or one IPv6 /64, the least that a customer is given.
    """
    keys = ((4, "ip saddr"), (6, "ip6 saddr & ffff:ffff:ffff:ffff::"))
    for family, _ in keys:
        for name in ("holding", "opening"):
            yield f"set {name}{family} {{"
            yield f"    type ipv{family}_addr"
            yield "    size 65536"
            yield "    flags dynamic" + (", timeout" if name == "opening" else "")
            if name == "opening":
                yield "    timeout 1m"
            yield "}"
    yield ""
    yield "chain client {"
    yield "    # New connections from outside to a published service end here, good or bad."
    for family, key in keys:
        for name, measure in (
            ("holding", f"ct count over {CLIENT_CONNECTIONS}"),
            ("opening", f"limit rate over {CLIENT_RATE}"),
        ):
            yield f"    meta nfproto ipv{family} add @{name}{family} {{ {key} {measure} }} goto refuse"
    yield "    goto told"
    yield "}"
    yield "chain refuse {"
    yield from indent(log_and("limit", "drop"))
    yield "}"
    for name in ("told", "leaving"):
        yield f"chain {name} {{"
        yield from indent(_TOLD)
        yield "}"


_TOLD = (
    "# Once: what nobody answers comes again, and is as new as before.",
    "ct mark 1 accept",
    "ct mark set 1",
    # More than a large site has; in a flood the rest is let through untold.
    _log(ACCEPT, "50/second burst 1000"),
    "accept",
)
"""What is let through, in or out, each with a rate of its own."""
