"""`mastio backup`: archives of what no site file brings back."""

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import click

from mastio import onwatch, pki
from mastio.cli.common import App, pass_app
from mastio.errors import Exit, MastioError
from mastio.integrity.client import who
from mastio.report.words import span
from mastio.roles.backup import COPY_PAIR
from mastio.site.model import Role
from mastio.watch.backups import octets

json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
machines_argument = click.argument("machines", nargs=-1, metavar="[MACHINE]...")


@click.group()
def backup() -> None:
    """Archives of what no site file brings back: mail, accounts, what the filter has learned.

    Watch has each machine add an archive to a repository that stands on watch (borg, encrypted): the store every
    quarter of an hour, without stopping mail, the others daily. A machine can add and nothing else, whoever has root
    there: what deletes or replaces anything is set aside, and an alarm is raised. `mastio restore` brings it back.

    \b
    mastio backup now store           an archive now
    mastio backup list                what there is
    mastio backup verify              whether all of it can be read
    mastio backup key store           for paper: opens the archives when all machines are gone
    mastio backup copy-key            what lets watch in at the host of the second copy
    """


@backup.command("now")
@machines_argument
@json_flag
@pass_app
def now(app: App, machines: tuple[str, ...], as_json: bool) -> Exit:
    """Archive now, all machines or those named.

    Exits with 1 when one has no new archive.
    """
    records = {}
    for event in _ask(app, ["now", *machines]):
        if "archive" in event:
            records[event["machine"]] = event
            if not as_json:
                _print_record(event)
        elif "step" in event and not as_json:
            click.echo(f"{event['machine']}: {event['step']}", err=True)
    if as_json:
        click.echo(json.dumps(records, indent=2))
    return Exit.FAILED if any(it["why"] or it["refused"] for it in records.values()) else Exit.OK


@backup.command("list")
@machines_argument
@json_flag
@pass_app
def list_(app: App, machines: tuple[str, ...], as_json: bool) -> Exit:
    """The archives of all machines or those named, and how backups are.

    Exits with 1 when something needs you: no young archive, a session that was refused, damage.
    """
    rows = list(_ask(app, ["list", *machines]))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    faults = False
    for row in rows:
        state = row["state"]
        wrong = [*_faults(state)]
        faults = faults or bool(wrong)
        if as_json:
            continue
        click.secho(
            f"{row['machine']}: {len(row['archives'])} archives, {octets(state['octets'])} on watch",
            fg="red" if wrong else "green",
        )
        for words in wrong:
            click.secho(f"  {words}", fg="red")
        if state["copied"]:
            click.echo(f"  the second copy has the archive of {_when(state['copied'])}")
        for it in row["archives"]:
            click.echo(f"  {it['name']}   {_when(it['at'])}")
    return Exit.FAILED if faults else Exit.OK


@backup.command("show")
@click.argument("archive")
@json_flag
@pass_app
def show(app: App, archive: str, as_json: bool) -> Exit:
    """What is in ARCHIVE (a name of `mastio backup list`), place by place."""
    machine = archive[:-20]
    (found,) = _ask(app, ["show", f"{machine}::{archive}"])
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return Exit.OK
    stats = found["info"]["stats"]
    click.echo(
        f"{archive}: {stats['nfiles']:,} files, {octets(stats['original_size'])}; "
        f"{octets(stats['deduplicated_size'])} are in no other archive"
    )
    for it in found["places"]:
        click.echo(f"  {it['files']:>9,} files  {octets(it['octets']):>12}  {it['place']}")
    return Exit.OK


@backup.command("verify")
@machines_argument
@click.option("--data", is_flag=True, help="Read and compare each octet of all archives; slow.")
@json_flag
@pass_app
def verify(app: App, machines: tuple[str, ...], data: bool, as_json: bool) -> Exit:
    """Whether all archives can be read. Watch does it each week by itself.

    Exits with 1 when something is damaged.
    """
    found = {}
    for event in _ask(app, ["deep" if data else "verify", *machines]):
        if "damaged" in event:
            found[event["machine"]] = event["damaged"]
            if not as_json:
                words = event["damaged"] or "all archives can be read"
                click.secho(
                    f"{event['machine']}: {words}", fg="red" if event["damaged"] else "green"
                )
        elif not as_json:
            click.echo(f"{event['machine']}: {event['step']}", err=True)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    return Exit.FAILED if any(found.values()) else Exit.OK


