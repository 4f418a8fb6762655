"""`mastio digest`: which time is meant."""

from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from mastio.cli.common import App
from mastio.cli.digest import digest, period
from mastio.errors import MastioError

NOW = datetime(2026, 11, 24, 21, 55, tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "since", "expected"),
    [
        ("", "", ("2026-11-23T22", "2026-11-24T22")),
        ("", "6h", ("2026-11-24T16", "2026-11-24T22")),
        ("", "2d", ("2026-11-22T22", "2026-11-24T22")),
        ("today", "", ("2026-11-24T00", "2026-11-25T00")),
        ("yesterday", "", ("2026-11-23T00", "2026-11-24T00")),
        ("2026-02-28", "", ("2026-02-28T00", "2026-03-01T00")),
    ],
)
def test_a_time(day: str, since: str, expected: tuple[str, str]) -> None:
    assert period(day, since, NOW) == expected


@pytest.mark.parametrize(
    ("day", "since"), [("tomorrow", ""), ("24.11.", ""), ("", "x"), ("", "0h"), ("", "40d")]
)
def test_no_time(day: str, since: str) -> None:
    with pytest.raises(MastioError):
        period(day, since, NOW)


@pytest.mark.parametrize("argv", [["--day", "today", "--since", "6h"], ["--mail", "--since", "6h"]])
def test_what_does_not_go_together(argv: list[str]) -> None:
    result = CliRunner().invoke(digest, argv, obj=App("/nowhere"))
    assert isinstance(result.exception, MastioError)
