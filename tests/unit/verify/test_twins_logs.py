"""Broken twins of logs: L1 to L5."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mastio.context import LOGS
from mastio.errors import MastioError
from mastio.site.model import Reach
from mastio.verify.checks import logs
from mastio.verify.probes import host as host_probe
from mastio.verify.vantage import NotRunError, Vantage
from mastio.watch import logbook, seal
from tests import sites
from tests.unit.verify.fakes import Says, ground

HOUR = 3600.0


def at(name: str, reach: Reach = Reach.SSH) -> Vantage:
    site = replace(sites.demo_site(), reach=reach)
    return Vantage(name, ground(Says(""), site), time.monotonic() + 10)


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Any]) -> None:
    """Every probe gives what `answer` says; it gets the function's name and its arguments."""
    monkeypatch.setattr(
        Vantage, "ask", lambda self, function, *args: answer(function.__name__, *args)
    )


@pytest.mark.parametrize("arrives", [True, False])
def test_l1(monkeypatch: pytest.MonkeyPatch, arrives: bool) -> None:
    answering(monkeypatch, lambda *_: arrives)
    assert bool(list(logs.canary(at("store")))) is not arrives


def test_l1_a_line_that_comes_late_is_seen(tmp_path: Path) -> None:
    log = tmp_path / "2026-01-01.log"
    log.write_text("before\n")
    assert not host_probe.awaited(str(tmp_path), "canary 1", 0.1)

    def write() -> None:
        time.sleep(0.3)
        for part in ("it is cana", "ry 1 of\n"):
            with log.open("a") as file:
                file.write(part)
            time.sleep(0.3)

    writer = threading.Thread(target=write)
    writer.start()
    assert host_probe.awaited(str(tmp_path), "canary 1", 5)
    writer.join()


@pytest.mark.parametrize(
    ("filed", "faults"),
    [({"store"}, 0), ({"firewall"}, 1), ({"store", "firewall"}, 1)],
)
def test_l3(monkeypatch: pytest.MonkeyPatch, filed: set[str], faults: int) -> None:
    said: list[str] = []

    def answer(function: str, *args: Any) -> bool:
        if function == "hand_in":
            said.append(args[-1])
            return True
        return args[0].removeprefix(f"{LOGS}/") in filed

    answering(monkeypatch, answer)
    assert len([*logs.own_name(at("store"))]) == faults
    assert " firewall mastio-verify - - - canary " in said[0], "it calls itself another"


