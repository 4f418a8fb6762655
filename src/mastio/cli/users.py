"""`mastio user`: mailboxes.

Passwords come from a prompt, from standard input, or are generated and printed once; never from the
command line.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from mastio.accounts import passwords, table
from mastio.accounts.client import RefusedError, User
from mastio.accounts.model import AddUser, ChangeUser, DeleteUser
from mastio.cli.common import App, pass_app
from mastio.cli.directory import (
    accounts,
    canonical,
    carry_out,
    find,
    json_flag,
    print_one,
    print_rows,
    report,
)
from mastio.errors import Exit, MastioError
from mastio.site import values

F = TypeVar("F", bound=Callable[..., object])
quota_option = click.option(
    "--quota", type=int, metavar="MiB", help="The mailbox's quota; 0: the site's default."
)
name_option = click.option("--name", help="The name, as others read it.")


def _password_options(command: F) -> F:
    for flag, text in (
        ("--password-stdin", "Read the password from standard input, one line."),
        ("--generate", "Generate a password and print it, once."),
    ):
        command = click.option(flag, is_flag=True, help=text)(command)
    return command


@click.group()
def user() -> None:
    """Mailboxes."""


@user.command("add")
@click.argument("address")
@name_option
@quota_option
@click.option(
    "--forward-to", multiple=True, metavar="ADDR", help="Send mail on to this address; repeat it."
)
@click.option("--no-keep-copy", is_flag=True, help="Forwarded mail is not kept here.")
@click.option("--disable", is_flag=True, help="No log-in yet, and mail is refused.")
@_password_options
@json_flag
@pass_app
def user_add(
    app: App, address: str, name: str | None, quota: int | None, forward_to: tuple[str, ...],
    no_keep_copy: bool, disable: bool, generate: bool, password_stdin: bool, as_json: bool,
) -> Exit:  # fmt: skip
    """Add a mailbox; asks for its password unless an option says where it comes from."""
    password = _password(address, generate, password_stdin)
    change = AddUser(
        address,
        passwords.hashed(password),
        name or "",
        quota or 0,
        not disable,
        forward_to,
        not no_keep_copy,
    )
    return carry_out(app, [change], as_json, {address: password} if generate else {})


@user.command("list")
@click.argument("domains", nargs=-1, metavar="[DOMAIN]...")
@json_flag
@pass_app
def user_list(app: App, domains: tuple[str, ...], as_json: bool) -> None:
    """List all mailboxes, or those of DOMAIN."""
    wanted = {canonical(values.domain, it) for it in domains}
    found = accounts(app).listing().users
    chosen = tuple(it for it in found if not wanted or it.address.rpartition("@")[2] in wanted)
    print_rows(chosen, as_json, lambda it: _user_row(it, app.site().policy.quota))


def _user_row(it: User, default_quota: int) -> tuple[str, ...]:
    forwards = f"→ {', '.join(it.forwards)}{' (copy kept)' * it.keep_copy}" if it.forwards else ""
    quota = f"{it.quota_mib or default_quota} MiB"
    return (it.address, "" if it.enabled else "disabled", quota, it.name, forwards)


@user.command("show")
@click.argument("address")
@json_flag
@pass_app
def user_show(app: App, address: str, as_json: bool) -> None:
    """Show one mailbox."""
    print_one(find(accounts(app).listing().users, canonical(values.mail, address), "user"), as_json)


@user.command("change")
@click.argument("address")
@name_option
@quota_option
@click.option(
    "--forward-to",
    multiple=True,
    metavar="ADDR",
    help="Send mail on to these addresses only; repeat it.",
)
@click.option("--no-forward", is_flag=True, help="Forward no more.")
@click.option(
    "--keep-copy/--no-keep-copy", default=None, help="Whether forwarded mail is kept here too."
)
@click.option(
    "--enable/--disable", default=None, help="Whether the mailbox may be used and gets mail."
)
@click.option("--password", "ask", is_flag=True, help="Ask for a new password.")
@_password_options
@json_flag
@pass_app
def user_change(
    app: App, address: str, name: str | None, quota: int | None, forward_to: tuple[str, ...],
    no_forward: bool, keep_copy: bool | None, enable: bool | None, ask: bool, generate: bool,
    password_stdin: bool, as_json: bool,
) -> Exit:  # fmt: skip
    """Change what the options say; all else stays as it is."""
    if forward_to and no_forward:
        raise click.UsageError("give either --forward-to or --no-forward")
    fresh = ask or generate or password_stdin
    password = _password(address, generate, password_stdin) if fresh else ""
    change = ChangeUser(
        address, passwords.hashed(password) if fresh else None, name, quota, enable,
        forward_to if forward_to or no_forward else None, keep_copy,
    )  # fmt: skip
    if change == ChangeUser(address):
        raise click.UsageError("nothing to change: see --help")
    return carry_out(app, [change], as_json, {address: password} if generate else {})


@user.command("delete")
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
@click.option("--purge", is_flag=True, help="Remove the mail too, for good.")
@json_flag
@pass_app
def user_delete(app: App, addresses: tuple[str, ...], purge: bool, as_json: bool) -> Exit:
    """Delete mailboxes. Their mail stays on the store unless --purge is given."""
    return carry_out(app, [DeleteUser(it, purge) for it in addresses], as_json)


@user.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--passwords-to", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="A new file (mode 0600) for generated passwords, as CSV.",
)  # fmt: skip
@json_flag
@pass_app
def user_import(app: App, file: Path, passwords_to: Path | None, as_json: bool) -> Exit:
    """Add all mailboxes of the CSV table FILE, or none.

    \b
    Its first line names the columns:
      address         needed
      name            as others read it
      quota           in MiB; empty: the site's default
      password_hash   such as {SHA512-CRYPT}$6$…; empty: a password is generated
    """
    try:
        rows = table.read(file.read_text("utf-8"), str(file))
    except UnicodeDecodeError:
        raise MastioError(
            f"{file}: not UTF-8 text", hint="save it as CSV UTF-8", code=Exit.DATA
        ) from None
    generated = {
        it.line: passwords.generate() for it in rows if not it.password_hash and not it.problem
    }
    if generated and passwords_to is None:
        raise MastioError(
            f"{len(generated)} of {len(rows)} users have no password_hash",
            hint="--passwords-to FILE says where the generated passwords go",
            code=Exit.USAGE,
        )
    # A stand-in is enough to judge: hashing takes a while.
    stand_in = "{ARGON2ID}$argon2id$" + "x" * 20
    drafts = [
        AddUser(it.address, it.password_hash or stand_in, it.name, it.quota_mib) for it in rows
    ]
    directory = accounts(app)
    wrong = [(it.line, it.problem) for it in rows if it.problem]
    try:
        directory.judge(drafts)
    except RefusedError as refused:
        wrong += [
            (rows[it.change].line if it.change >= 0 else 0, str(it)) for it in refused.refusals
        ]
    if wrong:
        words = "\n".join(f"{file}:{line}: {what}" for line, what in sorted(set(wrong)))
        raise MastioError(words, hint="nothing was changed", code=Exit.DATA)
    changes = [
        AddUser(
            it.address,
            it.password_hash or passwords.hashed(generated[it.line]),
            it.name,
            it.quota_mib,
        )
        for it in rows
    ]
    if generated and passwords_to:
        _write_passwords(
            passwords_to, {it.address: generated[it.line] for it in rows if it.line in generated}
        )
    try:
        outcome = directory.change(changes)
    except MastioError:
        if generated and passwords_to:
            passwords_to.unlink()
        raise
    return report(changes, outcome, as_json)


def _password(address: str, generate: bool, from_stdin: bool) -> str:
    """A password that is good enough; raises MastioError when it is not."""
    if generate and from_stdin:
        raise click.UsageError("give either --generate or --password-stdin")
    if generate:
        return passwords.generate()
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        raise MastioError(
            "there is no terminal to ask for a password on",
            hint="--generate makes one, --password-stdin reads one",
            code=Exit.USAGE,
        )
    if weakness := passwords.weakness(password, address):
        raise MastioError(weakness, hint="--generate makes a good one", code=Exit.DATA)
    return password


def _write_passwords(path: Path, generated: dict[str, str]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise MastioError(
            f"{path}: {error.strerror}",
            hint="name a new file for the passwords",
            code=Exit.CANT_CREATE,
        ) from error
    with os.fdopen(descriptor, "w") as stream:
        stream.write("address,password\n")
        stream.writelines(f"{address},{password}\n" for address, password in generated.items())
