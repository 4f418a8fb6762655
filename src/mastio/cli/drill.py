"""`mastio drill`: what if. Nothing is changed on any machine."""

import json
from datetime import UTC, datetime
from typing import Any

import click

from mastio import onwatch
from mastio.cli.common import COLOURS, App, pass_app
from mastio.cli.verify import CODES, ground_of, progress
from mastio.errors import Exit, MastioError
from mastio.integrity.client import who
from mastio.report import drill as text
from mastio.site.model import Role
from mastio.verify import breach as judge
from mastio.verify import registry, runner


@click.group()
def drill() -> None:
    """What if: suppose the worst, and see what it would mean."""


@drill.command("restore")
@click.option("--all", "every", is_flag=True, help="Every mailbox, not some chosen by chance.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_app
def restore(app: App, every: bool, as_json: bool) -> Exit:
    """Restore the newest archive into a store of its own, read it, and compare it with the live one.

    On watch, shut in; it is gone when this ends. Logs in over IMAP as some users (`drill.mailboxes` of the site file)
    with a password made for the run, and compares counts and digests with the store as of the archive's time. What
    it finds is kept; a failed drill is an alarm. Exits with 1 when something would not come back.
    """
    record: dict[str, Any] = {}
    order = {"by": who(), "all": every}
    for event in onwatch.events(app.transport(), _watch(app), "drill", ["run"], order):
        if "step" in event and not as_json:
            click.echo(event["step"], err=True)
        record = event.get("record", record)
    if as_json:
        click.echo(json.dumps(record, indent=2))
    else:
        _print_record(record)
    return Exit.OK if record["good"] else Exit.FAILED


@drill.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_app
def status(app: App, as_json: bool) -> Exit:
    """What the last restore drills found. Exits with 1 when the last was not good or there was none."""
    found = next(onwatch.events(app.transport(), _watch(app), "drill", ["status"]))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for it in found["runs"]:
            _print_record(it)
        if not found["runs"]:
            click.echo("no drill has been run yet: `mastio drill restore`")
    return Exit.OK if found["last"] and found["last"]["good"] else Exit.FAILED


def _watch(app: App) -> str:
    watches = app.site().carrying(Role.WATCH)
    if not watches:
        raise MastioError("this site has no watch: nothing is archived", code=Exit.USAGE)
    return watches[0].name


def _print_record(it: dict[str, Any]) -> None:
    when = f"{datetime.fromtimestamp(it['at'], UTC):%Y-%m-%d %H:%M} UTC, by {it['by']}"
    if it["good"]:
        click.secho(f"{when}: good in {it['seconds']:.1f} s", fg="green")
    else:
        click.secho(f"{when}: NOT GOOD", fg="red")
    for words in it["bad"]:
        click.echo(f"  {words}")
    if it["archive"]:
        click.echo(
            f"  {it['archive']}: {it['mailboxes']} of {it['accounts']} mailboxes, {it['messages']} messages, "
            f"{it['same']} the same now; since then {it['came']} came and {it['gone']} went"
        )


@drill.command()
@click.argument("machines", nargs=-1, metavar="[MACHINE]...")
@click.option(
    "--fast/--full", "fast", default=True, help="Try the usual ports, or all 65,535 of them."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_app
def breach(app: App, machines: tuple[str, ...], fast: bool, as_json: bool) -> Exit:
    """Take machines, all when none is named, as broken into, and see what the intruder has.

    What can be reached from there, which secrets lie there, and what mail could be read or sent, each found by
    looking and compared with what the design grants that machine. Only paths are printed, never what is in
    them. Exits with 1 when something is found that is not granted, 69 when something could not be looked at.
    """
    site = app.site()
    known = [it.name for it in site.machines]
    if wrong := sorted({*machines} - {*known}):
        raise MastioError(
            f"no such machine: {', '.join(wrong)}", hint=f"this site has {', '.join(known)}", code=Exit.USAGE
        )  # fmt: skip
    ground = ground_of(app, full=not fast)
    checks = registry.choose(site, full=not fast, only=judge.LOOKS)
    with progress(as_json) as tell:
        run = runner.run(ground, checks, tell, at=machines or known)
    found = judge.exposures(ground.matrix, run)
    if as_json:
        click.echo(json.dumps(text.data(found), indent=2))
    else:
        for style, words in text.lines(found):
            click.echo(click.style(words, **COLOURS[style]))  # type: ignore[arg-type]
    return CODES[text.worst(found)]
