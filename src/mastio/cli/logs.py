"""`mastio logs` and `mastio trace`: what the machines wrote, and what happened to a message."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from mastio.cli.common import App, pass_app
from mastio.cli.directory import json_flag
from mastio.errors import Exit, MastioError
from mastio.files import put
from mastio.logs import chain
from mastio.logs import line as lines
from mastio.logs.chain import Pin
from mastio.logs.client import Logs, Wanted
from mastio.roles.logbook import LATE
from mastio.trace import stories, words

PINS = "log-seals.json"
"""In the site folder: the newest seal of each watch that was seen from here."""
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def since(text: str, now: float) -> float:
    """Seconds since the epoch of `2h`, `3d`, `2026-11-24` or `2026-11-24T10:00`; ValueError when it is none."""
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)", text.strip()):
        return now - float(match[1]) * _UNITS[match[2]]
    return datetime.fromisoformat(text.strip()).timestamp()


class Since(click.ParamType[float]):
    """A point in time, absolute or so long ago."""

    name = "when"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        try:
            return since(str(value), time.time())
        except (ValueError, OverflowError):
            self.fail(f"{value}: say 30m, 2h, 3d or 2026-11-24T10:00", param, ctx)


def since_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--since`."""
    return click.option(
        "--since", "begin", type=Since(), default=default, show_default=True, metavar="WHEN",
        help="30m, 2h, 3d ago, or a time as 2026-11-24T10:00 (in this box's time zone).",
    )  # fmt: skip


@click.group(invoke_without_command=True)
@click.option(
    "--machine", "machines", multiple=True, metavar="M", help="Only this one; repeatable."
)
@since_option("1h")
@click.option("--grep", "texts", multiple=True, metavar="TEXT",
              help="Only lines with TEXT in them, letter by letter; repeatable, all must be there.")  # fmt: skip
@click.option("--message-id", "message", metavar="ID", help="Only lines with this message id.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def logs(
    ctx: click.Context, machines: tuple[str, ...], begin: float, texts: tuple[str, ...],
    message: str | None, follow: bool, as_json: bool,
) -> Exit:  # fmt: skip
    """Show what the machines have written, as watch keeps it.

    \b
    mastio logs --since 2h --machine gateway --grep reject
    mastio logs --follow
    mastio logs --message-id '<abc@example.org>' --since 3d

    Exits with 1 when a day's file could not be read whole, since somebody has changed it.
    """
    if ctx.invoked_subcommand:
        return Exit.OK
    app: App = ctx.obj
    if message:
        texts = (*texts, f"<{message.strip().strip('<>')}>")
    wanted = Wanted(begin, machines, texts, follow)
    damaged: list[str] = []
    for text in Logs(app.site(), app.transport()).lines(wanted, damaged):
        if as_json:
            text = json.dumps(_plain(text), ensure_ascii=False) + "\n"
        click.echo(text, nl=False)
    for it in damaged:
        click.echo(f"lines are missing: {it}", err=True)
    if damaged:
        click.echo("  → `mastio logs verify` tells what was changed", err=True)
    return Exit.FAILED if damaged else Exit.OK


def _plain(text: str) -> dict[str, str]:
    line = lines.read(text)
    if line is None:
        return {"line": text.rstrip("\n")}
    return {
        "arrived": line.arrived.isoformat(), "machine": line.machine,
        "written": line.written.isoformat(), "level": line.level, "program": line.program,
        "process": line.process, "text": line.text,
    }  # fmt: skip


@logs.command("verify")
@click.option("--since", "begin", default="", metavar="YYYY-MM-DD",
              help="Read only the files of these days; the chain of seals is looked at whole.")  # fmt: skip
