"""Verification by itself: what is news, what is overdue, and alarms that are not lost."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from mastio.verify import history
from mastio.verify.model import Finding, Run, Verdict
from mastio.watch import schedule
from mastio.watch.settings import FromWatch, Settings
from tests import sites
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


def test_reports_are_kept_for_who_asks(tmp_path: Path) -> None:
    history.save(tmp_path, RUN)
    assert json.loads(next((tmp_path / "history").glob("*.json")).read_text())["full"]
