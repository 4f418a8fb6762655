"""The administrator's side: what the site folder remembers, and how watch's words become errors."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mastio.errors import Exit, MastioError
from mastio.hearing import MOST, Result
from mastio.integrity.client import LEDGER, Integrity
from mastio.plan import MachinePlan
from mastio.state import HostState
from mastio.transport import Transport
from tests import sites

CLEAN = {"machine": "store", "last": {"verdict": "clean", "measured": 1.0}}


class Watch(Transport):
    """Watch that answers with `lines`, whatever it is asked; machines do as they are told."""

    def __init__(self, *lines: Any) -> None:
        self.lines, self.asked, self.named = lines, [], []  # type: ignore[var-annotated]

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        raise NotImplementedError

    def stream(
        self, machine: str, command: Sequence[str], stdin: bytes = b"", rest: Iterable[bytes] = (),
        most: int | None = MOST,
    ) -> Iterator[bytes]:  # fmt: skip
        assert command[1] == "integrity"
        self.asked.append((machine, command[2:], json.loads(stdin or b"null")))
        yield from (json.dumps(it).encode() for it in self.lines)
        if any("error" in it for it in self.lines):
            raise MastioError("watch: exit code 1")

    def run_python(
        self, machine: str, source: str, payload: bytes, timeout: float = 60, most: int = MOST
    ) -> Result:
        self.named.append((machine, json.loads(payload)["anew"]))
        return Result(0, b"", b"")


def client(folder: Path, *lines: Any) -> tuple[Integrity, Watch]:
    watch = Watch(*lines)
    return Integrity(sites.demo_site(), watch, folder), watch


def test_settling_names_the_tools_and_remembers_the_seal(tmp_path: Path) -> None:
    integrity, watch = client(tmp_path, CLEAN, {"seal": "s", "tools": "t"})
    events = list(integrity.settle({"store": (HostState(), MachinePlan())}))
    assert events[0] == CLEAN
    assert [it[1] for it in watch.asked] == [["tools"], ["settle"]]
    assert watch.named == [("store", False)]
    assert integrity.ledger == {"seal": "s", "machines": ["store"]} and integrity.kept == {"store"}


def test_what_could_not_be_measured_has_no_reference(tmp_path: Path) -> None:
    lost = {"machine": "store", "last": {"verdict": "could not be measured", "measured": 0.0}}
    integrity, _ = client(tmp_path, lost, {"seal": "s", "tools": "t"})
    list(integrity.settle({"store": (HostState(), MachinePlan())}))
    assert integrity.kept == frozenset() and (tmp_path / LEDGER).exists()


def test_checking_changes_nothing_here(tmp_path: Path) -> None:
    integrity, watch = client(tmp_path, CLEAN, {"seal": "other", "tools": "t"})
    list(integrity.check(["store"]))
    assert not (tmp_path / LEDGER).exists() and watch.named == []


def test_a_seal_that_is_not_ours_shows(tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_text('{"seal": "s", "machines": []}')
    for seal, edited in (("s", False), ("x", True)):
        integrity, _ = client(tmp_path, CLEAN, {"broken": []}, {"seal": seal, "tools": "t"})
        assert integrity.status()[-1] == {"broken": [], "edited": edited}
    (tmp_path / LEDGER).unlink()
    integrity, _ = client(tmp_path, CLEAN, {"broken": []}, {"seal": "x", "tools": "t"})
    assert not integrity.status()[-1]["edited"], "nothing was ever accepted from here"


def test_what_watch_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    error = {"error": "nothing differs at /x", "hint": "look again", "code": 64}
    integrity, _ = client(tmp_path, error)
    with pytest.raises(MastioError, match="nothing differs at /x") as caught:
        integrity.accept("store", ["/x"], "why")
    assert caught.value.code is Exit.USAGE and caught.value.hint == "look again"


def test_the_seal_follows_updates_that_begin_where_it_is(tmp_path: Path) -> None:
    integrity, _ = client(tmp_path)
    (tmp_path / LEDGER).write_text(json.dumps({"seal": "b", "machines": ["store"]}))
    assert integrity.follow([["a", "b"], ["b", "c"], ["c", "d"], ["x", "y"]]) == 2
    assert integrity.ledger == {"seal": "d", "machines": ["store"]}
    assert integrity.follow([["a", "b"], ["", ""], ["x", "y"]]) == 0
    assert integrity.ledger["seal"] == "d"


def test_without_a_seal_there_is_nothing_to_follow(tmp_path: Path) -> None:
    integrity, _ = client(tmp_path)
    assert integrity.follow([["", "a"]]) == 0 and not (tmp_path / LEDGER).exists()
