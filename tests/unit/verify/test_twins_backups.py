"""Broken twins of backups: B1, B3, B4."""

import json
from pathlib import Path
from time import time
from typing import Any

import pytest

from mastio.verify.checks import backups
from mastio.verify.probes import backups as probes
from mastio.verify.probes import host
from mastio.verify.vantage import NotRunError, Vantage
from tests.unit.verify.fakes import vantage

SOUND = {"newest": 0.0, "limit": 3600.0, "refused": [], "damaged": ""}


def answering(
    monkeypatch: pytest.MonkeyPatch, unjudged: list[str] | None = None, **more: Any
) -> None:
    """Watch answers as with sound backups, but for this."""
    status = {"machines": {"store": {**SOUND, "newest": time() - 60, **more}}}

    def answer(self: Vantage, function: object, *args: Any) -> Any:
        return {host.text: json.dumps(status), probes.unjudged: unjudged or []}[function]  # type: ignore[index]

    monkeypatch.setattr(Vantage, "ask", answer)


def seen(check: Any) -> list[str]:
    return [*check(vantage("watch"))]


def test_sound_backups_are(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch)
    assert [seen(it.run) for it in backups.CHECKS] == [[], [], []]


@pytest.mark.parametrize(
    ("check", "broken", "words"),
    [
        (backups.untouched, {"unjudged": ["store: 2 segments"]}, "2 segments"),
        (backups.monotone, {"refused": ["1 archives are missing"]}, "1 archives are missing"),
        (backups.monotone, {"damaged": "segment 7"}, "segment 7"),
        (backups.young, {"newest": 0.0}, "no archive"),
    ],
)
def test_what_is_wrong_is_told(
    monkeypatch: pytest.MonkeyPatch, check: Any, broken: dict[str, Any], words: str
) -> None:
    answering(monkeypatch, **broken)
    (told,) = seen(check)
    assert words in told


def test_an_old_archive_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not a parameter: these are made minutes before, on a busy box.
    answering(monkeypatch, newest=time() - 7200)
    (told,) = seen(backups.young)
    assert "2.0 hours old" in told


def test_without_backups_nothing_is_said_in_the_lab() -> None:
    with pytest.raises(NotRunError):
        seen(backups.young)


def test_what_no_session_brought_is_seen(tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    data = tmp_path / "store" / "data" / "0"
    data.mkdir(parents=True)
    for number in (1, 2, 3):
        (data / str(number)).touch()
    (tmp_path / "store" / "config").write_text("[repository]\n")
    known = tmp_path / "known" / "store.json"
    known.write_text(json.dumps({"good": 3, "config": "[repository]\n"}))
    assert probes.unjudged(str(tmp_path)) == []
    known.write_text(json.dumps({"good": 2, "config": "[repository]\nkey = x\n"}))
    assert [it.partition(":")[2].split()[0] for it in probes.unjudged(str(tmp_path))] == [
        "1",
        "the",
    ]
