"""`mastio patches`: security updates, known vulnerabilities, end of support."""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from mastio import onwatch
from mastio.cli.common import App, pass_app
from mastio.errors import Exit, MastioError
from mastio.integrity.client import Integrity, who
from mastio.report.words import span
from mastio.roles.patching import FOLDER, TRACKER
from mastio.site.model import Role
from mastio.watch.known import OLDEST, summary
from mastio.watch.patching import WEEK

json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(invoke_without_command=True)
@json_flag
@click.pass_context
def patches(ctx: click.Context, as_json: bool) -> Exit | None:
    """Security updates: what waits, what was done, what is vulnerable.

    Watch installs what Debian's security archive has, each day in a window (`patches.at` in the site file): one
    machine at a time, in an order in which mail waits where it is safe. What runs old code is restarted; a reboot
    that is due is done (`patches.reboot`). When a machine is not as well as before, the rest is left alone and an
    alarm raised.

    \b
    mastio patches                    how each machine stands
    mastio patches run gateway        install there now
    """
    if ctx.invoked_subcommand is None:
        code: Exit = ctx.invoke(status, as_json=as_json)
        return code
    return None


@patches.command("status")
@json_flag
@click.option(
    "--all", "every", is_flag=True, help="Name every vulnerability, also those without a fix."
)
@pass_app
def status(app: App, as_json: bool, every: bool = False) -> Exit:
    """How each machine stands; nothing is changed and nothing fetched.

    Exits with 1 when something is to be done (the last update failed, a fix or a reboot waits, support has ended),
    69 when something is not known (a machine is silent, was not updated for a week, or the tracker's data are old).
    """
    rows = list(ask(app, ["status"]))
    last = rows.pop()
    followed = follow(app, last["seals"])
    if as_json:
        click.echo(json.dumps({"machines": rows, "integrity_followed": followed}, indent=2))
    else:
        for row in rows:
            _print(row, every=every)
        _print_tracker(rows, fetches=last["fetches"])
        if followed:
            click.echo(f"integrity: {followed} updates taken over into the site folder's seal")
    faults = {it for row in rows for it, _ in _faults(row)}
    if Exit.FAILED in faults:
        return Exit.FAILED
    return Exit.UNAVAILABLE if faults else Exit.OK


@patches.command("run")
@click.argument("machines", nargs=-1, metavar="[MACHINE]...")
@json_flag
@pass_app
def run(app: App, machines: tuple[str, ...], as_json: bool) -> Exit:
    """Install security updates now, on all machines or those named, one after the other.

    Exits with 1 when one could not be updated or is not as well as before; those after it are then left alone.
    """
    records, left, seals = [], [], []
    for event in ask(app, ["run", *machines], {"by": who()}):
        if "record" in event:
            records.append(event["record"])
            if not as_json:
                print_record(event["record"])
        elif "left" in event:
            left, seals = event["left"], event.get("seals", [])
        elif "step" in event and not as_json:
            click.echo(f"{event['machine']}: {event['step']}", err=True)
    follow(app, seals)
    if as_json:
        click.echo(json.dumps({"machines": records, "left": left}, indent=2))
    elif left:
        click.secho(f"left alone: {', '.join(left)}", fg="red")
    return Exit.FAILED if any(it["error"] or it["worse"] for it in records) else Exit.OK


def ask(app: App, words: Sequence[str], order: object = None) -> Iterator[dict[str, Any]]:
    """What watch's part for updates says."""
    watches = app.site().carrying(Role.WATCH)
    if not watches:
        raise MastioError("this site has no watch: nobody installs updates", code=Exit.USAGE)
    return onwatch.events(app.transport(), watches[0].name, "patching", words, order)


def follow(app: App, seals: Sequence[Sequence[str]]) -> int:
    """Lets the site folder's seal follow updates that are seen here; how many."""
    return Integrity(app.site(), app.transport(), app.folder).follow(seals)


