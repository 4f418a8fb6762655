"""The bound on inotify instances: raised while labs are up, and given back by the last."""

from pathlib import Path

import pytest

from mastio.lab import room


@pytest.fixture
def knob(tmp_path: Path) -> Path:
    knob = tmp_path / "max_user_instances"
    knob.write_text("128\n")
    return knob


def test_room_is_made_and_given_back_by_the_last_lab(knob: Path) -> None:
    room.make("one", knob, knob.with_name("ledger"))
    room.make("two", knob, knob.with_name("ledger"))
    room.make("two", knob, knob.with_name("ledger"))
    assert int(knob.read_text()) == room.ENOUGH
    room.give_back("two", knob, knob.with_name("ledger"))
    assert int(knob.read_text()) == room.ENOUGH, "the lab that is still up needs it"
    room.give_back("one", knob, knob.with_name("ledger"))
    assert int(knob.read_text()) == 128
    room.give_back("one", knob, knob.with_name("ledger"))
    assert int(knob.read_text()) == 128


def test_a_box_with_more_room_is_left_alone(knob: Path) -> None:
    knob.write_text("8192\n")
    room.make("one", knob, knob.with_name("ledger"))
    room.give_back("one", knob, knob.with_name("ledger"))
    assert int(knob.read_text()) == 8192


def test_a_box_that_does_not_let_it_is_no_error(knob: Path) -> None:
    room.make("one", knob.with_name("missing"), knob.with_name("ledger"))
    room.give_back("one", knob.with_name("missing"), knob.with_name("ledger"))


def test_a_bound_that_somebody_else_sets_meanwhile_stays(knob: Path) -> None:
    room.make("one", knob, knob.with_name("ledger"))
    knob.write_text("4096\n")
    room.give_back("one", knob, knob.with_name("ledger"))
    assert int(knob.read_text()) == 4096
