"""Runs on the store, sent there by an administrator: what a mailbox has, by content, and taking in what it lacks.

`PAYLOAD` is JSON: `do` is `look` (digests of all messages of `user`) or `put` (messages for `user`; `folders` that
shall be there). For `put` the messages follow on standard input: a line of JSON, then the octets; a line `{}` ends
them. Answers with lines of JSON. Standard library only.

One import at a time brings mail to a user. `look` waits for the one at work and says the `generation`, which every
`put` advances; a `put` that was compared with an older one is refused, for it might bring the same once more.

Dovecot itself takes the messages in (doveadm-import(1)), some at a time: UIDs, indexes, quota, flags, dates and
keywords are its own doing, and what was taken in stays when this is cut short.
"""

import fcntl
import hashlib
import json
import os
import pwd
import re
import secrets
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

MAIL = Path("/var/vmail")
DIRECTORY = Path("/var/lib/mastio/directory/directory.sqlite")
STAGES = Path("/var/lib/mastio/import")
LOCKS = Path("/run/mastio-import")
BATCH = 32 << 20
COUNT = 500
LETTERS = 26
"""Keywords that a folder of a Maildir can have: more begin another one."""
PATIENCE = 15.0
"""Seconds: the run before, which was cut short, may be taking in its last messages."""


def say(what: Any) -> None:
    """A line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def refuse(error: str, hint: str) -> NoReturn:
    """Not now."""
    say({"error": error, "hint": hint, "code": 75})
    sys.exit(1)


def must(*argv: str, keeps: tuple[int, ...] = ()) -> str:
    """A command that has to succeed; what it printed. It `keeps` open files."""
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, pass_fds=keeps
    )
    if done.returncode:
        lines = [it for it in done.stderr.splitlines() if "Error:" in it] or done.stderr.splitlines()  # fmt: skip
        raise ValueError(lines[0] if lines else f"{argv[0]} {argv[1]}: exit code {done.returncode}")
    return done.stdout


def home(user: str) -> Path:
    """A user's folder."""
    name, _, domain = user.rpartition("@")
    if not name or "/" in user or domain in ("", ".", "..") or name in (".", ".."):
        raise ValueError(f"not an address: {user}")
    return MAIL / domain / name


def named(user: str) -> str:
    """What a user's lock and stage are called."""
    return hashlib.sha256(user.encode()).hexdigest()[:16]


@contextmanager
def alone(user: str) -> Iterator[IO[str]]:
    """While no other import brings mail to that user; the locked file holds the generation."""
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    with (LOCKS / named(user)).open("a+") as lock:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    refuse(f"another import into {user} is at work", "wait until it has ended")
                time.sleep(0.2)
        yield lock


def generation(lock: IO[str]) -> str:
    """Which one it is."""
    lock.seek(0)
    return lock.read() or advanced(lock)


def advanced(lock: IO[str]) -> str:
    """A new one. No number: after a boot it would begin anew, and an old one be right again."""
    new = secrets.token_hex(8)
    lock.truncate(0)
    lock.write(new)
    lock.flush()
    return new


def begin(lock: IO[str], user: str, seen: str) -> None:
    """Bringing, by somebody who has `seen` a generation."""
    if generation(lock) != seen:
        refuse(
            f"another import has brought mail to {user} since it was looked at",
            "run it again: what is there by now does not come again",
        )
    advanced(lock)


def exists(user: str) -> bool:
    """Whether there is such an account."""
    with sqlite3.connect(f"file:{DIRECTORY}?mode=ro", uri=True) as base:
        row = base.execute("SELECT enabled FROM account WHERE address = ?", (user,)).fetchone()
    if row and not row[0]:
        raise ValueError(f"{user} is disabled: Dovecot does not know it")
    return row is not None


def folders(maildir: Path) -> Iterator[tuple[str, Path]]:
    """The folders of a mailbox: "" is the inbox."""
    if maildir.is_dir():
        yield "", maildir
        for it in sorted(maildir.iterdir()):
            if it.name.startswith(".") and (it / "cur").is_dir():
                yield it.name, it


def digests(folder: Path) -> Iterator[str]:
    """Of the messages in it."""
    for part in ("cur", "new"):
        if not (folder / part).is_dir():
            continue
        for it in os.scandir(folder / part):
            try:
                content = Path(it.path).read_bytes()
            except FileNotFoundError:  # its flags changed just now, and so its name: once more
                base = it.name.partition(":")[0]
                found = [*folder.glob(f"cur/{glob(base)}*")]
                if not found:
                    continue
                content = found[0].read_bytes()
            yield hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


def glob(text: str) -> str:
    """A name that stands for itself."""
    return re.sub(r"([*?[])", r"[\1]", text)


