"""What is new: each machine has its own share of what is remembered, and a share that is used up is told."""

import json
from collections.abc import Callable, Iterable
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase

import pytest

from mastio.digest.judge import Digest, needs
from mastio.digest.keeping import Keeping
from mastio.digest.memory import Memory
from mastio.digest.need import Level
from mastio.digest.shapes import PROGRAMS, SHAPES, Seen
from mastio.digest.summary import Summary
from tests.unit.digest.lines import DAY, line, packet, read
from tests.unit.digest.test_others import logged_in

LETTERS = ["".join(it) for it in islice(product(ascii_lowercase, repeat=3), 500)]
"""Words: what has a digit in it is masked."""
Flood = Callable[[str], Iterable[bytes]]
"""More that is new than there is room for, of a machine."""


def programs(machine: str) -> Iterable[bytes]:
    return (line(machine, f"x{it}", "hello") for it in range(PROGRAMS + 9))


def shapes(machine: str) -> Iterable[bytes]:
    return (line(machine, "sshd[7]", f"error: {it} {it}{it}") for it in LETTERS[: SHAPES + 9])


def networks(machine: str) -> Iterable[bytes]:
    words = "Successful login for a@x.test (ID: 1) from 203.0.{}.7 in session 4039c33f8f14352a"
    return (line(machine, "roundcube", words.format(it)) for it in range(60))


def begun(machine: str) -> Iterable[bytes]:
    for port in range(1, 120):
        one = packet("internet", "mail", "203.0.113.60", "10.77.1.10", port, "accept")
        yield one.replace(b" firewall ", f" {machine} ".encode())


USED_UP = [
    (programs, line("store", "implant[7]", "hello"), "shapes", "all that never said anything yet"),
    (shapes, line("store", "sshd[7]", "error: a line of its own"), "shapes", "sshd"),
    (networks, logged_in("a@x.test", "198.51.100.7"), "networks", "a@x.test"),
    (begun, packet("mail", "internet", "10.77.1.10", "203.0.113.60", 6667, "accept"), "begun",
     "conversations with the outside"),
]  # fmt: skip
KINDS = pytest.mark.parametrize(("flood", "other", "kind", "what"), USED_UP)


def reborn(memory: Memory) -> Memory:
    return Memory(json.loads(json.dumps(memory.plain())))


def words(summary: Summary) -> list[str]:
    hours = {f"{DAY}T21": summary}
    digest = Digest("demo", "2026-11-24T00", "2026-11-25T00", hours)
    return [it.words for it in needs(digest) if it.level is Level.LOOK]


@KINDS
def test_one_machine_uses_up_nobody_elses(flood: Flood, other: bytes, kind: str, what: str) -> None:
    memory = Memory({"begun_since": "2026-11-01T00"})
    lines = list(flood("webmail"))
    found = read(*lines, memory=memory)
    told = len(found.news[kind]) + found.count(f"untold.{kind}")
    assert 50 <= told < len(lines), "it has an end"
    assert found.top("trouble") == [(f"webmail: no longer told, so much of it was new: {what}", 1)]
    assert words(found) == [
        "so much was new on a machine that more of the kind will not be told (1 ×)"
    ]
    memory = reborn(memory)
    again = read(lines[-1], lines[0], memory=memory)
    assert not again.news and not again.below("trouble"), "that is told once"
    assert len(read(other, memory=memory).news[kind]) == 1


@KINDS
def test_a_usual_day_has_room(flood: Flood, other: bytes, kind: str, what: str) -> None:
    found = read(*list(flood("webmail"))[:20], other)
    assert not found.below("trouble") and words(found) == []


def test_what_one_machine_says_is_no_news_of_another() -> None:
    memory = Memory()
    assert read(line("store", "gizmo", "out of grease"), memory=memory).news
    assert not read(line("webmail", "gizmo", "out of grease"), memory=reborn(memory)).news


def test_what_an_older_version_remembered_is_known_and_is_nobodys() -> None:
    old = {
        "since": "2026-11-01T00",
        "begun_since": "2026-11-01T00",
        "shapes": {"gizmo": ["out of grease"], **{f"x{it}": ["hello"] for it in range(PROGRAMS)}},
        "networks": {"a@x.test": [f"203.0.{it}.0/24" for it in range(50)]},
        "flows": {"core > mail": ["tcp/1"]},
        "begun": {"": [f"internet > mail tcp/{it}" for it in range(100)]},
    }
    known = (
        line("store", "gizmo", "out of grease"),
        logged_in("a@x.test", "203.0.9.9"),
        packet("core", "mail", "10.77.3.10", "10.77.1.10", 1),
        packet("internet", "mail", "203.0.113.60", "10.77.1.10", 25, "accept"),
    )
    other = (
        line("store", "gizmo", "no oil either, and the wheel is broken"),
        logged_in("a@x.test", "198.51.100.9"),
        packet("core", "mail", "10.77.3.10", "10.77.1.10", 2),
        packet("internet", "mail", "203.0.113.60", "10.77.1.10", 101, "accept"),
    )
    for memory in (Memory(old), reborn(Memory(old))):
        assert not read(*known, memory=memory).news
        assert {kind: len(it) for kind, it in read(*other, memory=memory).news.items()} == {
            "shapes": 1, "networks": 1, "flows": 1, "begun": 1,
        }  # fmt: skip
        again = reborn(memory)
        assert again.plain() == memory.plain()
        assert not read(*known, *other, memory=again).news


def test_a_machine_makes_forget_what_it_brought_itself() -> None:
    seen = Seen(2, forget=True, groups=2)
    assert seen.new("firewall", "core > mail", "tcp/25")
    for port in range(5):
        assert seen.new("webmail", "core > mail", f"tcp/{port}")
        assert seen.full("webmail", "core > mail") is None
    assert seen.plain()["webmail"] == {"core > mail": ["tcp/3", "tcp/4"]}
    assert not seen.new("firewall", "core > mail", "tcp/25")
    assert seen.new("webmail", "made > up", "tcp/1") and seen.full("webmail", "made > up")
    assert not seen.new("webmail", "made up > too", "tcp/1")
    assert seen.new("firewall", "made up > too", "tcp/1")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_several_processes_leave_out_no_network(tmp_path: Path) -> None:
    """Of those that a reader of a piece meets, others may be known already: there is room for more of them."""

    def put(machine: str, lines: Iterable[bytes]) -> None:
        (tmp_path / "logs" / machine).mkdir(parents=True)
        (tmp_path / "logs" / machine / f"{DAY}.log").write_bytes(b"".join(lines))

    put("gateway", islice(networks("gateway"), 40))
    put("store", (logged_in("a@x.test", f"203.0.{it}.7") for it in range(80)))
    for workers in (1, 3):
        kept = tmp_path / str(workers)
        Keeping(kept).advance(tmp_path / "logs", workers=workers, piece=16_000)
        known = json.loads((kept / "state.json").read_text())["memory"]["networks"]
        assert [len(known[it]["a@x.test"]) for it in ("gateway", "store")] == [40, 40]
