"""`mastio outbound show | release | drop`: users beyond their limits, and their held messages."""

import json
import sys
import time
from dataclasses import asdict

import click

from mastio.cli.common import App, pass_app
from mastio.cli.directory import json_flag
from mastio.errors import Exit, MastioError
from mastio.heldmail import messages
from mastio.outbound import Held, Outbound
from mastio.report.words import span

_SHOWN = 3


@click.group()
def outbound() -> None:
    """Outgoing mail that is held, because its user sent more than the site file allows."""


@outbound.command("show")
@json_flag
@pass_app
def outbound_show(app: App, as_json: bool) -> None:
    """Show who is paused, why, and which messages wait."""
    found = _outbound(app).show()
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False))
        return
    if not (found.paused or found.held):
        click.echo("nothing is held")
    for it in found.paused:
        click.echo(f"{it.user}  paused {span(time.time() - it.since)} ago: {it.reason}")
    for message in found.held:
        click.echo(f"  {_line(message)}")


@outbound.command("release")
@click.argument("what", metavar="USER|MESSAGE")
@json_flag
@pass_app
def outbound_release(app: App, what: str, as_json: bool) -> None:
    """Send a user's held messages and let the user go on, counted from zero; or send one MESSAGE."""
    count = _outbound(app).release(_key(what))
    click.echo(json.dumps({"released": count}) if as_json else f"{messages(count)} released")


@outbound.command("drop")
@click.argument("what", metavar="USER|MESSAGE")
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@json_flag
@pass_app
def outbound_drop(app: App, what: str, yes: bool, as_json: bool) -> None:
    """Delete a user's held messages, or one MESSAGE, for good. The user stays paused.

    What the user's Sieve script passes on stays, since it may be the only copy of what somebody else has written:
    release it, or name the MESSAGE.
    """
    store = _outbound(app)
    doomed = () if yes else store.show().doomed(_key(what))
    if doomed:
        for message in doomed:
            click.echo(_line(message), err=True)
        if not sys.stdin.isatty():
            raise MastioError(
                f"{messages(len(doomed))} would be deleted, and there is nobody to ask",
                hint="--yes says that it is meant",
                code=Exit.USAGE,
            )
        click.confirm(f"Delete {messages(len(doomed))} for good?", abort=True, err=True)
    count = store.drop(_key(what))
    click.echo(json.dumps({"dropped": count}) if as_json else f"{messages(count)} deleted")
    if not as_json and (left := store.show().of(_key(what))):
        click.echo(f"{messages(len(left))} of the user's Sieve script still held")


def _outbound(app: App) -> Outbound:
    return Outbound(app.site(), app.transport())


def _key(what: str) -> str:
    """Addresses are kept in lower case; queue ids tell cases apart."""
    return what.lower() if "@" in what else what


def _line(it: Held) -> str:
    more = f" and {len(it.recipients) - _SHOWN} more" if len(it.recipients) > _SHOWN else ""
    recipients = ", ".join(it.recipients[:_SHOWN]) + more
    kib = max(1, round(it.size / 1024))
    age = span(time.time() - it.arrived)
    script = "  by a Sieve script" if it.by_script else ""
    return f"{it.message}  {it.sender} → {recipients}  {kib} KiB  {age} ago{script}"
