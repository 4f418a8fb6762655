#!/usr/bin/python3 -IS
"""Keeps room on watch's disk for what everybody logs: whoever fills it waits.

    mastio-doors            looks four times a second, as long as it runs
    mastio-doors once       looks once: before rsyslog starts

rsyslog throws away what it cannot write to a full disk, and tells the sender that the line is there (decision 0032).
So a door is closed before that. nftables refuses what comes to it, within a conversation too: no line is said to be
there any more, and its machine keeps what it logs in its own queue until the door is open.

| room left | closed |
|---|---|
| less than `room` | the door of the machine that wrote most of late |
| less than half of it | all doors |
| half as much again | none |

What the kernel was told ends by itself after `FORGOTTEN` seconds, so that no door stays closed because this program is
gone. What is closed, and why, is in `SHUT`, for `mastio.watch.logbook`. Standard library only.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

CONFIG, SHUT = Path("/etc/mastio/doors.json"), Path("/run/mastio-doors/shut.json")
SHARE, MOST = 0.05, 2 << 30
"""What is kept free: a share of the disk, but no more octets than a flood needs half a minute for."""
PAUSE, AGAIN, FORGOTTEN = 0.25, 1.0, 60
"""Seconds between two looks; after which the kernel is told anew (a new ruleset knows nothing); it goes by that."""


def room(total: int) -> int:
    """How many octets of a disk are kept free."""
    return min(int(total * SHARE), MOST)


def closed(
    left: int, room: int, former: Collection[str], wrote: Mapping[str, int]
) -> frozenset[str]:
    """The machines whose doors are to be closed; `wrote`: what each of all has written of late."""
    if left < room // 2:
        return frozenset(wrote)
    if left < room and not former:
        return frozenset((max(wrote, key=lambda it: wrote[it]),))
    return frozenset() if left > room * 3 // 2 else frozenset(former) & wrote.keys()


def written(logs: Path, machine: str) -> int:
    """The octets that a machine has written of late: of today, and of yesterday until that is packed."""
    size = 0
    for it in (logs / machine).glob("*.log"):
        with suppress(FileNotFoundError):  # it was packed meanwhile
            size += it.stat().st_size
    return size


def rules(ports: Collection[int]) -> str:
    """What the kernel is told: these doors are closed, and no others."""
    told = "flush set inet mastio shut\n"
    if ports:
        elements = ", ".join(f"{it} timeout {FORGOTTEN}s" for it in sorted(ports))
        told += f"add element inet mastio shut {{ {elements} }}\n"
    return told


def _former() -> frozenset[str]:
    try:
        return frozenset(json.loads(SHUT.read_text())["shut"])
    except FileNotFoundError:
        return frozenset()


def _note(noted: Mapping[str, Any]) -> None:
    making = SHUT.with_suffix(".making")
    making.write_text(json.dumps(noted))
    making.rename(SHUT)


def watch(config: Mapping[str, Any], once: bool) -> None:
    """Looks, and closes and opens what is to be."""
    logs, doors = Path(config["logs"]), config["doors"]
    former, told = _former(), 0.0
    while True:
        disk, now = os.statvfs(logs), time.monotonic()
        left, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        shut: frozenset[str] = frozenset()
        # All is well, nearly always: nobody's files are looked at.
        if former or left < room(total):
            wrote = {it: written(logs, it) for it in doors}
            shut = closed(left, room(total), former, wrote)
        if shut != former or (shut and now - told > AGAIN):
            nft = ["/usr/sbin/nft", "-f", "-"]
            subprocess.run(nft, input=rules([doors[it] for it in shut]), text=True, check=True)
            _note({"left": left, "total": total, "all": shut == doors.keys(),
                   "shut": {it: wrote[it] for it in sorted(shut)}})  # fmt: skip
            told = now
            if shut != former:
                print(
                    f"{left} octets are left; closed: {', '.join(sorted(shut)) or 'none'}",
                    flush=True,
                )
        if once:
            return
        former = shut
        time.sleep(PAUSE)


if __name__ == "__main__":
    watch(json.loads(CONFIG.read_text()), once=sys.argv[1:] == ["once"])
