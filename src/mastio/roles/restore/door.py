#!/usr/bin/python3 -IS
"""What watch's key for restoring opens: the forced command of it (authorized_keys, sshd(8)).

    mastio-restore receive TICKET    a tar archive from stdin, into a folder that an administrator has made
    mastio-restore census            how many messages each account has, as JSON
    mastio-restore hashes            of the mailboxes in {"users": […]} (stdin), a line of JSON each: the digest of
                                     each message, and when its file last changed

All else is refused with exit code 77, and said in the log. Watch may bring, only an administrator puts in place:
without a ticket nothing is taken, and what is taken lies where neither Dovecot nor Postfix looks. Digests are of
messages whose lines end with LF; no content leaves. Standard library only.
"""

import hashlib
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REFUSED = 77
MAIL = Path("/var/vmail")
DIRECTORY = Path("/var/lib/mastio/directory/directory.sqlite")
STAGES = MAIL / ".restore" if MAIL.is_dir() else Path("/var/lib/mastio/restore")
"""Where what was brought waits; beside the mail, so that it only has to be renamed."""
_TICKET = re.compile(r"[0-9a-f]{16}")
_ADDRESS = re.compile(
    r"([a-z0-9!#$%&'*+=?^_`{|}~-][a-z0-9.!#$%&'*+=?^_`{|}~-]*)@([a-z0-9][a-z0-9.-]*)"
)


class RefusedError(Exception):
    """Why nothing is done."""


def receive(ticket: str) -> int:
    """The archive from stdin into the ticket's folder; tar's exit code."""
    if not _TICKET.fullmatch(ticket):
        raise RefusedError("not a ticket")
    stage = STAGES / ticket
    if not stage.is_dir() or stage.is_symlink():
        raise RefusedError("no administrator has asked for this")
    if any(stage.iterdir()):
        raise RefusedError("the ticket is used")
    # tar strips leading slashes and follows no links out of the folder (tar(1)).
    return subprocess.run(
        ["tar", "--extract", "--preserve-permissions", "--directory", str(stage)], check=False
    ).returncode


def accounts() -> list[str]:
    """The addresses of all mailboxes."""
    with sqlite3.connect(f"file:{DIRECTORY}?mode=ro", uri=True) as base:
        return [row[0] for row in base.execute("SELECT address FROM account ORDER BY address")]


def home(user: str) -> Path:
    """A user's folder. Raises RefusedError for what is no address."""
    found = _ADDRESS.fullmatch(user)
    if not found or ".." in user:
        raise RefusedError(f"not an address: {user!r}")
    return MAIL / found[2] / found[1]


def folders(maildir: Path) -> Iterator[tuple[str, Path]]:
    """The folders of a mailbox (Maildir++): "" is the inbox, ".Junk" another."""
    if not maildir.is_dir():
        return
    yield "", maildir
    for it in sorted(maildir.iterdir()):
        if it.name.startswith(".") and (it / "cur").is_dir():
            yield it.name, it


def messages(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Each message's base name, that is without its flags, and its file."""
    for part in ("cur", "new"):
        if (folder / part).is_dir():
            for it in os.scandir(folder / part):
                yield it.name.partition(":")[0], it


def census() -> int:
    """Prints it."""
    print(json.dumps({user: sum(1 for _, it in folders(home(user) / "Maildir") for _ in messages(it))
                      for user in accounts()}))  # fmt: skip
    return 0


def hashed(user: str) -> dict[str, Any]:
    """A mailbox: by folder and base name, the digest and the ctime of each message."""
    found: dict[str, dict[str, list[Any]]] = {}
    for key, folder in folders(home(user) / "Maildir"):
        rows = found.setdefault(key, {})
        for base, it in messages(folder):
            try:
                changed = it.stat(follow_symlinks=False).st_ctime
                content = Path(it.path).read_bytes()
            except OSError:
                continue  # moved or removed while we looked
            # As the scratch store tells it by IMAP: mastio-scratch, digest().
            same = content.replace(b"\r\n", b"\n").replace(b"\0", b"\x80")
            rows[base] = [hashlib.sha256(same).hexdigest(), changed]
    return {"user": user, "folders": found}


def hashes() -> int:
    """Prints them."""
    for user in json.load(sys.stdin)["users"]:
        print(json.dumps(hashed(user)), flush=True)
    return 0


def main() -> int:
    """The exit code."""
    os.umask(0o077)
    os.nice(10)
    try:
        match sys.argv[1:] or shlex.split(os.environ.get("SSH_ORIGINAL_COMMAND", "")):
            case ["receive", ticket]:
                return receive(ticket)
            case ["census"]:
                return census()
            case ["hashes"]:
                return hashes()
            case _:
                raise RefusedError("not receive, census or hashes")
    except (RefusedError, OSError, ValueError, KeyError, TypeError, sqlite3.Error) as error:
        words = (
            f"refused: {error}"
            if isinstance(error, RefusedError)
            else f"{type(error).__name__}: {error}"
        )
        subprocess.run(["logger", "-p", "auth.warning", "-t", "mastio-restore", words], check=False)
        print(words, file=sys.stderr)
        return REFUSED if isinstance(error, RefusedError) else 1


if __name__ == "__main__":
    sys.exit(main())
