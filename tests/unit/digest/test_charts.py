"""Where a chart's bars stand, and that it says the same in words."""

import pytest

from mastio.digest.judge import Digest
from mastio.digest.summary import Summary
from mastio.report.charts import Layer, chart, scale

LAYERS = (Layer("inward", "mail.in", "received"), Layer("refused", "refused.in", "refused"))


def day(hours: dict[str, Summary], until: str = "2026-11-24T00") -> Digest:
    return Digest("demo", "2026-11-23T00", until, hours)


@pytest.mark.parametrize(
    ("highest", "numbers"),
    [
        (0, (0, 1, 2)), (1, (0, 1, 2)), (3, (0, 1, 2, 3)), (9, (0, 5, 10)), (213, (0, 100, 200, 300)),
        (934, (0, 250, 500, 750, 1000)), (4001, (0, 2000, 4000, 6000)), (10_000_000, (0, 2_500_000, 5_000_000, 7_500_000, 10_000_000)),
    ],
)  # fmt: skip
def test_a_scale_has_round_numbers_and_room_for_all(highest: int, numbers: tuple[int, ...]) -> None:
    assert scale(highest) == numbers


def test_bars_are_as_high_as_their_counts_and_words_say_the_same() -> None:
    hours = {
        "2026-11-23T09": Summary({"mail.in": 40, "refused.in.spam": 30, "refused.in.relaying": 10}),
        "2026-11-23T10": Summary({"mail.in": 20}),
    }
    drawn = chart(day(hours), "Mail", LAYERS)
    assert [it.label for it in drawn.bars] == [f"{it:02}" for it in range(24)] and drawn.every == 3
    assert drawn.ticks == (("80", 0.0), ("60", 25.0), ("40", 50.0), ("20", 75.0), ("0", 100.0))
    nine, ten = drawn.bars[9], drawn.bars[10]
    assert nine.parts == (("inward", 50.0, 50.0), ("refused", 0.0, 50.0))
    assert ten.parts == (("inward", 75.0, 25.0),)
    assert nine.words == "2026-11-23 09:00: 40 received, 40 refused"
    assert drawn.words == "60 received, 40 refused; most at 2026-11-23 09:00 (80)"


def test_a_day_without_mail_and_a_month_are_charts_too() -> None:
    empty = chart(day({}), "Mail", LAYERS)
    assert not any(it.parts for it in empty.bars)
    assert empty.words == "0 received, 0 refused"
    month = chart(day({"2026-11-30T23": Summary({"mail.in": 1})}, "2026-12-23T00"), "Mail", LAYERS)
    assert (
        len(month.bars) == 30 and month.bars[7].counts == (1, 0) and month.bars[7].label == "11-30"
    )
