"""Try before the switch: the new files at their final places, in a world that only a child sees.

The child gets a mount namespace of its own (unshare(2)) with an overlay in memory over each top-level
directory concerned, switches the files *there*, and runs each part's own checker. Nothing of it ever
reaches the disk, and it vanishes with the child, whatever happens.
"""

import ctypes
import json
import os
from collections.abc import Iterable

from mastio.agent.machine import Failure, put, run
from mastio.agent.wire import Job, Put

CLONE_NEWNS = 0x00020000  # <linux/sched.h>
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000  # <linux/mount.h>
STAGE = "/run/mastio/stage"
WORDS = 4000
"""How much of what a checker said is passed on, in characters, from the end."""


def validate(puts: list[Put], checks: list[Job]) -> None:
    """Raises a Failure with the checkers' words unless all of `checks` like the staged files."""
    if not checks:
        return
    os.makedirs(STAGE, mode=0o700, exist_ok=True)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            problems = _try(puts, checks)
        except (Failure, OSError) as error:
            problems = [str(error)]
        os.write(writer, json.dumps(problems).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answers:
        told = answers.read()
    os.waitpid(child, 0)
    if not told:
        raise Failure("the checks were killed")
    if problems := json.loads(told):
        raise Failure("\n".join(problems))


def _try(puts: list[Put], checks: list[Job]) -> list[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "no mount namespace")
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    _mount("tmpfs", STAGE, "tmpfs", 0, "mode=0700")
    for top in sorted({item["path"].split("/")[1] for item in puts}):
        _overlay(top)
    for item in puts:
        put(item)
    problems = []
    for check in checks:
        code, words = run(check["argv"], timeout=120)
        if code:
            problems.append(f"{check['name']}: {words[-WORDS:] or f'exit code {code}'}")
    return problems


def _overlay(top: str) -> None:
    """Covers /TOP with an overlay, and shows again what is mounted below it."""
    place, upper, work, below = (
        f"/{top}", f"{STAGE}/{top}.upper", f"{STAGE}/{top}.work", f"{STAGE}/{top}.below",
    )  # fmt: skip
    for path in (upper, work, below):
        os.mkdir(path, 0o755)
    mounted = list(_mounted_below(place))
    _mount(place, below, "", MS_BIND | MS_REC)
    _mount("overlay", place, "overlay", 0, f"lowerdir={place},upperdir={upper},workdir={work}")
    for path in mounted:
        _mount(below + path[len(place) :], path, "", MS_BIND | MS_REC)


def _mounted_below(place: str) -> Iterable[str]:
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        points = sorted({line.split()[4] for line in table})
    outer = ""
    for point in points:
        if point.startswith(f"{place}/") and not (outer and point.startswith(f"{outer}/")):
            outer = point
            yield point


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    text = [word.encode() for word in (source, target, kind)]
    if libc.mount(*text, ctypes.c_ulong(flags), options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot stage over {target}: {os.strerror(number)}")
