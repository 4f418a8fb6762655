"""`mastio greylist`: who waits, who never has to, who is not wanted. Live within seconds, no apply needed.

The lists stand in the site folder (`greylist.txt`); a gateway that is away gets them with the next apply.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from mastio.cli.common import App, pass_app
from mastio.cli.directory import canonical, json_flag
from mastio.errors import Exit
from mastio.greylist import lists
from mastio.greylist.client import Greylist, Told
from mastio.greylist.lists import Verdict
from mastio.heldmail import shown
from mastio.site.filtering import sender


@click.group()
def greylist() -> None:
    """Who must come again, who never has to, who is not wanted.

    A SENDER is a mail address, a domain (with all below it) or a network.
    """


@greylist.command("show")
@json_flag
@pass_app
def show(app: App, as_json: bool) -> None:
    """Show who waits or has waited, the totals, and the lists."""
    found = _greylist(app).show()
    live = lists.read(app.folder)
    if as_json:
        click.echo(json.dumps({"gateways": found, "lists": live}, indent=2))
        return
    for name, one in found.items():
        totals = ", ".join(f"{key} {value}" for key, value in sorted(one["counts"].items()))
        click.echo(f"{name}: {totals or 'nobody had to wait'}")
        for it in one["entries"]:
            state = "passed" if "passed" in it else "waits"
            click.echo(
                f"  {state:6}  since {_time(it.get('first', '0'))}  {shown(it.get('sender') or '<>')} → "
                f"{shown(it.get('recipient', ''))}  from {it.get('address', '')}, score {it.get('score', '')}, "
                f"tries {it.get('tries', '')}"
            )
    for name, verdict in sorted(live.items()):
        click.echo(f"{verdict}  {name}")


@greylist.command("allow")
@click.argument("senders", nargs=-1, required=True, metavar="SENDER...")
@json_flag
@pass_app
def allow(app: App, senders: tuple[str, ...], as_json: bool) -> Exit:
    """Never greylist the mail of SENDERs."""
    return _set(app, senders, Verdict.ALLOW, as_json)


@greylist.command("block")
@click.argument("senders", nargs=-1, required=True, metavar="SENDER...")
@json_flag
@pass_app
def block(app: App, senders: tuple[str, ...], as_json: bool) -> Exit:
    """Refuse the mail of SENDERs."""
    return _set(app, senders, Verdict.BLOCK, as_json)


@greylist.command("forget")
@click.argument("senders", nargs=-1, required=True, metavar="SENDER...")
@json_flag
@pass_app
def forget(app: App, senders: tuple[str, ...], as_json: bool) -> Exit:
    """Take SENDERs out of both lists."""
    return _set(app, senders, None, as_json)


def _greylist(app: App) -> Greylist:
    return Greylist(app.site(), app.transport(), app.folder)


def _set(app: App, senders: Sequence[str], verdict: Verdict | None, as_json: bool) -> Exit:
    names = tuple(str(canonical(_plain, it)) for it in senders)
    one = _greylist(app)
    one.set(names, verdict)
    return _report(one.push(), f"{verdict or 'forget'}: {', '.join(names)}", as_json)


def _plain(text: str) -> str:
    return str(sender(text))


def _report(told: Sequence[Told], done: str, as_json: bool) -> Exit:
    late = {it.gateway: it.why for it in told if it.why}
    if as_json:
        updated = [it.gateway for it in told if it.changed]
        click.echo(json.dumps({"done": done, "updated": updated, "late": late}, indent=2))
    else:
        click.echo(f"done: {done}")
    for why in late.values():
        click.secho(f"warning: {why}", fg="yellow", err=True)
    if late:
        click.echo("  → it stands in greylist.txt; the next apply brings it", err=True)
    return Exit.UNAVAILABLE if late else Exit.OK


def _time(seconds: str) -> str:
    return datetime.fromtimestamp(float(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
