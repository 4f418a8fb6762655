"""Lines that the machines write, and where they arrive on watch."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from operator import not_

from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import token
from tests.lab.patience import at_last

SENDERS = ("firewall", "gateway", "store", "webmail")
REMOTE = "/var/log/remote"
PROMISE = 5
"""Within so many seconds a line is on watch."""
PATIENCE = 200
"""How long a line is waited for where it is not the time that matters, in seconds; it needs one, or some 130 when a
connection has died without a word."""


def write(lab: Lab, machine: str, text: str, *options: str) -> None:
    assert lab.run(machine, ["logger", *options, "--", text]).code == 0


def kept(lab: Lab, word: str) -> dict[str, list[str]]:
    """The lines with `word` on watch, by the folder that they are in."""
    found: dict[str, list[str]] = {}
    listing = lab.run("watch", ["grep", "-rF", "--", word, REMOTE]).stdout.decode()
    for line in listing.splitlines():
        path, _, text = line.partition(":")
        found.setdefault(path.removeprefix(f"{REMOTE}/").partition("/")[0], []).append(text)
    return found


def arrived(lab: Lab, word: str, count: int, patience: float = PATIENCE) -> dict[str, list[str]]:
    """`kept`, as soon as there are `count` lines or patience ends."""
    return at_last(
        lambda: kept(lab, word), lambda it: sum(map(len, it.values())) >= count, patience, 0.2
    )


def talk(lab: Lab) -> None:
    """Has each machine write until its lines arrive, whatever was cut before.

    A sender learns that a connection is dead when it has the next line to send and nothing comes back
    (some 100 s, rsyslog.conf.j2). On a site the sign of life of each minute is that line; a lab has none.
    """
    word, end, waiting = token(), time.monotonic() + 400, set(SENDERS)
    while waiting:
        assert time.monotonic() < end, f"nothing arrives from {waiting}"
        for machine in waiting:
            write(lab, machine, f"sign of life {word}")
        waiting -= set(arrived(lab, word, len(SENDERS), 3))


def many(word: str, count: int) -> None:
    """Write that many numbered lines to the local syslog socket."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.connect("/dev/log")
        for number in range(count):
            one.send(f"<22>probe: {word} line {number:05}.".encode())


def complete(lab: Lab, word: str, count: int, patience: float = PATIENCE) -> set[int]:
    """Which of `many` lines are missing on watch, when they are all there or patience ends."""

    def missing() -> set[int]:
        lines = kept(lab, word).get("store", [])
        return set(range(count)) - {int(it.rpartition("line ")[2].rstrip(".")) for it in lines}

    return at_last(missing, not_, patience, 1)


@contextmanager
def held_up(lab: Lab, machine: str) -> Iterator[None]:
    """The machine's rsyslog does not get its turn, as when it is busy."""
    try:
        assert lab.run(machine, ["systemctl", "kill", "-s", "STOP", "rsyslog"]).code == 0
        yield
    finally:
        assert lab.run(machine, ["systemctl", "kill", "-s", "CONT", "rsyslog"]).code == 0
