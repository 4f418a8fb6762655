"""`mastio digest`: what the logs say of a day or the last hours, and whether something needs a person."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from mastio.cli.common import App, pass_app
from mastio.digest import keeping, standing
from mastio.digest.judge import needs
from mastio.digest.need import Level
from mastio.digest.summary import from_plain
from mastio.errors import Exit, MastioError
from mastio.hearing import BULK
from mastio.report import digest as report
from mastio.roles.digest import FOLDER, UNIT
from mastio.roles.inspection import FOLDER as VERIFY
from mastio.site.model import Role
from mastio.transport import last_line
from mastio.verify.scheduled import LATE
from mastio.watch import book
from mastio.watch import digest as watching

_PATIENCE = 1800
"""Seconds to wait for watch to read what it has not read yet."""
_COLLECT = """\
import json, pathlib, sys
asked = json.loads(PAYLOAD)
folder = pathlib.Path(asked["folder"])
def load(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
state = load(folder / "state.json") or {}
json.dump({
    "hours": {
        it.stem: load(it)["summary"]
        for it in sorted((folder / "hours").glob("*.json"))
        if asked["since"] <= it.stem < asked["until"]
    },
    "learning": state.get("memory", {}).get("since", ""),
    "reports": {it: found for it in asked["sets"] if (found := load(pathlib.Path(asked["verify"], it + ".json")))},
    "known": {it: load(pathlib.Path(it)) for it in asked["known"] if pathlib.Path(it).exists()},
}, sys.stdout)
"""
"""Runs on watch."""


def period(day: str, since: str, now: datetime) -> tuple[str, str]:
    """The first hour that is told of and the first that is not; raises MastioError for what is no time."""
    next_hour = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    if day:
        named = {"today": now, "yesterday": now - timedelta(days=1)}
        try:
            return keeping.hours_of(f"{named[day]:%Y-%m-%d}" if day in named else day)
        except ValueError:
            raise MastioError(
                f"{day!r} is no day", hint="2026-11-24, today or yesterday", code=Exit.USAGE
            ) from None
    found = re.fullmatch(r"(\d{1,4})([hd])", since or "24h")
    hours = int(found[1]) * (24 if found[2] == "d" else 1) if found else 0
    if not 1 <= hours <= 24 * 31:
        raise MastioError(f"{since!r} is no time", hint="6h, 2d; 31d at most", code=Exit.USAGE)
    return f"{next_hour - timedelta(hours=hours):%Y-%m-%dT%H}", f"{next_hour:%Y-%m-%dT%H}"


@click.command()
@click.option(
    "--day", metavar="DAY", default="", help="Of a day (UTC): 2026-11-24, today, yesterday."
)
@click.option(
    "--since", metavar="TIME", default="", help="Of the last hours or days: 6h, 7d. Default: 24h."
)
@click.option("--text", "form", flag_value="text", default=True, help="Print text (the default).")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option(
    "--html", "page", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Also write a page for people.",
)  # fmt: skip
@click.option(
    "--mail", is_flag=True, help="Have watch mail a day's digest to the administrators now."
)
@pass_app
def digest(app: App, day: str, since: str, form: str, page: Path | None, mail: bool) -> Exit:
    """Tell what the logs of all machines say, and whether something needs a person.

    Watch reads the logs every few minutes and keeps a summary of each hour; this has it read what is new, and
    puts the summaries together. The first three lines say whether something needs you. Each morning watch
    mails yesterday's digest by itself.

    Exits with 0 when nothing is to be acted on, with 1 when something is.
    """
    if day and since:
        raise MastioError("a day and a time since: one of them", hint="see --help", code=Exit.USAGE)
    if mail and since:
        raise MastioError(
            "only a day's digest is mailed", hint="--mail --day today", code=Exit.USAGE
        )
    site = app.site()
    watch = next((it.name for it in site.carrying(Role.WATCH)), None)
    if watch is None:
        raise MastioError(
            "no machine of this site watches, and watch is where all logs are read",
            hint="give a machine the role `watch` in the site file, then `mastio apply`", code=Exit.DATA,
        )  # fmt: skip
    since, until = period(day, since, datetime.now(UTC))
    if mail:
        wanted = since[:10] if day else f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
        since, until = keeping.hours_of(wanted)
        _start(app, watch, UNIT.format(wanted))
    else:
        _start(app, watch, UNIT.format("read"))
    found = _collect(app, watch, since, until)
    hours = {hour: from_plain(it) for hour, it in found["hours"].items()}
    made = watching.make(
        site, hours, since, until, found["learning"], found["reports"], time.time(), found["known"]
    )
    if page:
        _write(page, report.html(made))
    if mail:
        to = ", ".join(book.rules(site).mail)
        click.echo(f"mailed the digest of {since[:10]} to {to}", err=True)
    if form == "json":
        click.echo(json.dumps(report.data(made), indent=2))
    else:
        click.echo(report.text(made), nl=False)
    return Exit.FAILED if any(it.level is Level.ACT for it in needs(made)) else Exit.OK


def _start(app: App, watch: str, unit: str) -> None:
    done = app.transport().run(watch, ["systemctl", "start", unit], timeout=_PATIENCE)
    if done.code:
        said = app.transport().run(
            watch, ["journalctl", "-u", unit, "-n", "5", "-o", "cat", "--no-pager"]
        )
        raise MastioError(
            f"{watch}: {last_line(said.stdout) or last_line(done.stderr)}",
            hint=f"is it built? `mastio apply`; on {watch}: systemctl status {unit}",
            code=Exit.UNAVAILABLE,
        )


def _collect(app: App, watch: str, since: str, until: str) -> dict[str, Any]:
    asked = {"folder": FOLDER, "verify": VERIFY, "sets": list(LATE), "since": since, "until": until,
             "known": [it.path for it in standing.PARTS]}  # fmt: skip
    sent = json.dumps(asked).encode()
    done = app.transport().run_python(watch, _COLLECT, sent, most=BULK)
    if done.code:
        raise MastioError(f"{watch}: {last_line(done.stderr)}", code=Exit.UNAVAILABLE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _write(path: Path, content: str) -> None:
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise MastioError(
            f"{path}: {error.strerror}", hint="name a file that can be written", code=Exit.CANT_CREATE
        ) from error  # fmt: skip
    click.echo(f"wrote {path}", err=True)
