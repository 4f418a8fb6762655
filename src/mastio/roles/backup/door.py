#!/usr/bin/python3 -IS
"""Archives what is kept of this machine, for watch: the forced command of its key for that (authorized_keys, sshd(8)).

    mastio-backup create NAME [fresh]   borg makes the archive NAME; `fresh`: it forgets all it remembers of former ones
    mastio-backup relay …               how that borg reaches watch (BORG_RSH, borg(1))

The ssh session *is* the connection between this machine's borg and the one that serves on watch: no machine ever
opens one. What happens is told on stderr, a line of JSON each; the last has `done`, or `error`.

Mail is not stopped. A Maildir's files get other names whenever a flag changes, so `Walk` lists anew what changed
while borg read, until nothing that was there at the beginning is missing. Databases are copied by SQLite itself and
stand in their files' place, in a mount namespace of borg's own. Standard library only.
"""

import ctypes
import fcntl
import json
import os
import re
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

SETTINGS, PASSPHRASE = "/etc/mastio/backup.json", "/etc/mastio/backup.passphrase"
FOLDER = Path("/var/lib/mastio/backup-here")
REFUSED = 77
_NAME = re.compile(r"[a-z0-9-]+-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_NOT_FOUND = re.compile(r"(.+?): (?:\w+: )?(?:\[Errno 2\]|file not found)", re.DOTALL)
_PASSES = 8
"""How often what changed is listed again; each time there is less."""
_SOON = 50_000_000
"""Nanoseconds: what changed just before it was listed may have changed just after, too, with the same time."""
_CLONE_NEWNS = 0x00020000  # <linux/sched.h>
_SKIPPED = re.compile(rb"dovecot\.(list\.)?index.*|fts-flatcurve|.*-(journal|wal|shm)|\.restore")
"""What is made anew from the rest, and what is half done."""


class RefusedError(Exception):
    """Why nothing is done."""


class Walk:
    """The paths below some folders, as they are listed; and again, what appeared since (`again`)."""

    def __init__(self, roots: Iterable[bytes]) -> None:
        self._roots = [*roots]
        self._known: dict[bytes, tuple[int, array[int]]] = {}

    def first(self) -> Iterator[bytes]:
        """All there is, folders before what is in them."""
        for root in self._roots:
            if os.path.lexists(root):
                yield root
                yield from self._below(root)

    def again(self) -> Iterator[bytes]:
        """What has appeared in folders since they were listed."""
        for folder in [
            path for path, (changed, _) in self._known.items() if _changed(path) != changed
        ]:
            yield from self._below(folder)

    def missed(self, paths: Iterable[bytes]) -> None:
        """Borg did not find them: what comes back under its name is new, as a message that is marked and unmarked."""
        lost: dict[bytes, set[int]] = {}
        for path in paths:
            folder, _, name = path.rpartition(b"/")
            lost.setdefault(folder, set()).add(hash(name))
        for folder in lost.keys() & self._known.keys():
            left = (it for it in self._known[folder][1] if it not in lost[folder])
            self._known[folder] = -1, array("q", left)

    def _below(self, folder: bytes) -> Iterator[bytes]:
        pending = [folder]
        while pending:
            here = pending.pop()
            changed = _changed(here)
            if time.time_ns() - changed < _SOON:
                changed = -1
            try:
                # A message that is not whole yet is in tmp (maildir(5)).
                entries = [] if here.endswith(b"/tmp") else [*os.scandir(here)]
            except OSError:
                continue  # gone, or no folder
            entries = [it for it in entries if not _SKIPPED.fullmatch(it.name)]
            before = self._known.get(here, (0, ()))[1]
            known = {*before}
            # Eight octets for each name: ten million messages are 80 MB.
            self._known[here] = changed, array("q", (hash(it.name) for it in entries))
            for it in entries:
                if it.is_dir(follow_symlinks=False):
                    if it.path not in self._known:
                        yield it.path
                        pending.append(it.path)
                elif hash(it.name) not in known and not it.name.endswith(b".sock"):
                    yield it.path


def _changed(path: bytes) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


class Feeder:
    """Gives borg the paths, and more of them as long as some have gone before it came."""

    def __init__(self, walk: Walk, pipe: IO[bytes]) -> None:
        self._walk, self._pipe = walk, pipe
        self.gone = 0
        """How many paths borg has not found any more."""
        self._lost: SimpleQueue[bytes] = SimpleQueue()
        self.count = 0

    def lost(self, path: bytes) -> None:
        """Borg has not found it; said from another thread."""
        self.gone += 1
        self._lost.put(path)

    def feed(self) -> None:
        """To the end of its paths; a pipe that broke says that borg has ended, and why is borg's to tell."""
        try:
            with self._pipe:
                self._give(self._walk.first())
                for _ in range(_PASSES):
                    gone = self.gone
                    self._walk.missed([self._lost.get() for _ in range(self._lost.qsize())])
                    if not self._give(self._walk.again()) and gone == self.gone:
                        break
        except BrokenPipeError:
            pass

    def _give(self, paths: Iterable[bytes]) -> int:
        before = self.count
        for path in paths:
            self._pipe.write(path + b"\0")
            self.count += 1
        self._pipe.flush()
        # What is still in the pipe is not read yet (FIONREAD, ioctl_tty(2)); borg needs a moment for its last block.
        while struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, b"\0" * 4))[0]:
            time.sleep(0.02)
        time.sleep(0.2)
        return self.count - before


