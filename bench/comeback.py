"""How long does it take to prove that a store would come back, and to bring it back?

Some mailboxes of the lab's store are filled with `--messages` messages of many sizes. Then, in turn: the store is
archived; a message more is archived, as every quarter of an hour; the drill restores all of it on watch, reads it over
IMAP and compares every octet (`mastio drill restore --all`); the store is destroyed and rebuilt (`mastio rebuild`). In
the end each message must have the octets that it had. What each takes stands against reading and hashing all once.
"""

import json
import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from bench.common import fail, maildir, must, remote, running, say, table
from bench.gateway import STORE

from mastio.accounts import passwords
from mastio.accounts.client import Accounts
from mastio.accounts.model import AddUser, DeleteUser
from mastio.cli.common import App


def fill(folder: str, run: str, count: int, seed: int) -> int:
    """Write messages into a Maildir, as LMTP leaves them there; how many octets they have."""
    import os
    import pathlib
    import random

    chance, octets = random.Random(seed), 0
    places = [pathlib.Path(folder) / it for it in ("Maildir", "Maildir/.Work", "Maildir/.Archive")]
    owner = pathlib.Path(folder).parent.stat()
    for place in places:
        for part in ("cur", "new", "tmp"):
            (place / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        size = min(200_000, int(chance.lognormvariate(8.5, 1.2)))
        head = (
            f"Return-Path: <carol@outside.test>\nFrom: Carol <carol@outside.test>\nSubject: {number}\n"
            f"Date: Fri, 2 Jan 2026 10:00:00 +0000\nMessage-ID: <{run}.{number}@outside.test>\n\n"
        )
        text = head + chance.randbytes(size // 2).hex() + "\n"
        name = f"{1767348000 + number}.M{number}P1.{run},S={len(text)},W={len(text) + text.count(chr(10))}:2,S"
        (places[number % 3] / "cur" / name).write_text(text)
        octets += len(text)
    for path in [pathlib.Path(folder), *pathlib.Path(folder).rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid)
    return octets


def digests(folders: list[str]) -> dict[str, Any]:
    """How often each message is there, by folder and digest (its file may be named anew), and how long that took."""
    import hashlib
    import pathlib
    import time
    from collections import Counter

    began, found = time.monotonic(), Counter()
    for folder in folders:
        for part in ("cur", "new"):
            for path in pathlib.Path(folder).glob(f"**/{part}/*"):
                place = path.parent.parent.relative_to(folder)
                found[f"{place} {hashlib.sha256(path.read_bytes()).hexdigest()}"] += 1
    return {"seconds": time.monotonic() - began, "found": found}


@contextmanager
def boxes(app: App, count: int) -> Iterator[list[str]]:
    """Fresh mailboxes; they and their mail go again."""
    run, domain = secrets.token_hex(3), app.site().domains[0]
    names = [f"comeback-{run}-{number}@{domain}" for number in range(count)]
    hashed = passwords.hashed(passwords.generate())
    Accounts(app.site(), app.transport()).change([AddUser(it, hashed) for it in names])
    try:
        yield names
    finally:
        Accounts(app.site(), app.transport()).change([DeleteUser(it) for it in names])
        must(app.transport(), STORE, "rm", "-rf", *map(maildir, names))


def mastio(app: App, *words: str) -> tuple[Any, float]:
    """What a command of ours printed as JSON, and how long it took; it has to end well."""
    say(f"  mastio {' '.join(words)}")
    began = time.monotonic()
    argv = [sys.executable, "-m", "mastio", "--site", str(app.folder), *words, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        fail(f"mastio {' '.join(words)}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    return json.loads(done.stdout), time.monotonic() - began


@click.command()
@click.option("--messages", default=50_000, show_default=True, help="How many.")
@click.option("--mailboxes", default=25, show_default=True, help="In so many mailboxes.")
@click.option("--seed", default=0, help="The same seed, the same messages; 0: a new one.")
@click.option("--site", default="", help="The site's folder; its lab must be up.")
def main(messages: int, mailboxes: int, seed: int, site: str) -> None:
    """Archive, drill, destroy and rebuild a store; tell how long each took, and that every octet is there."""
    app = running(site)
    chance = random.Random(seed or secrets.randbelow(10**6))
    with boxes(app, mailboxes) as names:
        folders = [maildir(it) for it in names]
        each, octets = messages // mailboxes, 0
        say(f"  {each * mailboxes} messages into {mailboxes} mailboxes")
        for folder in folders:
            octets += remote(
                app.transport(), STORE, fill, folder=folder, run=secrets.token_hex(3), count=each,
                seed=chance.randrange(10**9),
            )  # fmt: skip
        before = remote(app.transport(), STORE, digests, folders=folders)
        once = remote(app.transport(), STORE, digests, folders=folders)["seconds"]
        _, first = mastio(app, "backup", "now", STORE)
        remote(app.transport(), STORE, fill, folder=folders[0], run="more", count=1, seed=1)
        before = remote(app.transport(), STORE, digests, folders=folders)
        _, next_ = mastio(app, "backup", "now", STORE)
        drill, drilled = mastio(app, "drill", "restore", "--all")
        if not drill["good"] or drill["messages"] < messages or drill["same"] != drill["messages"]:
            fail(f"the drill did not find every message the same: {json.dumps(drill)}")
        _, rebuilt = mastio(app, "rebuild", STORE, "--yes")
        after = remote(app.transport(), STORE, digests, folders=folders)
        missing = sum(before["found"].values()) - sum(after["found"].values())
        if after["found"] != before["found"]:
            fail(f"what came back is not what was there: {missing} messages fewer, or others")
    rows = [
        (what, f"{seconds:.1f} s", f"{messages / seconds:,.0f}", f"{seconds / once:.1f} ×")
        for what, seconds in (
            ("read and hashed once", once), ("first archive", first), ("next archive", next_),
            ("drill: restored, read by IMAP, compared", drilled),
            ("rebuild: destroyed, made anew, all back", rebuilt),
        )
    ]  # fmt: skip
    click.echo(f"{messages} messages, {octets / 1e6:.0f} MB; every octet came back.")
    click.echo(table(("", "", "messages/s", "against once"), rows))


if __name__ == "__main__":
    main()
