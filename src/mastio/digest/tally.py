"""What is counted in an hour, while lines are read."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial

from mastio.digest.summary import KEPT, Summary, Times, Top, pruned

_NAMES = 20_000
"""How many names a top may have before it is cut down: seldom, since that sorts them all."""
_LONGEST = 1e9
"""Nothing that is measured takes as long."""
_LETTERS, _OCTETS = 200, 1 << 18
"""Names are cut to so many octets where all of a top have more than those: usual ones are as long as an address."""
_COUNTS: Callable[[], defaultdict[bytes, int]] = partial(defaultdict, int)
"""Unlike a lambda, it can be sent to another process."""


class Tally:
    """What is counted in an hour, before it becomes a summary."""

    def __init__(self) -> None:
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.tops: defaultdict[str, defaultdict[bytes, int]] = defaultdict(_COUNTS)
        self.times: defaultdict[str, defaultdict[bytes, int]] = defaultdict(_COUNTS)
        """How long something took, as the line says it."""
        self.missed: defaultdict[str, int] = defaultdict(int)
        self.summary = Summary()
        """Times and news so far."""
        self._weighed: dict[str, int] = {}
        """How many names there may be before they are weighed again: looking at each costs."""

    def absorb(self, other: "Tally") -> None:
        """Takes in another one of the same hour."""
        for name, number in other.counts.items():
            self.counts[name] += number
        for mine, theirs in ((self.tops, other.tops), (self.times, other.times)):
            for name, names in theirs.items():
                known = mine[name]
                for it, number in names.items():
                    known[it] += number
        for name, number in other.missed.items():
            self.missed[name] += number
        self.summary.merge(other.summary)
        self.cut()

    def cut(self, most: int = _NAMES) -> None:
        """Brings it back to its size: where there are more than `most` names, a part of them stays."""
        for name, names in self.tops.items():
            if len(names) > most:
                kept, cut = pruned(names, min(most, 4 * KEPT))
                self.missed[name] += cut
                self.tops[name] = names = defaultdict(int, kept)
            if self._heavy(name, names, most):
                self.tops[name] = short = _COUNTS()
                for it, number in names.items():
                    short[it[:_LETTERS]] += number
        for name, texts in self.times.items():
            if len(texts) > most or self._heavy(f"time {name}", texts, most):
                self._measure(name, texts)
        self.summary.cut()

    def _heavy(self, name: str, names: defaultdict[bytes, int], most: int) -> bool:
        """Whether names take more room than usual ones would; who makes up lines makes up long ones."""
        if most > KEPT and len(names) < self._weighed.get(name, KEPT):
            return False
        heavy = sum(map(len, names)) > _OCTETS
        self._weighed[name] = len(names) + KEPT if heavy else 2 * len(names)
        return heavy

    def _measure(self, name: str, texts: defaultdict[bytes, int]) -> None:
        times = self.summary.times.setdefault(name, Times())
        for text, number in texts.items():
            try:
                took = float(text)
            except ValueError:
                took = -1.0
            if 0 <= took < _LONGEST:
                times.add(took, number)
            else:
                self.counts["reading.unreadable"] += number
        texts.clear()

    def frozen(self) -> Summary:
        """The summary; nothing is counted here after that."""
        self.cut(KEPT)
        for name, texts in self.times.items():
            self._measure(name, texts)
        summary = self.summary
        for name, number in self.counts.items():
            summary.counts[name] = summary.counts.get(name, 0) + number
        for name, names in self.tops.items():
            top = Top()
            top.add(
                {it.decode("utf-8", "backslashreplace"): no for it, no in names.items()},
                self.missed[name],
            )
            summary.tops[name] = top
        return summary
