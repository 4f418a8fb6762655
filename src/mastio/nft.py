"""How things are said to nft(8): chains, ports, and what ends a packet's way.

>>> chain("input", "filter hook input priority filter; policy drop;", "iif lo accept", *log_and("input", "drop"))
['chain input {', '    type filter hook input priority filter; policy drop;', '    iif lo accept', ...
"""

from collections.abc import Iterable, Iterator

from mastio.services import Service
from mastio.site.model import Address, Network

LOG_GROUP = 77
"""The NFLOG group that ulogd2 listens to on every machine."""


def chain(name: str, kind: str, *rules: str) -> list[str]:
    """A chain as lines; `kind`: where in a packet's way it stands, and what becomes of what no rule names."""
    return [f"chain {name} {{", *indent((f"type {kind}", *rules)), "}"]


def indent(lines: Iterable[str]) -> list[str]:
    """Lines inside a block."""
    return [f"    {line}" for line in lines]


def log_and(name: str, verdict: str) -> tuple[str, str]:
    """The end of a chain: tell ulogd2, not more than it can write, then give the verdict."""
    return (
        f'limit rate 10/second burst 50 packets log prefix "mastio {name}:" group {LOG_GROUP}',
        f"counter {verdict}",
    )


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
