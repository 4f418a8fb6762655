"""What a look at the site means, and how it is told."""

import json
from dataclasses import replace
from typing import Any

import pytest

from mastio.digest.need import Level as NeedLevel
from mastio.digest.need import Need
from mastio.digest.standing import Row, Section
from mastio.report import status as report
from mastio.status import metrics
from mastio.status.glance import Glance, Level
from mastio.verify.probes import glance as probe

GIB = 1 << 30
FACTS: dict[str, Any] = {
    "uptime": 7300.0,
    "load": 0.5,
    "processors": 2,
    "memory": {"total": 4 * GIB, "available": 3 * GIB},
    "disks": [
        {"path": "/", "total": 100, "available": 60, "inodes": 0, "inodes_free": 0},
        {"path": "/var", "total": 100, "available": 50, "inodes": 100, "inodes_free": 90},
    ],
    "failed": [],
    "queue": {"incoming": 0, "active": 1, "deferred": 2, "hold": 0, "oldest": 60.0},
}
SETS: dict[str, Any] = {
    "fast": {"verdict": "passed", "age": 600.0, "late": False, "bad": 0},
    "full": {"verdict": "passed", "age": 7200.0, "late": False, "bad": 0},
}


def seen(sets: Any = SETS, **facts: Any) -> Glance:
    return Glance("demo", {"store": {**FACTS, **facts}}, sets, 3)


def test_a_healthy_site_needs_nobody() -> None:
    assert seen().notes == () and seen().level is Level.GOOD
    assert "Nothing needs you." in [text for _, text in report.lines(seen())]


def test_what_is_wrong_with_the_server_that_carries_them_is_said() -> None:
    one = replace(seen(), server=("the server waits for a reboot",))
    (note,) = one.notes
    assert one.level is Level.BAD and (note.about, note.words) == ("server", *one.server)


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        ({"failed": ["nginx.service"]}, Level.BAD, "nginx.service has failed"),
        ({"disks": [{**FACTS["disks"][0], "available": 10}]}, Level.WARNING, "octets of / are 90% used"),
        ({"disks": [{**FACTS["disks"][0], "available": 2}]}, Level.BAD, "octets of / are 98% used"),
        ({"disks": [{**FACTS["disks"][1], "inodes_free": 1}]}, Level.BAD, "inodes of /var are 99% used"),
        ({"memory": {"total": 100, "available": 3}}, Level.WARNING, "3% of its memory is left"),
        ({"queue": {**FACTS["queue"], "oldest": 5400.0}}, Level.WARNING, "mail waits for 1.5 h"),
        ({"queue": {**FACTS["queue"], "oldest": 18000.0}}, Level.BAD, "mail waits for 5.0 h"),
        ({"queue": {**FACTS["queue"], "hold": 4}}, Level.WARNING, "4 messages are held"),
        ({"queue": {**FACTS["queue"], "hold": 1}}, Level.WARNING, "1 message is held"),
        ({"names": False}, Level.BAD, "finds no names"),
    ],
)  # fmt: skip
def test_what_needs_somebody_is_said(facts: dict[str, Any], level: Level, words: str) -> None:
    (note,) = seen(**facts).notes
    assert (note.level, note.about) == (level, "store") and words in note.words
    assert seen(**facts).level is level


@pytest.mark.parametrize(
    ("drill", "words"),
    [
        ({"good": False, "age": 60.0, "late": False}, "could not be restored"),
        ({"good": True, "age": 60.0, "late": True}, "is overdue"),
    ],
)
def test_a_drill_that_needs_somebody_is_said(drill: dict[str, Any], words: str) -> None:
    found = replace(seen(), drill=drill)
    (note,) = found.notes
    assert note.about == "restore drill" and words in note.words and found.level is Level.BAD
    assert 'mastio_drill_age_seconds{site="demo"} 60' in metrics.exposition(found, 1.0)


