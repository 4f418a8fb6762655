"""What is said of backups: each alarm fires, and its clean twin does not."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from mastio.verify.model import Severity
from mastio.watch import backups
from mastio.watch.alarm import Alarm
from mastio.watch.backing import Known, Record, _unlike
from mastio.watch.borg import Archive
from tests import sites

NOW = 1_800_000_000.0
SITE = sites.demo_site()


class Stub:
    """A machine's backing, as far as alarms ask it."""

    def __init__(self, **known: object) -> None:
        self.known = Known(**known)  # type: ignore[arg-type]


def of(records: Sequence[Record], **known: object) -> dict[str, Alarm]:
    alarms = backups.Alarms(SITE, NOW)
    alarms.of_records(records, {"store": Stub(**known)})
    return {it.about: it for it in alarms.found}


def test_a_good_session_says_that_all_is_well() -> None:
    found = of([Record("store", "store-x", told={"files": 1})], added=[1 << 30, 5, 6, 7, 9])
    assert all(it.well for it in found.values()) and "backup store" in found


def test_a_failed_session_is_told() -> None:
    one = of([Record("store", "store-x", "cannot be reached: x")])["backup store"]
    assert not one.well and "cannot be reached" in one.text


def test_a_session_that_did_more_than_add_is_critical() -> None:
    one = of([Record("store", "store-x", refused=("3 objects",))])["backup session store"]
    assert not one.well and one.severity is Severity.CRITICAL and "backup accept store" in one.text


@pytest.mark.parametrize(
    ("added", "alarms"),
    [
        ([1 << 40], False),  # the first brings everything
        ([1 << 40, 10, 10, 10, 2 << 30], True),
        ([1 << 40, 10, 10, 10, 1 << 29], False),  # not much, after all
        ([1 << 40, 1 << 30, 10, 10, 2 << 30], False),  # has happened before
        ([1 << 40, 10, 2 << 30], False),  # nothing to compare with yet
    ],
)
def test_a_flood_is_told(added: list[int], alarms: bool) -> None:
    found = of([Record("store", "store-x", told={"files": 1})], added=added)
    assert found["backup growth store"].well is not alarms


@pytest.mark.parametrize(
    ("machine", "age", "late"),
    [
        ("store", 3000, False),
        ("store", 4000, True),
        ("gateway", 86_400, False),
        ("gateway", 200_000, True),
    ],
)
def test_old_archives_are_told(machine: str, age: float, late: bool) -> None:
    alarms = backups.Alarms(SITE, NOW)
    alarms.of_age({machine: Known(newest=NOW - age)}, ["store"], NOW - 1e6)
    assert alarms.found[0].well is not late


def test_who_never_had_an_archive_is_late_in_the_end() -> None:
    for since, late in ((NOW - 100, False), (NOW - 1e6, True)):
        alarms = backups.Alarms(SITE, NOW)
        alarms.of_age({"store": Known()}, ["store"], since)
        assert alarms.found[0].well is not late


@pytest.mark.parametrize(("days", "late"), [(2, False), (4, True)])
def test_a_second_copy_that_does_not_come_is_told(days: float, late: bool) -> None:
    site = replace(SITE, backup=replace(SITE.backup, copy="/mnt/copies"))
    alarms = backups.Alarms(site, NOW)
    alarms.of_age({"store": Known(newest=NOW, copied=NOW - days * 86_400)}, ["store"], NOW - 1e6)
    assert [(it.about, it.well) for it in alarms.found] == [
        ("backup age store", True),
        ("backup copy age store", not late),
    ]


def test_damage_and_what_could_not_be_tidied_are_told() -> None:
    alarms = backups.Alarms(SITE, NOW)
    alarms.of_damage({"store": "", "gateway": "segment 7"})
    alarms.of_tidying([])
    alarms.of_tidying(["store: no folder"])
    assert [it.well for it in alarms.found] == [True, False, True, False]


KNOWN = Known(archives={"a": "store-1", "b": "store-2"})


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"a": "store-1", "b": "store-2"}, []),
        ({"a": "store-1", "b": "store-2", "c": "store-3"}, []),
        ({"a": "store-1", "b": "store-2", "c": "store-3.checkpoint"}, []),
        ({"a": "store-1", "c": "store-3"}, ["1 archives are missing, such as store-2"]),
        ({"a": "store-1", "b": "renamed"}, ["1 archives are missing, such as store-2"]),
        ({"a": "store-1", "b": "store-2", "c": "evil"}, ["evil is there, and nobody asked for it"]),
    ],
)
def test_the_list_of_archives_only_grows_by_what_was_asked_for(
    found: dict[str, str], words: list[str]
) -> None:
    archives = [Archive(name, key, NOW) for key, name in found.items()]
    assert [*_unlike(KNOWN, archives, "store-3")] == words


def test_places_of_an_archive() -> None:
    listed = (
        "d 0 var/vmail\n- 10 var/vmail/a.test/bob/Maildir/cur/1:2,S\n- 5 var/vmail/a.test/eve/Maildir/new/2\n"
        "- 7 var/lib/mastio/directory/directory.sqlite\n"
    )
    assert backups.places(listed) == [
        {"place": "/var/lib/mastio/directory", "files": 1, "octets": 7},
        {"place": "/var/vmail/a.test", "files": 2, "octets": 15},
    ]
