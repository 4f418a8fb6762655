"""`mastio verify`: prove that the site is as designed, from every machine and from outside."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mastio.cli.common import COLOURS, App, pass_app
from mastio.errors import Exit, MastioError
from mastio.flows import expand
from mastio.report import page
from mastio.report import verify as text
from mastio.report.plan import Line
from mastio.report.words import span
from mastio.verify import history, registry, runner, scheduled
from mastio.verify.model import BAD, Check, Finding, Severity, Verdict
from mastio.verify.scheduled import Newest
from mastio.verify.spared import spared
from mastio.verify.vantage import Ground

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--list", "listing", is_flag=True, help="Only tell which checks there are.")
@click.option("--only", metavar="IDS", default="", help="These checks alone, as R1,N2.")
@click.option(
    "--zone", "zones", multiple=True, help="Only checks that look from this zone, or `outside`."
)
@click.option(
    "--severity",
    "severities",
    multiple=True,
    type=click.Choice([*map(str, Severity)]),
    help="Only checks of this severity.",
)
@click.option(
    "--fast/--full",
    "fast",
    default=True,
    help="The usual ports, or all 65,535 and slow checks too.",
)
@click.option(
    "--scheduled",
    "of_watch",
    is_flag=True,
    help="Look at nothing: show what watch found by itself, and when.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--junit", type=_FILE, metavar="FILE", help="Also write JUnit's XML.")
@click.option("--html", type=_FILE, metavar="FILE", help="Also write a page for people.")
@pass_app
def verify(
    app: App, listing: bool, only: str, zones: tuple[str, ...], severities: tuple[str, ...], fast: bool,
    of_watch: bool, as_json: bool, junit: Path | None, html: Path | None,
) -> Exit:  # fmt: skip
    """Prove that the site is as designed: from every machine, and from outside.

    Exits with 0 when all passed, 1 when something failed, 69 when nothing failed but something could not
    be checked. What could not be looked at is never green.
    """
    site = app.site()
    checks = registry.choose(
        site, full=not fast, only=[it for it in only.replace(",", " ").split() if it],
        zones=zones, severities=[Severity(it) for it in severities],
    )  # fmt: skip
    if listing:
        _print_list(checks, as_json)
        return Exit.OK
    if of_watch:
        return _show_scheduled(app, as_json)
    ground = ground_of(app, full=not fast)
    with progress(as_json) as tell, spared(ground, checks):
        run = runner.run(ground, checks, tell)
    before = history.load(app.folder)
    if not (only or zones or severities):
        # A run of a few checks says nothing about the site as a whole.
        history.save(app.folder, run)
    if junit:
        _write(junit, text.junit(run))
    if html:
        _write(html, page.html(run, ground.matrix, before))
    if as_json:
        click.echo(json.dumps(text.data(run), indent=2))
    else:
        for style, words in text.lines(run):
            click.echo(click.style(words, **COLOURS[style]))  # type: ignore[arg-type]
        for change in history.changes(run, before):
            click.echo(f"  changed: {change.key} was {change.was}, is {change.now}")
    return CODES[run.verdict]


CODES = {
    Verdict.PASSED: Exit.OK,
    Verdict.FAILED: Exit.FAILED,
    Verdict.UNKNOWN: Exit.UNAVAILABLE,
    Verdict.NOT_RUN: Exit.UNAVAILABLE,
}


def ground_of(app: App, *, full: bool) -> Ground:
    """What all vantages of a run share."""
    site = app.site()
    outside = app.in_lab or bool(site.verify_outside)
    return Ground(site, expand(site), app.transport(), full, outside)


def _show_scheduled(app: App, as_json: bool) -> Exit:
    """The newest reports of watch's own verification; a set that is overdue is not green."""
    found = scheduled.newest(app.site(), app.transport(), time.time())
    if not found:
        raise MastioError("no machine of this site watches", code=Exit.DATA)
    worst = Exit.OK
    for it in found.values():
        verdict = it.report["verdict"] if it.report else Verdict.NOT_RUN
        if verdict == Verdict.FAILED:
            worst = Exit.FAILED
        elif (it.late or verdict != Verdict.PASSED) and worst is Exit.OK:
            worst = Exit.UNAVAILABLE
    if as_json:
        rows = {name: {"report": it.report, "late": it.late} for name, it in found.items()}
        click.echo(json.dumps(rows, indent=2))
    else:
        for name, it in found.items():
            click.echo(_summary(name, it))
    return worst


def _summary(name: str, newest: Newest) -> str:
    if newest.report is None or newest.age is None:
        return click.style(f"{name}: has not run yet", fg="yellow")
    verdict, age = newest.report["verdict"], span(newest.age)
    words = f"{name}: {verdict}, {age} ago" + (", OVERDUE" if newest.late else "")
    bad = [f"  {it}" for it in newest.words]
    good = verdict == Verdict.PASSED and not newest.late
    return "\n".join((click.style(words, fg="green" if good else "red"), *bad))


def _print_list(checks: tuple[Check, ...], as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "id": it.id, "family": str(it.family), "title": it.title, "severity": str(it.severity),
                "set": "full" if it.full else "fast", "from": [str(place) for place in it.where],
                "probe": it.probe, "passes": it.passes, "source": it.source, "remedy": it.remedy,
            }
            for it in checks
        ]  # fmt: skip
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("check", "severity", "set", "from", "title"):
        table.add_column(title, overflow="fold")
    for it in checks:
        table.add_row(
            it.id, it.severity, "full" if it.full else "fast", ", ".join(it.where), it.title
        )
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)


def _write(path: Path, content: str) -> None:
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise MastioError(
            f"{path}: {error.strerror}",
            hint="name a file that can be written",
            code=Exit.CANT_CREATE,
        ) from error
    click.echo(f"wrote {path}", err=True)


@contextmanager
def progress(quiet: bool) -> Iterator[runner.Tell]:
    """A bar on a terminal; a line for each finding elsewhere; nothing beside JSON."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda finding, done, total: None if quiet else _say(text.line(finding), done, total)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("")

        def tell(finding: Finding, done: int, total: int) -> None:
            words = f"{finding.check.id} {finding.vantage}"
            bar.update(task, completed=done, total=total, description=words)
            if finding.verdict in BAD:
                style, said = text.line(finding)
                bar.console.print(
                    said, style="red" if style == "remove" else "yellow", highlight=False
                )

        yield tell


def _say(line: Line, done: int, total: int) -> None:
    click.echo(f"{done:3}/{total} {line[1]}", err=True)
