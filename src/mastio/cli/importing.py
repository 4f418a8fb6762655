"""`mastio import`: mail that somebody has elsewhere comes into a mailbox of the store."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from mastio.cli.common import App, pass_app
from mastio.errors import Exit, MastioError
from mastio.importing import local, remote
from mastio.importing.client import Importing
from mastio.importing.compare import Comparison, compare
from mastio.importing.folders import Names
from mastio.importing.message import Message, Source
from mastio.importing.stage import Stage

F = TypeVar("F", bound=Callable[..., object])
Tell = Callable[[str], None]
_SHOWN = 20


def _options(command: F) -> F:
    """What all sources have in common."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option(
            "--verify-only",
            is_flag=True,
            help="Bring nothing: only compare; exit code 1 when something is missing.",
        ),
        click.option(
            "--dry-run", is_flag=True, help="Say what would come; change nothing on the store."
        ),
        click.option(
            "--skip",
            metavar="FOLDER",
            multiple=True,
            help="Not this folder, nor those below it. May be repeated.",
        ),
        click.option(
            "--rename",
            metavar="THERE=HERE",
            multiple=True,
            help="Another name for a folder. May be repeated.",
        ),
        click.option("--into", metavar="FOLDER", default="", help="Everything below this folder."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    user: str
    names: Names
    dry_run: bool
    verify_only: bool
    as_json: bool

    def tell(self, words: str) -> None:
        """How far it is."""
        if not self.as_json:
            click.echo(words, err=True)


@click.group("import")
def import_() -> None:
    """Bring mail over that somebody has elsewhere, into the mailbox of USER.

    \b
    From the old server:    mastio import imap bob@example.org --host imap.old.example
    From a Maildir:         mastio import maildir bob@example.org ~bob/Maildir
    From mbox files:        mastio import mbox bob@example.org /var/mail/bob --into Old

    The mail is read by this box and goes to the store through mastio's own connection; the store never speaks with
    the other server. Folders, flags, keywords and dates stay as they were. An IMAP server that tells what a folder
    is used for (RFC 6154) has those for sent mail, drafts, junk, trash and archive called as they are here. Other
    servers, Maildirs and mbox files do not tell: --rename Gesendet=Sent does.

    It can be cut short and run again, and run again on the last day for what came since: a message is known by its
    octets, so nothing comes twice, even when it was moved since. What a user removed here comes again. At the end
    everything is compared once more, by count and content; exit code 1 when anything is missing.
    """


@import_.command()
@click.argument("user")
@click.option("--host", required=True, help="The server.")
@click.option("--login", metavar="NAME", default="", help="The log-in name there. Default: USER.")
@click.option("--port", type=click.IntRange(1, 65535), help="Default: 993, with STARTTLS 143.")
@click.option(
    "--tls",
    type=click.Choice([*remote.PORTS]),
    default="imaps",
    show_default=True,
    help="none: to this box only, where ssh -L ends.",
)
@click.option(
    "--ca", metavar="FILE", default="", help="Authorities (PEM) to believe instead of the system's."
)
@click.option(
    "--pin", metavar="SHA256", default="", help="Believe one certificate alone, whoever signed it."
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help="Read the password there. Default: ask.",
)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input, one line.")  # fmt: skip
@click.option(
    "--stage",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where mail waits on this box: in a folder of its own below this one. Default: in ~/.cache/mastio.",
)
@click.option(
    "--keep",
    is_flag=True,
    help="Leave what was fetched on this box: a later run fetches only what is new.",
)
@_options
@pass_app
def imap(
    app: App, user: str, host: str, login: str, port: int | None, tls: str, ca: str, pin: str,
    password_file: Path | None, password_stdin: bool, stage: Path | None, keep: bool, into: str,
    rename: tuple[str, ...], skip: tuple[str, ...], dry_run: bool, verify_only: bool, as_json: bool,
) -> Exit:  # fmt: skip
    """Bring over what USER has on another IMAP server. Nothing is changed there.

    \b
    Password from a file:   … --password-file bob.password
    By a master user:       … --login 'bob*admin'         (Dovecot)
    Of its own authority:   … --ca old-ca.pem             or --pin SHA256
    After ssh -NL 1143:localhost:143 OLD:  … --host 127.0.0.1 --port 1143 --tls none

    What is fetched waits in a folder of this box that only this user reads, until it is in place and compared; a run
    that was cut short goes on there. Then it is removed, after --verify-only as well; --keep leaves it. --dry-run
    fetches too, changes nothing else, and leaves it for the run that follows.
    """
    wish = _wish(user, into, rename, skip, dry_run, verify_only, as_json)
    account = remote.Account(host, login or user, port or 0, tls, ca, pin.lower().replace(":", ""))
    importing = _importing(app, wish)
    importing.have(wish.user)  # before anything is asked or fetched for nobody
    password = _password(account, password_file, password_stdin)
    waits = Stage.of(stage or _cache(app.site().name), wish.user, account)
    with remote.Server(account, password) as server:
        waits.make()
        source = server.pull(waits.path, wish.names, wish.tell)
    code = _import(importing, source, wish)
    if code is Exit.OK and not (keep or dry_run):
        waits.remove()
    else:
        wish.tell(f"what was fetched waits in {waits.path}")
    return code


@import_.command()
@click.argument("user")
@click.argument("path", type=click.Path(path_type=Path))
@_options
@pass_app
def maildir(
    app: App, user: str, path: Path, into: str, rename: tuple[str, ...], skip: tuple[str, ...],
    dry_run: bool, verify_only: bool, as_json: bool,
) -> Exit:  # fmt: skip
    """Bring over the Maildir at PATH on this box, with all its folders.

    Both ways of folders are read: `.Work.2026` beside `cur` (Dovecot, Courier), and directories in directories
    (mbsync, OfflineIMAP, mutt). When they were received is told by the files' times: copy with `cp -a` or `rsync -a`.
    """
    wish = _wish(user, into, rename, skip, dry_run, verify_only, as_json)
    importing = _importing(app, wish)
    importing.have(wish.user)
    return _import(importing, local.maildir(path, wish.names, wish.tell), wish)


@import_.command("mbox")
@click.argument("user")
@click.argument("path", type=click.Path(path_type=Path))
@_options
@pass_app
def mbox_(
    app: App, user: str, path: Path, into: str, rename: tuple[str, ...], skip: tuple[str, ...],
    dry_run: bool, verify_only: bool, as_json: bool,
) -> Exit:  # fmt: skip
    """Bring over the mbox file at PATH on this box (into the inbox, or --into FOLDER), or a directory of them.

    In a directory each file is a folder; those of Thunderbird (`Work`, `Work.sbd/2026`) are read as well. Flags
    are read from Status, X-Status, X-Keywords and X-Mozilla-Status; what Thunderbird has removed and not yet compacted
    stays away. When a message came is told by the line before it.
    """
    wish = _wish(user, into, rename, skip, dry_run, verify_only, as_json)
    importing = _importing(app, wish)
    importing.have(wish.user)
    return _import(importing, local.mboxes(path, wish.names, wish.tell), wish)


def _wish(
    user: str, into: str, rename: Sequence[str], skip: Sequence[str], dry_run: bool, verify_only: bool, as_json: bool
) -> Wish:  # fmt: skip
    if dry_run and verify_only:
        raise click.UsageError("give either --dry-run or --verify-only")
    for it in rename:
        if not all(it.partition("=")):
            raise click.UsageError(f"--rename {it}: THERE=HERE")
    renamed = {it.partition("=")[0]: it.partition("=")[2] for it in rename}
    names = Names(into.strip("/"), renamed, frozenset(skip))
    names.here(())  # refuses a wrong --into
    return Wish(user.lower(), names, dry_run, verify_only, as_json)


def _importing(app: App, wish: Wish) -> Importing:
    return Importing(app.site(), app.transport(), wish.tell)


def _cache(site: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "mastio" / "import" / site


def _password(account: remote.Account, file: Path | None, from_stdin: bool) -> str:
    if file and from_stdin:
        raise click.UsageError("give either --password-file or --password-stdin")
    if file:
        try:
            lines = file.read_text().splitlines()
        except (OSError, UnicodeError) as error:
            raise MastioError(f"{file}: {getattr(error, 'strerror', error)}", code=Exit.DATA) from None  # fmt: skip
        password = lines[0] if lines else ""
    elif from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = click.prompt(
            f"Password of {account.login} on {account.host}", hide_input=True, err=True
        )
    else:
        raise MastioError(
            "there is no terminal to ask for a password on",
            hint="--password-file FILE, or --password-stdin", code=Exit.USAGE,
        )  # fmt: skip
    if not password:
        raise MastioError("the password is empty", code=Exit.DATA)
    return password


@dataclass(slots=True)
class _Done:
    """What came of it."""

    source: Source
    found: Comparison
    put: int = 0
    lacks: tuple[Message, ...] = ()
    count: int = 0
    dry_run: bool = False
    verified: bool = False
    by: dict[str, int] = field(default_factory=dict)
    """How many come, by folder."""


def _import(importing: Importing, source: Source, wish: Wish) -> Exit:
    have = importing.have(wish.user)
    found = compare(source.messages, have.folders)
    done = _Done(source, found, count=have.count, dry_run=wish.dry_run)
    for it in found.missing:
        done.by[it.folder] = done.by.get(it.folder, 0) + 1
    if wish.verify_only:
        done.lacks = found.missing
    elif not wish.dry_run:
        importing.room(wish.user, have, found)
        names = list(dict.fromkeys(here for _, here in source.folders))
        if found.missing or not {*names} <= {*have.folders}:
            done.put = importing.bring(wish.user, have, found.missing, names)
    if not wish.dry_run:
        after, left = importing.verify(wish.user, source.messages)
        done.lacks, done.count = left.missing, after.count
        done.verified = not (done.lacks or source.unread)
    _print_json(done, wish) if wish.as_json else _print(done, wish)
    bad = source.unread or (not wish.dry_run and done.lacks)
    return Exit.FAILED if bad else Exit.OK


def _print_json(done: _Done, wish: Wish) -> None:
    source, found = done.source, done.found
    data: dict[str, Any] = {
        "user": wish.user, "dry_run": wish.dry_run, "messages": len(source.messages),
        "folders": [{"there": there, "here": here} for there, here in source.folders],
        "there": found.there, "elsewhere": found.elsewhere, "come": done.by, "octets": found.octets, "put": done.put,
        "verified": done.verified, "missing": [_plain(it) for it in done.lacks], "in_mailbox": done.count,
        "skipped": list(source.skipped), "unread": list(source.unread),
    }  # fmt: skip
    click.echo(json.dumps(data, indent=2))


def _plain(it: Message) -> dict[str, str]:
    return {"folder": it.folder, "message_id": it.title, "sha256": it.digest}


def _print(done: _Done, wish: Wish) -> None:
    source, found = done.source, done.found
    click.echo(f"{wish.user}: {len(source.messages)} messages in {len(source.folders)} folders")
    for there, here in source.folders:
        if there != here:
            click.echo(f"  {there} is called {here} here")
    word = "came" if done.put else "would come" if wish.dry_run else "are missing"
    for folder, count in sorted(done.by.items()):
        click.echo(f"  {folder}: {count} {word}")
    click.echo(f"  {found.there} were there already, {found.elsewhere} in another folder")
    for it in source.skipped:
        click.echo(f"  left out: {it}")
    for it in source.unread:
        click.secho(f"  not read: {it}", fg="red")
    for one in done.lacks[:_SHOWN]:
        click.secho(f"  missing: {one.folder}: {one.title or one.digest[:16]}", fg="red")
    if len(done.lacks) > _SHOWN:
        click.secho(f"  and {len(done.lacks) - _SHOWN} more are missing", fg="red")
    if done.verified:
        click.secho(f"  compared by content: all {len(source.messages)} are there", fg="green")
