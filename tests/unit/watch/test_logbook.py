"""The logbook: only new text is read, an alarm is raised once, and once more when it is well again."""

import time
from pathlib import Path
from typing import Any

import pytest

from mastio.logs import life
from mastio.watch.logbook import listen, news

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
