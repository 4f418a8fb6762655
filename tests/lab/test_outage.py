"""Watch's receiver is stopped, and dies, while all machines write: every line is accounted for."""

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
PATIENCE = 90
UNITS = "syslog.socket rsyslog.service"
AWAY = (
    f"systemctl stop {UNITS}; sleep 2; systemctl start {UNITS}; "
    "for i in 1 2 3; do sleep 0.7; systemctl kill -s KILL rsyslog.service; done"
)
"""What happens to it meanwhile: it dies while it catches up, too. systemd starts again what dies."""


def steady(word: str, count: int, seconds: float) -> None:
    """Write that many numbered lines over some time; who cannot write waits."""
    import socket
    import time

    began = time.monotonic()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.connect("/dev/log")
        for number in range(count):
            one.send(f"<22>probe: {word} line {number:05}.".encode())
            time.sleep(max(0.0, began + seconds * number / count - time.monotonic()))


def missing(lab: Lab, word: str) -> dict[str, int]:
    """How many of each machine's lines are not on watch. Some come twice (docs/decisions/0032)."""
    watch, found = the(lab, Role.WATCH).name, {}
    for name in SENDERS:
        search = f"grep -hoE '{word} line [0-9]{{5}}\\.' {LOGS}/{name}/*.log || true"
        numbers = set(on(lab, watch, search).splitlines())
        if left := COUNT - len(numbers):
            found[name] = left
    return found


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
            on(lab, watch, f"systemctl reset-failed rsyslog.service; systemctl start {UNITS}")
        for it in writing:
            it.result()
    end = time.monotonic() + PATIENCE
    while (left := missing(lab, word)) and time.monotonic() < end:
        time.sleep(2)
    assert left == {}, left
