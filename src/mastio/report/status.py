"""A look at the site as text for a terminal, and as JSON."""

from collections.abc import Iterator, Mapping
from typing import Any

from mastio.report.plan import Line, Style
from mastio.report.words import span
from mastio.status.glance import Glance, Level, shares

_STYLES = {Level.GOOD: Style.ADD, Level.WARNING: Style.CHANGE, Level.BAD: Style.REMOVE}
_SIGNS = {Level.GOOD: "✓", Level.WARNING: "~", Level.BAD: "✗"}
_HEADS = ("machine", "up", "load", "memory", "fullest disk", "mail waiting")


def lines(seen: Glance) -> Iterator[Line]:
    """What needs a person first, then the machines."""
    if not seen.notes:
        yield Style.ADD, "Nothing needs you."
    for note in seen.notes:
        yield _STYLES[note.level], f"{_SIGNS[note.level]} {note.about}: {note.words}"
    rows = [_HEADS, *(_row(name, facts) for name, facts in seen.machines.items())]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEADS))]
    yield Style.PLAIN, ""
    for number, row in enumerate(rows):
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield Style.PLAIN if number else Style.TITLE, text.rstrip()
    yield Style.PLAIN, ""
    for name, report in seen.sets.items():
        if report:
            verdict, age = report["verdict"], span(report["age"])
            good = verdict == "passed" and not report["late"]
            yield Style.ADD if good else Style.REMOVE, f"verify ({name}): {verdict}, {age} ago"
    if seen.drill:
        words = "good" if seen.drill["good"] else "NOT good"
        style = Style.ADD if seen.drill["good"] and not seen.drill["late"] else Style.REMOVE
        yield style, f"restore drill: {words}, {span(seen.drill['age'])} ago"
    if seen.bans is not None:
        yield Style.PLAIN, f"kept out by the firewall: {seen.bans}"


def _row(name: str, facts: Mapping[str, Any] | str) -> tuple[str, ...]:
    if isinstance(facts, str):
        return (name, "?", "", "", "", "")
    fullest = max(
        ((share, disk["path"]) for disk in facts["disks"] for _, share in shares(disk)),
        default=(0.0, "-"),
    )
    memory = 1 - facts["memory"]["available"] / facts["memory"]["total"]
    queue = facts["queue"]
    waiting = "-"
    if queue:
        count = sum(value for key, value in queue.items() if key != "oldest")
        waiting = f"{count}, oldest {span(queue['oldest'])}" if count else "0"
    load = f"{facts['load']:.1f} of {facts['processors']}"
    return (name, span(facts["uptime"]), load, f"{memory:.0%}", f"{fullest[0]:.0%} {fullest[1]}", waiting)  # fmt: skip


def data(seen: Glance) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "site": seen.site,
        "level": seen.level,
        "notes": [{"level": it.level, "about": it.about, "words": it.words} for it in seen.notes],
        "machines": {
            name: {"error": it} if isinstance(it, str) else dict(it)
            for name, it in seen.machines.items()
        },
        "verify": {name: it and dict(it) for name, it in seen.sets.items()},
        "drill": seen.drill and dict(seen.drill),
        "bans": seen.bans,
    }
