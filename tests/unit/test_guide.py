"""The operations guide: every check and every kind of alarm has its page, and every page is for one of them."""

import re
import shlex
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
from tests.lab import guides
from tests.sites import demo_site

ROOT = Path(__file__).parent.parent.parent
CONTEXT = click.Context(click.Command("mastio"))
PARTS = ("Means", "First look", "Causes", "Mend", "Well again")
CHECKS = {it.id: guide.of_check(it.id) for it in registry.CHECKS}
HEADINGS = {guide.of_check(it.id): f"# {it.id}: {it.title}" for it in registry.CHECKS} | {
    guide.of_alarm(it): f"# Alarm: {it}" for it in guide.ALARMS
}
THERE = {
    str(page.relative_to(ROOT)): page.read_text()
    for page in (ROOT / guide.FOLDER).glob("*.md")
    if page.name != "README.md"
}


def test_every_check_and_alarm_has_its_page_and_every_page_belongs_to_one() -> None:
    assert len(HEADINGS) == len(registry.CHECKS) + len(guide.ALARMS)
    assert {place: text.partition("\n")[0] for place, text in THERE.items()} == HEADINGS


def test_the_index_has_every_page_once_by_its_name() -> None:
    index = (ROOT / guide.FOLDER / "README.md").read_text()
    listed = re.findall(r"^- \[(.+)\]\((.+)\)$", index, re.MULTILINE)
    assert len(listed) == len(HEADINGS)
    assert {f"{guide.FOLDER}/{file}": f"# {name}" for name, file in listed} == HEADINGS


@pytest.mark.parametrize("place", sorted(HEADINGS))
def test_a_page_says_all_that_somebody_needs_at_night(place: str) -> None:
    body = THERE[place]
    assert re.findall(r"^\*\*(.+?)\.\*\*", body, re.MULTILINE) == [*PARTS]
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


SPEAKING = sorted(
    (*(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.j2"))
)


def test_commands_that_are_named_are_there() -> None:
    """In pages, hints and help alike: who is told to type something must be able to."""
    named = 0
    for page in SPEAKING:
        for words in re.findall(r"`mastio ([a-z][^`]*)`", page.read_text()):
            command: click.Command = mastio
            for word in words.split():
                if not isinstance(command, click.Group):
                    break
                if not (found := command.get_command(CONTEXT, word)):
                    # What a group itself takes, or a choice of its commands: "show|release".
                    assert command.invoke_without_command or re.search("[|…{]", word), (page, words)
                    break
                command = found
            assert command is not mastio, (page, words)
            own = {name for it in command.params for name in (*it.opts, *it.secondary_opts)}
            given = {it for it in words.partition(" -- ")[0].split() if it.startswith("--")}
            assert "{" in words or given <= own | {"--help"}, (page, words)
            named += 1
    assert named


@pytest.mark.parametrize("page", sorted(it.name for it in guides.GUIDES.glob("*.md")))
def test_what_guides_have_somebody_type_is_understood(page: str) -> None:
    typed = "\n".join(guides.blocks(page)).replace("\\\n", " ")
    lines = [shlex.split(it, comments=True) for it in typed.splitlines() if "mastio " in it[:9]]
    assert lines
    for _, *words in lines:
        command: click.Command = mastio
        while isinstance(command, click.Group) and not words[0].startswith("-"):
            found = command.get_command(CONTEXT, words.pop(0))
            assert found, words
            command = found
        _, extra, _ = command.make_parser(click.Context(command)).parse_args(words)
        assert not extra, f"{command.name}: {extra}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / guide.FOLDER).glob("*.md"):
        for to in re.findall(r"\]\(([^)]*)\)", page.read_text()):
            assert (page.parent / to).exists(), (page, to)


def test_findings_and_alarms_name_their_page() -> None:
    check = next(it for it in registry.CHECKS if it.id == "N1")
    finding = Finding(check, "outside", Verdict.FAILED, ("tcp/23 answers",))
    run = Run("x", datetime.now(UTC), 1.0, False, (finding,))
    assert any(CHECKS["N1"] in it for _, it in text.lines(run))
    assert text.data(run)["findings"][0]["guide"] == CHECKS["N1"]  # type: ignore[index]
    assert CHECKS["N1"] in text.junit(run)
    bad = Alarm("x", "backup age store", Severity.HIGH, "s", "old\n", "failed", 1.0)
    assert (
        "docs/operations/alarm-backup-age.md"
        in alarm.message(bad, demo_site(), ["a@b.test"]).get_content()
    )
    well = replace(bad, verdict=alarm.WELL)
    assert "docs/operations" not in alarm.message(well, demo_site(), ["a@b.test"]).get_content()
