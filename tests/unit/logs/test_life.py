"""Signs of life: silence, lost lines and wrong clocks are told, outages and reboots are not mistaken for them."""

from dataclasses import replace

import pytest

from mastio.logs import life
from mastio.logs.life import EVERY, Heard, Sign

BOOT, NEXT = "4b39fe19-481c", "f8e10d05-c9a2"
NOON = 1_795_558_000.0


def a_sign(number: int, boot: str = BOOT, late: float = 0.1) -> Sign:
    """The sign of a healthy machine, once a minute from noon on."""
    clock = NOON + number * EVERY
    return Sign(clock + late, boot, number, 100.0 + number * EVERY, clock)


def heard(*signs: Sign) -> tuple[Heard, list[str]]:
    one = Heard()
    return one, [words for it in signs for words in one.take(it)]


def wrong(one: Heard, after: float = EVERY) -> dict[str, str]:
    return one.state(one.arrived + after, NOON)


def test_a_healthy_machine() -> None:
    one, happened = heard(*map(a_sign, range(1, 10)))
    assert happened == []
    assert wrong(one) == {}


@pytest.mark.parametrize(
    "text",
    ["", "hello", "boot=x seq=1 up=1 clock=1", "boot=4b39fe19 seq=-1 up=1 clock=1",
     f"boot=4b39fe19 seq={'9' * 5000} up=1 clock=1", f"boot=4b39fe19 seq=1 up={'9' * 400} clock=1",
     f"boot=4b39fe19 seq=1 up=1 clock={'9' * 400}", "boot=4b39fe19 seq=1 up=1e999 clock=nan"],
)  # fmt: skip
def test_what_is_no_sign(text: str) -> None:
    assert life.sign(1.0, text) is None


def test_a_sign_is_read() -> None:
    assert life.sign(5.0, "boot=4b39fe19-481c seq=3 up=32167.79 clock=1795558979.998") == Sign(
        5.0, "4b39fe19-481c", 3, 32167.79, 1795558979.998
    )


def test_silence_is_told_and_ends() -> None:
    one, _ = heard(a_sign(1))
    assert "silent" not in wrong(one, life.SILENT - 1)
    assert "no sign of life for 10 minutes" in wrong(one, 600)["silent"]
    one.take(a_sign(11))
    assert "silent" not in wrong(one)


def test_a_machine_that_never_spoke_is_silent() -> None:
    assert Heard().state(NOON + life.SILENT - 1, NOON) == {}
    assert "silent" in Heard().state(NOON + life.SILENT + 1, NOON)


def test_watch_itself_was_away_and_nobody_is_blamed() -> None:
    one, _ = heard(a_sign(1))
    assert "silent" not in one.state(one.arrived + 7200, since=one.arrived + 7190)


def test_a_missing_number_is_told_until_it_comes() -> None:
    one, _ = heard(a_sign(1), a_sign(2), a_sign(5))
    assert "gap" not in wrong(one, life.GRACE - 1), "it may be on its way"
    assert (
        "2 signs of life have not come (boot:number 4b39fe19:3 to 4b39fe19:4)" in wrong(one)["gap"]
    )
    one.take(a_sign(3, late=200))
    one.take(a_sign(4, late=200))
    assert wrong(one) == {}


def test_a_gap_is_not_told_for_ever() -> None:
    one, _ = heard(a_sign(1), a_sign(3))
    for number in range(4, 24 * 60 + 6):
        one.take(a_sign(number))
    assert wrong(one) == {}


def test_boots_that_are_made_up_do_not_fill_the_memory() -> None:
    one, _ = heard(a_sign(1), *(a_sign(5000, f"{boot:08x}") for boot in range(9)))
    assert len(one.missing) == life.MISSING
    assert f"{life.MISSING} signs of life have not come" in wrong(one)["gap"]
    for minute in range(5001, 5001 + 24 * 60 + 1):
        one.take(a_sign(minute, f"{8:08x}"))
    assert wrong(one) == {}, "when they are forgotten, there is room for others"
    one.take(a_sign(7000, f"{8:08x}"))
    assert "gap" in wrong(one)


def test_a_reboot_is_no_gap_but_what_its_first_signs_lack_is() -> None:
    one, _ = heard(a_sign(1), a_sign(2), a_sign(3, NEXT))
    assert "2 signs" in wrong(one)["gap"]
    again = replace(a_sign(3, NEXT), number=1)
    one, happened = heard(a_sign(1), a_sign(2), again)
    assert (happened, wrong(one)) == ([], {})


def test_signs_of_the_boot_before_that_come_again_are_no_reboot() -> None:
    signs = (a_sign(7), a_sign(8), a_sign(1, NEXT), a_sign(7), a_sign(8), a_sign(2, NEXT))
    one, happened = heard(*signs)
    assert not happened and wrong(one) == {}
    assert (one.boot, one.number) == (NEXT, 2)


def test_a_clock_that_is_set_is_told() -> None:
    for seconds, way in ((3600, "forward"), (-3600, "back")):
        ahead = replace(a_sign(3), clock=a_sign(3).clock + seconds)
        _, happened = heard(a_sign(1), a_sign(2), ahead)
        assert happened == [f"its clock was set {way} by 3600 seconds"]
    slewed = replace(a_sign(3), clock=a_sign(3).clock + 0.3)
    assert heard(a_sign(1), a_sign(2), slewed)[1] == []


def test_a_clock_that_is_wrong_is_told_and_well_again() -> None:
    for seconds, way in ((100, "ahead"), (-100, "behind")):
        off = [replace(a_sign(it), clock=a_sign(it).clock + seconds) for it in (1, 2, 3)]
        one, _ = heard(*off)
        assert wrong(one)["clock"] == f"its clock is 100 seconds {way}"
        one.take(a_sign(4))
        assert "clock" not in wrong(one)


def test_what_comes_late_after_an_outage_is_no_wrong_clock() -> None:
    queue = [replace(a_sign(it), arrived=NOON + 3600 + it / 100) for it in range(2, 60)]
    one, happened = heard(a_sign(1), *queue)
    assert happened == []
    # The first of them comes alone; the last ones are nearly in time.
    assert wrong(one) == {}
