"""Runs on the store, sent there by an administrator: what a mailbox has now, and putting in place what watch brought.

`PAYLOAD` is JSON: `do` is one of `open`, `close` (the folder for what is brought), `look` (what there is of `users`),
`put` (plans), `homes` (whole mailboxes), `state` (other files), `hold`, `release` (Dovecot and
Postfix). Each answers with lines of JSON. Standard library only.
"""

import hashlib
import json
import os
import pwd
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAIL = Path("/var/vmail")
STAGES = MAIL / ".restore" if MAIL.is_dir() else Path("/var/lib/mastio/restore")
DIRECTORY = Path("/var/lib/mastio/directory/directory.sqlite")
VALKEY = Path("/var/lib/valkey")
BESIDE = Path(
    "/etc/postfix-store/main.cf"
)  # the store's own Postfix, where the machine is the gateway too
UNITS = ("postfix@store.service" if BESIDE.exists() else "postfix.service", "dovecot.service")


def say(what: Any) -> None:
    """A line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def home(user: str) -> Path:
    """A user's folder."""
    name, _, domain = user.rpartition("@")
    if not name or "/" in user or domain in ("", ".", "..") or name in (".", ".."):
        raise ValueError(f"not an address: {user}")
    return MAIL / domain / name


def folders(maildir: Path) -> Iterator[tuple[str, Path]]:
    """The folders of a mailbox: "" is the inbox."""
    if maildir.is_dir():
        yield "", maildir
        for it in sorted(maildir.iterdir()):
            if it.name.startswith(".") and (it / "cur").is_dir():
                yield it.name, it


def files(folder: Path) -> Iterator["os.DirEntry[str]"]:
    """The files of the messages in it."""
    for part in ("cur", "new"):
        if (folder / part).is_dir():
            yield from os.scandir(folder / part)


def look(user: str) -> dict[str, Any]:
    """What there is of a user."""
    with sqlite3.connect(f"file:{DIRECTORY}?mode=ro", uri=True) as base:
        exists = (
            base.execute("SELECT 1 FROM account WHERE address = ?", (user,)).fetchone() is not None
        )
    found: dict[str, Any] = {
        "user": user,
        "exists": exists,
        "folders": {},
        "validity": {},
        "used": 0,
        "limit": 0,
    }
    for key, folder in folders(home(user) / "Maildir"):
        found["folders"][key] = [it.name.partition(":")[0] for it in files(folder)]
        try:
            with (folder / "dovecot-uidlist").open() as file:
                number = re.match(r"3 V(\d+) ", file.readline())
            found["validity"][key] = int(number[1]) if number else 0
        except OSError:
            pass
    # Asked of who has no mailbox, Dovecot would make one.
    if exists and found["folders"]:
        done = run("doveadm", "-f", "json", "quota", "get", "-u", user)
        for row in json.loads(done.stdout or "[]") if not done.returncode else ():
            if row["type"] == "STORAGE":
                found["used"] = int(row["value"]) * 1024
                found["limit"] = int(row["limit"]) * 1024 if row["limit"].isdigit() else 0
    return found


def run(*argv: str) -> "subprocess.CompletedProcess[str]":
    """A command."""
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


