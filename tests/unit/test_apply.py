"""Driving many agents at once: side by side, each for itself, and patient with Ctrl-C."""

import json
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from threading import Barrier, Timer

import pytest

from mastio.agent.wire import Event
from mastio.apply import Planned, apply_all
from mastio.errors import Exit, MastioError
from mastio.hearing import MOST
from mastio.plan import diff
from mastio.state import File, HostState
from mastio.transport import Transport, unavailable
from tests.simulated import asked, blank

STATE = HostState(files=(File("/etc/a", "a"),))


def event(step: str, **changes: object) -> bytes:
    return json.dumps(
        {"step": step, "words": "", "done": False, "ok": True, "confirm": False, **changes}
    ).encode()


class Played(Transport):
    """Machines that say their lines; the line None is a pause until `pause` seconds are over."""

    def __init__(self, *lines: bytes | None, pause: float = 0.0, lost: bool = False) -> None:
        self._lines, self._pause, self._lost = lines, pause, lost
        self.together = Barrier(1)

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        return ["true"]

    def stream_python(
        self, machine: str, source: str, payload: bytes, rest: Iterable[bytes] = (), most: int | None = MOST
    ) -> Iterator[bytes]:  # fmt: skip
        self.together.wait(5)
        for line in self._lines:
            if line is None:
                time.sleep(self._pause)
            else:
                yield line
        if self._lost:
            raise unavailable(machine, "gone")


def planned(*machines: str) -> dict[str, Planned]:
    seen = asked(blank(), STATE)
    return {machine: Planned(STATE, seen, diff(STATE, seen)) for machine in machines}


def heard(events: list[tuple[str, str]], machine: str, said: Event) -> None:
    events.append((machine, said["step"]))


def test_machines_work_side_by_side_and_report_as_they_go() -> None:
    transport = Played(event("switch"), event("finish", done=True))
    transport.together = Barrier(2)
    events: list[tuple[str, str]] = []
    outcomes = apply_all(transport, planned("a", "b"), lambda *said: heard(events, *said))
    assert [outcome.ok for outcome in outcomes.values()] == [True, True]
    assert sorted(events) == [("a", "switch"), ("b", "switch")]


def test_what_breaks_after_the_last_word_changes_nothing_before_it_everything() -> None:
    done = Played(event("finish", done=True), lost=True)
    assert apply_all(done, planned("a"), lambda *_: None)["a"].ok
    broken = apply_all(Played(event("switch"), lost=True), planned("a"), lambda *_: None)["a"]
    assert not broken.ok
    assert broken.code is Exit.UNAVAILABLE
    silent = apply_all(Played(), planned("a"), lambda *_: None)["a"]
    assert "ended without a word" in silent.words


def test_ctrl_c_waits_for_the_machines_to_end() -> None:
    transport = Played(event("switch"), None, event("finish", done=True), pause=0.6)
    events: list[tuple[str, str]] = []
    Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    outcomes = apply_all(transport, planned("a"), lambda *said: heard(events, *said))
    assert outcomes["a"].ok
    assert ("", "interrupt") in events


def test_a_second_ctrl_c_leaves_them_to_themselves() -> None:
    transport = Played(None, event("finish", done=True), pause=3)
    for delay in (0.2, 0.8):
        Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(MastioError, match="left while still at work: a") as caught:
        apply_all(transport, planned("a"), lambda *_: None)
    assert caught.value.code is Exit.INTERRUPTED


def test_where_somebody_listens_for_ctrl_c_already_it_is_theirs() -> None:
    transport = Played(event("switch"), None, event("finish", done=True), pause=0.6)
    events: list[tuple[str, str]] = []
    theirs: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, _: theirs.append(number))
    try:
        Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        outcomes = apply_all(transport, planned("a"), lambda *said: heard(events, *said))
    finally:
        signal.signal(signal.SIGINT, former)
    assert outcomes["a"].ok and theirs == [signal.SIGINT]
    assert ("", "interrupt") not in events
