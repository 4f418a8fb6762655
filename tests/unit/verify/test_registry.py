"""The registry: complete, documented, and choosing what was asked for."""

import re
from pathlib import Path

import pytest

from mastio.errors import Exit, MastioError
from mastio.verify import registry
from mastio.verify.model import Severity
from mastio.verify.registry import CHECKS
from tests import sites

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


def test_every_check_has_a_test_in_which_it_fires() -> None:
    """On real machines: a sabotage in the lab."""
    files = "sabotage.py", "test_verify.py", "test_integrity.py", "test_backup.py"
    lab = "".join((ROOT / "tests/lab" / it).read_text() for it in files)
    proven = set(re.findall(r"\b[A-Z]\d+\b", lab))
    assert not {check.id for check in CHECKS} - proven


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
