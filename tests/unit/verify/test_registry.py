"""The registry: complete, documented, and choosing what was asked for."""

import ast
import re
from pathlib import Path

import pytest

from mastio.errors import Exit, MastioError
from mastio.verify import registry
from mastio.verify.model import Severity
from mastio.verify.registry import CHECKS
from tests import sites
from tests.lab.sabotage import SABOTAGE

ROOT = Path(__file__).parents[3]
SITES = (sites.demo_site(), sites.split_site())


def test_identifiers_are_unique() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda it: it.id)
def test_every_check_says_all_that_a_person_needs(check: registry.Check) -> None:
    assert re.fullmatch(r"[A-Z]\d+", check.id)
    for words in (check.title, check.probe, check.passes, check.source, check.remedy):
        assert words.strip() and words == words.strip()
    assert check.remedy.endswith(".") and not check.title.endswith(".")
    assert check.run.__doc__, "say what holds when it passes"
    assert all(check.vantages(site) for site in SITES)
    assert 0 < check.seconds <= 600


def test_the_reference_is_up_to_date() -> None:
    text = (ROOT / "docs/reference/checks.md").read_text()
    assert text == registry.reference(), "write registry.reference() to docs/reference/checks.md"


ELSEWHERE = {
    "A1": ("test_verify", "test_a_weak_password_is_found"),
    "A2": ("test_verify", "test_what_the_full_set_alone_looks_for_is_found"),
    "B1": ("test_backup", "test_what_somebody_writes_into_a_repository_is_seen"),
    "B3": ("test_backup", "test_a_machine_that_is_broken_into_destroys_nothing"),
    "B4": ("test_backup", "test_an_unreachable_machine_and_old_archives_are_told"),
    "D10": ("test_verify", "test_a_parked_domain_that_takes_mail_is_found"),
    "I1": (
        "test_integrity",
        "test_all_that_an_intruder_does_is_named_whatever_aide_is_on_the_machine",
    ),
    "I2": ("test_integrity", "test_an_edit_on_watch_is_told_and_nothing_is_compared_with_it"),
    "I3": ("test_integrity", "test_silence_is_told"),
    "L2": ("test_logbook", "test_a_letter_that_was_exchanged_is_told_by_the_nightly_proof"),
    "L3": ("test_logs", "test_a_watch_that_believes_what_machines_call_themselves_is_found"),
    "L4": ("test_logbook", "test_a_machine_that_falls_silent_is_told_once_and_well_again"),
    "L5": ("test_digest", "test_it_waits_for_those_alone_who_did_not_take_it"),
    "N10": ("test_clients", "test_verify_sees_from_the_tunnel_what_is_open_to_devices"),
    "N4": ("test_verify", "test_what_the_full_set_alone_looks_for_is_found"),
    "N9": ("test_joined", "test_a_dead_tunnel_and_a_way_around_it_are_found"),
    "P4": ("test_verify", "test_what_the_full_set_alone_looks_for_is_found"),
    "R7": ("test_verify", "test_what_the_full_set_alone_looks_for_is_found"),
    "X1": ("test_verify", "test_other_peoples_tools_are_heard"),
    "X2": ("test_verify", "test_other_peoples_tools_are_heard"),
    "X3": ("test_verify", "test_other_peoples_tools_are_heard"),
}
"""The test of each check whose sabotage needs more than a row of a table."""


def test_every_check_has_a_test_in_which_it_fires() -> None:
    """On real machines: a row of the table of sabotage, or a test of its own that names it."""
    rows = {name for one in SABOTAGE for name in one.expected}
    assert {check.id for check in CHECKS} == rows | {*ELSEWHERE}
    for name, (file, function) in ELSEWHERE.items():
        tree = ast.parse((ROOT / f"tests/lab/{file}.py").read_text())
        (found,) = (
            it for it in tree.body if isinstance(it, ast.FunctionDef) and it.name == function
        )
        words = {it.value for it in ast.walk(found) if isinstance(it, ast.Constant)}
        named = {
            one for it in words if isinstance(it, str) for one in re.findall(r"\b[A-Z]\d+\b", it)
        }
        assert name in named, f"{function} does not name {name}"


def test_choosing() -> None:
    site = sites.demo_site()
    fast = registry.choose(site, full=False)
    assert not any(check.full for check in fast)
    assert registry.choose(site, full=True) == CHECKS
    assert [it.id for it in registry.choose(site, full=False, only=["N3"])] == ["N3"]
    core = registry.choose(site, full=True, zones=["core"])
    assert {"W5", "N2"} <= {it.id for it in core} and "W1" not in {it.id for it in core}
    worst = registry.choose(site, full=True, severities=[Severity.CRITICAL])
    assert worst and all(it.severity is Severity.CRITICAL for it in worst)


@pytest.mark.parametrize("wrong", [{"only": ["X9"]}, {"zones": ["moon"]}])
def test_what_does_not_exist_is_refused(wrong: dict[str, list[str]]) -> None:
    with pytest.raises(MastioError, match="no such") as caught:
        registry.choose(sites.demo_site(), full=False, **wrong)
    assert caught.value.code is Exit.USAGE
