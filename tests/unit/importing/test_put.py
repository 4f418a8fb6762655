"""One import at a time, and none that was compared with what is old by now."""

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from mastio.importing import put

USER = "bob@fortress.test"


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its places are below `tmp_path`; the program sets a umask, which ends with the test."""
    before = os.umask(0o022)
    for name in ("MAIL", "STAGES", "LOCKS"):
        monkeypatch.setattr(put, name, tmp_path / name.lower())
    monkeypatch.setattr(put, "DIRECTORY", tmp_path / "directory.sqlite")
    monkeypatch.setattr(put, "PATIENCE", 1.0)
    (tmp_path / "mail").mkdir()
    with sqlite3.connect(tmp_path / "directory.sqlite") as base:
        base.execute("CREATE TABLE account (address, enabled)")
        base.execute("INSERT INTO account VALUES (?, 1)", (USER,))
    doveadm = tmp_path / "bin" / "doveadm"
    doveadm.parent.mkdir()
    doveadm.write_text("#!/bin/sh\necho unlimited\n")
    doveadm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{doveadm.parent}:/usr/bin:/bin")
    yield
    os.umask(before)


def looked(capsys: pytest.CaptureFixture[str]) -> str:
    put.main({"do": "look", "user": USER})
    found: str = json.loads(capsys.readouterr().out.splitlines()[-1])["generation"]
    return found


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    told = json.loads(capsys.readouterr().out)
    assert told["code"] == 75 and told["hint"]
    found: str = told["error"]
    return found


def test_looking_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert looked(capsys) == looked(capsys) != ""


def test_what_was_compared_with_something_old_is_not_brought(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = looked(capsys), looked(capsys)
    with put.alone(USER) as lock:
        put.begin(lock, USER, first)  # one of two that looked at the same time
    with pytest.raises(SystemExit):
        put.main({"do": "put", "user": USER, "folders": [], "generation": second})
    assert "another import has brought mail" in refused(capsys)
    third = looked(capsys)
    assert third not in (first, "")
    with put.alone(USER) as lock:
        put.begin(lock, USER, third)


def test_a_look_waits_for_the_run_before(capsys: pytest.CaptureFixture[str]) -> None:
    before = looked(capsys)
    # Killed on the administrator's side, and still taking in what it had been sent.
    lock = (put.LOCKS / put.named(USER)).open("a+")
    fcntl.flock(lock, fcntl.LOCK_EX)
    put.begin(lock, USER, before)
    with pytest.raises(SystemExit):
        put.main({"do": "look", "user": USER})
    assert "another import into" in refused(capsys)
    ending = Timer(0.3, lock.close)
    ending.start()
    assert looked(capsys) not in (before, "")
    ending.join()


def test_what_dovecot_takes_in_keeps_the_lock(tmp_path: Path) -> None:
    with put.alone(USER) as lock:
        put.must("sh", "-c", "sleep 2 >/dev/null 2>&1 &", keeps=(lock.fileno(),))
    with pytest.raises(SystemExit), put.alone(USER):
        pass  # pragma: no cover
