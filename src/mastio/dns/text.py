"""Records as a zone file (RFC 1035, 5) that a person reads, understands and pastes.

Owners are absolute, so that the text is valid in any zone. The PTR records are comments: they belong to
whoever owns the addresses, usually the provider.
"""

from collections.abc import Iterable, Mapping

from mastio.dns.records import Record

TTL = 3600
"""Seconds that an answer may be cached."""
_INDENT = " " * 8
_WIDTH = 120


def zone_file(groups: Mapping[str, Iterable[Record]]) -> str:
    """The records by zone (`zone.grouped`); each run of records with one reason has it above itself."""
    parts = [f"$TTL {TTL}\n"]
    for apex, records in groups.items():
        if apex:
            title = f"{apex}: sign this zone (DNSSEC), or DANE and TLSA are worth nothing."
        else:
            title = "The addresses' owner, usually the provider, must set these:"
        parts.append(f"\n; ===== {title}\n{_lines(records, hidden=not apex)}")
    return "".join(parts)


def _lines(records: Iterable[Record], *, hidden: bool) -> str:
    lines: list[str] = []
    last = ""
    for record in records:
        if record.why != last:
            lines.append(f"; {record.why}")
            last = record.why
        line = f"{record.owner}. IN {record.type} {record.data}"
        if hidden:
            line = f"; {line}"
        elif len(line) > _WIDTH and record.type == "TXT":
            line = _folded(record)
        lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def _folded(record: Record) -> str:
    """A long TXT record in parentheses, a line for each of its strings."""
    strings = record.data.removeprefix('"').removesuffix('"').split('" "')
    inner = "".join(f'\n{_INDENT}"{it}"' for it in strings)
    return f"{record.owner}. IN TXT ({inner} )"
