"""Words that others wrote can be printed, whatever they are."""

import pytest

from mastio.foreign import printable


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("store: sshd – é", "store: sshd – é"),
        ("a\nb", r"a\nb"),
        ("\x1b[2J\x00", r"\x1b[2J\x00"),
        ("\ud800 \udcff", r"\ud800 \udcff"),
        ("a\u202eb", r"a\u202eb"),
    ],
)
def test_what_cannot_be_seen_is_shown(words: str, shown: str) -> None:
    assert printable(words) == shown
    assert printable(shown) == shown
    assert shown.isprintable() and shown.encode()


def test_lines_may_stay_lines() -> None:
    assert printable("a\nb\r\n\ud800", keep="\n") == "a\nb\\r\n\\ud800"