@json_flag
@pass_app
def logs_verify(app: App, begin: str, as_json: bool) -> Exit:
    """Prove that nobody has changed the logs on watch.

    Each hour watch seals what is new with a key that it then forgets. Here it is said which machine's file was
    edited, cut, removed or added to afterwards. The newest seal seen is noted in the site folder
    (log-seals.json; keep it with the site), so that a chain that was cut or made anew shows as well.
    """
    if begin:
        try:
            date.fromisoformat(begin)
        except ValueError:
            raise MastioError(
                f"{begin} is no day", hint="say it as 2026-11-24", code=Exit.USAGE
            ) from None
    known, keep, now = Logs(app.site(), app.transport()), app.site().policy.log_days, time.time()
    place = app.folder / PINS
    pin = _pin(place, known.watch)
    sealed = known.sealed(begin)
    seals, least = list(sealed.seals), min(keep, pin.keep if pin else keep)
    bad = chain.wrong(sealed, least, pin, begin)
    late = not seals or now - seals[-1].at > LATE
    if late:
        last = (
            f"the last seal is of {datetime.fromtimestamp(seals[-1].at):%Y-%m-%d %H:%M}"
            if seals
            else "nothing was ever sealed"
        )
        bad.append(f"{last}: on {known.watch}, look at `systemctl status mastio-logbook@seal`")
    elif seals[-1].keep != keep:
        bad.append(
            f"{known.watch} keeps logs for {seals[-1].keep} days, the site file says {keep}: `mastio apply`"
        )
    octets = sum(it.length for seal in seals for it in seal.segments)
    fresh = sum(it.size for it in sealed.files.values()) - sum(
        chain.lengths(seals).get(it, 0) for it in sealed.files
    )
    if not bad:
        _note(place, known.watch, Pin(sealed.first, seals[-1].number, seals[-1].digest, least))
    if as_json:
        click.echo(
            json.dumps(
                {
                    "faults": bad,
                    "seals": len(seals),
                    "octets": octets,
                    "not_sealed_yet": max(0, fresh),
                },
                indent=2,
            )
        )
    else:
        for words in bad:
            click.secho(f"NOT as sealed  {words}", fg="red")
        if not bad:
            click.echo(f"as sealed: {len(seals)} seals over {octets} octets of {len(sealed.files)} files; "
                       f"{max(0, fresh)} octets are newer than the last seal")  # fmt: skip
    return Exit.FAILED if bad else Exit.OK


def _pin(place: Path, watch: str) -> Pin | None:
    """What was noted here of a watch's chain."""
    try:
        noted = json.loads(place.read_text())
        return Pin(**noted[watch]) if watch in noted else None
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise MastioError(
            f"{place} cannot be read: {error}",
            hint="it notes the seals that were seen; without it, a chain that was made anew does not show",
            code=Exit.DATA,
        ) from error


def _note(place: Path, watch: str, pin: Pin) -> None:
    try:
        noted = json.loads(place.read_text())
    except FileNotFoundError:
        noted = {}
    put(place, json.dumps({**noted, watch: asdict(pin)}, indent=2) + "\n", 0o644)


@click.command()
@click.argument("what", metavar="ADDRESS|MESSAGE-ID|QUEUE-ID")
@since_option("2d")
@json_flag
@pass_app
def trace(app: App, what: str, begin: float, as_json: bool) -> Exit:
    """Tell what happened to a message, from its first machine to its last.

    An ADDRESS (sender or recipient) names its newest messages; a MESSAGE-ID or a QUEUE-ID of any machine
    names one. Greylisted messages are followed through their retries, notices to the one they came from.

    \b
    mastio trace alice@example.org --since 2h
    mastio trace '<abc@example.net>'
    mastio trace 4jYxdt1FWyzH0Qd
    """
    known = Logs(app.site(), app.transport())
    what = what.strip()
    found = known.trace(what, begin)
    if not found.lines and "@" in what and not what.startswith("<"):
        found = known.trace(f"<{what}>", begin)  # a message id without its brackets
    told = stories(found.lines)
    if not told:
        raise MastioError(
            f"no log line since {datetime.fromtimestamp(begin):%Y-%m-%d %H:%M} tells of {what}",
            hint="--since 7d looks further back; `mastio logs --grep` finds any text",
        )
    if as_json:
        click.echo(json.dumps([words.plain(it) for it in told], indent=2, ensure_ascii=False))
    else:
        if found.left_out:
            click.echo(
                f"({found.left_out} older messages are left out; --since names a shorter time)"
            )
        click.echo("\n\n".join("\n".join(words.told(it)) for it in told))
    return Exit.OK
