"""Lists, gives, takes and drops files below given trees. Sent to both machines by `client`; standard library only.

`PAYLOAD` is JSON; `do` says what:

- `list`: a line of JSON for each folder, file and link below `trees`: path, what it is (mode,
  size and time, or where the link leads). Equal lists are equal trees.
- `give`: a tar(5) of `paths` (below `trees`), of snapshots of the `databases` (SQLite's own) and of what `dumps` say,
  each under its own path, onto stdout.
- `take`: that tar from stdin, below `root`; nothing that is not below `trees`, or one of `files`, is taken. `renamed`
  has [old, new] beginnings of paths.
- `drop`: `paths` (below `trees`) go.
- `queue`: how many messages wait in each Postfix of `configs`, by queue.
"""

import io
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

_QUEUE = "/usr/sbin/postqueue"
_TIME = "MASTIO.mtime_ns"
"""tar's own time is a fraction in words, which does not come back to the nanosecond."""


def say(what: Any) -> None:
    """A line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")


def below(path: str, trees: list[str]) -> bool:
    """Whether `path` is below one of them, without a step back."""
    return ".." not in path.split("/") and any(path.startswith(f"{it}/") for it in trees)


def listed(tree: str) -> Iterator[tuple[str, str]]:
    """Each folder, file and link below it, and what it is. Sockets and pipes are their makers'."""
    for top, folders, names in os.walk(tree):
        for name in (*folders, *names):
            path = f"{top}/{name}"
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                continue  # mail moves while this looks
            mode = f"{stat.S_IMODE(found.st_mode):o}"
            if stat.S_ISLNK(found.st_mode):
                yield path, f"link {os.readlink(path)}"
            elif stat.S_ISDIR(found.st_mode):
                yield path, f"folder {mode}"  # an empty one counts: a Maildir without `new` is none
            elif stat.S_ISREG(found.st_mode):
                yield path, f"file {mode} {found.st_size} {found.st_mtime_ns}"


def snapshot(database: str, folder: str) -> str:
    """A whole copy of an SQLite file that may be in use."""
    copy = f"{folder}/{Path(database).name}"
    with sqlite3.connect(database) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    owner = os.stat(database)
    os.chown(copy, owner.st_uid, owner.st_gid)
    os.chmod(copy, stat.S_IMODE(owner.st_mode))
    return copy


def add(archive: tarfile.TarFile, path: str, name: str) -> None:
    """A file as it is now, at its time of before: one that changes meanwhile differs in the next list."""
    info = archive.gettarinfo(path, name)
    if info.islnk():  # a hard link comes as the file that it is
        info.type = tarfile.REGTYPE
    info.pax_headers = {_TIME: str(os.lstat(path).st_mtime_ns)}
    if not info.isreg():
        archive.addfile(info)
        return
    content = Path(path).read_bytes()
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def give(order: dict[str, Any], out: IO[bytes]) -> None:
    """Everything that is asked for. What vanished meanwhile is left out: the next list tells."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path in order["paths"]:
            if not below(path, order["trees"]):
                raise ValueError(f"not asked for: {path}")
            with suppress(FileNotFoundError):
                add(archive, path, path.lstrip("/"))
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            for it in order["databases"]:
                if Path(it).exists():
                    add(archive, snapshot(it, folder), it.lstrip("/"))
            for name, argv in order["dumps"]:
                target = f"{folder}/{name}"
                command = [target if it == "{}" else it for it in argv]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                add(archive, target, name)


def take(order: dict[str, Any], source: IO[bytes]) -> int:
    """How many files came."""
    root, count = order["root"].rstrip("/"), 0
    with tarfile.open(fileobj=source, mode="r|") as archive:
        archive.extraction_filter = lambda it, _: it  # each is looked at here
        for member in archive:
            path = f"/{member.name}"
            if not below(path, order["trees"]) and member.name not in order["files"]:
                raise ValueError(f"not asked for: {path}")
            leads = member.linkname.split("/") if member.issym() else []
            if (
                "" in leads
                or ".." in leads
                or not (member.isreg() or member.isdir() or member.issym())
            ):
                raise ValueError(f"neither a file nor a folder nor a link into its own: {path}")
            for old, new in order["renamed"]:
                if path == old or path.startswith(f"{old}/"):
                    path = new + path.removeprefix(old)
            member.name = f"{root}{path}"
            _folders(Path(member.name).parent, archive, member)
            if member.issym() and os.path.lexists(member.name):
                os.unlink(member.name)
            member.mode &= 0o777
            archive.extract(member, "/")
            when = int(member.pax_headers[_TIME])
            os.utime(member.name, ns=(when, when), follow_symlinks=False)
            count += 1
    return count


def _folders(folder: Path, archive: tarfile.TarFile, like: tarfile.TarInfo) -> None:
    """Folders on the way, as private as mail is, with the owner of what is in them."""
    made = [it for it in (folder, *folder.parents) if not it.exists()]
    for it in reversed(made):
        it.mkdir(mode=0o700)
        archive.chown(like, str(it), numeric_owner=False)


def drop(order: dict[str, Any]) -> None:
    """They go, what is in a folder before the folder."""
    for path in sorted(order["paths"], reverse=True):
        if not below(path, order["trees"]):
            raise ValueError(f"not asked for: {path}")
        if Path(path).is_dir() and not Path(path).is_symlink():
            Path(path).rmdir()
        else:
            Path(path).unlink(missing_ok=True)


def queue(configs: list[str]) -> dict[str, int]:
    """Messages by queue name, of all of them together."""
    found: dict[str, int] = {}
    for config in configs:
        if not Path(config, "main.cf").exists():
            continue
        done = subprocess.run([_QUEUE, "-c", config, "-j"], capture_output=True, check=True)
        for line in done.stdout.splitlines():
            name = json.loads(line)["queue_name"]
            found[name] = found.get(name, 0) + 1
    return found


def main(order: dict[str, Any]) -> None:
    """One of them."""
    os.umask(0o077)
    match order["do"]:
        case "list":
            for tree in order["trees"]:
                for path, what in listed(tree):
                    say([path, what])
        case "give":
            give(order, sys.stdout.buffer)
        case "take":
            say({"took": take(order, cast("IO[bytes]", sys.stdin.buffer))})
        case "drop":
            drop(order)
        case "queue":
            say(queue(order["configs"]))
        case _:
            raise ValueError("unknown order")


if "PAYLOAD" in globals():
    try:
        main(json.loads(globals()["PAYLOAD"]))
    except (
        OSError,
        ValueError,
        KeyError,
        sqlite3.Error,
        tarfile.TarError,
        subprocess.SubprocessError,
    ) as error:
        sys.exit(f"{type(error).__name__}: {error}")
