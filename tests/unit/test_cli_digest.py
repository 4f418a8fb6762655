"""`mastio digest`: which time is meant."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from mastio.cli.common import App
from mastio.cli.digest import digest, period
from mastio.errors import MastioError
from mastio.site.model import Role
from tests import sites

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


def test_a_site_without_a_watch_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    site = sites.demo_site()
    machines = tuple(it for it in site.machines if not it.has(Role.WATCH))
    monkeypatch.setattr(App, "site", lambda _: replace(site, machines=machines))
    error = CliRunner().invoke(digest, [], obj=App("/nowhere")).exception
    assert isinstance(error, MastioError) and "no machine of this site watches" in error.message
    assert "mastio apply" in error.hint
