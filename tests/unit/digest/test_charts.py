"""What a chart shows, and that it says the same in words."""

import xml.etree.ElementTree as ET

import pytest

from mastio.digest.judge import Digest
from mastio.digest.summary import Summary
from mastio.report.charts import Chart, Layer, chart

LAYERS = (Layer("mail.in", "received", "#00f"), Layer("refused.in", "refused", "#f00"))


def day(hours: dict[str, Summary], until: str = "2026-11-24T00") -> Digest:
    return Digest("demo", "2026-11-23T00", until, hours)


def columns(drawn: Chart) -> dict[str, list[float]]:
    """Colour → how high its columns are, in the picture."""
    series = ET.fromstring(drawn.picture).iterfind(".//g[@class='series columns']")
    found = [group.findall("rect") for group in series]
    return {
        rects[0].attrib["fill"]: [float(it.attrib["height"]) for it in rects] for rects in found
    }


def labels(drawn: Chart, side: str) -> list[str | None]:
    return [
        it.text for it in ET.fromstring(drawn.picture).iterfind(f".//g[@class='axis {side}']//text")
    ]


def test_columns_are_as_high_as_their_counts_and_words_say_the_same() -> None:
    hours = {
        "2026-11-23T09": Summary({"mail.in": 40, "refused.in.spam": 30, "refused.in.relaying": 10}),
        "2026-11-23T10": Summary({"mail.in": 20}),
    }
    drawn = chart(day(hours), "Mail", LAYERS)
    high = columns(drawn)
    # What is stacked stands behind what it stands upon.
    assert list(high) == ["#f00", "#00f"]
    assert high["#f00"][9] == pytest.approx(2 * high["#00f"][9]) and high["#00f"][9] > 30
    assert high["#f00"][10] == high["#00f"][10] == pytest.approx(high["#00f"][9] / 2)
    assert not any(high["#f00"][:9] + high["#f00"][11:])
    assert drawn.rows[9].when == "2026-11-23 09:00" and drawn.rows[9].counts == (40, 40)
    assert drawn.words == "60 received, 40 refused; most at 2026-11-23 09:00 (80)"
    assert labels(drawn, "bottom") == [f"{it:02}" for it in range(0, 24, 3)]
    assert sorted(labels(drawn, "left"), key=str) == ["0", "20", "40", "60", "80"]


def test_thousands_are_told_apart_and_no_message_is_halved() -> None:
    assert "1,000" in labels(
        chart(day({"2026-11-23T09": Summary({"mail.in": 934})}), "", LAYERS), "left"
    )
    few = labels(chart(day({"2026-11-23T09": Summary({"mail.in": 1})}), "", LAYERS), "left")
    assert set(few) == {"0", "1", "2", "3", "4"}


def test_a_day_without_mail_and_a_month_are_charts_too() -> None:
    empty = chart(day({}), "Mail", LAYERS)
    assert not any(any(it) for it in columns(empty).values())
    assert empty.words == "0 received, 0 refused"
    month = chart(day({"2026-11-30T23": Summary({"mail.in": 1})}, "2026-12-23T00"), "Mail", LAYERS)
    assert len(month.rows) == 30 and month.rows[7].counts == (1, 0)
    assert month.rows[7].when == "2026-11-30" and labels(month, "bottom")[:2] == ["11-23", "11-27"]
    none = chart(day({}, "2026-11-23T00"), "Mail", LAYERS)
    assert (none.rows, none.picture) == ((), "")


def test_it_is_the_same_each_time_and_asks_for_nothing() -> None:
    hours = {"2026-11-23T09": Summary({"mail.in": 40})}
    one, two = (chart(day(hours), "Mail", LAYERS).picture for _ in range(2))
    assert one == two
    assert "<script" not in one and "href" not in one and "<style" not in one
