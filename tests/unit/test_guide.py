"""The operations guide: every check and every kind of alarm has its place, and every place is for one of them."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from mastio import guide
from mastio.cli.main import cli as mastio
from mastio.report import verify as text
from mastio.verify import registry
from mastio.verify.model import Finding, Run, Severity, Verdict
from mastio.watch import alarm
from mastio.watch.alarm import Alarm
from tests.sites import demo_site

ROOT = Path(__file__).parent.parent.parent
CONTEXT = click.Context(click.Command("mastio"))
PARTS = ("Means", "First look", "Causes", "Mend", "Well again")
CHECKS = {it.id: guide.of_check(it.id, it.family) for it in registry.CHECKS}
PLACES = {*CHECKS.values(), *map(guide.of_alarm, guide.ALARMS)}


def sections(page: Path) -> dict[str, str]:
    """Each section's place, and its text. Anchors are made as GitHub makes them."""
    _, *parts = re.split(r"^## (.+)$", page.read_text(), flags=re.MULTILINE)
    anchors = [re.sub(r"[^\w -]", "", it).strip().lower().replace(" ", "-") for it in parts[::2]]
    assert len({*anchors}) == len(anchors), page
    here = page.relative_to(ROOT)
    return {f"{here}#{it}": body for it, body in zip(anchors, parts[1::2], strict=True)}


THERE = {
    place: body
    for page in sorted((ROOT / guide.FOLDER).glob("*.md"))
    if page.name != "README.md"
    for place, body in sections(page).items()
}


def test_every_check_and_alarm_has_its_place_and_every_place_belongs_to_one() -> None:
    assert {*THERE} == PLACES


@pytest.mark.parametrize("place", sorted(PLACES))
def test_a_place_says_all_that_somebody_needs_at_night(place: str) -> None:
    body = THERE[place]
    assert [it for it in PARTS if f"**{it}.**" not in body] == []
    look = body.partition("**First look.**")[2].partition("**Causes.**")[0]
    assert "`" in look, "exact commands"


def test_alarms_are_known_by_what_they_are_about() -> None:
    # As watch raises them; a kind that begins like another is not taken for it.
    for about, kind in (
        ("verify fast", "verify"), ("verification by itself (full)", "verification by itself"), ("logs (life)", "logs"),
        ("backup store", "backup"), ("backup session store", "backup session"), ("backup tidying", "backup tidying"),
        ("backup copy age store", "backup copy age"), ("drill restore", "drill restore"), ("drills", "drills"),
        ("queue gateway", "queue"), ("certificate days mx.fortress.test", "certificate days"), ("comet", ""),
    ):  # fmt: skip
        assert guide.kind(about) == kind, about
    assert guide.of_alarm("comet") == "docs/operations/README.md"


def test_every_kind_of_alarm_that_watch_raises_is_known() -> None:
    folder = ROOT / "src" / "mastio" / "watch"
    source = "".join(it.read_text() for it in folder.glob("*.py"))
    raised = re.findall(
        r'f"((?:backup|certificate|updates|updating|measuring|integrity|logs|intrusion)(?: [a-z]+)*) [({]',
        source,
    )
    assert raised and all(guide.kind(f"{it} x") == it for it in raised), raised


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("[go]*/*.md")), ids=lambda it: it.stem)
def test_commands_that_pages_name_are_there(page: Path) -> None:
    for words in re.findall(r"`mastio ([a-z][^`]*)`", page.read_text()):
        command: click.Command = mastio
        for word in words.split():
            if not isinstance(command, click.Group) or not (
                found := command.get_command(CONTEXT, word)
            ):
                break
            command = found
        known = {name for it in command.params for name in (*it.opts, *it.secondary_opts)}
        assert command is not mastio, words
        assert {it for it in words.split() if it.startswith("--")} <= known, words


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / guide.FOLDER).glob("*.md"):
        for to in re.findall(r"\]\(([^)#]*\.md)?(#[a-z0-9-]+)?\)", page.read_text()):
            target = (page.parent / to[0]).resolve() if to[0] else page
            assert target.exists(), (page, to)
            if to[1] and target.parent.name == "operations":
                assert f"{target.relative_to(ROOT)}{to[1]}" in THERE, (page, to)


def test_findings_and_alarms_name_their_place() -> None:
    check = next(it for it in registry.CHECKS if it.id == "N1")
    finding = Finding(check, "outside", Verdict.FAILED, ("tcp/23 answers",))
    run = Run("x", datetime.now(UTC), 1.0, False, (finding,))
    assert any(CHECKS["N1"] in it for _, it in text.lines(run))
    assert text.data(run)["findings"][0]["guide"] == CHECKS["N1"]  # type: ignore[index]
    assert CHECKS["N1"] in text.junit(run)
    bad = Alarm("x", "backup age store", Severity.HIGH, "s", "old\n", "failed", 1.0)
    assert (
        "docs/operations/backup.md#alarm-backup-age"
        in alarm.message(bad, demo_site(), ["a@b.test"]).get_content()
    )
    well = replace(bad, verdict=alarm.WELL)
    assert "docs/operations" not in alarm.message(well, demo_site(), ["a@b.test"]).get_content()