def say(**what: Any) -> None:
    """A line of JSON."""
    sys.stderr.write(json.dumps(what) + "\n")
    sys.stderr.flush()


def staged(own: dict[str, Any], place: Path) -> list[tuple[Path, str]]:
    """Copies of databases, with the paths in whose place they are to stand; what commands say stands below `place`."""
    pairs = []
    for number, path in enumerate(own["databases"]):
        if os.path.exists(path):
            copy = place / f"{number}.sqlite"
            source, target = (
                sqlite3.connect(f"file:{path}?mode=ro", uri=True),
                sqlite3.connect(copy),
            )
            with source, target:
                source.backup(target)
            source.close()
            target.close()
            shutil.copystat(path, copy)
            stat = os.stat(path)
            os.chown(copy, stat.st_uid, stat.st_gid)
            pairs.append((copy, path))
    dumps = FOLDER / "dumps"
    shutil.rmtree(dumps, ignore_errors=True)
    dumps.mkdir(mode=0o700)
    for name, argv in own["dumps"].items():
        path = dumps / name
        if "{}" in argv:
            said = subprocess.run(
                [str(path) if it == "{}" else it for it in argv], capture_output=True, check=False
            )
        else:
            said = subprocess.run(argv, capture_output=True, check=False)
            path.write_bytes(said.stdout)
        if said.returncode:
            raise OSError(f"{argv[0]}: {said.stderr.decode(errors='replace').strip()[-300:]}")
    return pairs


def alone(pairs: Iterable[tuple[Path, str]]) -> None:
    """In a mount namespace of our own, the copies stand in their files' place."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "no mount namespace")
    for argv in (["--make-rprivate", "/"], *(["--bind", str(copy), path] for copy, path in pairs)):
        subprocess.run(["mount", *argv], check=True, capture_output=True)


def create(name: str, *, fresh: bool) -> int:
    """Makes the archive; borg's exit code."""
    own = json.loads(Path(SETTINGS).read_text())
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError("another backup is at work here") from None
        if fresh:
            shutil.rmtree(FOLDER / "base", ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="mastio-backup.", dir="/run") as place:
            alone(staged(own, Path(place)))
            return _archive(name, own, Path(place))