class Putting:
    """One user's messages, from what was brought to where they belong."""

    def __init__(self, stage: Path, order: dict[str, Any]) -> None:
        self.stage, self.order, self.user = stage, order, order["user"]
        self.home = home(self.user)
        self.maildir, self.aside = self.home / "Maildir", stage / ".aside"
        owner = pwd.getpwnam("vmail")
        self.owner = owner.pw_uid, owner.pw_gid
        self.keywords: dict[tuple[str, str], list[str]] = {}
        self.put, self.double = 0, 0
        self.sizes: dict[int, list[str]] = {}
        if order["unique"]:
            for _, folder in folders(self.maildir):
                for it in files(folder):
                    self.sizes.setdefault(it.stat().st_size, []).append(it.path)

    def all(self) -> dict[str, Any]:
        """Everything; what came of it."""
        for number, row in enumerate(self.order["moves"], 1):
            self._message(*row)
            if number % 1000 == 0:
                say({"user": self.user, "put": number, "of": len(self.order["moves"])})
        for path in self.order["others"]:
            self._other(path)
        # The inbox first: it is the directory that holds the others.
        for key in sorted(self.order["whole"]):
            self._appear(key)
        self._settle()
        return {"user": self.user, "put": self.put, "double": self.double}

    def _own(self, path: Path) -> None:
        os.chown(path, *self.owner, follow_symlinks=False)

    def _made(self, *wanted: Path) -> None:
        """Directories that are there, and vmail's."""
        for it in wanted:
            if not it.is_dir():
                it.mkdir(mode=0o700)
                self._own(it)

    def _folder(self, key: str) -> Path:
        """Where a folder's messages go: to itself, or, when it comes whole, to where it waits for its lists."""
        if key in self.order["whole"]:
            folder = self.aside / (key or "inbox")
            self._made(self.aside, folder)
        else:
            folder = self.maildir / key
            self._made(self.home.parent, self.home, self.maildir, folder)
        self._made(*(folder / it for it in ("cur", "new", "tmp")))
        if key and not (folder / "maildirfolder").exists():
            (folder / "maildirfolder").touch(mode=0o600)
            self._own(folder / "maildirfolder")
        return folder

    def _other(self, path: str) -> None:
        """A list of a folder that comes whole; else a Sieve script and such, where there is none."""
        parts = path.removeprefix(self.order["home"] + "/").split("/")
        key = parts[1] if len(parts) == 3 else ""
        if parts[0] == "Maildir" and len(parts) in (2, 3) and key in self.order["whole"]:
            target = self._folder(key) / parts[-1]
        else:
            target = self.home.joinpath(*parts)
        source = self.stage / path
        if (
            not source.is_file()
            or source.is_symlink()
            or (target.exists() and parts[-1] != "maildirfolder")
        ):
            return
        self._made(
            self.home.parent,
            *[it for it in reversed(target.parents) if self.home in (it, *it.parents)],
        )
        shutil.move(source, target)
        self._own(target)

    def _appear(self, key: str) -> None:
        """A folder that waited appears at once, messages and UIDs together; one that somebody made meanwhile grows."""
        waits, target = self._folder(key), self.maildir / key
        self._made(self.home.parent, self.home, *((self.maildir,) if key else ()))
        try:
            waits.rename(target)
        except OSError:
            for it in files(waits):
                shutil.move(it.path, self.maildir / key / "cur" / it.name)

    def _message(self, path: str, key: str, name: str, letters: str, source: str) -> None:
        staged, folder = self.stage / path, self._folder(key)
        if staged.is_symlink() or not staged.is_file():
            raise ValueError(f"{path} has not come")
        if self._is_there(staged):
            self.double += 1
            return
        staged.chmod(0o600)
        self._own(staged)
        shutil.move(staged, folder / "cur" / name)  # with its time, which is IMAP's INTERNALDATE
        self.put += 1
        if letters:
            for word in self._words(source, letters):
                self.keywords.setdefault((key, word), []).append(name.partition(":")[0])

    def _is_there(self, staged: Path) -> bool:
        """Whether the mailbox has the same octets elsewhere: a message that was moved has another name since."""
        alike = self.sizes.get(staged.stat().st_size, ())
        wanted = hashlib.sha256(staged.read_bytes()).digest() if alike else b""
        for path in alike:
            try:
                if hashlib.sha256(Path(path).read_bytes()).digest() == wanted:
                    return True
            except OSError:
                continue
        return False

    def _words(self, folder: str, letters: str) -> Iterator[str]:
        lists = self.stage / self.order["home"] / "Maildir" / folder / "dovecot-keywords"
        try:
            rows = dict(
                line.split(" ", 1) for line in lists.read_text().splitlines() if " " in line
            )
        except OSError:
            return
        for letter in letters:
            if word := rows.get(str(ord(letter) - ord("a"))):
                yield word

    def _settle(self) -> None:
        """Dovecot takes notice: new UIDs, keywords, quota, search."""
        touched = {row[1] for row in self.order["moves"]}
        for key in sorted(touched):
            name = self.order["names"][key]
            if key:
                run("doveadm", "mailbox", "subscribe", "-u", self.user, name)
            run("doveadm", "mailbox", "status", "-u", self.user, "messages", name)
            run("doveadm", "index", "-q", "-u", self.user, name)
        for (key, word), bases in self.keywords.items():
            name = self.order["names"][key]
            for first in range(0, len(bases), 100):
                query: list[str] = []
                for base in bases[first : first + 100]:
                    query += [*(["OR"] if query else []), "GUID", base]
                run(
                    "doveadm",
                    "flags",
                    "add",
                    "-u",
                    self.user,
                    word,
                    "MAILBOX",
                    name,
                    "(",
                    *query,
                    ")",
                )


