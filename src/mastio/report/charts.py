"""Stacked bars over time, for a page: where each bar stands, and what the eye needs beside them.

Pure geometry, in hundredths of a chart's height; the template draws it as inline SVG, with its words in HTML so
that they keep their size on a phone (decision 0031 tells why no library does it).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mastio.digest.judge import Digest

WIDTH = 600
"""Of the drawing; it is stretched to the page's."""
_STEPS = (1, 2, 2.5, 5)


@dataclass(frozen=True, slots=True)
class Layer:
    """What one colour counts."""

    kind: str
    """Its class in the style sheet."""
    prefix: str
    """The counts of a summary: this one, and all below it."""
    words: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart."""

    label: str
    when: str
    counts: tuple[int, ...]
    words: str
    x: float
    width: float
    parts: tuple[tuple[str, float, float], ...]
    """Class, top, height."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, its scale, and in words what it says."""

    title: str
    layers: tuple[Layer, ...]
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[str, float], ...]
    """Numbers at the side, from the top down, and where they stand."""
    every: int
    """How many bars one label serves."""
    words: str


def scale(highest: int) -> tuple[int, ...]:
    """Round numbers from 0 to where the highest bar fits: two to four steps."""
    power = 1
    while True:
        for base in _STEPS:
            step = base * power
            if step == int(step) and 4 * step >= highest:
                return tuple(int(step) * it for it in range(max(2, -(-highest // int(step))) + 1))
        power *= 10


def chart(digest: Digest, title: str, layers: Sequence[Layer]) -> Chart:
    """A bar for each hour, or of more than four days for each day."""
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
    highest = max((sum(it) for it in slots.values()), default=0)
    numbers = scale(highest)
    width = WIDTH / max(len(slots), 1)
    bars = []
    for index, (name, counts) in enumerate(slots.items()):
        top, parts = 100.0, []
        for layer, count in zip(layers, counts, strict=True):
            if count:
                height = max(0.7, 100 * count / numbers[-1])
                top = max(0.0, top - height)
                parts.append((layer.kind, round(top, 2), round(height, 2)))
        said = ", ".join(f"{count:,} {it.words}" for it, count in zip(layers, counts, strict=True))
        when = name if days else f"{name[:10]} {name[11:]}:00"
        bars.append(Bar(name[5:] if days else name[11:], when, tuple(counts), f"{when}: {said}",
                        round(index * width, 2), round(width * 0.82, 2), tuple(parts)))  # fmt: skip
    totals = [sum(it) for it in zip(*slots.values(), strict=True)] or [0] * len(layers)
    words = ", ".join(f"{total:,} {it.words}" for it, total in zip(layers, totals, strict=True))
    busiest = max(bars, key=lambda it: sum(it.counts), default=None)
    if busiest and highest:
        words += f"; most at {busiest.when} ({highest:,})"
    ticks = tuple((f"{it:,}", round(100 - 100 * it / numbers[-1], 2)) for it in reversed(numbers))
    return Chart(title, tuple(layers), tuple(bars), ticks, max(1, -(-len(bars) // 8)), words)
