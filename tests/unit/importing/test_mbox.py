"""mbox files: where messages begin, what their files say of them, and what stays away."""

import calendar
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mastio.importing import mbox

FIRST = b"From bob@old.test Sat Jan  3 14:05:06 2026\n"


def entries(content: bytes) -> list[mbox.Entry | None]:
    return [
        mbox.entry(content[start:stop], first, 0.0)
        for start, stop, first in mbox.spans(io.BytesIO(content))
    ]


def at(year: int, *rest: int) -> float:
    return calendar.timegm((year, *rest, 0, 0, 0))


def test_messages_begin_after_an_empty_line_with_a_date() -> None:
    text = FIRST + b"Subject: a\n\nFrom here on it rains.\n\nFrom time to time, too: 12 of 2026\n\n"
    text += b"From - Sat Jan  3 14:05:07 2026\nSubject: b\n\nno end"
    one, two = entries(text)
    assert one and one.content == (
        b"Subject: a\n\nFrom here on it rains.\n\nFrom time to time, too: 12 of 2026\n"
    )
    assert two and two.content == b"Subject: b\n\nno end"


def test_dos_lines_and_empty_lines_at_the_end_of_a_text() -> None:
    text = (FIRST + b"Subject: a\n\ntext\n\n\n" + FIRST + b"Subject: b\n\nx\n\n").replace(
        b"\n", b"\r\n"
    )
    one, two = entries(text)
    assert one and one.content == b"Subject: a\n\ntext\n\n"
    assert two and two.content == b"Subject: b\n\nx\n"


@pytest.mark.parametrize(
    ("head", "flags", "words"),
    [
        (b"Status: RO\n", "S", ()),
        (b"Status: O\nX-Status: AFT\n", "DFR", ()),
        (b"X-Status: D\n", "T", ()),
        (b"X-Keywords: $Label1 later  \n", "", ("$Label1", "later")),
        (b"X-Mozilla-Status: 0007\nX-Mozilla-Keys: $label2\n", "FRS", ("$label2",)),
        (b"X-Mozilla-Status: nonsense\n", "", ()),
    ],
)
def test_flags_are_read_and_their_headers_go(
    head: bytes, flags: str, words: tuple[str, ...]
) -> None:
    (one,) = entries(FIRST + b"From: x\n" + head + b"Content-Length: 5\nTo: y\n\ntext\n")
    assert one and (one.flags, one.keywords) == (flags, words)
    assert one.content == b"From: x\nTo: y\n\ntext\n"


def test_folded_headers_stay_whole_or_go_whole() -> None:
    (one,) = entries(FIRST + b"X-Keywords: a\n b\nSubject: long\n\tand folded\n\n")
    assert one and one.content.startswith(b"Subject: long\n\tand folded\n")


def test_what_was_removed_and_what_is_no_message_stay_away() -> None:
    removed = FIRST + b"X-Mozilla-Status: 0009\nSubject: gone\n\n\n"
    internal = (
        FIRST + b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\nx\n\n"
    )
    assert entries(removed + internal) == [None, None]


@pytest.mark.parametrize(
    ("line", "moment"),
    [
        ("From bob@old.test Sat Jan  3 14:05:06 2026", at(2026, 1, 3, 14) + 306),
        ("From bob Sat Jan  3 14:05 2026", at(2026, 1, 3, 14) + 300),
        ("From bob@old.test Sat Jan 03 14:05:06 +0200 2026", at(2026, 1, 3, 12) + 306),
        ("From bob@old.test Sat Jan  3 14:05:06 2026 -0100", at(2026, 1, 3, 15) + 306),
        ('From "b o b"@old.test Sat Jan  3 14:05:06 2026', at(2026, 1, 3, 14) + 306),
    ],
)
def test_when_a_message_came(line: str, moment: float) -> None:
    assert mbox.received(line.encode(), b"", 0.0) == moment


def test_when_the_line_says_no_date_the_message_does() -> None:
    head = b"Subject: x\nDate: Sat, 3 Jan 2026 14:00:00 +0100"
    assert mbox.received(b"From bob 25:61 in 2026", head, 0.0) == at(2026, 1, 3, 13)
    assert mbox.received(b"From bob 25:61 in 2026", b"Date: soon", 7.0) == 7.0


@pytest.mark.parametrize("text", [b"PK\x03\x04", b"Subject: x\n\n", b"From me to you\n"])
def test_what_is_no_mbox_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="does not begin as an mbox file does"):
        entries(text)


def test_an_empty_file_has_no_messages() -> None:
    assert entries(b"") == [] and entries(b"\n\n") == []


_LINE = st.binary(max_size=20).map(lambda it: it.replace(b"\n", b"").replace(b"\r", b""))
_BODY = st.lists(_LINE.filter(lambda it: not it.startswith(b"From ")), min_size=1, max_size=6)


@given(st.lists(_BODY, max_size=5))
def test_what_was_written_is_read_again(bodies: list[list[bytes]]) -> None:
    texts = [b"Subject: x\n\n" + b"".join(line + b"\n" for line in it) for it in bodies]
    found = entries(b"".join(FIRST + it + b"\n" for it in texts))
    assert [it.content for it in found if it] == texts