def _archive(name: str, own: dict[str, Any], place: Path) -> int:
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(place / "door"))
    door.listen(1)

    def let_in() -> None:
        connection, _ = door.accept()
        with connection:
            socket.send_fds(connection, [b"x"], [0, 1])

    threading.Thread(target=let_in, daemon=True).start()
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/root",
        "BORG_BASE_DIR": str(FOLDER / "base"), "BORG_PASSCOMMAND": f"cat {PASSPHRASE}",
        "BORG_RSH": f"{os.path.realpath(__file__)} relay", "MASTIO_DOOR": str(place / "door"),
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes", "BORG_EXIT_CODES": "legacy",
    }  # fmt: skip
    argv = [
        "ionice", "-c", "3", "borg", "create", "--json", "--log-json", "--compression", "zstd,3",
        "--files-cache", "ctime,size,inode", "--paths-from-stdin", "--paths-delimiter", r"\0",
        f"{own['repository']}::{name}",
    ]  # fmt: skip
    begin = time.monotonic()
    borg = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert borg.stdin and borg.stdout and borg.stderr  # noqa: S101 — all are PIPE
    roots = [*own["trees"], *own["databases"], str(FOLDER / "dumps")]
    feeder = Feeder(Walk(it.encode() for it in roots), borg.stdin)
    words: list[str] = []

    def hear(lines: IO[bytes]) -> None:
        for line in lines:
            text = _message(line)
            if (path := not_found(text)) is not None:
                feeder.lost(path)
            elif text:
                words.append(text)

    threads = (
        threading.Thread(target=feeder.feed, daemon=True),
        threading.Thread(target=hear, args=(borg.stderr,), daemon=True),
    )
    for it in threads:
        it.start()
    told = borg.stdout.read()
    code = borg.wait()
    threads[1].join(10)
    if code not in (0, 1):
        say(error="; ".join(words[-3:]) or f"borg ended with {code}")
        return 1
    stats = json.loads(told)["archive"]
    say(
        done={
            "id": stats["id"], "files": stats["stats"]["nfiles"], "size": stats["stats"]["original_size"],
            "added": stats["stats"]["deduplicated_size"], "seconds": round(time.monotonic() - begin, 2),
            "gone": feeder.gone, "warnings": words[:5],
        }
    )  # fmt: skip
    return 0


def _message(line: bytes) -> str:
    """What borg says, if it is more than progress."""
    try:
        told = json.loads(line)
        return str(told.get("message", "")) if told.get("type") == "log_message" else ""
    except ValueError:
        return line.decode(errors="replace").strip()


def not_found(words: str) -> bytes | None:
    """The path that borg has not found, by its words; empty when they do not name it, None when all were found."""
    if found := _NOT_FOUND.match(words):
        return found[1].encode("utf-8", "surrogateescape")
    return b"" if "No such file or directory" in words or "file not found" in words else None


def relay() -> int:
    """Carries borg's words to watch and back, by the ssh session of the process that started it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["MASTIO_DOOR"])
        _, (source, target), _, _ = socket.recv_fds(connection, 1, 2)

    def carry(source: int, target: int) -> None:
        try:
            while data := os.read(source, 1 << 18):
                view = memoryview(data)
                while view:
                    view = view[os.write(target, view) :]
        except OSError:
            pass
        os.close(target)

    threading.Thread(target=carry, args=(source, 1), daemon=True).start()
    # When borg has no more to say it has heard all it wanted; watch's end closes with the session.
    carry(0, target)
    return 0


def main() -> int:
    """The exit code."""
    os.umask(0o077)
    try:
        match sys.argv[1:] or os.environ.get("SSH_ORIGINAL_COMMAND", "").split():
            case ["relay", *_] if "MASTIO_DOOR" in os.environ:
                return relay()
            case ["create", name, *more] if _NAME.fullmatch(name) and more in ([], ["fresh"]):
                os.nice(10)
                return create(name, fresh=bool(more))
            case _:
                raise RefusedError("not create")
    except RefusedError as error:
        subprocess.run(
            ["logger", "-p", "auth.warning", "-t", "mastio-backup", f"refused: {error}"],
            check=False,
        )
        say(error=f"refused: {error}")
        return REFUSED
    except (OSError, ValueError, KeyError, sqlite3.Error, subprocess.SubprocessError) as error:
        say(error=f"{type(error).__name__}: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
