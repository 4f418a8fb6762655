"""How the site stands: each part says what needs a person, has a clean twin, and is told when nothing is known."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from mastio.context import ALARMS
from mastio.digest import standing
from mastio.digest.judge import needs
from mastio.digest.need import Level, Need
from mastio.report import digest as report
from mastio.report import status as status_report
from mastio.roles.backup import STATUS as BACKUPS
from mastio.roles.inspection import GLANCE
from mastio.roles.integrity import FOLDER as INTEGRITY
from mastio.roles.patching import KNOWN
from mastio.roles.restore import VERDICT
from mastio.status.glance import Glance
from mastio.watch import patching
from mastio.watch.rounds import Record
from tests.unit.digest.test_judge import calm, digest
from tests.unit.status.test_glance import FACTS, SETS

NOW = 1_795_000_000.0
STATUS, BOOK, WAYS = f"{INTEGRITY}/status.json", f"{ALARMS}/book.json", f"{ALARMS}/ways.json"
MEASURED = {
    "verdict": "clean",
    "why": "",
    "differences": 0,
    "measured": NOW - 600,
    "tampered": False,
}
ARCHIVED = {
    "newest": NOW - 600, "limit": 3600.0, "archives": 7, "octets": 5_000_000, "refused": [], "damaged": "",
}  # fmt: skip
PATCHED = {
    "last": {"began": NOW - 3600, "error": "", "worse": []}, "good": NOW - 3600, "since": NOW - 9e6, "why": "",
    "waiting": [], "reboot": False, "support": {"over": False}, "counts": {"high": {"all": 1, "fixed": 0}}, "age": 9.0,
}  # fmt: skip


def found(**facts: Any) -> dict[str, Any]:
    """A site of one machine that is well, but for `facts` of a glance at it."""
    seen = Glance("demo", {"store": {**FACTS, **facts}}, SETS, None)
    return {
        GLANCE: json.loads(json.dumps({"at": NOW - 60, **status_report.data(seen)})),
        KNOWN: {"at": NOW - 3600, "machines": {"store": deepcopy(PATCHED)}},
        VERDICT: {"at": NOW - 9e4, "good": True, "last_good": NOW - 9e4, "wrong": 0, "overdue": 10},
        BACKUPS: {"machines": {"store": dict(ARCHIVED)}},
        STATUS: {"machines": {"store": dict(MEASURED)}, "broken": []},
    }


def told(known: dict[str, Any]) -> list[Need]:
    sections = standing.sections(known, ["store"], NOW)
    return needs(digest(calm(), standing=sections))


def test_a_site_that_is_well_needs_nobody_and_is_told() -> None:
    assert told(found()) == []
    made = digest(calm(), standing=standing.sections(found(), ["store"], NOW))
    text, page, data = report.text(made), report.html(made), report.data(made)
    assert "store  50% of /var used; queue 3 (2 put off), the oldest for 1 min" in text
    for words in (
        "50% of /var used",
        "updated 2026-11-18 10:06 UTC",
        "1 high vulnerabilities",
        "clean, 2026-11-18",
    ):
        assert words in text and words in page and words in json.dumps(data), words


def alarmed(severity: str, answered: str = "", number: int = 1) -> dict[str, Any]:
    alarm = {"subject": "[demo] logs are NOT as they should be: store silent", "severity": severity}
    one = {"alarm": alarm, "since": NOW - 600, "answered": answered}
    return {**found(), BOOK: {f"logs {it}": one for it in range(number)}}


def test_open_alarms_are_told_and_need_a_person_until_one_answers() -> None:
    (need,) = told(alarmed("high"))
    assert need == Need(Level.ACT, "1 alarm is open that nobody has answered: logs 0", "mastio alarms")  # fmt: skip
    (need,) = told(alarmed("medium", number=6))
    assert need.level is Level.LOOK
    assert need.words.startswith("6 alarms are open") and need.words.endswith("logs 3 and 2 more")
    known = alarmed("critical", answered="eve: a test")
    assert told(known) == []
    section = standing.sections(known, ["store"], NOW)[0]
    (row,) = section.rows
    assert row.words == (
        "logs are NOT as they should be: store silent, since 2026-11-18 10:56 UTC; answered by eve: a test"
    )
    for none in ({BOOK: {}}, {}):
        section = standing.sections({**found(), **none}, ["store"], NOW)[0]
        assert section.rows == (standing.Row("none is open", ""),)


def test_a_way_that_does_not_work_needs_a_person() -> None:
    ways = {"webhook": {"since": NOW - 600, "words": "'x': Connection refused"}}
    (need,) = told({**found(), WAYS: ways})
    assert need == Need(
        Level.ACT, "alarms do not leave by webhook since 2026-11-18 10:56 UTC: 'x': Connection refused", "mastio alarms",
    )  # fmt: skip
    assert told({**found(), WAYS: {}}) == []


def updates(**what: Any) -> dict[str, Any]:
    known = found()
    known[KNOWN]["machines"]["store"] |= what
    return known


def integrity(**what: Any) -> dict[str, Any]:
    known = found()
    known[STATUS]["machines"]["store"] |= what
    return known


def backups(**what: Any) -> dict[str, Any]:
    known = found()
    known[BACKUPS]["machines"]["store"] |= what
    return known


def drills(**what: Any) -> dict[str, Any]:
    known = found()
    known[VERDICT] |= what
    return known


def edited() -> dict[str, Any]:
    known = found()
    known[STATUS]["broken"] = ["tools/aide.gz"]
    return known


def old_glance() -> dict[str, Any]:
    known = found()
    known[GLANCE]["at"] = NOW - 7200
    return known


@pytest.mark.parametrize(
    ("known", "level", "words"),
    [
        (found(queue={**FACTS["queue"], "oldest": 18_000.0}), Level.ACT, "store: mail waits for 5.0 h"),
        (found(disks=[{**FACTS["disks"][0], "available": 2}]), Level.ACT, "store: octets of / are 98% used"),
        (found(disks=[{**FACTS["disks"][0], "available": 10}]), Level.LOOK, "store: octets of / are 90% used"),
        (old_glance(), Level.LOOK, "nobody has looked at the machines since"),
        (updates(good=NOW - 8 * 86_400), Level.ACT, "store was not updated for a week"),
        (updates(last={"error": "no disk", "worse": []}), Level.ACT, "updates of store: no disk"),
        (updates(last={"error": "", "worse": ["H1: x"]}), Level.ACT, "worse than before: H1: x"),
        (updates(support={"over": True}), Level.ACT, "mends nothing on store"),
        (updates(reboot=True), Level.LOOK, "store should be rebooted"),
        (updates(counts={"high": {"all": 2, "fixed": 1}}), Level.LOOK, "1 severe vulnerabilities"),
        (updates(why="it is away"), Level.LOOK, "cannot be told: it is away"),
        (integrity(differences=3, verdict="differs"), Level.ACT, "store: 3 differences that nobody accepted"),
        (integrity(tampered=True, why="not our tools"), Level.ACT, "cannot be measured any more: not our tools"),
        (integrity(measured=NOW - 5 * 3600), Level.ACT, "store was not measured since"),
        (integrity(measured=0.0, why="no reference"), Level.ACT, "store was never measured: no reference"),
        (backups(newest=NOW - 7200), Level.ACT, "store has no archive since"),
        (backups(newest=0.0), Level.ACT, "store has no archive"),
        (backups(refused=["3 objects were deleted"]), Level.ACT, "tried to do more than add: 3 objects"),
        (backups(damaged="segment 7"), Level.ACT, "archives are damaged: segment 7"),
        (drills(good=False, wrong=2), Level.ACT, "could not restore what was archived"),
        (drills(last_good=NOW - 11 * 86_400), Level.ACT, "no drill has been good since"),
        (edited(), Level.ACT, "files were edited on watch: tools/aide.gz"),
    ],
)  # fmt: skip
def test_what_needs_a_person(known: dict[str, Any], level: Level, words: str) -> None:
    (need,) = told(known)
    assert need.level is level and words in need.words and need.remedy.startswith("mastio ")


@pytest.mark.parametrize(
    "spoil",
    [lambda it: None, lambda it: it.update(machines=3, last_good="x"), lambda it: it.clear()],
)
@pytest.mark.parametrize("path", [it.path for it in standing.PARTS if not it.without])
def test_what_cannot_be_read_is_told(path: str, spoil: Callable[[Any], None]) -> None:
    known = found()
    spoil(known[path])
    if known[path] == found()[path]:
        del known[path]
    (need,) = told(known)
    assert need.level is Level.LOOK
    assert "nothing is known yet" in need.words or "makes no sense" in need.words


@pytest.mark.parametrize("path", [it.path for it in standing.PARTS])
@pytest.mark.parametrize("content", [None, [1], {"x": 3}, "x"])
def test_what_makes_no_sense_is_told(path: str, content: Any) -> None:
    """Also of alarms: nobody takes a file that broke for one in which nothing is open."""
    (need,) = told({**found(), path: content})
    assert need.level is Level.LOOK and "makes no sense" in need.words


def test_a_file_that_broke_is_no_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = standing.Part("X", str(tmp_path / "x"), lambda *_: iter(()), "x")
    monkeypatch.setattr(standing, "PARTS", (broken,))
    assert standing.collect() == {}
    (tmp_path / "x").write_text("{half")
    assert standing.collect() == {broken.path: None}


def test_what_was_never_measured_is_told() -> None:
    known = found()
    known[STATUS]["machines"]["store"] = None
    assert [it.words for it in told(known)] == ["store was never measured"]


def test_updates_keep_what_is_known_for_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "KNOWN", str(tmp_path / "known.json"))
    kept = patching.Kept(tmp_path)
    kept.keep(Record("store", "me", NOW - 3600))
    rows = [
        {"machine": "store", "why": "", "waiting": ["a"], "reboot": True, "vulnerabilities": [1]},
        {"seals": []},
    ]
    patching.remember(rows, kept, NOW - 9e6)
    known = {**found(), KNOWN: json.loads((tmp_path / "known.json").read_text())}
    assert [it.words for it in told(known)] == ["store should be rebooted"]
    assert "vulnerabilities" not in known[KNOWN]["machines"]["store"]
    assert not patching._old(tmp_path / "known.json") and patching._old(tmp_path / "none.json")