def test_what_watch_has_found_is_said() -> None:
    needs = (Need(NeedLevel.ACT, "store has no archive", "mastio backup list"),)
    found = replace(seen(), standing=(Section("Backups", (Row("store", "none", needs),)),))
    (note,) = found.notes
    assert (note.level, note.about) == (Level.BAD, "backups")
    assert note.words == "store has no archive: `mastio backup list`"
    assert replace(seen(), standing=(Section("Backups", (Row("store", "young"),)),)).notes == ()


def test_a_good_drill_needs_nobody() -> None:
    found = replace(seen(), drill={"good": True, "age": 60.0, "late": False})
    assert found.notes == ()
    assert "restore drill: good, 60s ago" in [text for _, text in report.lines(found)]


def test_the_site_file_says_how_full_a_disk_may_be() -> None:
    disks = [{**FACTS["disks"][0], "available": 25}]
    machines = {"store": {**FACTS, "disks": disks, "names": True}}
    assert Glance("demo", machines, SETS, 3).notes == ()
    (note,) = Glance("demo", machines, SETS, 3, nearly=0.7).notes
    assert note.level is Level.WARNING and "75% used" in note.words


def test_a_machine_without_mail_has_no_queue() -> None:
    assert seen(queue=None).notes == ()
    assert not any("queue" in line for line in metrics.exposition(seen(queue=None), 1).splitlines())


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        (None, Level.WARNING, "has not run by itself yet"),
        ({"late": True}, Level.BAD, "overdue"),
        ({"bad": 2, "verdict": "failed"}, Level.BAD, "2 findings"),
    ],
)
def test_what_watch_found_counts(change: dict[str, Any] | None, level: Level, words: str) -> None:
    sets = {**SETS, "fast": change and {**SETS["fast"], **change}}
    (note,) = seen(sets).notes
    assert note.level is level and words in note.words and note.about == "verify (fast)"


def test_a_machine_that_cannot_be_asked_is_bad_and_the_worst_comes_first() -> None:
    machines = {"store": {**FACTS, "queue": {**FACTS["queue"], "hold": 1}}, "watch": "no route"}
    found = Glance("demo", machines, SETS, None)
    assert [it.about for it in found.notes] == ["watch", "store"]
    assert "cannot be asked: no route" in found.notes[0].words
    assert report.data(found)["machines"]["watch"] == {"error": "no route"}
    text = metrics.exposition(found, 1)
    assert 'mastio_machine_up{site="demo",machine="watch"} 0\n' in text
    assert 'mastio_machine_up{site="demo",machine="store"} 1\n' in text
    assert "mastio_bans" not in text


def test_the_metrics_are_whole_and_escaped() -> None:
    found = Glance('de"mo', {"store": FACTS}, SETS, 3)
    text = metrics.exposition(found, 1_790_000_000.0)
    rows = [line for line in text.splitlines() if not line.startswith("#")]
    assert 'mastio_looked_seconds{site="de\\"mo"} 1790000000' in rows
    assert 'mastio_queue_messages{site="de\\"mo",machine="store",queue="deferred"} 2' in rows
    assert (
        'mastio_machine_memory_available_octets{site="de\\"mo",machine="store"} 3221225472' in rows
    )
    names = [line.split("{")[0] for line in rows]
    for name in names:
        assert text.count(f"# TYPE {name} gauge\n") == 1


def test_json_says_all() -> None:
    data = json.loads(json.dumps(report.data(seen(failed=["x.service"]))))
    assert data["level"] == "bad" and data["notes"][0]["about"] == "store" and data["bans"] == 3


def test_a_look_at_this_very_box_has_every_fact() -> None:
    facts = {name: getattr(probe, f"_{name}")() for name in ("uptime", "memory", "disks")}
    assert facts["uptime"] > 0 and 0 < facts["memory"]["available"] <= facts["memory"]["total"]
    assert facts["disks"][0]["path"] == "/" and facts["disks"][0]["available"] > 0
