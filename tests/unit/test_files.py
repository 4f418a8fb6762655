"""Files that are whole or not there; a lock outlasts its killed holder for a moment."""

import fcntl
import threading
from pathlib import Path

import pytest

from mastio import files


def test_a_file_is_replaced_at_once_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "it"
    files.put(path, "one\n")
    files.put(path, b"\xff two", 0o644)
    assert path.read_bytes() == b"\xff two" and path.stat().st_mode & 0o777 == 0o644
    files.put(path, "\udcff")
    assert path.read_bytes() == b"\xff" and path.stat().st_mode & 0o777 == 0o600
    assert [it.name for it in tmp_path.iterdir()] == ["it"]


def test_what_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "it"
    files.put(path, "old")

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        files.put(path, "new")
    assert path.read_text() == "old"


def test_a_lock_that_is_about_to_go_is_waited_for(tmp_path: Path) -> None:
    """As of a child that has not yet become another program when its parent is killed."""
    dying, mine = (tmp_path / "lock").open("w"), (tmp_path / "lock").open("w")
    fcntl.flock(dying, fcntl.LOCK_EX)
    threading.Timer(0.3, dying.close).start()
    with mine:
        files.hold(mine, patience=10)
        with (tmp_path / "lock").open("w") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_that_somebody_keeps_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as holder, (tmp_path / "lock").open("w") as other:
        files.hold(holder)
        for patience in (0.0, 0.2):
            with pytest.raises(BlockingIOError):
                files.hold(other, patience)


def test_a_lock_that_its_holder_deleted_holds_nobody(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as held:
        assert files.current(held, path)
        path.unlink()
        assert not files.current(held, path)
        with path.open("w") as following:
            assert files.current(following, path) and not files.current(held, path)
