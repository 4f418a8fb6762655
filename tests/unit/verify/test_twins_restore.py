"""Broken twins of B2: what is archived can be restored."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from mastio.errors import MastioError
from mastio.site.model import Reach
from mastio.verify.checks import restore
from mastio.verify.vantage import NotRunError, Vantage
from tests import sites
from tests.unit.verify.fakes import ground

DAY = 86_400.0


def at(monkeypatch: pytest.MonkeyPatch, reach: Reach = Reach.SSH, **what: Any) -> Vantage:
    """Watch, whose last drill was good an hour ago but for what is said."""
    hour = time.time() - 3600
    said = json.dumps(
        {"at": hour, "good": True, "last_good": hour, "wrong": 0, "overdue": 10} | what
    )
    monkeypatch.setattr(Vantage, "ask", lambda *_: said)
    site = replace(sites.demo_site(), reach=reach)
    return Vantage("watch", ground(None, site), time.monotonic() + 10)


def test_b2_a_good_drill_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [*restore.drilled(at(monkeypatch))] == []


def test_b2_a_drill_that_was_not_good(monkeypatch: pytest.MonkeyPatch) -> None:
    (words,) = restore.drilled(at(monkeypatch, good=False, wrong=3))
    assert words == "the last drill could not restore what was archived: 3 findings"
    assert "no drill was ever good" in [
        *restore.drilled(at(monkeypatch, good=False, last_good=0.0))
    ]


def test_b2_a_good_drill_of_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    (words,) = restore.drilled(at(monkeypatch, last_good=time.time() - 11 * DAY))
    assert words == "the last good drill was 11 days ago"


def test_b2_in_the_lab_nobody_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise MastioError("No such file")

    lab, real = at(monkeypatch, Reach.LAB), at(monkeypatch)
    monkeypatch.setattr(Vantage, "ask", missing)
    with pytest.raises(NotRunError):
        list(restore.drilled(lab))
    with pytest.raises(MastioError, match="no drill was run yet"):
        list(restore.drilled(real))
