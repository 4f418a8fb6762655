"""The program on a machine that shows certificates: which chain it takes, and what it refuses."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from mastio import pki
from mastio.roles.certificates import certificate

NAMES = ("mail.fortress.test", "mta-sts.fortress.test")
CA, STRANGER = pki.authority("known"), pki.authority("unknown")
TOKEN = "abcdefghijklmnop-_012345"


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    """A machine with a key and its interim certificate."""
    key, interim = pki.issue(*STRANGER, *NAMES)
    for name, text in (("key", key), ("fallback", interim), ("roots", CA[1])):
        (tmp_path / name).write_text(text)
    for folder in ("stored", "challenges"):
        (tmp_path / folder).mkdir()
    return {
        "names": list(NAMES), "key": str(tmp_path / "key"), "fallback": str(tmp_path / "fallback"),
        "live": str(tmp_path / "live"), "stored": str(tmp_path / "stored"),
        "challenges": str(tmp_path / "challenges"), "authorities": str(tmp_path / "roots"),
        "reload": ["true"], "doors": [],
    }  # fmt: skip


def store(own: dict[str, Any], chain: str, name: str = "a") -> None:
    (Path(own["stored"]) / f"{name}.pem").write_text(chain)


def chain(own: dict[str, Any], *names: str, days: int = 90) -> str:
    return pki.issue(*CA, *(names or NAMES), days=days, key_pem=Path(own["key"]).read_text())[1]


def test_a_believed_chain_is_shown(own: dict[str, Any]) -> None:
    store(own, good := chain(own))
    assert certificate.settle(own)
    assert Path(own["live"]).read_text() == good
    assert not certificate.settle(own), "once"


def test_of_two_the_one_that_lasts_longer(own: dict[str, Any]) -> None:
    store(own, chain(own, days=90), "a")
    store(own, late := chain(own, days=120), "b")
    store(own, chain(own, days=60), "c")
    assert certificate.best(own) == late


def test_without_one_the_fallback_is_shown(own: dict[str, Any]) -> None:
    certificate.settle(own)
    assert Path(own["live"]).read_text() == Path(own["fallback"]).read_text()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda own: pki.issue(*CA, *NAMES)[1], "not for the key"),
        (lambda own: chain(own, NAMES[0]), "mismatch"),
        (lambda own: chain(own, days=0), "expired"),
        (
            lambda own: pki.issue(*STRANGER, *NAMES, key_pem=Path(own["key"]).read_text())[1],
            "local issuer",
        ),
    ],
)
def test_what_strangers_would_not_believe_is_not_shown(
    own: dict[str, Any], made: Any, words: str
) -> None:
    answer = certificate.bring(own, [made(own)])
    assert words in answer["unfit"]
    assert Path(own["live"]).read_text() == Path(own["fallback"]).read_text()


def test_nobody_can_push_a_good_chain_away(own: dict[str, Any]) -> None:
    """Whoever has watch's key, and whatever is brought."""
    certificate.bring(own, [good := chain(own)])
    bad = [
        pki.issue(*CA, *NAMES)[1],
        chain(own, NAMES[0]),
        chain(own, days=0),
        pki.issue(*STRANGER, *NAMES, key_pem=Path(own["key"]).read_text())[1],
    ]
    for _ in range(5):
        certificate.bring(own, bad)
        certificate.bring(own, [])
        for _ in range(3):
            certificate.bring(own, [pki.issue(*CA, *NAMES)[1]])
    certificate.settle(own)
    assert Path(own["live"]).read_text() == good
    assert len([*Path(own["stored"]).iterdir()]) <= certificate.MOST_KEPT + 1


def test_a_new_key_finds_its_chain_ready(own: dict[str, Any]) -> None:
    """What rotation needs: the chain for the key to come lies there already."""
    store(own, now := chain(own), "a")
    key, then = pki.issue(*CA, *NAMES)
    store(own, then, "b")
    assert certificate.best(own) == now
    Path(own["key"]).write_text(key)
    assert certificate.best(own) == then


@pytest.mark.parametrize(
    "asked",
    [
        None, [], "show", {}, {"op": "settle"}, {"op": "show", "more": 1, "op2": 1} | {"op": "x"},
        {"op": "bring", "chains": "x"}, {"op": "bring", "chains": ["nonsense"]},
        {"op": "bring", "chains": [["x"]]},
        {"op": "bring", "chains": [f"{CA[1]}{CA[0]}"]},
        {"op": "challenge", "token": "../../../etc/shadow", "answer": "x"},
        {"op": "challenge", "token": TOKEN, "answer": "<script>"},
        {"op": "challenge", "token": TOKEN, "answer": f"{TOKEN}.{TOKEN}\n"},
        {"op": "challenge", "token": TOKEN, "answer": f"another-token-of-good-form.{TOKEN}"},
        {"op": "done", "token": "*"},
    ],
)  # fmt: skip
def test_all_else_is_refused(own: dict[str, Any], asked: Any) -> None:
    with pytest.raises(certificate.RefusedError):
        certificate.judged(asked, own)


def test_what_may_be_asked(own: dict[str, Any]) -> None:
    assert certificate.judged({"op": "show"}, own)[0] == "show"
    rows = [CA[1]]
    assert certificate.judged({"op": "bring", "chains": rows}, own) == ("bring", [rows])
    answer = f"{TOKEN}.{TOKEN}"
    asked = {"op": "challenge", "token": TOKEN, "answer": answer}
    assert certificate.judged(asked, own) == ("challenge", [TOKEN, answer])


def test_a_gateway_takes_no_proofs(own: dict[str, Any]) -> None:
    own["challenges"] = ""
    with pytest.raises(certificate.RefusedError):
        certificate.judged({"op": "challenge", "token": TOKEN, "answer": f"{TOKEN}.{TOKEN}"}, own)


def test_proofs_come_and_go_and_forgotten_ones_too(own: dict[str, Any]) -> None:
    folder = Path(own["challenges"])
    (folder / "forgotten").write_text("x")
    os.utime(folder / "forgotten", (time.time() - 2 * 86400,) * 2)
    certificate.challenge(own, TOKEN, "answer")
    assert [it.name for it in folder.iterdir()] == [TOKEN]
    assert (folder / TOKEN).stat().st_mode & 0o777 == 0o644
    certificate.challenge(own, TOKEN, "")
    assert list(folder.iterdir()) == []


def test_when_the_server_does_not_take_it_the_former_returns(own: dict[str, Any]) -> None:
    certificate.settle(own)
    former = Path(own["live"]).read_text()
    own["reload"] = ["sh", "-c", "echo will not >&2; exit 1"]
    answer = certificate.bring(own, [chain(own)])
    assert answer["error"].endswith("will not")
    assert Path(own["live"]).read_text() == former


def test_what_is_not_brought_any_more_goes(own: dict[str, Any]) -> None:
    store(own, chain(own), "old")
    certificate.bring(own, [new := chain(own), then := pki.issue(*CA, *NAMES)[1]])
    kept = {it.read_text() for it in Path(own["stored"]).iterdir()}
    assert kept == {new, then}, "that for the next key may be of use"


def test_it_says_what_it_has(own: dict[str, Any]) -> None:
    store(own, good := chain(own))
    certificate.settle(own)
    seen = certificate.shown(own)
    assert (seen["first"], seen["why"]) == (certificate.first(good), "")
    json.dumps(seen)
    Path(own["live"]).write_text(Path(own["fallback"]).read_text())
    assert (
        "local issuer" in certificate.shown(own)["why"] or "self" in certificate.shown(own)["why"]
    )
