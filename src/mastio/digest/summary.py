"""A summary of some time: what the lines said, small whatever their number, and made to be merged.

| part | what | size |
|---|---|---|
| `counts` | how often something happened, by its name | the names are in the source |
| `tops` | the biggest of many names: senders, sources … | `KEPT` names each |
| `times` | how long something took, as a histogram | `BOUNDS` |
| `news` | what was never seen before | `NEWS` each |

Counts and histograms merge exactly and in any order. Tops are exact until there are more than `KEPT` names;
beyond that they are Misra-Gries summaries (Agarwal et al., "Mergeable summaries", 2012): a count that is
shown is never too high, and too low by `missed` at most, which is at most total / KEPT.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

Name = TypeVar("Name", str, bytes)

KEPT = 500
"""How many names a top keeps."""
NEWS = 100
"""How many new things of a kind a summary tells of; of the others only the number."""
EXAMPLE, WHEN = 200, 32
"""Octets of a text, and of the line it stands in, that something new is told with: what it says, and when it came."""
BOUNDS: tuple[float, ...] = tuple(
    float(round(base * 10**power, 3))
    for power in range(-2, 6)
    for base in (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
)
"""Upper ends of a histogram's boxes in seconds, from 0.01 to 700,000; one more box has all beyond."""


@dataclass(slots=True)
class Top:
    """The biggest of many names."""

    names: dict[str, int] = field(default_factory=dict)
    missed: int = 0
    """How much too low a count may be; a name that is not here has no more than this."""

    def add(self, names: Mapping[str, int], missed: int = 0) -> None:
        """Merges another one into this."""
        mine = self.names
        for name, count in names.items():
            mine[name] = mine.get(name, 0) + count
        self.missed += missed
        self.names, cut = pruned(mine, KEPT)
        self.missed += cut

    def most(self, number: int) -> list[tuple[str, int]]:
        """The biggest, the name deciding between equals."""
        return sorted(self.names.items(), key=lambda it: (-it[1], it[0]))[:number]


def pruned(names: dict[Name, int], kept: int) -> tuple[dict[Name, int], int]:
    """At most `kept` names, and by how much each count was lowered for that (Misra-Gries)."""
    if len(names) <= kept:
        return names, 0
    cut = sorted(names.values(), reverse=True)[kept]
    return {name: count - cut for name, count in names.items() if count > cut}, cut


@dataclass(slots=True)
class Times:
    """How long something took, as a histogram."""

    boxes: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    worst: float = 0.0

    def add(self, seconds: float, number: int = 1) -> None:
        """One more, or several that took the same."""
        self.boxes[bisect_left(BOUNDS, seconds)] += number
        self.worst = max(self.worst, seconds)

    def merge(self, other: "Times") -> None:
        """Takes another one in."""
        self.boxes = [mine + more for mine, more in zip(self.boxes, other.boxes, strict=True)]
        self.worst = max(self.worst, other.worst)

    @property
    def number(self) -> int:
        """How many there were."""
        return sum(self.boxes)

    def share(self, part: float) -> float:
        """What at least this part of all did not exceed, in seconds: a box's upper end. 0 when empty."""
        wanted, seen = part * self.number, 0
        for box, bound in zip(self.boxes, (*BOUNDS, self.worst), strict=True):
            seen += box
            if seen and seen >= wanted:
                return min(bound, self.worst)
        return 0.0


@dataclass(slots=True)
class Novelty:
    """Something never seen before."""

    example: str
    number: int
    first: str
    """When (ISO 8601)."""


@dataclass(slots=True)
class Summary:
    """What the lines of some time said."""

    counts: dict[str, int] = field(default_factory=dict)
    tops: dict[str, Top] = field(default_factory=dict)
    times: dict[str, Times] = field(default_factory=dict)
    news: dict[str, dict[str, Novelty]] = field(default_factory=dict)
    """Kind → what it is → how it was met."""

    def count(self, name: str) -> int:
        """How often something happened."""
        return self.counts.get(name, 0)

    def below(self, prefix: str) -> dict[str, int]:
        """The counts whose names begin with `prefix.`, by the rest, the highest first."""
        found = {
            name.removeprefix(f"{prefix}."): number
            for name, number in self.counts.items()
            if name.startswith(f"{prefix}.")
        }
        return dict(sorted(found.items(), key=lambda it: (-it[1], it[0])))

    def top(self, name: str, number: int = 10) -> list[tuple[str, int]]:
        """The biggest of a kind."""
        return self.tops[name].most(number) if name in self.tops else []

    def time(self, name: str) -> Times:
        """How long something took."""
        return self.times.get(name) or Times()

    def merge(self, other: "Summary") -> None:
        """Takes another summary in."""
        for name, number in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + number
        for name, top in other.tops.items():
            self.tops.setdefault(name, Top()).add(top.names, top.missed)
        for name, times in other.times.items():
            self.times.setdefault(name, Times()).merge(times)
        for kind, found in other.news.items():
            for what, novelty in found.items():
                self.meet(kind, what, novelty)
        self.cut()

    def meet(self, kind: str, what: str, novelty: Novelty) -> None:
        """Tells of something new. `cut` brings that back to its size."""
        known = self.news.setdefault(kind, {})
        if mine := known.get(what):
            first = min(mine, novelty, key=lambda it: (it.first, it.example))
            novelty = Novelty(first.example, mine.number + novelty.number, first.first)
        known[what] = novelty
        if len(known) >= 4 * NEWS:
            self.cut()

    def cut(self) -> None:
        """Forgets the oldest of more news than `NEWS` of a kind, but for their number."""
        for kind, known in self.news.items():
            if (surplus := len(known) - NEWS) > 0:
                for what in sorted(known, key=lambda it: (known[it].first, it))[:surplus]:
                    del known[what]
                name = f"untold.{kind}"
                self.counts[name] = self.counts.get(name, 0) + surplus

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "counts": dict(sorted(self.counts.items())),
            "tops": {
                name: {"names": dict(top.most(KEPT)), "missed": top.missed}
                for name, top in sorted(self.tops.items())
            },
            "times": {
                name: {"boxes": times.boxes, "worst": times.worst}
                for name, times in sorted(self.times.items())
            },
            "news": {
                kind: {
                    what: [it.example, it.number, it.first] for what, it in sorted(found.items())
                }
                for kind, found in sorted(self.news.items())
            },
        }


def from_plain(data: Mapping[str, Any]) -> Summary:
    """The inverse of `Summary.plain`; raises ValueError, KeyError or TypeError on anything else."""
    summary = Summary(
        counts={str(name): int(number) for name, number in data["counts"].items()},
        tops={name: Top(dict(it["names"]), int(it["missed"])) for name, it in data["tops"].items()},
        times={
            name: Times(list(it["boxes"]), float(it["worst"])) for name, it in data["times"].items()
        },
        news={
            kind: {what: Novelty(*it) for what, it in found.items()}
            for kind, found in data["news"].items()
        },
    )
    if any(len(it.boxes) != len(BOUNDS) + 1 for it in summary.times.values()):
        raise ValueError("a histogram with other boxes")
    return summary


def merged(summaries: Iterable[Summary]) -> Summary:
    """All of them in one."""
    whole = Summary()
    for one in summaries:
        whole.merge(one)
    return whole