@backup.command("key")
@click.argument("machine")
@pass_app
def key(app: App, machine: str) -> Exit:
    """Print the key of MACHINE's archives, for paper.

    With the passphrase (`secrets.age` in the site folder has it) it opens the archives when watch's disk is all that is
    left and the repository's own copy of the key is broken (borg-key-import(1)). Keep both, apart from each other.
    """
    (found,) = _ask(app, ["key", machine])
    click.echo(found["key"])
    return Exit.OK


@backup.command("copy-key")
@pass_app
def copy_key(app: App) -> Exit:
    """Print the line for authorized_keys(5) at the host of the second copy (`backup.copy`).

    It lets watch reach borg there, in that folder, and nothing else. With `--append-only` added after `borg serve`,
    what somebody on watch deletes can be brought back at that host, as long as nobody compacts: before you run
    `borg compact` there, see that no archive is missing (borg's manual, "Append-only mode").
    """
    site = app.site()
    if not site.backup.copied_by_ssh:
        raise MastioError(
            "no second copy goes to another host",
            hint='[backup] copy = "ssh://USER@HOST/PATH" and copy_host_key = "…" in the site file',
            code=Exit.USAGE,
        )
    path = urlsplit(site.backup.copy).path
    for watch in site.carrying(Role.WATCH):
        public = pki.ssh_public(app.vault[f"{COPY_PAIR.format(watch.name)}/cert"])
        click.echo(
            f'restrict,command="borg serve --restrict-to-path {path}" {public} {watch.name}@{site.name}'
        )
    return Exit.OK


@backup.command("accept")
@click.argument("machine")
@click.option("--why", required=True, metavar="TEXT", help="The reason, for the log on watch.")
@pass_app
def accept(app: App, machine: str, why: str) -> Exit:
    """Say that you have seen to what MACHINE's backup tried to do; archives are pruned again from then on."""
    for _ in _ask(app, ["accept", machine], {"by": who(), "why": why}):
        pass
    click.echo(f"{machine}: archives are pruned again")
    return Exit.OK


def _ask(app: App, words: Sequence[str], order: object = None) -> Iterator[dict[str, Any]]:
    watches = app.site().carrying(Role.WATCH)
    if not watches:
        raise MastioError("this site has no watch: nobody keeps archives", code=Exit.USAGE)
    return onwatch.events(app.transport(), watches[0].name, "backup", words, order)


def _when(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC ({span(time.time() - at)} ago)"


def _faults(state: dict[str, Any]) -> Iterator[str]:
    if not state["newest"]:
        yield "there is no archive yet"
    elif time.time() - state["newest"] > state["limit"]:
        yield f"the newest archive is of {_when(state['newest'])}: too old"
    if state["copied"] and time.time() - state["copied"] > state["copy_limit"] > 0:
        yield f"the second copy has the archive of {_when(state['copied'])}: too old"
    if state["last"].get("error"):
        yield f"the last backup failed: {state['last']['error']}"
    for words in state["refused"]:
        yield f"refused: {words}"
    if state["damaged"]:
        yield f"damaged: {state['damaged']}"


def _print_record(it: dict[str, Any]) -> None:
    for words in it["refused"]:
        click.secho(f"{it['machine']}: refused, and set aside: {words}", fg="red")
    if it["why"]:
        click.secho(f"{it['machine']}: no new archive: {it['why']}", fg="red")
    elif not it["refused"]:
        click.secho(
            f"{it['archive']}: {it['files']:,} files, {octets(it['size'])}, "
            f"{octets(it['added'])} of them new ({it['seconds']:.1f} s)",
            fg="green",
        )
        for words in it["warnings"]:
            click.echo(f"  {words}")