def homes(stage: Path, prefix: str, users: list[str]) -> None:
    """Whole mailboxes of those who have none, as they were."""
    owner = pwd.getpwnam("vmail")
    for number, user in enumerate(users, 1):
        target = home(user)
        name, _, domain = user.rpartition("@")
        source = stage / prefix / domain / name
        if not source.is_dir() or (target / "Maildir").exists():
            continue
        for it in (target.parent, target):
            if not it.is_dir():
                it.mkdir(mode=0o700)
                os.chown(it, owner.pw_uid, owner.pw_gid)
        for it in source.rglob("*"):
            os.chown(it, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
        for it in source.iterdir():
            if not (target / it.name).exists():
                shutil.move(it, target / it.name)
        say({"user": user, "whole": True, "number": number, "of": len(users)})


def state(stage: Path, units: list[str]) -> None:
    """Files to where they were, with the owners that they had, while `units` stand still."""
    # What is started by a socket or a timer would come back in between.
    if units and (done := run("systemctl", "stop", *units)).returncode:
        raise ValueError(done.stderr.strip())
    count = 0
    try:
        for source in sorted(stage.rglob("*")):
            target = Path("/") / source.relative_to(stage)
            if source.is_symlink() or not (source.is_dir() or source.is_file()):
                continue
            if source.is_dir():
                continue
            if source.name == "valkey.rdb":
                memory(source)
            else:
                owner = source.stat()
                for it in reversed([it for it in target.parents if not it.exists()]):
                    it.mkdir(mode=0o700)
                    os.chown(it, owner.st_uid, owner.st_gid)
                shutil.move(source, target)
                os.chown(target, owner.st_uid, owner.st_gid)
            count += 1
    finally:
        if units:
            run("systemctl", "start", *units[::-1])
    say({"files": count})


def memory(dump: Path) -> None:
    """Valkey's dump becomes the base of its append-only file (valkey.io/topics/persistence), which holds no more."""
    folder, owner = VALKEY / "appendonlydir", VALKEY.stat()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o750)
    base = folder / "appendonly.aof.1.base.rdb"
    shutil.move(dump, base)
    manifest = folder / "appendonly.aof.manifest"
    manifest.write_text(f"file {base.name} seq 1 type b\n")
    for it in (folder, base, manifest):
        os.chown(it, owner.st_uid, owner.st_gid)


def main(order: dict[str, Any]) -> None:
    """One of them."""
    os.umask(0o077)
    ticket = order.get("ticket", "")
    if not re.fullmatch(r"[0-9a-f]{16}", ticket):
        raise ValueError("not a ticket")
    stage = STAGES / ticket
    match order["do"]:
        case "open":
            stage.mkdir(parents=True, mode=0o700)
            free = shutil.disk_usage(stage).free
            say({"free": free, "stage": str(stage)})
        case "close":
            shutil.rmtree(stage, ignore_errors=True)
            if STAGES.is_dir() and not any(STAGES.iterdir()):
                STAGES.rmdir()
        case "look":
            for user in order["users"]:
                say(look(user))
        case "put":
            for one in order["plans"]:
                say(Putting(stage, one).all())
        case "homes":
            homes(stage, order["prefix"], order["users"])
        case "state":
            state(stage, order["units"])
        case "hold" | "release" as word:
            units = UNITS if word == "hold" else UNITS[::-1]
            done = run("systemctl", "stop" if word == "hold" else "start", *units)
            if done.returncode:
                raise ValueError(done.stderr.strip())
        case _:
            raise ValueError("unknown order")


if __name__ == "__main__":
    try:
        main(json.loads(PAYLOAD))  # type: ignore[name-defined]  # noqa: F821 — given by the transport
    except (OSError, ValueError, KeyError, sqlite3.Error) as error:
        sys.exit(f"{error}")
