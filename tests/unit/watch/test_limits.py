"""What runs out is told once, in time, and once more when it is well; each alarm beside its clean twin."""

import errno
from pathlib import Path
from typing import Any

import pytest

from mastio.site import parse
from mastio.status.glance import Glance
from mastio.verify.model import Severity
from mastio.watch import limits
from mastio.watch.alarm import Alarm
from mastio.watch.settings import Settings
from tests.unit.site.test_verify_keys import BASE
from tests.unit.status.test_glance import FACTS, SETS

HOUR, DAY = limits.HOUR, limits.DAY


def disk(available: int, path: str = "/") -> dict[str, Any]:
    return {"path": path, "total": 100, "available": available, "inodes": 0, "inodes_free": 0}


class Watch:
    """One look after the other."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.at = 1000.0

    def look(self, **facts: Any) -> list[Alarm]:
        return self.machines({"store": {**FACTS, **facts}})

    def machines(self, machines: Any, filling: dict[str, str] | None = None) -> list[Alarm]:
        self.at += 300
        seen = Glance("demo", machines, SETS, 0)
        silent = frozenset(name for name, it in machines.items() if isinstance(it, str))
        found = limits.troubles(seen, filling or {})
        told, self.known = limits.news("demo", found, self.known, self.at, silent)
        return told


def test_a_healthy_site_says_nothing() -> None:
    watch = Watch()
    assert [watch.look() for _ in range(3)] == [[], [], []]


def test_another_unit_that_fails_is_told_too() -> None:
    watch = Watch()
    one, both = {"failed": ["nginx.service"]}, {"failed": ["nginx.service", "postfix.service"]}
    assert watch.look(**one) == []
    (first,) = watch.look(**one)
    assert watch.look(**one) == [] and watch.look(**both) == [], "perhaps it is back at once"
    (second,) = watch.look(**both)
    assert "postfix.service" in second.text
    assert first.subject == second.subject and first.words != second.words, "or nobody would hear"
    assert watch.look(**both) == []
    assert watch.look(**one) == []
    (well,) = watch.look()
    assert well.well


def test_a_disk_is_told_when_it_fills_when_it_is_full_and_when_it_has_room() -> None:
    watch = Watch()
    (early,) = watch.look(disks=[disk(14)])
    assert (early.about, early.severity) == ("disk store", Severity.MEDIUM)
    assert "86% used" in early.text and "4xx" in early.text
    assert watch.look(disks=[disk(13)]) == []
    (full,) = watch.look(disks=[disk(1)])
    assert full.severity is Severity.CRITICAL and "full" in full.subject
    assert watch.look(disks=[disk(1)]) == []
    (well,) = watch.look()
    assert well.well and well.about == full.about
    assert watch.look() == []


@pytest.mark.parametrize(
    ("facts", "about"),
    [
        ({"failed": ["nginx.service"]}, "units store"),
        ({"names": False}, "names store"),
        ({"memory": {"total": 100, "available": 3}}, "memory store"),
    ],
)
def test_what_may_mend_itself_is_told_at_the_second_look(facts: Any, about: str) -> None:
    watch = Watch()
    assert watch.look(**facts) == [] and watch.look() == []
    assert watch.look(**facts) == []
    (told,) = watch.look(**facts)
    assert told.about == about and not told.well
    assert watch.look(**facts) == []
    (well,) = watch.look()
    assert well.well


def test_mail_that_is_stuck_is_told() -> None:
    watch = Watch()
    queue = {**FACTS["queue"], "oldest": 18_000.0}
    (told,) = watch.look(queue=queue)
    assert told.about == "queue store" and told.severity is Severity.HIGH
    (well,) = watch.look()
    assert well.well


def test_held_mail_is_told_once_until_none_is() -> None:
    watch = Watch()
    (told,) = watch.look(queue={**FACTS["queue"], "hold": 1})
    assert told.about == "held store" and "mastio outbound show" in told.text
    assert watch.look(queue={**FACTS["queue"], "hold": 3}) == []
    (well,) = watch.look()
    assert well.well


def test_a_machine_that_does_not_answer_is_not_well() -> None:
    watch = Watch()
    watch.look(disks=[disk(1)])
    assert watch.machines({"store": "no route"}) == []
    assert watch.look(disks=[disk(1)]) == []
    assert watch.look()[0].well


def rows(*points: tuple[float, int]) -> dict[str, Any]:
    """How full a disk was after so many hours."""
    kept: dict[str, Any] = {}
    for hours, left in points:
        seen = Glance("demo", {"store": {**FACTS, "disks": [disk(left)]}}, SETS, 0)
        kept = limits.grow(kept, seen, hours * HOUR)
    return kept


def test_a_disk_that_will_be_full_within_days_is_told() -> None:
    filling = limits.soon(rows((0, 50), (12, 45), (24, 40)))
    assert filling == {"store": "/ will be full in 4.0 days, at its pace of the last 24 h"}
    watch = Watch()
    (told,) = watch.machines({"store": {**FACTS, "disks": [disk(40)]}}, filling)
    assert told.about == "disk store" and "4.0 days" in told.text


@pytest.mark.parametrize(
    "points",
    [
        ((0, 50), (24, 50)),  # does not fill
        ((0, 50), (24, 49)),  # in weeks
        ((0, 99), (24, 60)),  # fast, with more than half of it left
        ((0, 50), (2, 40)),  # for too short a time
        ((0, 20), (24, 45)),  # is emptied
    ],
)
def test_a_disk_with_time_is_not(points: Any) -> None:
    assert limits.soon(rows(*points)) == {}


def test_little_is_kept_and_a_larger_disk_begins_anew() -> None:
    kept = rows(*((hour / 4, 50) for hour in range(800)))
    (found,) = kept.values()
    assert len(found) == limits.KEPT
    grown = {"store /": [[0.0, 50, 100], [24 * HOUR, 20, 100], [25 * HOUR, 80, 200]]}
    assert limits.soon(grown) == {}


def test_a_watch_without_room_cries_and_of_all_else_it_does_not(tmp_path: Path) -> None:
    site = parse.parse(BASE, "site.toml")
    settings = Settings("watch", {}, [], "", str(tmp_path))
    other = OSError(errno.EIO, "broken")
    assert not limits.cry(other, site, settings, tmp_path / "cried", 0.0)
    # Nobody takes the mail here: the next look tries again.
    full = OSError(errno.ENOSPC, "No space left on device")
    assert limits.cry(full, site, settings, tmp_path / "cried", 0.0)
    assert not (tmp_path / "cried").exists()
