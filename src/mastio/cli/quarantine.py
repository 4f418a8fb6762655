"""`mastio quarantine`: mail that the gateway has held back, to be looked at, released or deleted."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

from mastio.cli.common import App, pass_app
from mastio.cli.directory import json_flag
from mastio.errors import Exit, MastioError
from mastio.heldmail import MISSING, messages
from mastio.quarantine.client import Decided, Direction, Entry, Filter, Quarantine, Verdict

_SENT = " (released, a copy)"


def which(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that make a Filter, given to the command as `wanted`."""

    @click.option("--recipient", default="", metavar="PART", help="Address or domain.")
    @click.option("--sender", default="", metavar="PART", help="In the envelope or in From:.")
    @click.option("--reason", default="", metavar="PART", help="Why it is held back.")
    @click.option("--subject", default="", metavar="PART", help="With this in the subject.")
    @click.option("--older", type=click.FloatRange(0), metavar="DAYS", help="Here for so long.")
    @wraps(command)
    def wrapped(
        *arguments: Any,
        recipient: str,
        sender: str,
        reason: str,
        subject: str,
        older: float | None,
        **rest: Any,
    ) -> Any:
        before = 0 if older is None else time.time() - older * 86400
        return command(
            *arguments, wanted=Filter(recipient, sender, reason, subject, before), **rest
        )

    return wrapped


@click.group()
def quarantine() -> None:
    """Mail that the gateway has held back, coming in or leaving.

    What comes in is held for each recipient by itself; what leaves, for all together. Its sender is told.

    Options that say which messages take parts of values, in any case of letters.
    """


@quarantine.command("list")
@which
@json_flag
@pass_app
def list_(app: App, wanted: Filter, as_json: bool) -> None:
    """List messages, oldest first."""
    quarantine = _quarantine(app)
    entries = quarantine.find(wanted)
    if as_json:
        click.echo(json.dumps([_plain(it) for it in entries], indent=2, ensure_ascii=False))
    else:
        for it in entries:
            click.echo(f"{it.id}  {_moment(it)}  {_way(it)}{it.recipient}")
            click.echo(f"    from {it.from_ or it.sender or '<>'}: {it.subject or '(no subject)'}")
            click.echo(f"    {it.reason}{_SENT if it.sent else ''}")
    _complain(quarantine)


@quarantine.command("show")
@click.argument("id_", metavar="ID")
@json_flag
@pass_app
def show(app: App, id_: str, as_json: bool) -> None:
    """Show one message's envelope, headers, text and attachments' names."""
    details = _quarantine(app).show(id_)
    if as_json:
        plain = {**asdict(details), "entry": _plain(details.entry)}
        click.echo(json.dumps(plain, indent=2, ensure_ascii=False))
        return
    it = details.entry
    sent = f", sent to {it.original}" if it.original != it.recipient else ""
    click.echo(
        f"held back: {it.reason}{_SENT if it.sent else ''}, on {it.machine}\nfor:       {_way(it)}{it.recipient}{sent}"
    )
    click.echo(f"envelope:  <{it.sender}>, {_moment(it)}, {it.size} bytes\n")
    for name, value in details.headers:
        click.echo(f"{name}: {value}")
    click.echo(f"\n{details.text.rstrip()}\n")
    for part in details.parts:
        click.echo(f"[{part.type} {part.name} {part.size} bytes]")


@quarantine.command("release")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@which
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_flag
@pass_app
def release(app: App, ids: tuple[str, ...], wanted: Filter, yes: bool, as_json: bool) -> Exit:
    """Give or send messages to their recipients: those with the IDs, or all that fit the options.

    They are not scanned again, but for what an alias or a forward leads elsewhere: the gateway looks at it as at all
    that leaves, and may hold or refuse it. A copy stays here; only its ID releases it once more.
    """
    return _decide(app, Verdict.RELEASE, ids, wanted, yes or bool(ids), as_json)


@quarantine.command("delete")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@which
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_flag
@pass_app
def delete(app: App, ids: tuple[str, ...], wanted: Filter, yes: bool, as_json: bool) -> Exit:
    """Delete messages for good: those with the IDs, or all that fit the options.

    Who sent one that was leaving is told.
    """
    return _decide(app, Verdict.DELETE, ids, wanted, yes, as_json)


def _decide(
    app: App, verdict: Verdict, ids: tuple[str, ...], wanted: Filter, yes: bool, as_json: bool
) -> Exit:
    if bool(ids) == bool(wanted.plain()):
        raise click.UsageError("say which messages: either by their IDs or by options")
    if not yes and not sys.stdin.isatty():
        raise MastioError(
            f"{verdict} asks first, and nobody is there to answer",
            hint=f"look at `mastio quarantine list`, then use `mastio quarantine {verdict} --yes`",
            code=Exit.USAGE,
        )
    quarantine = _quarantine(app)
    chosen = ids or tuple(
        it.id for it in quarantine.find(wanted) if verdict is Verdict.DELETE or not it.sent
    )
    if chosen and not yes:
        click.confirm(f"{verdict} {messages(len(chosen))}?", abort=True, err=True)
    decided = quarantine.decide(verdict, chosen) if chosen else ()
    _report(verdict, decided, as_json)
    _complain(quarantine)
    return Exit.OK


def _report(verdict: Verdict, decided: tuple[Decided, ...], as_json: bool) -> None:
    failed = [it for it in decided if not it.done]
    if as_json:
        click.echo(json.dumps([asdict(it) for it in decided], indent=2, ensure_ascii=False))
    else:
        click.echo(f"{verdict}d: {messages(len(decided) - len(failed))}")
        for it in decided:
            if it.sent:
                click.echo(
                    f"{it.id} is on its way out by the gateway, which may hold or refuse it; a copy stays"
                )
    if failed:
        raise MastioError(
            "\n".join(f"{it.id}: {it.why}" for it in failed),
            hint=f"what was not {verdict}d stays in quarantine; `mastio quarantine list` shows it",
            code=Exit.DATA if all(it.why == MISSING for it in failed) else Exit.FAILED,
        )


def _complain(quarantine: Quarantine) -> None:
    """Says which machines did not answer, after what the others said."""
    if errors := quarantine.silent:
        said = "\n".join(it.message for it in errors)
        raise MastioError(said, hint=errors[0].hint, code=errors[0].code)


def _quarantine(app: App) -> Quarantine:
    return Quarantine(app.site(), app.transport())


def _plain(entry: Entry) -> dict[str, Any]:
    plain = asdict(entry)
    return {key.rstrip("_"): value for key, value in plain.items()}


def _way(entry: Entry) -> str:
    return "leaving, to " if entry.direction is Direction.LEAVING else ""


def _moment(entry: Entry) -> str:
    return f"{datetime.fromtimestamp(entry.arrived, UTC):%Y-%m-%d %H:%M} UTC"
