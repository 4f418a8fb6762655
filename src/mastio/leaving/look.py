"""Looks what a machine holds that could be lost; changes nothing. A program of its own, standard library only.

It finds a JSON object as its global `PAYLOAD`: `postfix`, for each Postfix that may be there its configuration's folder
and its queue's; `vmail`, where mailboxes are; `trees`, what may stay on the disk. It prints JSON: `ours` (whether
mastio built it), `waiting` (a line for each message in the queue), `messages` and `newest` (mail in mailboxes, and when
the last came), `left` (tree → octets), `moved` (when all of it went to other machines, by `mastio move`; 0: never),
`books` (whether a watch's logs and archives went as well).
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

MOVED = "/var/lib/mastio/moved.json"
"""Left by `mastio.moving`: when (seconds), and whither."""
_QUEUE = "/usr/sbin/postqueue"
_FOLDERS = ("maildrop", "incoming", "active", "deferred", "hold")


def waiting(config: str, queue: str) -> list[str]:
    """Each message in a Postfix's queue: its number, for whom, and why it waits."""
    if not Path(_QUEUE).exists() or not Path(f"{config}/main.cf").exists():
        return []
    argv = [_QUEUE, "-c", config, "-j"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        # With Postfix stopped, what waits is in the folders.
        return [
            f"{it.name} ({name})"
            for name in _FOLDERS
            for it in Path(queue, name).rglob("*")
            if it.is_file()
        ]
    found = []
    for line in done.stdout.splitlines():
        row = json.loads(line)
        people = [it["address"] for it in row["recipients"]]
        why = next((it["delay_reason"] for it in row["recipients"] if it.get("delay_reason")), "")
        found.append(f"{row['queue_id']} for {', '.join(people[:3])}: {why or row['queue_name']}")
    return found


def mail(top: str) -> tuple[int, float]:
    """How many messages lie in Maildirs, and when the last one came."""
    count, newest = 0, 0.0
    for folder, _, files in os.walk(top):
        if Path(folder).name in ("new", "cur"):
            for name in files:
                count += 1
                with suppress(FileNotFoundError):
                    newest = max(newest, (Path(folder) / name).stat().st_ctime)
    return count, newest


def size(top: str) -> int:
    """Octets of the files below."""
    total = 0
    for folder, _, files in os.walk(top):
        for name in files:
            with suppress(FileNotFoundError):
                total += (Path(folder) / name).lstat().st_size
    return total


def main(order: dict[str, Any]) -> None:
    """Prints all of it."""
    count, newest = mail(order["vmail"])
    moved: dict[str, Any] = {"at": 0.0, "watch": False}
    with suppress(FileNotFoundError):
        moved |= json.loads(Path(MOVED).read_text())
    found = {
        "ours": Path("/var/lib/mastio/apply").exists(),
        "waiting": [it for config, queue in order["postfix"] for it in waiting(config, queue)],
        "messages": count,
        "newest": newest,
        "left": {it: octets for it in order["trees"] if (octets := size(it))},
        "moved": moved["at"],
        "books": moved["watch"],
    }
    json.dump(found, sys.stdout)


if "PAYLOAD" in globals():
    main(json.loads(globals()["PAYLOAD"]))
