"""The journal: what stood here before the switch, so that a failed apply can go back to it."""

import hashlib
import os
import stat
from typing import TypedDict

from mastio.agent import machine
from mastio.agent.machine import JOURNAL, ROLLBACK, SUFFIX
from mastio.agent.wire import Job, Order, Record, UnitFact


class Former(TypedDict):
    """A path as it was; a file's content is kept below `ROLLBACK`."""

    kind: str
    mode: int
    uid: int
    gid: int
    target: str


class Journal(TypedDict):
    """Everything that the way back needs."""

    paths: dict[str, Former]
    units: dict[str, UnitFact]
    commands: list[Job]
    record: Record


NOTHING = Former(kind="absent", mode=0, uid=0, gid=0, target="")


def begin(order: Order, record: Record) -> Journal:
    """Opens the journal for `order`, or adds to the one that a killed apply left (see the package's
    manual): it is on disk when this returns."""
    found: Journal | None = machine.load_json(JOURNAL)
    journal = found or Journal(paths={}, units={}, commands=[], record=record)
    links = tuple(f"{put['path']}/" for put in order["puts"] if os.path.islink(put["path"]))
    for path in _touched(order):
        if path not in journal["paths"]:
            # What is reached through a link that goes away was never here.
            journal["paths"][path] = NOTHING if path.startswith(links) else _keep(path)
    for name, fact in order["former"].items():
        journal["units"].setdefault(name, fact)
    journal["commands"] += [job for job in order["commands"] if job not in journal["commands"]]
    machine.sync_directory(ROLLBACK)
    machine.save_json(JOURNAL, journal)
    return journal


def end(journal: Journal) -> None:
    """Forgets the journal: the machine is as it should be, or as it was."""
    for path in journal["paths"]:
        machine.remove(path + SUFFIX)
    os.unlink(JOURNAL)
    machine.sync_directory(machine.HOME)
    for name in os.listdir(ROLLBACK):
        os.unlink(f"{ROLLBACK}/{name}")


def restore(journal: Journal) -> None:
    """Puts every path back as it was: first, children before parents, what was not there or was of
    another kind goes; then, parents before children, what was there comes back."""
    paths = sorted(journal["paths"].items())
    for path, former in reversed(paths):
        if former["kind"] != machine.look(path)["kind"]:
            machine.remove(path)
    for path, former in paths:
        if former["kind"] != "absent":
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            _restore(path, former)


def _restore(path: str, former: Former) -> None:
    match former["kind"]:
        case "link":
            machine.put_link(path, former["target"])
        case "directory":
            machine.put_directory(path, former["mode"], former["uid"], former["gid"])
        case _:
            with open(_backup(path), "rb") as file:
                data = file.read()
            machine.put_file(path, data, former["mode"], former["uid"], former["gid"])


def _touched(order: Order) -> list[str]:
    """The paths of an order, and the parents that will have to be made for them."""
    paths = {}
    for item in order["puts"]:
        parent = os.path.dirname(item["path"])
        while not os.path.lexists(parent):
            paths[parent] = True
            parent = os.path.dirname(parent)
        paths[item["path"]] = True
    return list(paths)


def _keep(path: str) -> Former:
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING
    former = Former(
        kind="file", mode=stat.S_IMODE(info.st_mode), uid=info.st_uid, gid=info.st_gid, target=""
    )
    if stat.S_ISLNK(info.st_mode):
        former["kind"], former["target"] = "link", os.readlink(path)
    elif stat.S_ISDIR(info.st_mode):
        former["kind"] = "directory"
    elif stat.S_ISREG(info.st_mode):
        with open(path, "rb") as file:
            machine.put_file(_backup(path), file.read())
    else:
        raise machine.Failure(f"{path} is neither a file nor a directory nor a link")
    return former


def _backup(path: str) -> str:
    return f"{ROLLBACK}/{hashlib.sha256(path.encode()).hexdigest()[:32]}"
