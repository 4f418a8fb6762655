"""`mastio integrity`: what machines are made of, against a reference that they cannot touch."""

import json
import time
from collections.abc import Iterable
from typing import Any

import click

from mastio.cli.common import App, pass_app
from mastio.errors import Exit, MastioError
from mastio.integrity.client import Integrity
from mastio.integrity.difference import Difference, Kind
from mastio.integrity.place import Verdict
from mastio.report.words import span

SHOWN = 20
"""Differences of a machine that `status` tells."""
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
why_option = click.option(
    "--why", required=True, metavar="TEXT", help="The reason, for the log on watch."
)


@click.group()
def integrity() -> None:
    """What machines are made of, against a reference that they cannot touch.

    Watch brings AIDE to each machine, takes the result home and compares it there: content, modes, owners, links,
    new SUID files (and those with capabilities), units, log-in keys and listeners, programs that run from deleted
    files. `mastio apply` takes over what it changed itself; nothing else is accepted unless you do.

    \b
    mastio integrity check                         measure now
    mastio integrity accept store /etc/motd --why "ticket 12"
    """


@integrity.command("status")
@json_flag
@pass_app
def status(app: App, as_json: bool) -> Exit:
    """What watch knows of each machine, without looking.

    Exits with 0 when all is as it should be, 1 when something differs, 69 when something is not known.
    """
    rows = _integrity(app).status()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        for row in rows[:-1]:
            _print_status(row)
        for path in rows[-1]["broken"]:
            click.secho(f"edited on watch: {path}", fg="red")
        if rows[-1]["edited"]:
            click.secho(
                "the seal on watch is not the one that apply or accept left from here "
                "(updates change it too: `mastio patches` follows those)",
                fg="red",
            )
    if rows[-1]["broken"] or rows[-1]["edited"]:
        return Exit.FAILED
    return _verdict(row["last"] for row in rows[:-1])


@integrity.command("check")
@click.argument("machines", nargs=-1, metavar="[MACHINE]...")
@click.option("--deep", is_flag=True, help="Look for SUID files among mail and logs too.")
@json_flag
@pass_app
def check(app: App, machines: tuple[str, ...], deep: bool, as_json: bool) -> Exit:
    """Measure now, all machines or those named, and tell what differs.

    Exits with 0 when nothing does, 1 when something does, 69 when a machine could not be measured.
    """
    return _follow(_integrity(app).check(machines, deep=deep), as_json)


@integrity.command("begin")
@json_flag
@pass_app
def begin(app: App, as_json: bool) -> Exit:
    """Take the first reference of each machine that has none.

    `mastio apply` does this by itself; in the lab, where nothing begins by itself, this does.
    """
    names = [it.name for it in app.site().machines]
    return _follow(_integrity(app).begin(names), as_json)


@integrity.command("accept")
@click.argument("machine")
@click.argument("what", nargs=-1, metavar="[PATH]...")
@why_option
@json_flag
@pass_app
def accept(app: App, machine: str, what: tuple[str, ...], why: str, as_json: bool) -> Exit:
    """Accept what differs on MACHINE, as the last check has shown it: all, or the PATHs named.

    What changed since that check is not accepted, nor is anything when it could not measure. Who, when and why
    stay in a log on watch.
    """
    _known(app, (machine,))
    event = _integrity(app).accept(machine, what, why)
    if as_json:
        click.echo(json.dumps(event, indent=2))
    else:
        click.echo(f"{machine}: accepted {len(event['accepted'])}")
        _print_last(machine, event["last"])
    return _verdict([event["last"]])


@integrity.command("renew")
@click.argument("machines", nargs=-1, metavar="[MACHINE]...")
@click.option(
    "--tools", is_flag=True, help="AIDE as watch's packages have it now, for all machines."
)
@why_option
@json_flag
@pass_app
def renew(app: App, machines: tuple[str, ...], tools: bool, why: str, as_json: bool) -> Exit:
    """Take MACHINEs as they are now, whole: after one was made anew, or its reference was edited on watch."""
    _known(app, machines)
    if not machines and not tools:
        raise click.UsageError("say which machines, or --tools")
    return _follow(_integrity(app).renew(machines, why, tools=tools), as_json)


def _integrity(app: App) -> Integrity:
    return Integrity(app.site(), app.transport(), app.folder)


def _known(app: App, machines: Iterable[str]) -> None:
    names = [it.name for it in app.site().machines]
    if wrong := [it for it in machines if it not in names]:
        raise MastioError(
            f"no such machine: {', '.join(wrong)}",
            hint=f"this site has {', '.join(names)}",
            code=Exit.USAGE,
        )


def _follow(events: Iterable[dict[str, Any]], as_json: bool) -> Exit:
    found: dict[str, Any] = {}
    for event in events:
        if "last" in event:
            found[event["machine"]] = event["last"]
            if not as_json:
                _print_last(event["machine"], event["last"])
        elif "step" in event and not as_json:
            click.echo(f"{event['machine']}: {event['step']}", err=True)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    return _verdict(found.values())


def _verdict(lasts: Iterable[dict[str, Any] | None]) -> Exit:
    verdicts = {it["verdict"] if it else Verdict.UNKNOWN for it in lasts}
    if Verdict.DIFFERS in verdicts:
        return Exit.FAILED
    return Exit.UNAVAILABLE if Verdict.UNKNOWN in verdicts else Exit.OK


def _print_last(machine: str, last: dict[str, Any]) -> None:
    good = last["verdict"] == Verdict.CLEAN
    many = f", {len(last['differences'])} differences" if last["differences"] else ""
    spent = f" ({last['seconds']:.1f} s, {last['cpu']:.1f} s of CPU)" if last["cpu"] else ""
    why = f": {last['why']}" if last["why"] else ""
    click.secho(f"{machine}: {last['verdict']}{many}{why}{spent}", fg="green" if good else "red")
    _print_differences(last["differences"])


def _print_differences(differences: list[dict[str, Any]]) -> None:
    for it in differences:
        click.echo("  " + Difference(it["what"], Kind(it["kind"]), it["words"]).line)


def _print_status(row: dict[str, Any]) -> None:
    reference, last, now = row["reference"], row["last"], time.time()
    since = (
        f"reference of {span(now - reference['at'])} ago by {reference['by']}, {reference['files']} paths"
        if reference
        else "no reference yet"
    )
    if not last:
        click.secho(f"{row['machine']}: not measured yet; {since}", fg="yellow")
        return
    checked = f"{span(now - last['measured'])} ago" if last["measured"] else "never"
    good = last["verdict"] == Verdict.CLEAN
    words = f"{row['machine']}: {last['verdict']}, {len(last['differences'])} differences, measured {checked}; {since}"
    click.secho(words, fg="green" if good else "red")
    if last["why"]:
        click.echo(f"  {last['why']}")
    shown, more = last["differences"][:SHOWN], len(last["differences"]) - SHOWN
    _print_differences(shown)
    if more > 0:
        click.echo(f"  … and {more} more: `mastio integrity check {row['machine']}` tells all")
