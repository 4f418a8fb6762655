"""`mastio restore`: what was archived comes back."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from mastio.cli.common import App, pass_app
from mastio.errors import Exit, MastioError
from mastio.restoring.client import Archive, Outcome, Restoring, Row
from mastio.restoring.maildir import INBOX
from mastio.restoring.plan import Plan, Wish
from mastio.restoring.whole import everything

at_option = click.option(
    "--at", metavar="TIME", default="",
    help="As it was then: the newest archive begun by TIME (2027-01-31, '2027-01-31 14:00', UTC). Default: the newest.",
)  # fmt: skip
into_option = click.option("--into", metavar="FOLDER", default="", help="Copies into this folder.")
place_option = click.option("--in-place", is_flag=True, help="Where it was; nothing comes twice.")
deleted_option = click.option(
    "--deleted", is_flag=True, help="With --in-place: what its user removed since comes back too."
)
dry_option = click.option("--dry-run", is_flag=True, help="Say what would come; change nothing.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def restore() -> None:
    """Bring back what was archived: a message, a folder, a mailbox, accounts, or the whole store.

    \b
    Copies, in a folder of their own:  mastio restore mailbox bob@example.org --into Restored
    What is lost, where it was:        mastio restore mailbox bob@example.org --in-place
    As it was on Monday:               … --at 2027-01-25

    In place, nothing that is there is touched, and nothing comes twice. A folder that is gone comes back with the
    UIDs that mail programs know. What a user removed since the archive stays away unless --deleted asks for it; a
    message that is named comes in any case. --dry-run says what would happen.
    """


@restore.command()
@click.argument("user")
@click.argument("message_id", metavar="MESSAGE-ID")
@at_option
@into_option
@place_option
@dry_option
@json_option
@pass_app
def message(
    app: App, user: str, message_id: str, at: str, into: str, in_place: bool, dry_run: bool, as_json: bool
) -> Exit:  # fmt: skip
    """Bring back one message of USER, named by its Message-ID (`mastio trace` and `mastio logs` know it)."""
    _either(into, in_place)
    restoring = _restoring(app, as_json)
    archive = restoring.choose(_when(at))
    paths = restoring.search(archive, user, message_id)
    if not paths:
        raise MastioError(
            f"the archive of {_day(archive.at)} has no message {message_id} of {user}",
            hint="--at names another time; `mastio backup list` names the archives", code=Exit.DATA,
        )  # fmt: skip
    wish = Wish(messages=paths, into=into)
    return _mailboxes(restoring, archive, user, wish, dry_run, as_json)


@restore.command()
@click.argument("user")
@click.argument("folder")
@at_option
@into_option
@place_option
@deleted_option
@dry_option
@json_option
@pass_app
def folder(
    app: App, user: str, folder: str, at: str, into: str, in_place: bool, deleted: bool, dry_run: bool,
    as_json: bool,
) -> Exit:  # fmt: skip
    """Bring back FOLDER of USER, and those below it. The inbox is called INBOX."""
    _either(into, in_place)
    restoring = _restoring(app, as_json)
    wish = Wish(folder=folder, into=into, deleted=deleted)
    return _mailboxes(restoring, restoring.choose(_when(at)), user, wish, dry_run, as_json)


@restore.command()
@click.argument("user")
@at_option
@into_option
@place_option
@deleted_option
@dry_option
@json_option
@pass_app
def mailbox(
    app: App, user: str, at: str, into: str, in_place: bool, deleted: bool, dry_run: bool, as_json: bool
) -> Exit:  # fmt: skip
    """Bring back the mailbox of USER."""
    _either(into, in_place)
    restoring = _restoring(app, as_json)
    wish = Wish(into=into, deleted=deleted)
    return _mailboxes(restoring, restoring.choose(_when(at)), user, wish, dry_run, as_json)


@restore.command()
@click.argument("domains", nargs=-1, required=True, metavar="DOMAIN...")
@at_option
@dry_option
@json_option
@pass_app
def accounts(app: App, domains: tuple[str, ...], at: str, dry_run: bool, as_json: bool) -> Exit:
    """Bring back the accounts and aliases of DOMAINs that are missing, passwords and all.

    What is there stays as it is, and is told when the archive has it otherwise. Mail: `mastio restore mailbox`.
    """
    restoring = _restoring(app, as_json)
    archive = restoring.choose(_when(at))
    rows = restoring.accounts(archive, domains, change=not dry_run)
    late = _told_gateways(app) if not dry_run and any(it.what == "missing" for it in rows) else []
    if as_json:
        click.echo(
            json.dumps(
                {"archive": asdict(archive), "rows": [asdict(it) for it in rows], "late": late},
                indent=2,
            )
        )
    else:
        _print_rows(rows, dry_run)
    return Exit.UNAVAILABLE if late else Exit.OK


@restore.command()
@at_option
@deleted_option
@dry_option
@json_option
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@pass_app
def store(app: App, at: str, deleted: bool, dry_run: bool, as_json: bool, yes: bool) -> Exit:
    """Bring back the whole store: accounts and mailboxes that are missing, and what is missing in those that are there.

    Dovecot and Postfix stand still meanwhile; new mail waits in the gateway's queue. Nothing that is there is removed.
    """
    restoring = _restoring(app, as_json)
    archive = restoring.choose(_when(at))
    if not (dry_run or yes):
        click.confirm(
            f"Restore the store from the archive of {_day(archive.at)}? Users are cut off meanwhile.",
            abort=True,
        )
    rows, outcomes, plans = everything(restoring, archive, deleted=deleted, change=not dry_run)
    late = _told_gateways(app) if not dry_run and rows else []
    if as_json:
        data = {
            "archive": asdict(archive), "rows": [asdict(it) for it in rows], "dry_run": dry_run,
            "mailboxes": [asdict(it) for it in outcomes], "plans": [_plain(it) for it in plans], "late": late,
        }  # fmt: skip
        click.echo(json.dumps(data, indent=2))
    else:
        _print_rows(rows, dry_run)
        for it in outcomes:
            words = "whole" if it.whole else f"{it.put} messages"
            click.echo(f"{it.user}: {words}{' would come' if dry_run else ''}")
    return Exit.UNAVAILABLE if late else Exit.OK


def _restoring(app: App, as_json: bool) -> Restoring:
    def tell(words: str) -> None:
        if not as_json:
            click.echo(words, err=True)

    return Restoring(app.site(), app.transport(), tell)


def _either(into: str, in_place: bool) -> None:
    if bool(into) == in_place:
        raise click.UsageError("say where to: --into FOLDER, or --in-place")


def _when(text: str) -> float | None:
    """Seconds since the epoch; a day means its end."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise MastioError(
            f"not a time: {text!r}",
            hint="2027-01-31 or '2027-01-31 14:00', in UTC",
            code=Exit.USAGE,
        ) from None
    if len(text) <= len("2027-01-31"):
        found = found.replace(hour=23, minute=59, second=59)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _mailboxes(
    restoring: Restoring, archive: Archive, user: str, wish: Wish, dry_run: bool, as_json: bool
) -> Exit:
    one = restoring.plan(archive, user, wish)
    done = [] if dry_run else restoring.carry_out(archive, [one], unique=not wish.into)
    if as_json:
        data: dict[str, Any] = {
            "archive": asdict(archive), "plan": _plain(one), "dry_run": dry_run,
            "done": [asdict(it) for it in done],
        }  # fmt: skip
        click.echo(json.dumps(data, indent=2))
    else:
        _print_plan(archive, one, done, wish)
    return Exit.OK


