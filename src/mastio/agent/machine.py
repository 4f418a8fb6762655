"""The agent's hands: run a program, look at a path, put a path, keep a small JSON file safely."""

import grp
import hashlib
import json
import os
import pwd
import stat
import subprocess
from typing import Any

from mastio.agent.wire import Node, Put, Record

HOME = "/var/lib/mastio/apply"
RECORD = f"{HOME}/record.json"
JOURNAL = f"{HOME}/journal.json"
ROLLBACK = f"{HOME}/rollback"
SUFFIX = ".mastio-new"
"""A file grows under this suffix beside its final place, so that the rename is atomic."""
CONTENT_LIMIT = 1 << 20
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
ABSENT = Node(kind="absent", mode=0, owner="", group="", digest="", target="", content=None)


class Failure(Exception):  # noqa: N818 — it is the word for what happened
    """Something did not work; the text is for the person who applies."""


def run(argv: list[str], stdin: str = "", timeout: int = 600) -> tuple[int, str]:
    """Runs a program; its exit code and all it said (output and complaints together)."""
    try:
        done = subprocess.run(
            argv, input=stdin.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=ENVIRONMENT, timeout=timeout, check=False, cwd="/",
        )  # fmt: skip
    except FileNotFoundError:
        return 127, f"{argv[0]}: no such program"
    except subprocess.TimeoutExpired:
        return 124, f"{argv[0]} did not end within {timeout} seconds"
    return done.returncode, done.stdout.decode(errors="replace").strip()


def must(what: str, argv: list[str], stdin: str = "", timeout: int = 600) -> str:
    """Runs a program that has to succeed; `what` begins the failure's text."""
    code, words = run(argv, stdin, timeout)
    if code:
        raise Failure(f"{what}: {words or f'{argv[0]} ended with exit code {code}'}")
    return words


def look(path: str, wanted: str = "") -> Node:
    """A path as it is; `wanted` as in `wire.Look.paths`."""
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT.copy()
    node = ABSENT.copy()
    node["mode"] = stat.S_IMODE(info.st_mode)
    node["owner"] = _name(pwd.getpwuid, info.st_uid)
    node["group"] = _name(grp.getgrgid, info.st_gid)
    if stat.S_ISLNK(info.st_mode):
        node["kind"], node["target"] = "link", os.readlink(path)
    elif stat.S_ISDIR(info.st_mode):
        node["kind"] = "directory"
    elif stat.S_ISREG(info.st_mode):
        with open(path, "rb") as file:
            data = file.read()
        node["kind"], node["digest"] = "file", hashlib.sha256(data).hexdigest()
        if wanted not in ("", "secret", node["digest"]) and len(data) <= CONTENT_LIMIT:
            try:
                node["content"] = data.decode()
            except UnicodeDecodeError:
                node["content"] = None
    else:
        node["kind"] = "other"
    return node


def _name(lookup: Any, number: int) -> str:
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)


def put(item: Put) -> None:
    """Makes one path what it shall be."""
    path = item["path"]
    try:
        if item["kind"] == "absent":
            remove(path)
            return
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        if item["kind"] == "link":
            put_link(path, item["target"])
            return
        uid, gid = pwd.getpwnam(item["owner"]).pw_uid, grp.getgrnam(item["group"]).gr_gid
        if item["kind"] == "directory":
            put_directory(path, item["mode"], uid, gid)
        else:
            put_file(path, item["content"].encode(), item["mode"], uid, gid)
    except KeyError as error:
        raise Failure(f"{path}: {error.args[0]}") from None
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None


def put_file(path: str, data: bytes, mode: int = 0o600, uid: int = -1, gid: int = -1) -> None:
    """Writes a file beside its place, with its final owner and mode, and renames it there.

    Without `uid` and `gid` it belongs to the agent itself (chown(2): -1 changes nothing).
    """
    fresh = path + SUFFIX
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    _rename(fresh, path)


def put_directory(path: str, mode: int, uid: int, gid: int) -> None:
    """Makes a directory, or gives the one that is there its owner and mode."""
    if os.path.islink(path) or not os.path.isdir(path):
        remove(path)
        os.mkdir(path, 0o700)
    os.chown(path, uid, gid)
    os.chmod(path, mode)


def put_link(path: str, target: str) -> None:
    """Makes a symbolic link, replacing a file or link at once."""
    fresh = path + SUFFIX
    if os.path.lexists(fresh):
        os.unlink(fresh)
    os.symlink(target, fresh)
    _rename(fresh, path)


def _rename(fresh: str, path: str) -> None:
    # rename(2) replaces files and links at once, but a directory has to make way first.
    if os.path.isdir(path) and not os.path.islink(path):
        os.rmdir(path)
    os.rename(fresh, path)


def remove(path: str) -> None:
    """Removes a file, a link, or a directory that is empty; one that is not stays."""
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        else:
            os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        if error.errno != 39:  # ENOTEMPTY: somebody else's files live there
            raise


def load_json(path: str) -> Any:
    """A JSON file, or None when it is not there."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def save_json(path: str, value: Any) -> None:
    """Writes a JSON file, on disk when this returns."""
    put_file(path, json.dumps(value).encode())
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Makes renames in a directory durable (fsync(2))."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def load_record() -> Record:
    """What mastio remembers; what an older mastio did not write down is empty."""
    empty = Record(generation=0, manifest={}, secrets=[], units={}, commands={}, firewall="")
    found: Record | None = load_json(RECORD)
    return {**empty, **found} if found else empty


def save_record(record: Record) -> None:
    """Keeps the record, as a new generation."""
    record["generation"] = load_record()["generation"] + 1
    save_json(RECORD, record)


def make_home() -> None:
    """The agent's own directories, for root only."""
    os.makedirs(os.path.dirname(HOME), mode=0o755, exist_ok=True)
    for path in (HOME, ROLLBACK):
        os.makedirs(path, mode=0o700, exist_ok=True)
