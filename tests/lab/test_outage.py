"""Watch's receiver is stopped, dies, and cannot write, while machines write: every line is accounted for."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mastio.context import LOGS
from mastio.site.model import Role
from tests.lab.arrivals import SENDERS
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import remote, the, token
from tests.lab.sabotage import on

pytestmark = pytest.mark.lab

COUNT, SECONDS = 4000, 6.0
PATIENCE = 400
UNITS = "syslog.socket rsyslog.service"
BACK = f"systemctl reset-failed rsyslog.service; systemctl start {UNITS}"
AWAY = (
    f"systemctl stop {UNITS}; sleep 2; systemctl start {UNITS}; "
    "for i in 1 2 3; do sleep 0.7; systemctl kill -s KILL rsyslog.service; done"
)
"""What happens to it meanwhile: it dies while it catches up, too. systemd starts again what dies."""


def steady(word: str, count: int, seconds: float, padding: int = 0) -> None:
    """Write that many numbered lines over some time, each with `padding`; who cannot write waits."""
    import socket
    import time

    began = time.monotonic()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.connect("/dev/log")
        for number in range(count):
            one.send(f"<22>probe: {word} line {number:05}.{'x' * padding}".encode())
            time.sleep(max(0.0, began + seconds * number / count - time.monotonic()))


def missing(
    lab: Lab, word: str, count: int = COUNT, senders: tuple[str, ...] = SENDERS,
    patience: float = PATIENCE,
) -> dict[str, int]:  # fmt: skip
    """How many of each machine's lines are not on watch, after a while. Some come twice (docs/decisions/0032)."""
    watch, end = the(lab, Role.WATCH).name, time.monotonic() + patience
    while True:
        found = {}
        for name in senders:
            search = f"grep -hoE '{word} line [0-9]{{5}}\\.' {LOGS}/{name}/*.log || true"
            if left := count - len(set(on(lab, watch, search).splitlines())):
                found[name] = left
        if not found or time.monotonic() > end:
            return found
        time.sleep(2)


def test_every_line_is_accounted_for(lab: Lab) -> None:
    watch, word = the(lab, Role.WATCH).name, token()
    with ThreadPoolExecutor() as pool:
        writing = [
            pool.submit(remote, lab, it, steady, word=word, count=COUNT, seconds=SECONDS)
            for it in SENDERS
        ]
        time.sleep(2)
        assert not all(it.done() for it in writing)
        try:
            on(lab, watch, AWAY)
        finally:
            on(lab, watch, BACK)
        for it in writing:
            it.result()
    left = missing(lab, word)
    assert left == {}, left


def test_no_line_is_said_to_be_there_before_it_is_written(lab: Lab) -> None:
    """A receiver that cannot write (its file is a pipe that nobody reads) is killed: its sender has all it had."""
    watch, word, count, sender = the(lab, Role.WATCH).name, token(), 300, "store"
    file = f"{LOGS}/{sender}/$(date +%F).log"
    anew = "systemctl kill -s HUP rsyslog.service"
    try:
        on(lab, watch, f"mv {file} {file}.aside; mkfifo {file}; {anew}")
        remote(lab, sender, steady, word=word, count=count, seconds=1.0)
        time.sleep(2)  # as many as go are on their way
    finally:
        # It does not begin anew on the pipe.
        on(lab, watch, f"rm {file}; mv {file}.aside {file}; systemctl kill -s KILL rsyslog.service")
        on(lab, watch, BACK)
    left = missing(lab, word, count, (sender,))
    assert left == {}, left