@pytest.mark.parametrize("taken", [True, False])
def test_l3_a_line_that_is_nowhere_is_not_green(
    monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    answering(monkeypatch, lambda function, *_: function == "hand_in" and taken)
    with pytest.raises(MastioError, match="see L1") as raised:
        list(logs.own_name(at("store")))
    assert not isinstance(raised.value, NotRunError)


def test_l3_watch_needs_no_name() -> None:
    with pytest.raises(NotRunError):
        list(logs.own_name(at("watch")))


def noted(monkeypatch: pytest.MonkeyPatch, **note: Any) -> Vantage:
    answering(monkeypatch, lambda *_: json.dumps(note))
    return at("watch")


@pytest.mark.parametrize(
    ("check", "late"), [(logs.sealed, 4 * HOUR), (logs.heard, HOUR)], ids=["L2", "L4"]
)
def test_l2_and_l4(monkeypatch: pytest.MonkeyPatch, check: Any, late: float) -> None:
    now = time.time()
    assert [*check(noted(monkeypatch, at=now, wrong={"store gap": "it was"}, still=[]))] == []
    wrong = {"store silent": "no sign of life", "store gap": "it was"}
    (words,) = check(noted(monkeypatch, at=now, wrong=wrong, still=["store silent"]))
    assert words == "store silent: no sign of life"
    (words,) = check(noted(monkeypatch, at=now - late, wrong={}, still=[]))
    assert f"for {late / HOUR:.1f} hours" in words


def proofs(monkeypatch: pytest.MonkeyPatch, **notes: dict[str, Any]) -> None:
    """What watch noted of its seals and of its proofs."""

    def answer(_: str, path: str) -> str:
        what = path.rpartition("/")[2].removesuffix("-told.json")
        if what not in notes:
            raise MastioError(f"{path} is not there")
        return json.dumps({"at": time.time(), "wrong": {}, "still": []} | notes[what])

    answering(monkeypatch, answer)


EDITED: dict[str, Any] = {"wrong": {"store, 2026-01-01": "edited"}, "still": ["store, 2026-01-01"]}


@pytest.mark.parametrize("reach", [Reach.SSH, Reach.LAB])
def test_l2_says_what_the_proof_has_found_once(
    monkeypatch: pytest.MonkeyPatch, reach: Reach
) -> None:
    proofs(monkeypatch, seal={}, proof={})
    assert [*logs.sealed(at("watch", reach))] == []
    proofs(monkeypatch, seal={}, proof=EDITED)
    assert [*logs.sealed(at("watch", reach))] == ["store, 2026-01-01: edited"]
    proofs(monkeypatch, seal=EDITED, proof=EDITED)
    assert [*logs.sealed(at("watch", reach))] == ["store, 2026-01-01: edited"]
    # What one has found is told, whatever became of the other.
    proofs(monkeypatch, seal=EDITED)
    assert [*logs.sealed(at("watch", reach))] == ["store, 2026-01-01: edited"]


def test_l2_tells_once_what_both_have_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file that was cut, in the sealer's own words and in the proof's."""
    place, state = tmp_path / "logs", tmp_path / "state"
    (place / "store").mkdir(parents=True)
    day = time.strftime("%Y-%m-%d")
    (place / "store" / f"{day}.log").write_text("a line\n")
    seal.seal(place, state, 10, time.time())
    (place / "store" / f"{day}.log").write_text("a\n")
    odd = dict(it.partition(": ")[::2] for it in seal.seal(place, state, 10, time.time()).odd)
    proof = logbook.proven(place, state)
    assert odd.keys() == proof.keys() == {f"store, {day}"}
    proofs(
        monkeypatch,
        seal={"wrong": odd, "still": [*odd]},
        proof={"wrong": proof, "still": [*proof]},
    )
    (words,) = logs.sealed(at("watch"))
    assert words == f"store, {day}: cut: 5 octets of what was sealed are missing"


def test_l2_is_not_green_without_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    proofs(monkeypatch, seal={})
    with pytest.raises(MastioError, match="proven") as raised:
        list(logs.sealed(at("watch")))
    assert not isinstance(raised.value, NotRunError)
    proofs(monkeypatch, seal={}, proof={"at": time.time() - 31 * HOUR})
    assert [*logs.sealed(at("watch"))] == ["nothing was proven for 31.0 hours"]
    with pytest.raises(NotRunError):
        list(logs.sealed(at("watch", Reach.LAB)))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, ""),
        ({"read": HOUR}, "nothing was read for 1.0 hours"),
        ({"made": 30 * HOUR}, "no digest was made for 30.0 hours"),
        ({"began": 30 * HOUR, "made": None}, "no digest was made for 30.0 hours"),
        ({"waiting": ["the digest 2026-01-01 waits: refused"]}, "waits: refused"),
    ],
)
def test_l5(monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], words: str) -> None:
    now = time.time()
    ago = {"began": 50 * HOUR, "made": HOUR, "read": 0.0} | more
    note = {it: now - ago[it] if ago[it] is not None else 0.0 for it in ("began", "made", "read")}
    found = [*logs.read(noted(monkeypatch, **note, waiting=more.get("waiting", [])))]
    assert len(found) == bool(words) and all(words in it for it in found), found


def test_what_watch_never_did_is_not_green_and_in_the_lab_nobody_is_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(*_: object) -> None:
        raise MastioError("No such file")

    answering(monkeypatch, missing)
    for check in (logs.sealed, logs.heard, logs.read):
        with pytest.raises(MastioError, match="it is not known") as raised:
            list(check(at("watch")))
        assert not isinstance(raised.value, NotRunError)
        with pytest.raises(NotRunError, match="in the lab"):
            list(check(at("watch", Reach.LAB)))


def test_in_the_lab_what_was_noted_long_ago_is_not_today(monkeypatch: pytest.MonkeyPatch) -> None:
    now, lab = time.time(), at("watch", Reach.LAB)
    for ago, then in ((40 * HOUR, pytest.raises(NotRunError)), (1.0, nullcontext())):
        note = {"at": now - ago, "read": now - ago, "began": 0.0, "made": 0.0}
        answering(
            monkeypatch,
            lambda *_, n=note: json.dumps(
                n | {"wrong": {"a": "b"}, "still": ["a"], "waiting": ["c"]}
            ),
        )
        for check in (logs.sealed, logs.heard, logs.read):
            with then:
                assert len([*check(lab)]) == 1
