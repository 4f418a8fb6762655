"""Verification by itself: what is news, what is overdue, and alarms that are not lost."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mastio.flows import expand
from mastio.verify import history, registry, runner
from mastio.verify.model import Finding, Run, Verdict
from mastio.watch import alarm, schedule
from mastio.watch.bell import Bell
from mastio.watch.settings import FromWatch, Settings
from tests import sites
from tests.unit.verify.fakes import Says, ground
from tests.unit.verify.test_report import FINDINGS, RUN

SITE = sites.demo_site()
SETTINGS = Settings(
    "watch", {"store": ["ssh", "-i", "key", "root@store"]}, ["store"], "/dev/null", "/nowhere"
)
GOOD = FINDINGS[1]


def at(hours: float, *findings: Finding) -> Run:
    return replace(RUN, began=RUN.began + timedelta(hours=hours), findings=findings)


def past(*runs: Run) -> tuple[history.Past, ...]:
    return tuple(history.past(it) for it in runs)


def test_the_first_time_what_is_bad_is_news_and_what_is_good_is_none() -> None:
    assert schedule.news(at(0, GOOD), ()) == ()
    found = schedule.news(RUN, ())
    assert {it.now for it in found} == {Verdict.FAILED, Verdict.UNKNOWN}


def test_worse_and_better_are_news_the_same_is_none() -> None:
    bad = replace(GOOD, verdict=Verdict.FAILED, seen=("a hole",))
    assert schedule.news(at(1, bad), past(at(0, GOOD)))[0].now is Verdict.FAILED
    assert schedule.news(at(2, bad), past(at(0, GOOD), at(1, bad))) == ()
    (better,) = schedule.news(at(3, GOOD), past(at(0, GOOD), at(1, bad)))
    assert (better.was, better.now) == (Verdict.FAILED, Verdict.PASSED)
    accepted = replace(GOOD, verdict=Verdict.ACCEPTED)
    assert schedule.news(at(1, accepted), past(at(0, GOOD))) == ()


def test_an_alarm_says_what_and_what_to_do() -> None:
    bad = replace(GOOD, verdict=Verdict.FAILED, seen=("a hole",))
    run = at(1, bad)
    told = schedule.told(run, schedule.news(run, past(at(0, GOOD))))
    assert told.subject == "[demo] NOT as it should be: Z1"
    assert told.about == "verify full" and told.severity is bad.check.severity and not told.well
    assert "Z1@store: was passed, is failed" in told.text
    assert "a hole" in told.text and "Mend & go." in told.text and told.verdict == "failed"
    healed = at(2, GOOD)
    words = schedule.told(healed, schedule.news(healed, past(run)))
    assert words.subject == "[demo] well again: Z1" and words.well


def test_silence_is_said_and_that_it_ended(tmp_path: Path) -> None:
    hour = 3600.0
    (tmp_path / "full.json").write_text("{}")
    now = (tmp_path / "full.json").stat().st_mtime
    assert all(it.well for it in schedule.overdue(tmp_path, SITE, now + hour, now))
    late, well = schedule.overdue(tmp_path, SITE, now + 4 * hour, now)
    assert late.subject == "[demo] verification has not run: fast" and not late.well and well.well
    both = schedule.overdue(tmp_path, SITE, now + 40 * hour, now + 5 * hour)
    assert [it.subject[-4:] for it in both] == ["fast", "full"]
    assert not any(it.well for it in both) and both[0].about != both[1].about


def test_watch_runs_its_own_commands_and_calls_the_others(tmp_path: Path) -> None:
    way = FromWatch(SETTINGS, tmp_path)
    assert way.argv("watch", ["true"]) == ["true"]
    called = way.argv("store", ["echo", "a b"])
    assert called[:3] == ["ssh", "-i", "key"] and called[-3:] == ["--", "root@store", "echo 'a b'"]
    assert way.lost(255) and not way.lost(1)


def test_what_cannot_be_kept_is_told_all_the_same(tmp_path: Path) -> None:
    bell = Bell(tmp_path / "alarms", SITE)
    (tmp_path / "full.html").mkdir()  # as a full disk would
    bad = at(1, replace(GOOD, verdict=Verdict.FAILED, seen=("a hole",)))
    with pytest.raises(OSError, match=r"full\.html"):
        schedule.keep(tmp_path, bad, expand(SITE), bell)
    assert "Z1@store: was passed, is failed" in bell.book["verify full"].alarm.text
    assert json.loads((tmp_path / "full.json").read_text())["verdict"] == "failed"


def test_what_could_not_be_told_is_news_the_next_time_again(tmp_path: Path) -> None:
    away = tmp_path / "alarms"
    away.write_text("")
    bell = Bell(away, SITE)
    bad = replace(GOOD, verdict=Verdict.FAILED, seen=("a hole",))
    with pytest.raises(FileExistsError):
        schedule.keep(tmp_path, at(1, bad), expand(SITE), bell)
    assert history.load(tmp_path) == ()
    away.unlink()
    schedule.keep(tmp_path, at(2, bad), expand(SITE), bell)
    schedule.keep(tmp_path, at(3, bad), expand(SITE), bell)
    assert bell.book["verify full"].times == 1 and len(history.load(tmp_path)) == 2


def test_a_program_with_an_odd_name_is_told_and_kept(tmp_path: Path) -> None:
    """Whoever has a machine has it answer whatever he likes."""
    odd = "\ud800\x1b[2J\nAll green"
    answer = [["tcp", "192.0.2.1", 99, odd, ["/x"]], ["tcp", "10.77.3.10", 993, "dovecot", [odd]]]
    says = ground(Says(json.dumps({"answer": answer})))
    run = runner.run(
        says, registry.choose(SITE, full=False, only=["H1"]), lambda *_: None, at=["store"]
    )
    bell = Bell(tmp_path / "alarms", SITE)
    schedule.keep(tmp_path, run, expand(SITE), bell)
    told = alarm.message(bell.book["verify fast"].alarm, SITE, ["a@fortress.test"])
    page = (tmp_path / "fast.html").read_text()
    for words in (
        r"store: \ud800\x1b[2J\nAll green listens on 192.0.2.1 99/tcp",
        r"store: 10.77.3.10 993/tcp is held by \ud800\x1b[2J\nAll green, not /usr/sbin/dovecot",
    ):
        assert words in told.get_content() and words in page
    (found,) = run.findings
    assert all(it.isprintable() for it in found.seen)


def test_reports_are_kept_for_who_asks(tmp_path: Path) -> None:
    history.save(tmp_path, RUN)
    assert json.loads(next((tmp_path / "history").glob("*.json")).read_text())["full"]
