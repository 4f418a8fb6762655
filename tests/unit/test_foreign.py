"""Words that others wrote can be printed, whatever they are."""

import pytest

from mastio.errors import MastioError
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


def test_an_error_may_tell_what_a_machine_said() -> None:
    error = MastioError("store: \x1b[2J\nno", hint="\ud800")
    assert (error.message, error.hint) == ("store: \\x1b[2J\nno", r"\ud800")
    assert str(error) == error.message
