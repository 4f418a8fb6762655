"""Records in the forms that name servers and registrars take. Pure.

| | |
|---|---|
| `update` | an nsupdate(1) script that puts all records there |
| `mending` | one that changes only what `check` found different |
| `fields` | record by record, as the fields of a registrar's web page want them |

Where a TXT record stands with others of somebody else (a site verification beside SPF), only `mending` can replace it:
it knows what is there. `update` adds, and leaves what is there.
"""

from collections.abc import Iterable, Iterator, Mapping

from mastio.dns.check import Finding
from mastio.dns.records import Record, text
from mastio.dns.text import TTL

_PARTS = {
    "MX": ("priority",),
    "SRV": ("priority", "weight", "port"),
    "CAA": ("flags", "tag"),
    "TLSA": ("usage", "selector", "matching"),
}
"""What stands before the value, and how web pages call it."""


def update(groups: Mapping[str, Iterable[Record]]) -> str:
    """An nsupdate script for each zone (`zone.grouped`); the reverse tree, which is others', is left out."""
    lines: list[str] = []
    for apex, records in groups.items():
        if not apex:
            continue
        lines.append(f"zone {apex}.")
        emptied: set[tuple[str, str]] = set()
        for it in records:
            if it.type != "TXT" and (it.owner, it.type) not in emptied:
                emptied.add((it.owner, it.type))
                lines.append(f"update delete {it.owner}. {it.type}")
            lines.append(f"update add {it.owner}. {TTL} {it.type} {it.data}")
        lines.append("send")
    return _script(lines)


def mending(groups: Mapping[str, Iterable[Record]], findings: Iterable[Finding]) -> str:
    """An nsupdate script of what is missing and what is too much; empty when nothing is."""
    found = {(it.owner, it.type): it for it in findings}
    lines: list[str] = []
    for apex, records in groups.items():
        questions = dict.fromkeys((it.owner, it.type) for it in records) if apex else {}
        changes = [line for it in questions if it in found for line in _changes(found[it])]
        if changes:
            lines += [f"zone {apex}.", *changes, "send"]
    return _script(lines)


def _changes(finding: Finding) -> Iterator[str]:
    quoted = text if finding.type == "TXT" else str
    for data in finding.extra:
        yield f"update delete {finding.owner}. {finding.type} {quoted(data)}"
    for data in finding.missing:
        yield f"update add {finding.owner}. {TTL} {finding.type} {quoted(data)}"


def _script(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def fields(groups: Mapping[str, Iterable[Record]]) -> str:
    """Record by record: name below the zone (@ is the zone itself), type, value, and why."""
    parts: list[str] = []
    for apex, records in groups.items():
        title = apex or "Reverse names: the addresses' owner, usually the provider, sets these"
        parts.append(f"===== {title}\n")
        for it in records:
            rows = [("name", _below(it.owner, apex)), ("type", it.type), *_values(it)]
            parts.append("".join(f"{name:9} {value}\n" for name, value in (*rows, ("why", it.why))))
    return "\n".join(parts)


def _below(owner: str, apex: str) -> str:
    return "@" if owner == apex else owner.removesuffix(f".{apex}") if apex else owner


def _values(record: Record) -> Iterator[tuple[str, str]]:
    if record.type == "TXT":
        # Web pages cut a long text into strings by themselves.
        yield "value", record.data.removeprefix('"').removesuffix('"').replace('" "', "")
        return
    *words, value = record.data.split()
    yield from zip(_PARTS.get(record.type, ()), words, strict=True)
    yield "value", value.strip('"').removesuffix(".") or "."
