#!/usr/bin/python3 -IS
"""Mail that waits for the store goes on as soon as the store is back: `mastio-onward STORE PORT`, once a minute.

Postfix tries what waits again after as long as it has waited already (qmgr(8), minimal and maximal_backoff_time):
polite towards strangers; but after an hour without the store, mail would come half an hour after it. So while mail
waits because of STORE, this asks whether it answers, and if so has that mail tried at once. Standard library only.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

MANY = 100
"""From so many messages on the whole queue is tried: one command instead of one for each."""
SECONDS = 10


def waiting(queue: Iterable[str], store: str) -> Iterator[str]:
    """The ids of what waits because of the store, from `postqueue -j` (postqueue(1), JSON object format)."""
    for line in queue:
        entry: dict[str, Any] = json.loads(line)
        reasons = (it.get("delay_reason", "") for it in entry["recipients"])
        if entry["queue_name"] == "deferred" and any(store in it for it in reasons):
            yield entry["queue_id"]


def answers(store: str, port: int) -> bool:
    """Whether an SMTP server greets there."""
    try:
        with socket.create_connection((store, port), timeout=SECONDS) as one:
            one.settimeout(SECONDS)
            greeting = one.recv(512)
            one.sendall(b"QUIT\r\n")
            one.recv(512)
    except OSError:
        return False
    return greeting.startswith(b"220")


def main(store: str, port: int) -> int:
    """The exit code."""
    if not any(files for _, _, files in os.walk("/var/spool/postfix/deferred")):
        return 0
    argv = ["postqueue", "-j"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    ids = [] if done.returncode else list(waiting(done.stdout.splitlines(), store))
    if not ids or not answers(store, port):
        return 0
    orders = [["-f"]] if len(ids) >= MANY else [["-i", it] for it in ids]
    for order in orders:
        subprocess.run(["postqueue", *order], timeout=60, check=False)
    print(f"{store} answers: {len(ids)} messages that waited for it are tried")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
