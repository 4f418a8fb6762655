"""Watch's receiver is stopped, dies, and cannot write, while machines write: every line is accounted for."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from mastio.context import LOGS
from mastio.roles.common.lines import CHECKPOINT, SPOOL, WINDOW
from mastio.site.model import Role
from tests.lab.arrivals import SENDERS, arrived, kept, talk, write
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import remote, the, token
from tests.lab.patience import at_last
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


SENDER = "store"
FLOW = 50
"""Lines a second: few enough that none waits in rsyslog's memory."""
ENDS = {
    "restarted": "systemctl restart rsyslog.service",
    "killed": "systemctl kill -s KILL rsyslog.service; sleep 1; systemctl reset-failed rsyslog.service; "
    "systemctl start rsyslog.service",
}
"""How the sender's rsyslog ends and begins."""
PROGRAM = "/usr/local/lib/mastio/mastio-lines"


@contextmanager
def gone(lab: Lab, how: str) -> Iterator[None]:
    """Watch does not answer: its receiver has ended the connection, or nothing comes from there any more."""
    watch = the(lab, Role.WATCH).name
    addresses = lab.site.machine(SENDER).addresses
    drop = (
        f"nft insert rule inet mastio arrival {'ip' if it.version == 4 else 'ip6'} saddr {it} drop"
        for it in addresses
    )
    away, back = {
        "stopped": (f"systemctl stop {UNITS}", BACK),
        "silent": ("; ".join(drop), "nft -f /etc/nftables.conf"),
    }[how]
    on(lab, watch, away)
    try:
        yield
    finally:
        on(lab, watch, back)


def interrupted(lab: Lab, how: str, end: str) -> tuple[str, int]:
    """Lines that are written before and while watch is gone, and the sender's rsyslog ends; their word and number."""
    word, seconds = token(), 4.0
    talk(lab)
    with ThreadPoolExecutor() as pool:
        count = int(FLOW * seconds)
        writing = pool.submit(remote, lab, SENDER, steady, word=word, count=count, seconds=seconds)
        time.sleep(seconds / 2)
        with gone(lab, how):
            writing.result()
            time.sleep(1)  # all are out of the memory of its main queue
            on(lab, SENDER, ENDS[end])
            time.sleep(1)
    return word, count


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_what_was_on_its_way_when_the_senders_rsyslog_ended_arrives(
    lab: Lab, how: str, end: str
) -> None:
    word, count = interrupted(lab, how, end)
    left = missing(lab, word, count, (SENDER,))
    assert left == {}, left


def test_without_the_program_some_of_it_does_not(lab: Lab) -> None:
    """The control of the test above: lines were on their way, and nothing else brings them."""
    aside = f"mv {PROGRAM} {PROGRAM}.aside"
    try:
        on(lab, SENDER, f"{aside}; printf '#!/bin/sh\\n' >{PROGRAM}; chmod 755 {PROGRAM}")
        word, count = interrupted(lab, "silent", "killed")
        write(lab, SENDER, f"{word} after")
        assert arrived(lab, f"{word} after", 1)
        left = missing(lab, word, count, (SENDER,), patience=1).get(SENDER, 0)
        # On their way, and behind the last state of the queue that was written.
        assert 0 < left <= WINDOW + CHECKPOINT
    finally:
        on(lab, SENDER, f"mv {PROGRAM}.aside {PROGRAM}")


def test_what_waits_on_the_disk_outlives_kills(lab: Lab) -> None:
    """The state of the queue is behind what is in it, each time by another number of lines."""
    talk(lab)
    word, counts = token(), (37, 44, 51, 58)
    with gone(lab, "silent"):
        for number, count in enumerate(counts):
            each = f"{word}{number}"
            remote(lab, SENDER, steady, word=each, count=count, seconds=count / FLOW)
            time.sleep(1)
            on(lab, SENDER, ENDS["killed"])
    for number, count in enumerate(counts):
        left = missing(lab, f"{word}{number}", count, (SENDER,))
        assert left == {}, (number, left)


def test_a_restart_with_a_live_connection_sends_nothing_twice(lab: Lab) -> None:
    talk(lab)
    word, count = token(), 300
    remote(lab, SENDER, steady, word=word, count=count, seconds=1.0)
    assert missing(lab, word, count, (SENDER,)) == {}
    for _ in range(2):
        on(lab, SENDER, ENDS["restarted"])
        write(lab, SENDER, f"{word} after")
    assert len(arrived(lab, f"{word} after", 2)[SENDER]) == 2
    lines = kept(lab, f"{word} line")[SENDER]
    assert len(lines) == count, f"{len(lines) - count} twice"


def test_a_stop_under_load_takes_nothing_of_what_waits_in_memory(lab: Lab) -> None:
    """Lines come faster than the queue on disk takes them: 3,515 of these were gone when the main queue had no file."""
    talk(lab)
    word, count = token(), 30_000
    remote(lab, SENDER, steady, word=word, count=count, seconds=3.0)
    on(lab, SENDER, ENDS["restarted"])
    left = missing(lab, word, count, (SENDER,))
    assert left == {}, left


HOSTILE = (
    "<22>probe: {} first\nsecond",
    "<22>probe: {} nothing \0 there",
    "<22>probe: {} not text \xff\xfe\x1b[31m",
    "<22>probe: {} <22>1 2026-01-01T00:00:00Z firewall liar - - - not me",
    "<22>1 2026-01-01T00:00:00Z firewall liar - - - {} another",
    "<22>probe: {} long " + 60_000 * "x",
)


def raw(words: list[str]) -> None:
    """Write these to the local syslog socket, an octet for each sign."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        one.connect("/dev/log")
        for it in words:
            one.send(it.encode("latin-1"))


def test_lines_that_are_no_lines_come_again_as_they_came(lab: Lab) -> None:
    """Line breaks, NULs, no text, claims to be another machine, 60,000 octets: the same again, under the own name."""
    talk(lab)
    watch, word = the(lab, Role.WATCH).name, token()

    def said(count: int) -> list[bytes]:
        """What watch has, but for when it came; not all of it is text."""
        search = ["grep", "-arF", word, LOGS]
        found = at_last(
            lambda: lab.run(watch, search).stdout.splitlines(),
            lambda it: len(it) >= count, PATIENCE, 1,
        )  # fmt: skip
        assert all(it.startswith(f"{LOGS}/{SENDER}/".encode()) for it in found)
        return sorted(it.partition(b" ")[2] for it in found)

    remote(lab, SENDER, raw, words=[it.format(word) for it in HOSTILE])
    once = said(len(HOSTILE))
    assert len(once) == len(HOSTILE)
    # The state of the queue is written behind these: it is the record that they come from.
    other = token()
    remote(lab, SENDER, steady, word=other, count=CHECKPOINT, seconds=0.5)
    assert missing(lab, other, CHECKPOINT, (SENDER,)) == {}
    on(lab, SENDER, f"rm {SPOOL}/sent-to-*.place")  # as after a power cut
    on(lab, SENDER, ENDS["killed"])
    assert said(2 * len(once)) == sorted(2 * once)
