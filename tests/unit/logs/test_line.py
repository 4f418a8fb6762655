"""A log line, taken apart; and the times that a person may type."""

from datetime import datetime

import pytest

from mastio.cli.logs import since
from mastio.logs.line import read

AT = "2026-11-24T22:03:30.177463+00:00"


def test_a_line_has_its_parts() -> None:
    line = read(f"{AT} gateway {AT} mail.info postfix/relay/smtpd[18]: 4jY: client=a[::1]: b\n")
    assert line
    assert (line.machine, line.level, line.program, line.process) == (
        "gateway", "mail.info", "postfix/relay/smtpd", "18",
    )  # fmt: skip
    assert line.text == "4jY: client=a[::1]: b"


def test_a_tag_without_a_process() -> None:
    line = read(f"{AT} store {AT} mail.info dovecot: lmtp(9): Connect from local")
    assert line and (line.program, line.process) == ("dovecot", "")
    assert line.text == "lmtp(9): Connect from local"


@pytest.mark.parametrize("text", ["", "a b c d e", f"{AT} gateway yesterday mail.info x: y"])
def test_what_is_no_line(text: str) -> None:
    assert read(text) is None


def test_times_as_people_type_them() -> None:
    assert since("2h", 10_000) == 10_000 - 7200
    assert since("1.5 d", 0) == -129_600
    assert since("2026-11-24T10:00", 0) == datetime(2026, 11, 24, 10).timestamp()
    for wrong in ("yesterday", "-2h", "2 parsecs", ""):
        with pytest.raises(ValueError):
            since(wrong, 0)
