"""How long greylisting holds mail up, by simulated retry schedules."""

from itertools import islice, pairwise
from statistics import median

import pytest
from bench.retries import EXIM, EXIM_DEBIAN, MINUTELY, POSTFIX, SERVERS, Server, delays, table


@pytest.mark.parametrize(
    ("server", "phase", "tries"),
    [
        (MINUTELY, 0, [60, 120, 180]),
        (MINUTELY, 59, [119, 179, 239]),
        (POSTFIX, 0, [300, 600, 1200]),
        (POSTFIX, 299, [599, 1199, 2399]),
        (EXIM, 0, [900, 1800, 2700]),
        (EXIM_DEBIAN, 600, [2400, 4200, 6000]),
        (EXIM_DEBIAN, 1000, [1000, 2800, 4600]),
    ],
)
def test_a_message_is_tried_when_it_is_due_and_the_queue_is_scanned(
    server: Server, phase: int, tries: list[int]
) -> None:
    assert list(islice(server.tries(phase), 3)) == tries


def test_postfix_never_waits_longer_than_its_maximum() -> None:
    tries = list(islice(POSTFIX.tries(0), 12))
    assert max(b - a for a, b in pairwise(tries)) <= 4000 + POSTFIX.scan


@pytest.mark.parametrize("server", SERVERS, ids=lambda it: it.name)
def test_nothing_passes_before_its_time_and_a_longer_wait_is_never_shorter(server: Server) -> None:
    before = [0] * server.scan
    for greylist in (1, 60, 299, 300, 301, 900, 3600):
        found = delays(server, greylist)
        assert len(found) == server.scan
        assert found[0] >= greylist
        assert all(one <= two for one, two in zip(before, found, strict=True))
        before = found


def test_the_defaults() -> None:
    """With five minutes a server that asks each minute loses five to six, Postfix five to ten."""
    assert (delays(MINUTELY, 300)[0], delays(MINUTELY, 300)[-1]) == (300, 359)
    assert (delays(POSTFIX, 300)[0], delays(POSTFIX, 300)[-1]) == (300, 599)
    assert median(delays(POSTFIX, 300)) == 449.5
    assert [row[0] for row in table(300)] == [it.name for it in SERVERS]
    assert table(300)[1] == ("Postfix", "7.5", "10.0")