def look(user: str) -> None:
    """What there is of a user: a line for each folder, then one for all."""
    there = exists(user)
    found: dict[str, Any] = {
        "exists": there,
        "used": 0,
        "limit": 0,
        "free": 0,
        "seen": 0,
        "generation": "",
    }
    maildir = home(user) / "Maildir"
    if there:
        said = must("doveadm", "user", "-f", "quota_storage_size", user).strip()
        found["limit"] = int(said[:-1]) << 20 if re.fullmatch(r"\d+M", said) else 0
        with alone(user) as lock:  # what a run that was cut short still brings is there then
            found["generation"] = generation(lock)
    # Asked of who has no mailbox, Dovecot would make one.
    if there and maildir.is_dir():
        for key, folder in folders(maildir):
            say({"folder": key, "digests": [*digests(folder)]})
        for row in json.loads(must("doveadm", "-f", "json", "quota", "get", "-u", user) or "[]"):
            if row["type"] == "STORAGE":
                found["used"] = int(row["value"]) * 1024
        words = ("doveadm", "-f", "json", "mailbox", "status", "-u", user, "messages", "*")
        found["seen"] = sum(int(it["messages"]) for it in json.loads(must(*words) or "[]"))
    found["free"] = shutil.disk_usage(MAIL).free
    say(found)


class Taking:
    """Messages that come for one user."""

    def __init__(self, user: str, lock: IO[str]) -> None:
        self.user, self.stage, self.lock = user, STAGES / named(user), lock
        vmail = pwd.getpwnam("vmail")
        self.owner = vmail.pw_uid, vmail.pw_gid
        self.words: dict[str, dict[str, int]] = {}
        self.octets = self.waiting = self.taken = 0

    def all(self, wanted: list[str]) -> None:
        """Every message from standard input."""
        STAGES.mkdir(parents=True, mode=0o711, exist_ok=True)
        STAGES.chmod(0o711)  # Dovecot passes through as vmail
        shutil.rmtree(self.stage, ignore_errors=True)
        try:
            self._made(wanted)
            whole = self._messages()
            self._take()
            if not whole:
                raise ValueError("the messages ended too early: the connection broke")
            say({"taken": self.taken, "end": True})
        finally:
            shutil.rmtree(self.stage, ignore_errors=True)

    def _made(self, wanted: list[str]) -> None:
        have = {*must("doveadm", "mailbox", "list", "-u", self.user).splitlines()}
        for name in wanted:
            if name not in have and name.upper() != "INBOX":
                must("doveadm", "mailbox", "create", "-s", "-u", self.user, name)

    def _messages(self) -> bool:
        """Whether all have come."""
        stream = sys.stdin.buffer
        while line := stream.readline():
            if not line.endswith(b"\n"):
                return False
            told = json.loads(line)
            if not told:
                return True
            content = stream.read(told["size"])
            if len(content) != told["size"]:
                return False
            if hashlib.sha256(content).hexdigest() != told["digest"]:
                raise ValueError(f"a message for {told['folder']} came otherwise than it was sent")
            self._stage(told, content)
            if self.octets >= BATCH or self.waiting >= COUNT:
                self._take()
        return False

    def _stage(self, told: dict[str, Any], content: bytes) -> None:
        key = told["key"]
        if key and not re.fullmatch(r"(\.[^./\x00]+)+", key):
            raise ValueError(f"not a folder: {key!r}")
        folder = self.stage / key
        if len({*self.words.get(key, ()), *told["keywords"]}) > LETTERS:
            self._take()
        for it in (self.stage, folder, *(folder / it for it in ("cur", "new", "tmp"))):
            it.mkdir(mode=0o700, exist_ok=True)
        rows = self.words.setdefault(key, {})
        letters = ""
        for word in told["keywords"]:
            if word in rows or len(rows) < LETTERS:
                letters += chr(ord("a") + rows.setdefault(word, len(rows)))
        self.waiting += 1
        self.octets += len(content)
        path = (
            folder
            / "cur"
            / f"{self.taken + self.waiting}.{os.getpid()}.import:2,{told['flags']}{''.join(sorted(letters))}"
        )
        path.write_bytes(content)
        os.utime(path, (told["received"], told["received"]))  # which is IMAP's INTERNALDATE

    def _take(self) -> None:
        """Dovecot takes in what waits."""
        if not self.waiting:
            return
        for key, rows in self.words.items():
            lines = [f"{number} {word}\n" for word, number in rows.items()]
            (self.stage / key / "dovecot-keywords").write_text("".join(lines))
        for above, names, others in os.walk(self.stage):
            for it in (above, *(f"{above}/{name}" for name in (*names, *others))):
                os.chown(it, *self.owner, follow_symlinks=False)
        keeps = (self.lock.fileno(),)  # were this program killed, Dovecot would still be at work
        must("doveadm", "import", "-s", "-u", self.user, f"maildir:{self.stage}", "", "ALL", keeps=keeps)  # fmt: skip
        self.taken += self.waiting
        say({"taken": self.taken})
        shutil.rmtree(self.stage)
        self.waiting = self.octets = 0
        self.words.clear()


def main(order: dict[str, Any]) -> None:
    """One of the two."""
    os.umask(0o077)
    match order["do"]:
        case "look":
            look(order["user"])
        case "put":
            if not exists(order["user"]):
                raise ValueError(f"there is no account {order['user']}")
            with alone(order["user"]) as lock:
                begin(lock, order["user"], order["generation"])
                Taking(order["user"], lock).all(order["folders"])
        case _:
            raise ValueError("unknown order")


if __name__ == "__main__":
    try:
        main(json.loads(PAYLOAD))  # type: ignore[name-defined]  # noqa: F821 — given by the transport
    except (OSError, ValueError, KeyError, sqlite3.Error) as error:
        sys.exit(f"{error}")
