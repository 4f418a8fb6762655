"""Broken twins of intrusion detection: I4."""

from dataclasses import replace
from time import monotonic
from typing import Any

import pytest

from mastio import intrusion
from mastio.flows import expand
from mastio.site.model import Intrusion
from mastio.transport import OUTSIDE
from mastio.verify.checks import intrusion as checks
from mastio.verify.probes import host
from mastio.verify.probes import intrusion as probes
from mastio.verify.vantage import NotRunError, Vantage
from tests import sites
from tests.unit.verify.fakes import ground, vantage

RULES = intrusion.rules(expand(sites.demo_site()))


def answering(
    monkeypatch: pytest.MonkeyPatch, listening: int = 4, rules: str | None = RULES, heard: bool = True
) -> list[str]:  # fmt: skip
    """Every probe answers as on a sound firewall, but for this; what was said from outside."""
    said: list[str] = []

    def answer(self: Vantage, function: object, *args: Any) -> Any:
        if function is probes.say:
            said.append(args[2])
        return {
            probes.listening: listening, host.exists: [] if rules is None else [args[0]], host.text: rules,
            probes.ends: {}, probes.say: "", probes.heard: heard,
        }[function]  # fmt: skip

    monkeypatch.setattr(Vantage, "ask", answer)
    return said


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({}, []),
        ({"listening": 0}, ["Suricata does not run on firewall"]),
        ({"listening": 3}, ["Suricata listens on 3 of 4 segments"]),
        ({"rules": ""}, ["/etc/suricata/rules/mastio.rules is not what the flow matrix says"]),
        ({"rules": None}, ["/etc/suricata/rules/mastio.rules is not there"]),
    ],
)
def test_i4_on_the_firewall(
    monkeypatch: pytest.MonkeyPatch, broken: dict[str, Any], words: list[str]
) -> None:
    answering(monkeypatch, **broken)
    assert [*checks.sees(vantage("firewall"))] == words


def test_i4_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    said = answering(monkeypatch)
    assert [*checks.sees(vantage(OUTSIDE))] == [] and len(said) == 1
    said = answering(monkeypatch, heard=False)
    (words,) = checks.sees(vantage(OUTSIDE))
    assert words == "http at webmail (203.0.113.1) was spoken SSH to, and no alert came to watch"
    assert len({*said}) == 3


def test_i4_has_nothing_to_look_at_where_it_is_switched_off() -> None:
    for site in (
        replace(sites.demo_site(), ids=Intrusion(enabled=False)),
        sites.single_site(),
    ):
        with pytest.raises(NotRunError):
            list(checks.sees(Vantage(OUTSIDE, ground(site=site), monotonic() + 10)))
