"""The logbook: only new text is read, an alarm is raised once, and once more when it is well again."""

import time
from pathlib import Path
from typing import Any

import pytest

from mastio.logs import life
from mastio.watch.logbook import listen, news, waiting

NOW = 1_795_558_000.0
DAY = time.strftime("%Y-%m-%d", time.localtime(NOW))


def stamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000+00:00", time.gmtime(at))


def write(logs: Path, machine: str, number: int, at: float, tag: str = life.TAG) -> None:
    (logs / machine).mkdir(exist_ok=True)
    with (logs / machine / f"{DAY}.log").open("a") as file:
        file.write(
            f"{stamp(at)} {machine} {stamp(at)} daemon.notice {tag}: boot=4b39fe19-481c seq={number} "
            f"up={at - NOW + 100:.2f} clock={at:.3f}\n"
        )


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for number in range(1, 4):
        write(tmp_path, "gateway", number, NOW - 180 + number * 60)
        write(tmp_path, "store", number, NOW - 180 + number * 60)
    return tmp_path


BOTH = ("gateway", "store")


def test_all_is_well(logs: Path) -> None:
    assert listen(logs, {}, BOTH, NOW + 1) == {}


def test_only_what_is_new_is_read(logs: Path) -> None:
    state: dict[str, Any] = {}
    listen(logs, state, BOTH, NOW + 1)
    path = logs / "gateway" / f"{DAY}.log"
    size = path.stat().st_size
    assert state["offsets"][f"gateway/{DAY}.log"] == size
    # What was read is not read again: it may be anything by now.
    path.write_bytes(b"x" * size)
    write(logs, "gateway", 4, NOW + 60)
    write(logs, "store", 4, NOW + 60)
    assert listen(logs, state, BOTH, NOW + 61) == {}
    assert state["heard"]["gateway"]["number"] == 4


def test_a_line_that_is_not_whole_waits(logs: Path) -> None:
    state: dict[str, Any] = {}
    write(logs, "gateway", 4, NOW)
    path = logs / "gateway" / f"{DAY}.log"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    listen(logs, state, BOTH, NOW + 1)
    assert state["heard"]["gateway"]["number"] == 3
    path.write_bytes(whole)
    listen(logs, state, BOTH, NOW + 2)
    assert state["heard"]["gateway"]["number"] == 4


def test_silence_gap_and_clock(logs: Path) -> None:
    state: dict[str, Any] = {}
    listen(logs, state, (*BOTH, "webmail"), NOW + 1)
    for minute in range(2, 8):
        write(logs, "gateway", 3 + minute, NOW + minute * 60)
        listen(logs, state, (*BOTH, "webmail"), NOW + minute * 60 + 1)
    wrong = listen(logs, state, (*BOTH, "webmail"), NOW + 7 * 60 + 2)
    assert wrong.keys() == {"gateway gap", "store silent", "webmail silent"}


@pytest.mark.parametrize("number", ["9" * 5000, "1e999", "-1", "nan"])
def test_a_line_that_is_no_sign_hides_none_after_it(logs: Path, number: str) -> None:
    state: dict[str, Any] = {}
    with (logs / "gateway" / f"{DAY}.log").open("a") as file:
        for text in (f"seq={number} up=1 clock=1", f"seq=1 up={number} clock={number}"):
            head = f"{stamp(NOW)} gateway {stamp(NOW)} daemon.notice {life.TAG}:"
            file.write(f"{head} boot=4b39fe19-481c {text}\n")
    write(logs, "gateway", 9, NOW + 1)
    write(logs, "store", 9, NOW + 1)
    listen(logs, state, BOTH, NOW + 2)
    assert [state["heard"][it]["number"] for it in BOTH] == [9, 9]
    assert listen(logs, state, BOTH, NOW + 90).keys() == {"gateway gap", "store gap"}


def test_a_clock_that_is_set_with_each_sign_is_told_once(logs: Path) -> None:
    state: dict[str, Any] = {}
    with (logs / "gateway" / f"{DAY}.log").open("a") as file:
        for number in range(4, 100):
            head = f"{stamp(NOW)} gateway {stamp(NOW)} daemon.notice {life.TAG}:"
            file.write(f"{head} boot=4b39fe19-481c seq={number} up=1 clock={number**3}\n")
    wrong = listen(logs, state, BOTH, NOW + 1)
    assert wrong["gateway clock set"] == f"its clock was set forward by {99**3 - 98**3} seconds"
    assert len(state["events"]) == 1


def test_a_tag_within_a_text_is_no_sign(logs: Path) -> None:
    state: dict[str, Any] = {}
    write(logs, "gateway", 900, NOW, tag=f"liar: {life.TAG}")
    listen(logs, state, BOTH, NOW + 1)
    assert state["heard"]["gateway"]["number"] == 3


