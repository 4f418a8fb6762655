"""Stacked columns over time, for a page and for mail: leather draws them, and the same is said in words.

    chart(digest, "Mail", (Layer("mail.in", "received", "#2f6fae"), …))  →  a picture, its rows, a sentence

The picture is the inside of an `<svg>` of `WIDTH` × `HEIGHT`; what colours it stands in attributes, which webmails keep
(decision 0031).
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import accumulate

import leather
from markupsafe import Markup

from mastio.digest.judge import Digest

WIDTH, HEIGHT = 520, 260
"""Of a picture: two stand beside each other on a desk, one is as wide as a phone."""
_LABELS = 8
"""How many there is room for below."""
_INK, _PALE, _LINE = "#1c2733", "#566575", "#d3dbe3"


@dataclass(frozen=True, slots=True)
class Layer:
    """What one colour counts."""

    prefix: str
    """The counts of a summary: this one, and all below it."""
    words: str
    colour: str


@dataclass(frozen=True, slots=True)
class Row:
    """What a column shows, from the lowest part up."""

    when: str
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, its numbers, and in words what it says."""

    title: str
    layers: tuple[Layer, ...]
    rows: tuple[Row, ...]
    words: str
    picture: Markup


def chart(digest: Digest, title: str, layers: Sequence[Layer]) -> Chart:
    """A column for each hour, or of more than four days for each day."""
    first = datetime.fromisoformat(digest.since + ":00")
    number = int((datetime.fromisoformat(digest.until + ":00") - first).total_seconds() // 3600)
    days = number > 96
    slots: dict[str, list[int]] = {}
    for index in range(number):
        hour = f"{first + timedelta(hours=index):%Y-%m-%dT%H}"
        slot = slots.setdefault(hour[:10] if days else hour, [0] * len(layers))
        if summary := digest.hours.get(hour):
            for place, layer in enumerate(layers):
                slot[place] += summary.count(layer.prefix) + sum(
                    summary.below(layer.prefix).values()
                )
    rows = tuple(
        Row(name if days else f"{name[:10]} {name[11:]}:00", tuple(counts))
        for name, counts in slots.items()
    )
    totals = [sum(it) for it in zip(*slots.values(), strict=True)] or [0] * len(layers)
    words = ", ".join(f"{total:,} {it.words}" for it, total in zip(layers, totals, strict=True))
    busiest = max(rows, key=lambda it: sum(it.counts), default=None)
    if busiest and any(busiest.counts):
        words += f"; most at {busiest.when} ({sum(busiest.counts):,})"
    labels = {name: name[5:] if days else name[11:] for name in slots}
    return Chart(title, tuple(layers), rows, words, _picture(layers, slots, labels))


def _picture(
    layers: Sequence[Layer], slots: dict[str, list[int]], labels: dict[str, str]
) -> Markup:
    """leather does not stack: a part is a column up to its top, and lower parts are drawn over it."""
    if not slots:
        return Markup()
    _dress()
    drawn = leather.Chart()
    heights = {name: tuple(accumulate(counts)) for name, counts in slots.items()}
    for place, layer in reversed(tuple(enumerate(layers))):
        columns = [(name, tops[place]) for name, tops in heights.items()]
        drawn.add_columns(columns, name=layer.words, fill_color=layer.colour)
    # Below four its ticks would be parts of one.
    drawn.add_y_scale(0, max(4, *(tops[-1] for tops in heights.values())))
    drawn.add_y_axis(tick_formatter=lambda value, _at, _of: _number(value))
    every = -(-len(slots) // _LABELS)
    drawn.add_x_axis(tuple(slots)[::every], lambda name, _at, _of: labels[name])
    group = drawn.to_svg_group(WIDTH, HEIGHT)
    # leather escapes every text of ours that it draws.
    return Markup(ET.tostring(group, encoding="unicode"))  # noqa: S704


def _number(value: Decimal) -> str:
    return f"{value.normalize():,f}"


def _dress() -> None:
    """leather's looks are variables of its own, for all that a program draws."""
    theme = leather.theme
    theme.background_color = "none"
    theme.margin = 0.02
    theme.legend_color, theme.label_color = _INK, _PALE
    theme.tick_color, theme.zero_color = _LINE, _PALE
    theme.legend_font_family = theme.tick_font_family = "sans-serif"
