"""Room on watch's disk: whose door is closed, when all are, and when they are open again."""

import json
from pathlib import Path

import pytest

from mastio.roles.watch import doors
from mastio.site.model import Site
from tests import sites
from tests.unit.roles.test_watch import built, content
from tests.unit.test_firewall import rules_of

ROOM = 1000
WROTE = {"gateway": 700, "store": 90_000, "webmail": 5}
ALL = frozenset(WROTE)


@pytest.mark.parametrize(
    ("left", "former", "shut"),
    [
        (1000, (), ()),  # just enough
        (999, (), ("store",)),
        (999, ("gateway",), ("gateway",)),  # it is closed, and that is enough
        (500, ("store",), ("store",)),
        (499, ("store",), ALL),
        (499, (), ALL),
        (999, ALL, ALL),
        (1500, ("store",), ("store",)),  # a little room opens nothing
        (1500, ALL, ALL),
        (1501, ("store",), ()),
        (1501, ALL, ()),
        (1200, ("gone",), ()),  # a machine that has left
    ],
)
def test_who_wrote_most_waits_first_and_all_before_lines_are_lost(
    left: int, former: tuple[str, ...], shut: tuple[str, ...]
) -> None:
    assert doors.closed(left, ROOM, former, WROTE) == frozenset(shut)


def test_a_share_of_the_disk_is_kept_free_but_not_more_than_helps() -> None:
    assert doors.room(20 << 30) == 1 << 30
    assert doors.room(10 << 40) == 2 << 30


def test_what_counts_is_not_packed_yet(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    for name, size in (
        ("2026-11-29.log.gz", 999),
        ("2026-11-30.log", 20),
        ("2026-12-01.log", 3),
    ):
        (folder / name).write_bytes(b"x" * size)
    assert doors.written(tmp_path, "store") == 23
    assert doors.written(tmp_path, "webmail") == 0


def test_the_kernel_is_told_which_doors_are_closed_and_for_how_long() -> None:
    told = doors.rules((6517, 6515))
    assert told.splitlines() == [
        "flush set inet mastio shut",
        "add element inet mastio shut { 6515 timeout 60s, 6517 timeout 60s }",
    ]
    assert doors.rules(()) == "flush set inet mastio shut\n"
    assert doors.FORGOTTEN > 10 * doors.AGAIN > doors.PAUSE


def test_the_guard_knows_every_door_and_each_by_its_port() -> None:
    state = built(sites.demo_site())
    known = json.loads(content(state, str(doors.CONFIG)))
    assert known["doors"] == {"firewall": 6515, "gateway": 6516, "store": 6517, "webmail": 6518}
    assert known["logs"] == "/var/log/remote"
    assert "mastio-doors.service" in {it.name for it in state.units}
    unit = content(state, "/etc/systemd/system/mastio-doors.service")
    assert "Before=rsyslog.service\n" in unit and "mastio-doors once\n" in unit


def test_where_nobody_else_logs_there_is_nothing_to_guard() -> None:
    state = built(sites.single_site(), "mail")
    assert not [it for it in (*state.files, *state.units) if "mastio-doors" in str(it)]


@pytest.mark.parametrize("site", sites.all_sites(), ids=lambda site: site.topology)
def test_a_closed_door_is_closed_within_a_conversation_too(site: Site) -> None:
    for machine in site.machines:
        rules = rules_of(site, machine.name)
        if "chain doors {" not in rules:
            assert "shut" not in rules
            continue
        assert "set shut {\n        type inet_service\n        flags timeout\n    }" in rules
        closed = rules.index("ct status dnat tcp dport @shut counter reject with tcp reset")
        own = rules[rules.index("chain input {") :]
        assert rules.index("chain input {") < closed
        assert own.index("@shut") < own.index("ct state established,related accept")
