#!/usr/bin/python3 -IS
"""What neither answers nor is gone is restarted: `mastio-pulse SECONDS UNIT=KIND:WHERE …`, once a minute.

systemd starts again what ends. Of a daemon that hangs (stopped, deadlocked) it knows nothing, and until somebody looks
all mail is told to come later. So each is asked for a sign of life, the least that it answers without work: one that
is merely busy says it, too. Who has not answered MISSES times in a row is restarted, unless it has been up for less
than SECONDS: it may be loading. Each restart in vain doubles those: one that loads for longer comes up in the end.

Ends with 1 while one is still silent after a restart: then this unit has failed, which is an alarm. Standard library
only.
"""

import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

MISSES = 3
TIMEOUT = 10.0
"""Seconds for one answer. All daemons of a machine in turn, and each silent, take less than the minute."""
WARNING, NOTICE = "<4>", "<5>"
"""sd-daemon(3)"""

QUESTIONS: Mapping[str, tuple[bytes, re.Pattern[bytes]]] = {
    # clamd(8): answered by the thread that takes commands, however many scans wait.
    "clamd": (b"zPING\0", re.compile(rb"PONG")),
    # What Postfix begins with: SMFIC_OPTNEG of milter protocol 6, no actions.
    "milter": (struct.pack(">IcIII", 13, b"O", 6, 0, 0), re.compile(rb"(?s)....O")),
    # Reading its file is life, and over by itself; a script that never ends (-BUSY) is none.
    "valkey": (b"PING\r\n", re.compile(rb"\+PONG|-LOADING")),
    # RFC 1035, 4.1. A resolver knows `localhost` by itself (RFC 6761): the internet need not answer.
    "dns": (
        b"\x4d\x41\x01\x00\x00\x01" + b"\0" * 6 + b"\x09localhost\0\x00\x01\x00\x01",
        re.compile(rb"\x4d\x41"),
    ),
}
"""What each kind is asked, and how an answer begins."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """Whom to ask, and where: a unix socket, or of a resolver the port."""

    unit: str
    kind: str
    where: str


@dataclass(frozen=True, slots=True)
class Silence:
    """What is known of a daemon that does not answer."""

    missed: int = 0
    """Looks in a row, since it was restarted if it was."""
    restarts: int = 0
    """In vain so far."""


def daemons(words: list[str]) -> Iterator[Daemon]:
    """`rspamd.service=milter:/run/rspamd/milter.sock`, taken apart."""
    for word in words:
        unit, _, rest = word.partition("=")
        kind, _, where = rest.partition(":")
        yield Daemon(unit, kind, where)


def missed(it: Silence, age: float, young: float) -> Silence:
    """One more look without an answer, of a unit that is up for `age` seconds; restarted if `missed` is 0 then."""
    looks = it.missed + 1
    if looks >= MISSES and age >= young * 2**it.restarts:
        return Silence(0, it.restarts + 1)
    return Silence(looks, it.restarts)


def vain(it: Silence) -> bool:
    """Whether a restart has not helped. The second one is proof of it."""
    return it.restarts > 1 or (it.restarts == 1 and it.missed >= MISSES)


def answers(it: Daemon, timeout: float = TIMEOUT) -> bool:
    """Whether there is a sign of life."""
    question, sign = QUESTIONS[it.kind]
    try:
        with _way(it) as one:
            one.settimeout(timeout)
            one.connect((_resolver(), int(it.where)) if it.kind == "dns" else it.where)
            one.sendall(question)
            return bool(sign.match(one.recv(512)))
    except OSError:
        return False


def _way(it: Daemon) -> socket.socket:
    if it.kind != "dns":
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    family = socket.AF_INET6 if ":" in _resolver() else socket.AF_INET
    return socket.socket(family, socket.SOCK_DGRAM)


def _resolver() -> str:
    """The first that all programs here ask: resolv.conf(5)."""
    lines = Path("/etc/resolv.conf").read_text().splitlines()
    return next((it.split()[1] for it in lines if it.startswith("nameserver ")), "")


def ages(shown: str, now: float) -> dict[str, float]:
    """Of `systemctl show`: for how many seconds each unit is active. What starts, stops or was stopped is not in it."""
    found: dict[str, float] = {}
    for block in shown.strip().split("\n\n"):
        unit = dict(line.partition("=")[::2] for line in block.splitlines())
        if unit.get("ActiveState") == "active":
            found[unit["Id"]] = now - int(unit["ActiveEnterTimestampMonotonic"]) / 1e6
    return found


def main(young: float, asked: list[Daemon], book: Path) -> int:
    """The exit code."""
    known = _read(book)
    argv = ["systemctl", "show", "--property=Id,ActiveState,ActiveEnterTimestampMonotonic"]
    argv += [it.unit for it in asked]
    shown = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    if shown.returncode:
        print(f"{WARNING}systemctl: {shown.stderr.strip()}")
        return 1
    up = ages(shown.stdout, time.monotonic())
    # Looks in a row are of one that is there to be asked.
    known |= {unit: Silence(0, it.restarts) for unit, it in known.items() if unit not in up}
    for daemon in asked:
        unit = daemon.unit
        if unit not in up:
            continue
        before = known.pop(unit, Silence())
        if answers(daemon):
            if before.restarts:
                print(f"{NOTICE}{unit} answers again", flush=True)
            continue
        known[unit] = missed(before, up[unit], young)
        if not known[unit].missed:
            _restart(unit, before.missed + 1)
        if vain(known[unit]) and not vain(before):
            print(f"{WARNING}{unit} does not answer, though it was restarted", flush=True)
    book.write_text(json.dumps({unit: asdict(it) for unit, it in known.items()}))
    return int(any(vain(it) for unit, it in known.items() if unit in up))


def _restart(unit: str, minutes: int) -> None:
    # Not waited for: one that does not end either is killed when its TimeoutStopSec= is over (systemd.service(5)).
    argv = ["systemctl", "--no-block", "restart", unit]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    outcome = f"cannot be restarted: {done.stderr.strip()}" if done.returncode else "restarted"
    print(f"{WARNING}{unit} has not answered for {minutes} minutes: {outcome}", flush=True)


def _read(book: Path) -> dict[str, Silence]:
    try:
        return {unit: Silence(**it) for unit, it in json.loads(book.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # the first look since the machine is up


if __name__ == "__main__":
    book = Path(os.environ["RUNTIME_DIRECTORY"], "silent")
    sys.exit(main(float(sys.argv[1]), list(daemons(sys.argv[2:])), book))
