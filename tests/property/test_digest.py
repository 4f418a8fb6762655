"""Laws of the digest: summaries merge in any order, reading in pieces is reading at once, nothing raises."""

import copy
import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mastio.digest import others, postfix
from mastio.digest.keeping import Keeping, load
from mastio.digest.lines import Reader
from mastio.digest.memory import Memory
from mastio.digest.shapes import SHAPES, Shapes
from mastio.digest.summary import KEPT, Novelty, Summary, Top, from_plain, merged
from mastio.digest.tally import Tally
from tests.unit.digest.lines import DELIVERED, line, packet, refusal
from tests.unit.digest.test_hostile import KINDS, NEXT, said
from tests.unit.digest.test_hostile import NUMBERS as NO_NUMBERS

NAMES = st.sampled_from(["mail.in", "refused.in.spam", "lines.gateway"])
SECONDS = st.integers(0, 10**6).map(lambda it: it / 64)
"""Sums of these are exact."""
LINES = st.sampled_from(
    [
        *DELIVERED, refusal("Relay access denied"), packet("core", "mail", "10.77.3.10", "10.77.1.10", 4444),
        line("gateway", "gizmo[1]", "frobnicated 3 sprockets"),
        b"garbage\n", b"\xff\x00\n", b"\n",
    ]
)  # fmt: skip

LATER = st.sampled_from(
    [
        line("gateway", "gizmo", "out of grease", "22:00:01"),
        refusal("Relay access denied", clock="22:10:00"),
        b"\n",
    ]
)
HOURS = st.tuples(st.lists(LINES, min_size=1, max_size=30), st.lists(LATER, max_size=9)).map(
    lambda it: it[0] + it[1]
)


@st.composite
def summaries(draw: st.DrawFn) -> Summary:
    summary = Summary(draw(st.dictionaries(NAMES, st.integers(1, 1000))))
    for name in draw(st.sets(NAMES)):
        summary.tops[name] = Top(
            draw(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 99)))
        )
    for seconds in draw(st.lists(SECONDS, max_size=5)):
        summary.times.setdefault("lmtp", type(summary.time(""))()).add(seconds)
    for what in draw(st.sets(st.sampled_from("pqrs"))):
        summary.meet(
            "shapes",
            what,
            Novelty(f"line {what}", draw(st.integers(1, 9)), draw(st.sampled_from("12"))),
        )
    return summary


@given(summaries(), summaries(), summaries())
def test_merging_does_not_care_for_order(a: Summary, b: Summary, c: Summary) -> None:
    one = merged(copy.deepcopy(it) for it in (a, b, c))
    assert merged(copy.deepcopy(it) for it in (c, a, b)) == one
    right = merged([copy.deepcopy(a), merged([copy.deepcopy(b), copy.deepcopy(c)])])
    assert right == one
    assert from_plain(one.plain()) == one
    assert merged([one, Summary()]) == one


@given(
    st.lists(
        st.tuples(st.integers(0, 3 * KEPT), st.integers(1, 50)), min_size=KEPT, max_size=4 * KEPT
    )
)
@settings(max_examples=20, deadline=None)
def test_a_top_is_never_too_high_and_no_lower_than_it_says(counted: list[tuple[int, int]]) -> None:
    top, true = Top(), dict[str, int]()
    for name, count in counted:
        top.add({f"n{name}": count})
        true[f"n{name}"] = true.get(f"n{name}", 0) + count
    assert len(top.names) <= KEPT
    assert top.missed <= sum(true.values()) / KEPT
    for name, count in true.items():
        assert count - top.missed <= top.names.get(name, 0) <= count


def _read(lines: list[bytes]) -> tuple[dict[str, Summary], dict[str, object]]:
    memory, tallies = Memory(), dict[str, Tally]()
    reader = Reader("gateway", memory, tallies)
    for block in lines:
        reader.feed(block.split(b"\n")[:-1])
    return {hour: it.frozen() for hour, it in tallies.items()}, memory.plain()


@given(HOURS)
def test_reading_in_pieces_is_reading_at_once(lines: list[bytes]) -> None:
    assert _read(lines) == _read([b"".join(lines)])


@given(HOURS, st.lists(st.integers(1, 400), max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_file_that_grows_by_any_number_of_bytes_is_read_once(
    lines: list[bytes], cuts: list[int]
) -> None:
    content, at = b"".join(lines), 0
    with tempfile.TemporaryDirectory() as made:
        logs = Path(made, "logs", "gateway")
        logs.mkdir(parents=True)
        log, total = logs / "2026-11-24.log", 0
        for cut in (*cuts, len(content)):
            with log.open("ab") as file:
                file.write(content[at : at + cut])
            at += cut
            total += Keeping(Path(made, "pieces")).advance(logs.parent)
        assert total == len(lines)
        Keeping(Path(made, "whole")).advance(logs.parent)
        pieces, whole = (load(Path(made, name), "0000", "9999") for name in ("pieces", "whole"))
        assert pieces == whole


@given(st.binary(max_size=300))
def test_no_bytes_raise(octets: bytes) -> None:
    block = octets.rstrip(b"\n") + b"\n"
    hours, _ = _read([DELIVERED[0], block, DELIVERED[0][:-1] + b" " + block])
    assert sum(it.count("lines.gateway") for it in hours.values()) == 2 + block.count(b"\n") * 2 - 1


TAGS = st.sampled_from(
    [
        *(it.decode() for it in others._MAKERS), *(it.decode() for it in postfix.WAYS), "kernel", "x",
        "postfix/qmgr", "postfix/smtp", "postfix/cleanup", "postfix/postscreen", "postfix/x/smtp", "postfix/bounce",
    ]
)  # fmt: skip
NUMBERS = st.one_of(
    st.sampled_from(NO_NUMBERS), st.integers().map(str), st.floats().map(repr), st.text(max_size=9)
)
SAID = st.one_of(
    st.tuples(NUMBERS, st.sampled_from(KINDS)).map(lambda it: said(it[0])[it[1]]),
    st.builds(line, st.just("gateway"), TAGS, st.text(max_size=60)),
    st.builds(
        lambda tag, known, number: line("gateway", tag, known.partition(b": ")[2].decode() + number),
        TAGS, st.sampled_from(DELIVERED), NUMBERS,
    ),
)  # fmt: skip


@given(st.lists(SAID, max_size=9))
@settings(deadline=None)
def test_whatever_is_said_the_next_line_is_read_and_all_can_be_told(lines: list[bytes]) -> None:
    lines = [it.replace(b"\n", b" ") + b"\n" for it in lines]
    hours, memory = _read([*lines, NEXT])
    assert sum(it.count("lines.gateway") for it in hours.values()) == len(lines) + 1
    assert merged(hours.values()).count("postfix.received.pickup")
    json.dumps([memory, *(it.plain() for it in hours.values())], allow_nan=False)


@given(st.lists(st.text("ab1<>[]*'\" ", max_size=30), max_size=60))
def test_a_shape_is_new_once_and_their_number_is_bounded(texts: list[str]) -> None:
    shapes = Shapes()
    for text in texts:
        shapes.new("store", "program", text.encode())
        assert shapes.new("store", "program", text.encode()) is None
    known = shapes.plain().get("store", {})
    assert sum(map(len, known.values())) <= SHAPES
    for kept in (shapes.plain(), known):  # an older version did not say whose they were
        again = Shapes(kept)
        assert all(again.new("gateway", "program", text.encode()) is None for text in texts)