def _plain(one: Plan) -> dict[str, Any]:
    return {
        "user": one.user, "folders": dict(one.folders), "messages": one.count, "octets": one.octets,
        "there": one.there, "removed": one.removed, "whole": [it or INBOX for it in one.whole],
        "files": [it.path for it in one.moves],
    }  # fmt: skip


def _print_plan(archive: Archive, one: Plan, done: Sequence[Outcome], wish: Wish) -> None:
    click.echo(f"{one.user}, as of {_day(archive.at)}:")
    for name, count in one.folders:
        click.echo(f"  {name}: {count} messages {'come' if done else 'would come'}")
    if one.there:
        click.echo(f"  {one.there} are there already")
    if one.removed:
        click.echo(f"  {one.removed} were removed since and stay away; --deleted brings them too")
    for it in done:
        double = f", {it.double} were there under another name" if it.double else ""
        click.secho(f"  {it.put} messages are in place{double}", fg="green")
    if not one.count:
        click.echo("  nothing is missing" if not wish.into else "  all of it is there")


def _print_rows(rows: Sequence[Row], dry_run: bool) -> None:
    for it in rows:
        words = "stays as it is; the archive has it otherwise" if it.what == "differs" else (
            "would come back" if dry_run else "is back"
        )  # fmt: skip
        click.echo(f"{it.table} {it.row} {words}")
    if not rows:
        click.echo("no account is missing")


def _told_gateways(app: App) -> list[str]:
    from mastio.accounts.client import Accounts

    late = [why for _, why in Accounts(app.site(), app.transport()).sync().late]
    for why in late:
        click.secho(f"warning: the gateways' list of recipients: {why}", fg="yellow", err=True)
    return late
