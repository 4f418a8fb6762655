"""A verification as one HTML page that needs nothing else: no script, no font, no request.

Verdict, topology, what is reachable from where (expected beside seen), what an intruder would have on each
machine, findings with what to do, what changed since the last time, and the runs before. It is made to be
read on a phone, printed, and heard.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from mastio import guide, picture
from mastio.errors import MastioError
from mastio.flows import FlowMatrix
from mastio.report.verify import SIGNS, grouped, headline
from mastio.transport import OUTSIDE
from mastio.verify import breach, history
from mastio.verify.model import Cell, Run, Verdict
from mastio.verify.reach import PUBLIC, listed, named

_CHART_RUNS = 60
_WHO = {OUTSIDE: "the internet", PUBLIC: "public addresses"}


@dataclass(frozen=True, slots=True)
class Square:
    """One square of the reachability matrix: a source and a target, both families together."""

    state: str
    """`good`, `bad`, `closed` (nothing is allowed and nothing answers), `self`, `unseen`."""
    allowed: tuple[str, ...]
    """What should answer, and does."""
    wrong: tuple[str, ...]
    """What is not as it should be, in words."""
    tried: int


def html(run: Run, matrix: FlowMatrix, before: tuple[history.Past, ...]) -> str:
    """The page."""
    sources, targets, squares = _matrix(run)
    shown = [(verdict, tuple(grouped(run, verdict))) for verdict in Verdict]
    return environment().get_template("page.html.j2").render(
        run=run, site=matrix.site, headline=headline(run), Verdict=Verdict, signs=SIGNS, guide=guide.of_check,
        picture=_topology(matrix), sources=sources, targets=targets, squares=squares, who=_WHO,
        groups=[(verdict, checks) for verdict, checks in shown if checks],
        changes=history.changes(run, before), first=not before, exposures=breach.exposures(matrix, run),
        bars=_bars((*before, history.past(run))[-_CHART_RUNS:]),
    )  # fmt: skip


def _topology(matrix: FlowMatrix) -> Markup | None:
    """The picture of the site, as part of the page; None where Graphviz is missing."""
    try:
        drawn = picture.draw(matrix)
    except MastioError:
        return None
    drawn = drawn[drawn.index("<svg") :]
    # Its own size in points would not shrink on a phone; viewBox keeps the proportions.
    drawn = re.sub(
        r'<svg width="[^"]*" height="[^"]*"',
        '<svg role="img" aria-labelledby="topology-t"',
        drawn,
        count=1,
    )
    # Graphviz escapes every text of ours that it draws.
    return Markup(drawn)  # noqa: S704


def _matrix(
    run: Run,
) -> tuple[tuple[str, ...], tuple[str, ...], dict[tuple[str, str], Square]]:
    cells: dict[tuple[str, str], list[Cell]] = {}
    for finding in run.findings:
        for cell in finding.cells:
            cells.setdefault((cell.source, cell.target), []).append(cell)
    sources = tuple(dict.fromkeys(source for source, _ in cells))
    targets = tuple(sorted({target for _, target in cells}, key=lambda it: _order(it, sources)))
    squares = {ends: _square(found) for ends, found in cells.items()}
    for source in sources:
        for target in targets:
            empty = Square("self" if source == target else "unseen", (), (), 0)
            squares.setdefault((source, target), empty)
    return sources, targets, squares


def _order(target: str, sources: tuple[str, ...]) -> tuple[int, str]:
    return (sources.index(target) if target in sources else len(sources), target)


def _square(cells: Iterable[Cell]) -> Square:
    cells = tuple(cells)
    wrong = []
    for cell in cells:
        for ports, words in (
            (cell.surplus, "answers, must not"),
            (cell.leaks, "not filtered"),
            (cell.missing, "silent, must answer"),
        ):
            # Nobody says that the machine outside serves everything.
            if ports and not (cell.target == OUTSIDE and ports == cell.missing):
                wrong.append(f"{listed(ports, 4)} {words} ({cell.address})")
    allowed = {port for cell in cells for port in cell.expected}
    state = "bad" if wrong else "good" if allowed else "closed"
    names = tuple(named(port) for port in sorted(allowed, key=lambda it: (it[1], it[0])))
    return Square(state, names, tuple(wrong), sum(cell.tried for cell in cells))


@dataclass(frozen=True, slots=True)
class Bar:
    """One run in the chart: heights of its parts, in hundredths."""

    when: str
    words: str
    x: float
    width: float
    parts: tuple[tuple[str, float, float], ...]
    """Class, top, height."""


def _bars(runs: tuple[history.Past, ...]) -> tuple[Bar, ...]:
    width = 600 / max(len(runs), 12)
    bars = []
    for number, run in enumerate(runs):
        total = max(1, sum(run.count(it) for it in _STACK))
        top, parts = 100.0, []
        for verdict in _STACK:
            if count := run.count(verdict):
                # One failure among a hundred must be seen.
                height = max(6.0, 100 * count / total) if verdict is not Verdict.PASSED else top
                top = max(0.0, top - height)
                parts.append((_CLASSES[verdict], top, height))
        words = ", ".join(f"{run.count(it)} {it}" for it in Verdict if run.count(it))
        when = f"{run.began:%Y-%m-%d %H:%M}"
        bars.append(Bar(when, words, number * width, width * 0.8, tuple(parts)))
    return tuple(bars)


_STACK = (Verdict.FAILED, Verdict.UNKNOWN, Verdict.ACCEPTED, Verdict.PASSED)
_CLASSES = {
    Verdict.FAILED: "failed",
    Verdict.UNKNOWN: "unknown",
    Verdict.ACCEPTED: "accepted",
    Verdict.PASSED: "passed",
    Verdict.NOT_RUN: "notrun",
}


@cache
def environment() -> jinja2.Environment:
    """How templates beside this module become pages: what they are given is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["verdict_class"] = lambda verdict: _CLASSES[verdict]
    return environment
