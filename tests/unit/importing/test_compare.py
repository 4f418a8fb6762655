"""What a mailbox lacks, by content: nothing twice, nothing lost."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mastio.importing.compare import compare
from mastio.importing.message import Message, digest, title


def message(folder: str, text: str) -> Message:
    return Message.of(folder, text.encode(), 0.0, "", (), bytes)


def names(*pairs: str) -> list[Message]:
    return [message(*it.split(":")) for it in pairs]


def have(*pairs: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for it in names(*pairs):
        found.setdefault(it.folder, []).append(it.digest)
    return found


def test_an_empty_mailbox_lacks_all() -> None:
    found = compare(names("INBOX:a", "Work:b"), {})
    assert len(found.missing) == 2 and found.octets == 2


def test_what_is_there_does_not_come_nor_what_was_moved() -> None:
    found = compare(names("INBOX:a", "INBOX:b", "Work:c"), have("INBOX:a", "Trash:b"))
    assert [it.folder for it in found.missing] == ["Work"]
    assert (found.there, found.elsewhere) == (1, 1)


def test_a_second_copy_comes_when_there_are_two() -> None:
    # One in each of two folders; the store has the one in the inbox.
    found = compare(names("Work:a", "INBOX:a"), have("INBOX:a"))
    assert [it.folder for it in found.missing] == ["Work"] and found.there == 1
    assert len(compare(names("INBOX:a", "INBOX:a"), have("INBOX:a")).missing) == 1


def test_an_altered_message_is_missing() -> None:
    assert len(compare(names("INBOX:a"), have("INBOX:A")).missing) == 1


def test_lines_may_end_otherwise() -> None:
    assert digest(b"a\r\n\r\nb\r\n") == digest(b"a\n\nb\n") != digest(b"a\n\rb\n")
    assert message("x", "a\r\nb").size == 3


def test_messages_are_named_by_their_id() -> None:
    assert title(b"A: b\r\nMessage-Id: <x@y>\r\n\r\n") == "<x@y>"
    assert title(b"A: b\n\nMessage-ID: <in@text>\n") == ""


_MESSAGES = st.lists(
    st.builds(message, st.sampled_from(["INBOX", "Work", "Sent"]), st.sampled_from("abc")),
    max_size=12,
)


@given(_MESSAGES, _MESSAGES)
def test_after_one_run_there_is_enough_and_never_too_much(
    wanted: list[Message], there: list[Message]
) -> None:
    def by_folder(rows: list[Message]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for it in rows:
            found.setdefault(it.folder, []).append(it.digest)
        return found

    first = compare(wanted, by_folder(there))
    after = [*there, *first.missing]
    assert compare(wanted, by_folder(after)).missing == ()
    shall, were, are = (Counter(it.digest for it in rows) for rows in (wanted, there, after))
    assert all(are[it] == max(shall[it], were[it]) for it in are | shall)
    assert first.there + first.elsewhere + len(first.missing) == len(wanted)


def test_keywords_are_what_imap_can_hold() -> None:
    one = Message.of("x", b"", 0.0, "SSx", ("$Label1", "a b", "ü]", "$Label1"), bytes)
    assert (one.flags, one.keywords) == ("S", ("$Label1", "__", "a_b"))
