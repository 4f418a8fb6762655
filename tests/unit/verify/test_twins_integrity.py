"""Broken twins of integrity: I1, I2, I3."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from mastio.errors import MastioError
from mastio.site.model import Reach
from mastio.verify.checks import integrity
from mastio.verify.vantage import NotRunError, Vantage
from tests import sites
from tests.unit.verify.fakes import ground

GOOD = {"verdict": "clean", "why": "", "differences": 0, "measured": 0.0, "tampered": False}


def at(
    monkeypatch: pytest.MonkeyPatch,
    reach: Reach = Reach.SSH,
    broken: tuple[str, ...] = (),
    **store: Any,
) -> Vantage:
    """Watch, where all is well but what is said of the store."""
    site = replace(sites.demo_site(), reach=reach)
    machines: dict[str, Any] = {it.name: {**GOOD, "measured": time.time()} for it in site.machines}
    machines["store"] |= store
    status = json.dumps({"machines": machines, "broken": broken})
    monkeypatch.setattr(Vantage, "ask", lambda *_: status)
    return Vantage("watch", ground(None, site), time.monotonic() + 10)


def test_all_well_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    vantage = at(monkeypatch)
    for check in integrity.CHECKS:
        assert [*check.run(vantage)] == [], check.id


def test_i1_a_difference_and_what_was_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [*integrity.clean(at(monkeypatch, verdict="differs", differences=3))]
    assert found == ["store: 3 differences that nobody accepted"]
    with pytest.raises(MastioError, match="no route"):
        list(integrity.clean(at(monkeypatch, verdict="could not be measured", why="no route")))


def test_i2_an_edit_on_watch_and_a_machine_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    (words,) = integrity.untouched(at(monkeypatch, broken=("tools/aide",)))
    assert "tools/aide was edited" in words
    (words,) = integrity.untouched(at(monkeypatch, tampered=True, why="refused: not the tools"))
    assert words == "store: refused: not the tools"


def test_i3_nobody_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    (words,) = integrity.alive(at(monkeypatch, measured=time.time() - 5 * 3600))
    assert words == "store was measured 5 hours ago"
    assert [*integrity.alive(at(monkeypatch, measured=0.0))] == ["store was never measured"]


def test_in_the_lab_nobody_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise MastioError("No such file")

    lab = at(monkeypatch, reach=Reach.LAB)
    monkeypatch.setattr(Vantage, "ask", missing)
    for check in (integrity.clean, integrity.alive):
        with pytest.raises(NotRunError):
            list(check(lab))
    with pytest.raises(MastioError, match="nothing was measured"):
        at_ssh = Vantage("watch", ground(None, sites.demo_site()), time.monotonic() + 10)
        list(
            integrity.clean(
                replace(at_ssh, ground=ground(None, replace(sites.demo_site(), reach=Reach.SSH)))
            )
        )
