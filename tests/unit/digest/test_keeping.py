"""Nothing is read twice, nothing is left out: offsets, torn lines, crashes, changed files."""

import json
from pathlib import Path

import pytest

from mastio.digest import keeping
from mastio.digest.keeping import Keeping
from mastio.digest.summary import Summary, merged
from tests.unit.digest.lines import DAY, DELIVERED, line

GATEWAY = b"".join(it for it in DELIVERED if b" gateway " in it)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "logs" / "gateway").mkdir(parents=True)
    return tmp_path / "logs"


def put(logs: Path, content: bytes, machine: str = "gateway") -> Path:
    path = logs / machine / f"{DAY}.log"
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.write(content)
    return path


def whole(folder: Path) -> Summary:
    return merged(keeping.load(folder, *keeping.hours_of(DAY)).values())


def test_each_line_once(tmp_path: Path, logs: Path) -> None:
    folder = tmp_path / "kept"
    put(logs, GATEWAY)
    assert Keeping(folder).advance(logs) == 9
    assert Keeping(folder).advance(logs) == 0
    once = whole(folder)
    put(logs, GATEWAY)
    assert Keeping(folder).advance(logs) == 9
    assert whole(folder).count("mail.in") == 2 == 2 * once.count("mail.in")
    assert whole(folder).time("store/smtp").number == 2


def test_a_torn_line_is_read_when_it_has_ended(tmp_path: Path, logs: Path) -> None:
    folder = tmp_path / "kept"
    put(logs, GATEWAY[:-20])
    assert Keeping(folder).advance(logs) == 8
    put(logs, GATEWAY[-20:])
    assert Keeping(folder).advance(logs) == 1
    other = tmp_path / "other"
    assert Keeping(other).advance(logs) == 9
    assert whole(folder) == whole(other)
    assert whole(folder).count("reading.unreadable") == 0


def test_a_message_goes_on_where_the_last_run_ended(tmp_path: Path, logs: Path) -> None:
    folder = tmp_path / "kept"
    for part in GATEWAY.splitlines(keepends=True):
        put(logs, part)
        Keeping(folder).advance(logs)
    assert whole(folder).count("sent bytes.store/smtp") == 876
    assert whole(folder).count("mail.in") == 1


@pytest.mark.parametrize("done", ["nothing", "an hour", "all but the end"])
def test_a_step_that_crashed_is_finished_and_counts_once(
    tmp_path: Path, logs: Path, done: str
) -> None:
    folder = tmp_path / "kept"
    put(logs, GATEWAY)
    Keeping(folder).advance(logs)
    state = json.loads((folder / "state.json").read_text())
    hour = folder / "hours" / f"{DAY}T21.json"
    old = hour.read_text()
    put(logs, GATEWAY)
    Keeping(folder).advance(logs)
    # That very step, as it was put down, and how far it got.
    step = json.loads((folder / "state.json").read_text())
    summary = json.loads(hour.read_text())["summary"]
    delta = json.loads(old)["summary"]
    (folder / "pending.json").write_text(json.dumps({"state": step, "hours": {hour.stem: delta}}))
    if done == "nothing":
        hour.write_text(old)
        (folder / "state.json").write_text(json.dumps(state))
    elif done == "an hour":
        (folder / "state.json").write_text(json.dumps(state))
    assert Keeping(folder).advance(logs) == 0
    assert json.loads(hour.read_text())["summary"] == summary
    assert not (folder / "pending.json").exists()


def test_a_changed_file_is_told_and_not_read_again(tmp_path: Path, logs: Path) -> None:
    folder = tmp_path / "kept"
    path = put(logs, GATEWAY)
    Keeping(folder).advance(logs)
    path.write_bytes(GATEWAY[:500])
    Keeping(folder).advance(logs)
    found = merged(keeping.load(folder, "2000", "9999").values())
    assert found.count("trouble.a log file was changed") == 1
    assert found.count("mail.in") == 1
    Keeping(folder).advance(logs)
    assert merged(keeping.load(folder, "2000", "9999").values()) == found


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path, logs: Path) -> None:
    put(logs, b"x" * (6 << 20) + b"\n" + GATEWAY)
    Keeping(tmp_path / "kept").advance(logs)
    found = merged(keeping.load(tmp_path / "kept", "0000", "9999").values())
    assert found.count("mail.in") == 1 and found.count("reading.unreadable") >= 1


def test_old_files_go_and_their_summaries_stay(tmp_path: Path, logs: Path) -> None:
    folder = tmp_path / "kept"
    path = put(logs, GATEWAY)
    put(logs, line("store", "dovecot", "lmtp(1): Connect from local"), "store")
    Keeping(folder).advance(logs)
    path.unlink()
    Keeping(folder).advance(logs)
    assert whole(folder).count("mail.in") == 1
    assert list(json.loads((folder / "state.json").read_text())["files"]) == [f"store/{DAY}.log"]
    assert keeping.learning_since(folder) == f"{DAY}T21" and keeping.learning_since(tmp_path) == ""


def test_a_day() -> None:
    assert keeping.hours_of("2026-02-28") == ("2026-02-28T00", "2026-03-01T00")
    with pytest.raises(ValueError, match="26"):
        keeping.hours_of("26-02")
