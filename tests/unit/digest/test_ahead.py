"""Several processes read a log as one does: messages, novelties and greylisted mail that begin in one piece and end in another."""

import json
import os
from ipaddress import ip_address
from multiprocessing import Pipe, active_children, get_context
from pathlib import Path
from typing import Any

import pytest
from bench import loglines

from mastio.digest import ahead, keeping, lines
from mastio.digest.keeping import Keeping
from mastio.digest.lines import Reader
from mastio.digest.origins import Origins
from tests.unit.digest.lines import DAY, refusal

LINES, PIECE = 20_000, 1 << 18
# Watch's process has one thread; the tests' may have another, which Python 3.12 and later warn of.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some pieces of a day of a busy site."""
    place = tmp_path_factory.mktemp("day")
    loglines.write(place, LINES, 1)
    return place / "ours"


@pytest.fixture(scope="module")
def written(logs: Path) -> int:
    """How many lines they are: the last event goes a little beyond what was asked for."""
    return sum(it.read_bytes().count(b"\n") for it in logs.glob("*/*.log"))


def read(folder: Path, logs: Path, workers: int) -> tuple[int, dict[str, Any]]:
    lines = Keeping(folder).advance(logs, workers=workers, piece=PIECE)
    kept = {it.name: json.loads(it.read_text()) for it in sorted(folder.rglob("*.json"))}
    return lines, kept


def test_the_result_is_that_of_one_process(tmp_path: Path, logs: Path, written: int) -> None:
    (log,) = (logs / "gateway").iterdir()
    assert len(ahead.bounds(log, 0, log.stat().st_size, PIECE)) > 8
    one = read(tmp_path / "one", logs, 1)
    assert one[1]["state.json"]["memory"]["shapes"] and one[0] == written
    assert read(tmp_path / "several", logs, 3) == one


def test_each_process_knows_what_addresses_count_as(tmp_path: Path, logs: Path) -> None:
    webmail, known = Origins((ip_address("10.77.2.10"),)), {}
    for workers in (1, 3):
        for own in (None, webmail):
            folder = tmp_path / f"{workers} {own is None}"
            Keeping(folder).advance(logs, (), own, workers=workers, piece=PIECE)
            state = json.loads((folder / "state.json").read_text())
            known[workers, own] = state["memory"]["networks"]
    assert known[1, None] == known[3, None] and known[1, webmail] == known[3, webmail]
    assert "10.77.2.0/24" in json.dumps(known[3, None])
    assert "10.77.2.0/24" not in json.dumps(known[3, webmail])


@pytest.mark.parametrize("workers", [1, 3])
def test_a_log_longer_than_a_step_is_read_to_its_end(
    tmp_path: Path, logs: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = read(tmp_path / "one", logs, 1)
    monkeypatch.setattr(keeping, "_STEP", 3 * PIECE)
    lines, kept = read(tmp_path / "steps", logs, workers)
    assert (lines, kept["state.json"]["files"]) == (one[0], one[1]["state.json"]["files"])
    assert kept["state.json"]["step"] > 3
    assert hours(tmp_path / "steps") == hours(tmp_path / "one")


def test_what_is_remembered_has_its_bound(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(tmp_path / "free", logs, 3)
    had = json.loads((tmp_path / "free" / "state.json").read_text())["memory"]
    assert len(had["waiting"]) > 40
    monkeypatch.setattr(lines, "LIVE", 40)
    read(tmp_path / "bound", logs, 3)
    has = json.loads((tmp_path / "bound" / "state.json").read_text())["memory"]
    assert 0 < len(has["waiting"]) <= 40 and len(has["live"]["gateway"]) <= 40


def test_what_hangs_on_an_earlier_piece_is_done_later(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = read(tmp_path / "one", logs, 1)
    monkeypatch.setattr(Reader, "catch_up", lambda *_: None)
    _, kept = read(tmp_path / "several", logs, 3)
    assert kept != one[1]


def test_a_worker_that_dies_leaves_nothing_half_counted(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(ahead, "_work", lambda *_: os._exit(9))
        with pytest.raises(OSError, match=r"webmail/.*\.log has died"):
            read(tmp_path / "several", logs, 3)
    assert not active_children()
    assert (
        read(tmp_path / "several", logs, 3)[1].keys() == read(tmp_path / "one", logs, 1)[1].keys()
    )
    assert hours(tmp_path / "several") == hours(tmp_path / "one")


def test_workers_end_with_the_log_and_with_who_asks(tmp_path: Path, logs: Path) -> None:
    read(tmp_path, logs, 3)
    assert not active_children()
    ours, its = Pipe()
    worker = get_context("fork").Process(
        target=ahead._work, args=(its, [ours], keeping.blocks, Origins())
    )
    worker.start()
    its.close()
    ours.close()
    worker.join(10)
    assert worker.exitcode == 0


def hours(folder: Path) -> list[Any]:
    return [json.loads(it.read_text())["summary"] for it in sorted((folder / "hours").iterdir())]


def test_a_piece_begins_with_a_line_that_says_its_hour(tmp_path: Path) -> None:
    log = tmp_path / f"{DAY}.log"
    some = refusal("Relay access denied")
    log.write_bytes(some + b"rubbish\n" * 3 + some + b"no end")
    size = log.stat().st_size
    assert ahead.bounds(log, 0, size, 5) == [0, len(some) + 24, size]
    assert ahead.bounds(log, 0, size, size) == [0, size]
    log.write_bytes(b"rubbish\n" * 9)
    assert ahead.bounds(log, 0, 72, 10) == [0, 72]


def test_only_what_is_long_is_shared(
    tmp_path: Path, logs: Path, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "pieces_of", None)
    assert Keeping(tmp_path).advance(logs, workers=4) == written
