"""What IMAP servers answer."""

import calendar

import pytest

from mastio.importing import listing
from mastio.importing.listing import Row


@pytest.mark.parametrize(
    ("answer", "prefix", "parts"),
    [
        (rb'(\HasNoChildren) "/" "INBOX"', b"", ()),
        (rb'(\HasNoChildren) "/" Work/2026', b"", ("Work", "2026")),
        (rb'(\HasNoChildren) "." "INBOX.Work.2026"', b"INBOX.", ("Work", "2026")),
        (rb'(\HasNoChildren) "." "INBOX"', b"INBOX.", ()),
        (rb'() "/" "Gr&APYA3w-e"', b"", ("Größe",)),
        (rb'() "/" "a \"quoted\" \\ name"', b"", ('a "quoted" \\ name',)),
        (rb'() "." "a/b.c"', b"", ("a_b", "c")),
        (rb'() NIL "flat/name"', b"", ("flat_name",)),
        ((rb'() "/" {7}', b'a"b/c\\d'), b"", ('a"b', "c\\d")),
    ],
)
def test_folders(answer: object, prefix: bytes, parts: tuple[str, ...]) -> None:
    found = listing.mailbox(answer, prefix)
    assert found and found.parts == parts and found.holds and not found.virtual


def test_uses_and_what_only_shows_others() -> None:
    sent = listing.mailbox(rb'(\HasNoChildren \Sent) "/" "Gesendet"')
    every = listing.mailbox(rb'(\All \HasNoChildren) "/" "[Gmail]/All Mail"')
    above = listing.mailbox(rb'(\Noselect \HasChildren) "/" "[Gmail]"')
    assert sent and sent.use == "Sent"
    assert every and every.virtual and every.holds
    important = listing.mailbox(rb'(\HasNoChildren \Important) "/" "[Gmail]/Important"')
    assert important and important.virtual and important.holds
    assert above and not above.holds
    assert listing.mailbox(b"nonsense") is None


@pytest.mark.parametrize(
    ("answer", "own", "foreign"),
    [
        (rb'(("" "/")) NIL NIL', b"", ()),
        (rb'(("INBOX." ".")) NIL (("shared." "."))', b"INBOX.", (b"shared.",)),
        (rb'(("" "/")) (("Other Users/" "/")) (("Public/" "/"))', b"", (b"Other Users/", b"Public/")),
        (rb'(("a) (" "/")) NIL NIL', b"a) (", ()),
    ],
)  # fmt: skip
def test_namespaces(answer: bytes, own: bytes, foreign: tuple[bytes, ...]) -> None:
    assert listing.personal([answer]) == own and listing.others([answer]) == foreign


def test_rows() -> None:
    said = (
        rb'1 (RFC822.SIZE 4711 UID 5 FLAGS (\Seen \Recent \FLAGGED $Label1) '
        rb'INTERNALDATE " 3-Jan-2026 14:05:06 +0200")'
    )  # fmt: skip
    moment = calendar.timegm((2026, 1, 3, 12, 5, 6, 0, 0, 0))
    assert listing.row(said) == Row(5, 4711, moment, "FS", ("$Label1",))
    assert listing.row(rb"2 (FLAGS (\Seen))") is None


def test_bodies_by_their_uids_wherever_these_stand() -> None:
    answer = [
        (b"1 (UID 5 BODY[] {3}", b"abc"), b")",
        b"7 (FLAGS (\\Seen))",
        (b"2 (BODY[] {1}", b"d"), b" UID 6)",
    ]  # fmt: skip
    assert [*listing.bodies(answer)] == [(5, b"abc"), (6, b"d")]


def test_batches_are_small_and_complete() -> None:
    rows = [Row(it, 10, 0.0, "", ()) for it in range(7)]
    assert [[one.uid for one in it] for it in listing.batches(rows, 30, 9)] == [[0, 1, 2], [3, 4, 5], [6]]  # fmt: skip
    assert [len(it) for it in listing.batches(rows, 1000, 4)] == [4, 3]
    assert [len(it) for it in listing.batches(rows, 5, 4)] == [1] * 7