def _faults(row: dict[str, Any]) -> Iterator[tuple[Exit, str]]:
    """What is to be done about a machine, and what is not known of it."""
    last = row["last"] or {}
    if last.get("error"):
        yield Exit.FAILED, f"the last update failed: {last['error']}"
    for words in last.get("worse", ()):
        yield Exit.FAILED, f"worse after the last update: {words}"
    if row["why"]:
        yield Exit.UNAVAILABLE, row["why"]
    if not last.get("good") or time.time() - last["good"] > WEEK:
        yield Exit.UNAVAILABLE, "was not updated within a week"
    if row.get("waiting"):
        yield Exit.FAILED, f"fixes wait: {', '.join(row['waiting'])}"
    if row.get("reboot"):
        yield Exit.FAILED, "a reboot is due"
    support = row.get("support")
    if support and support["over"]:
        yield Exit.FAILED, f"Debian {support['release']} gets no fixes any more"
    if "age" in row and (row["age"] is None or row["age"] > OLDEST):
        yield Exit.UNAVAILABLE, ""  # said once, of the release


def _print(row: dict[str, Any], *, every: bool) -> None:
    faults = [*_faults(row)]
    last = row["last"]
    when = (
        f"updated {span(time.time() - last['good'])} ago"
        if last and last["good"]
        else "never updated"
    )
    support = row.get("support") or {}
    until = ", ".join(
        f"{what} until {support[key]}"
        for key, what in (("security", "fixes"), ("long", "LTS"))
        if support.get(key)
    )
    colour = (
        "red" if any(code is Exit.FAILED for code, _ in faults) else "yellow" if faults else "green"
    )
    name = f"Debian {support['release'] or '?'}" if support else "Debian ?"
    click.secho(f"{row['machine']}: {when}; {name}" + (f", {until}" if until else ""), fg=colour)
    for words in filter(None, (it for _, it in faults)):
        click.echo(f"  {words}")
    if "counts" in row:
        click.echo(f"  vulnerabilities: {', '.join(summary(row['counts'])) or 'none known'}")
    for it in row.get("vulnerabilities", ()):
        if it["fixed"] or every:
            remote = ", from afar" if it["remote"] else ""
            fix = "a fix is there" if it["fixed"] else "no fix yet"
            click.echo(f"    {it['name']} {it['package']}: {it['urgency']}{remote}; {fix}")


def _print_tracker(rows: list[dict[str, Any]], *, fetches: bool) -> None:
    for release in sorted({it["support"]["release"] for it in rows if it.get("support")}):
        (age, *_) = [
            it.get("age") for it in rows if it.get("support", {}).get("release") == release
        ]
        if age is not None and age <= OLDEST:
            click.echo(f"the tracker's data on {release} are {span(age)} old")
            continue
        words = "are missing" if age is None else f"are {span(age)} old: too old"
        click.secho(f"the tracker's data on {release} {words}", fg="yellow")
        url = f"https://{TRACKER}/tracker/debsecan/release/1/{release}"
        do = "watch fetches them in its window" if fetches else "put a copy there yourself"
        click.echo(f"  → {do}: {url} to {FOLDER}/tracker/{release} on watch")


def print_record(it: dict[str, Any]) -> None:
    """What was done on a machine."""
    good = not it["error"] and not it["worse"]
    what = f"{len(it['updated'])} packages updated" if it["updated"] else "nothing to update"
    parts = [what, *(["rebooted"] if it["rebooted"] else []), *(["reboots now"] if it["rebooting"] else []),
             *(["a reboot is due"] if it["due"] and not it["rebooting"] else [])]  # fmt: skip
    words = f"{it['machine']}: {', '.join(parts)} ({it['seconds']:.0f} s)"
    click.secho(words, fg="green" if good else "red")
    for name, old, new in it["updated"]:
        click.echo(f"  {name} {old or '–'} → {new or '–'}")
    if it["restarted"]:
        click.echo(f"  restarted: {', '.join(it['restarted'])}")
    if it["left"]:
        click.echo(f"  still runs old code: {', '.join(it['left'])}")
    for words in filter(None, (it["error"], *it["worse"])):
        click.echo(f"  {words}")
