"""What the accounts' commands share: carrying out changes, and printing what is in the directory."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TypeVar

import click

from mastio.accounts.client import Accounts, Alias, Domain, Outcome, User
from mastio.accounts.model import Change, subject
from mastio.cli.common import App
from mastio.errors import Exit, MastioError

Thing = TypeVar("Thing", Domain, User, Alias)
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def accounts(app: App) -> Accounts:
    """The accounts of the site at hand."""
    return Accounts(app.site(), app.transport())


def carry_out(
    app: App, changes: Sequence[Change], as_json: bool, generated: dict[str, str] | None = None
) -> Exit:
    """Applies the changes and reports; `generated` has the passwords to print, by address."""
    return report(changes, accounts(app).change(changes), as_json, generated or {})


def report(
    changes: Sequence[Change],
    outcome: Outcome,
    as_json: bool,
    generated: dict[str, str] | None = None,
) -> Exit:
    """Prints what came of the changes, and says how to exit."""
    if as_json:
        plain = {
            "done": [subject(it) for it in changes],
            "passwords": generated or {},
            "notes": outcome.notes,
            "updated": outcome.updated,
            "late": dict(outcome.late),
        }
        click.echo(json.dumps(plain, indent=2, ensure_ascii=False))
    else:
        if len(changes) == 1:
            click.echo(f"done: {subject(changes[0])}")
        elif changes:
            click.echo(f"done: {len(changes)} changes")
        for password in (generated or {}).values():
            click.echo(f"password: {password}")
        for note in outcome.notes:
            remark(note)
        if not changes:
            click.echo(f"gateways updated: {', '.join(outcome.updated) or 'none needed it'}")
    for _, why in outcome.late:
        click.secho(f"warning: {why}", fg="yellow", err=True)
    if outcome.late:
        names = ", ".join(name for name, _ in outcome.late)
        click.echo(
            f"  → the store has the change; {names} gets it with `mastio sync` or the next apply",
            err=True,
        )
        return Exit.UNAVAILABLE
    return Exit.OK


def remark(words: str) -> None:
    """Something to know, beside the result."""
    click.echo(f"note: {words}", err=True)


def canonical(judge: Callable[[str], str], text: str) -> str:
    """The text in the form that the directory has; raises MastioError when it has none."""
    try:
        return judge(text)
    except ValueError as error:
        raise MastioError(str(error), code=Exit.DATA) from None


def find(things: Sequence[Thing], key: str, what: str) -> Thing:
    """The thing called `key`."""
    for thing in things:
        if (thing.name if isinstance(thing, Domain) else thing.address) == key:
            return thing
    raise MastioError(
        f"there is no {what} {key}", hint=f"`mastio {what} list` shows all", code=Exit.DATA
    )


def print_one(
    thing: Thing, as_json: bool, more: Callable[[Thing], Mapping[str, object]] = lambda _: {}
) -> None:
    """Prints one thing, and what else is known of it."""
    plain = {**asdict(thing), **more(thing)}
    if as_json:
        click.echo(json.dumps(plain, indent=2, ensure_ascii=False))
        return
    for key, value in plain.items():
        words = ", ".join(value) if isinstance(value, tuple) else value
        click.echo(f"{key.replace('_mib', ' (MiB, 0: default)').replace('_', ' ')}: {words}")


def print_rows(
    things: Sequence[Thing],
    as_json: bool,
    cells: Callable[[Thing], tuple[str, ...]],
    more: Callable[[Thing], Mapping[str, object]] = lambda _: {},
) -> None:
    """Prints things, a line for each; in JSON with what else is known of them."""
    if as_json:
        plain = [{**asdict(it), **more(it)} for it in things]
        click.echo(json.dumps(plain, indent=2, ensure_ascii=False))
        return
    rows = [cells(it) for it in things]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        shown = (cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width)
        click.echo("  ".join(shown).rstrip())
