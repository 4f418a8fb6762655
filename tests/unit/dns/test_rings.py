"""DKIM generations: the next one is always published before it signs, the last one long after."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from mastio.dns import rings
from mastio.dns.rings import State

START = date(2026, 1, 1)


def states(ring: rings.Ring) -> list[tuple[int, str]]:
    return [(it.number, str(it.state)) for it in ring]


def test_a_new_domain_signs_and_has_the_next_in_dns() -> None:
    assert states(rings.begin(START)) == [(1, "signing"), (2, "next")]


def test_a_rotation_moves_each_generation_one_step() -> None:
    ring = rings.rotate(rings.begin(START), date(2026, 7, 1))
    assert states(ring) == [(1, "retiring"), (2, "signing"), (3, "next")]
    assert {it.since for it in ring} == {date(2026, 7, 1)}


def test_a_retired_key_stays_for_thirty_days() -> None:
    ring = rings.rotate(rings.begin(START), START)
    assert states(rings.tidy(ring, START + timedelta(29))) == states(ring)
    assert states(rings.tidy(ring, START + timedelta(30))) == [(2, "signing"), (3, "next")]


def test_a_compromised_key_is_gone_at_once() -> None:
    ring = rings.rotate(rings.begin(START), START, compromised=True)
    assert states(ring) == [(2, "signing"), (3, "next")]


def test_retired_keys_go_with_a_compromised_one() -> None:
    ring = rings.rotate(rings.rotate(rings.begin(START), START), START, compromised=True)
    assert states(ring) == [(3, "signing"), (4, "next")]


def test_it_is_due_when_it_has_signed_its_days() -> None:
    ring = rings.begin(START)
    assert not rings.due(ring, START + timedelta(179), 180)
    assert rings.due(ring, START + timedelta(180), 180)


def test_the_next_key_is_awaited_in_dns_a_week_after_it_was_made() -> None:
    ring = rings.rotate(rings.begin(START), START + timedelta(180))
    assert not rings.awaited(ring, START + timedelta(186))
    assert rings.awaited(ring, START + timedelta(187))


@given(st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=12))
def test_whatever_happens_one_signs_that_was_published_before(
    steps: list[tuple[int, bool]],
) -> None:
    ring, today = rings.begin(START), START
    for days, compromised in steps:
        today += timedelta(days)
        before = {it.number for it in ring}
        ring = rings.rotate(ring, today, compromised=compromised)
        assert rings.signing(ring).number in before
        assert [it.state for it in ring].count(State.NEXT) == 1
        assert rings.following(ring).number not in before
        assert rings.parse(rings.unparse(ring)) == ring
