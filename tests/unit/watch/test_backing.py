"""What a machine says while it adds to its archives has an end."""

import json
from pathlib import Path

import pytest

from mastio.watch import backing
from mastio.watch.backing import Backing


def session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> tuple[dict[str, object], str, list[object]]:
    """What a session with a machine that runs `script` comes to; what serves its archive only reads."""
    monkeypatch.setattr(backing, "serve", lambda *_: ["cat"])
    monkeypatch.setattr(Backing, "_quota", lambda _: 0)
    door = tmp_path / "door"
    door.write_text(f"#!/bin/sh\n{script}\n")
    door.chmod(0o755)
    said: list[object] = []
    one = Backing("store", [str(door)], tmp_path)
    return *one._session("store-x", fresh=False, say=said.append), said


@pytest.mark.parametrize("flood", ["cat /dev/zero >&2", "yes >&2", "yes '{\"step\": 1}' >&2"])
def test_who_tells_without_end_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flood: str
) -> None:
    monkeypatch.setattr(backing, "_SAID", 100_000)
    done = json.dumps({"done": {"added": 1}})
    told, error, said = session(tmp_path, monkeypatch, f"echo '{done}' >&2; {flood}")
    assert told == {} and error.startswith("store answers with more than 100,000 octets")
    assert len(said) < 10_000


def test_who_tells_what_is_due_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, step = json.dumps({"done": {"added": 1}}), json.dumps({"step": "x"})
    script = f"exec >&2; echo '{'[' * 100_000}'; echo '{step}'; echo '{done}'"
    assert session(tmp_path, monkeypatch, script) == (
        {"added": 1},
        "",
        [{"machine": "store", "step": "x"}],
    )
