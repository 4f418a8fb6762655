"""`mastio alarms`: what is wrong and not yet well again, and saying that somebody is at it."""

import getpass
import json
import time
from typing import Any

import click

from mastio import guide
from mastio.cli.common import App, pass_app
from mastio.cli.directory import json_flag
from mastio.context import ON_WATCH
from mastio.errors import Exit, MastioError
from mastio.report.words import span
from mastio.site.model import Role
from mastio.transport import last_line
from mastio.watch.alarms import UNKNOWN


@click.group(invoke_without_command=True)
@json_flag
@click.pass_context
def alarms(ctx: click.Context, as_json: bool) -> Exit:
    """What is wrong and not yet well again.

    Watch tells each alarm once, by mail and webhook, and again when it is well; in quiet hours (`alarms.quiet` in
    the site file) only what is critical. When nobody answers (`mastio alarms ack`) others are told too.
    Exit code 1 when something is open, or alarms wait since a way out does not work.
    """
    if ctx.invoked_subcommand:
        return Exit.OK
    return _show(_ask(ctx.obj, "list"), as_json)


@alarms.command("ack")
@click.argument("about")
@click.option("--why", required=True, metavar="TEXT", help="Who is at it, or why it may wait.")
@json_flag
@pass_app
def alarms_ack(app: App, about: str, why: str, as_json: bool) -> Exit:
    """Answer the alarm ABOUT something (as `mastio alarms` calls it): nobody else is told of it then.

    What is wrong stays open until watch finds it well again; if it gets worse it is a new alarm.
    """
    if not why.strip() or not why.isprintable():
        raise click.UsageError("--why needs a line of text")
    words = f"{getpass.getuser()}: {why.strip()}"
    _show(_ask(app, "answer", {"about": about, "words": words}), as_json)
    return Exit.OK


def _ask(app: App, what: str, order: dict[str, str] | None = None) -> dict[str, Any]:
    watch = next((it.name for it in app.site().carrying(Role.WATCH)), None)
    if watch is None:
        raise MastioError("no machine of this site watches", code=Exit.DATA)
    done = app.transport().run(watch, [ON_WATCH, "alarms", what], json.dumps(order).encode())
    if done.code == UNKNOWN and order:
        raise MastioError(
            f"no alarm about {order['about']!r} is open",
            hint="`mastio alarms` lists those that are", code=Exit.DATA,
        )  # fmt: skip
    if done.code:
        raise MastioError(
            f"{watch}: {last_line(done.stderr) or done.code}",
            hint="`mastio apply` brings watch what it needs", code=Exit.FAILED,
        )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _show(found: dict[str, Any], as_json: bool) -> Exit:
    book, stuck = found["open"], found["stuck"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not book:
        click.secho("nothing is wrong that watch knows of", fg="green")
    now = time.time()
    for way, it in stuck.items() if not as_json else ():
        since = f"{way} does not work for {span(now - it['since'])}"
        click.secho(f"{since}, {it['waiting']} alarms wait: {it['words']}", fg="red")
    for about, it in book.items() if not as_json else ():
        alarm = it["alarm"]
        click.secho(f"{about}: {alarm['subject']}", fg="red")
        told = (
            f"told {span(now - it['told'])} ago" if it["told"] else "waits for quiet hours to end"
        )
        words = [f"for {span(now - it['since'])}", alarm["severity"], told]
        if it["urged"]:
            words.append(f"others told {span(now - it['urged'])} ago")
        words.append(f"answered by {it['answered']}" if it["answered"] else "not answered")
        click.echo(f"  {', '.join(words)}")
        click.echo(f"  → {guide.of_alarm(about)}")
    return Exit.FAILED if book or stuck else Exit.OK