def test_an_alarm_is_raised_once_and_once_more_when_it_is_well() -> None:
    silent = {"store silent": "no sign of life for 6 minutes"}
    first = news("site", "logs (life)", {}, silent, NOW)
    assert first and first.subject == "[site] logs are NOT as they should be: store silent"
    assert (
        news("site", "logs (life)", silent, {"store silent": "no sign of life for 9 minutes"}, NOW)
        is None
    )
    again = news("site", "logs (life)", silent, {}, NOW)
    assert again and again.subject == "[site] logs are well again: store silent"
    assert again.verdict == "passed"
    assert news("site", "logs (life)", {}, {}, NOW) is None
    many = news("site", "logs (life)", {}, {f"m{it} silent": "x" for it in range(5)}, NOW)
    assert many and many.subject.endswith("m0 silent, m1 silent, m2 silent and 2 more")


def shut(**changes: Any) -> dict[str, str]:
    noted = {"left": 30, "total": 1000, "all": False, "shut": {"store": 3_100_000_000}}
    return waiting({**noted, **changes})


def test_whose_lines_wait_why_and_how_much_it_wrote() -> None:
    assert waiting({}) == {} and shut(shut={}) == {}
    (words,) = shut().values()
    for part in ("wait there", "3.0% left", "it has written most", "3.1 GB", "make room on watch"):
        assert part in words
    both = shut(all=True, shut={"gateway": 5, "store": 9})
    assert {*both} == {*BOTH} and "all doors are closed" in both["gateway"]


def test_whose_door_is_closed_is_not_silent_and_may_come_late(logs: Path) -> None:
    state: dict[str, Any] = {}
    listen(logs, state, BOTH, NOW + 1)
    sent = 3

    def look(minute: int, closed: tuple[str, ...] = ()) -> dict[str, str]:
        """The gateway goes on all the time."""
        nonlocal sent
        sent += 1
        write(logs, "gateway", sent, NOW + minute * 60)
        return listen(logs, state, BOTH, NOW + minute * 60 + 1, closed)

    assert not any(look(minute, ("store",)) for minute in range(1, 11))
    # It is open, and what waited comes: ten minutes late, and one by one, as a flood lets it through.
    for number, minute in ((4, 11.0), (5, 11.8), (6, 12.6)):
        late(logs, number, written=NOW + (number - 3) * 60, at=NOW + minute * 60)
    assert look(13) == {}
    # Silent all the same, from when it could have come.
    wrong = [look(minute) for minute in range(14, 19)]
    assert {*wrong[-1]} == {"store silent"} and not any(wrong[:-1])


def test_a_clock_that_is_behind_without_a_door_that_was_closed_is_told(logs: Path) -> None:
    state: dict[str, Any] = {}
    listen(logs, state, BOTH, NOW + 1)
    for number, minute in ((4, 1), (5, 2)):
        late(logs, number, written=NOW + minute * 60 - 100, at=NOW + minute * 60)
        write(logs, "gateway", number, NOW + minute * 60)
    assert "store clock" in listen(logs, state, BOTH, NOW + 121)


def test_who_was_silent_before_the_doors_were_closed_is_so_still(logs: Path) -> None:
    state: dict[str, Any] = {}
    listen(logs, state, BOTH, NOW + 1)
    for minute, closed in ((4, ()), (7, ()), (10, BOTH), (11, BOTH)):
        write(logs, "gateway", 3 + minute, NOW + minute * 60)
        wrong = listen(logs, state, BOTH, NOW + minute * 60 + 1, closed)
        assert ("store silent" in wrong) is (minute >= 7)


@pytest.mark.parametrize("before", [True, False])
def test_a_door_that_was_closed_hides_no_clock_for_ever(logs: Path, before: bool) -> None:
    state: dict[str, Any] = {}
    listen(logs, state, BOTH, NOW + 1)
    number = 3

    def look(minute: int, behind: float, closed: tuple[str, ...] = ()) -> bool:
        """Whether the store's clock is told to be wrong."""
        nonlocal number
        number += 1
        at = NOW + minute * 60
        if not closed:
            late(logs, number, written=at - behind, at=at)
        return "store clock" in listen(logs, state, BOTH, at + 1, closed)

    told = [look(minute, 100 if before else 0) for minute in range(1, 4)]
    assert told == [False, before, before]
    assert [look(minute, 0, ("store",)) for minute in range(4, 8)] == [before] * 4
    assert [look(minute, 100) for minute in range(8, 12)] == [before] * 4
    # Nothing waits for that long: it is the clock.
    assert look(8 + 24 * 60, 100) and look(9 + 24 * 60, 100)


def late(logs: Path, number: int, written: float, at: float) -> None:
    """A sign of the store that comes later than it was written."""
    with (logs / "store" / f"{DAY}.log").open("a") as file:
        file.write(
            f"{stamp(at)} store {stamp(written)} daemon.notice {life.TAG}: boot=4b39fe19-481c seq={number} "
            f"up={written - NOW + 100:.2f} clock={written:.3f}\n"
        )
