"""Blocks of lines of one machine → tallies by hour.

A line, as roles/watch/receive.conf.j2 writes it:

    ARRIVED MACHINE WRITTEN FACILITY.SEVERITY TAG: TEXT

Ten million lines a day leave about a microsecond for each. So what stands before the text is looked up
whole, as bytes; a program's lines are told apart by their first eight bytes; most kinds are known to say
nothing; and names are counted as bytes, in plain dicts that are cut down (`pruned`) after each block. Only
lines that no program's reader knows are compared with known shapes.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from mastio.digest.shapes import Seen, Shapes
from mastio.digest.summary import KEPT, Novelty, Summary, Times, Top, pruned

Handler = Callable[[bytes, bytes], Any]
"""Takes a line's text and the whole line."""
LETTERS = 8
"""By how many of its first bytes a program's line is told apart."""
SKIP: None = None
"""Instead of a handler: such lines say nothing that is counted."""

_HEAD = re.compile(
    rb"(?P<hour>\d{4}-\d\d-\d\dT\d\d):\d\d:\d\d\S* \S+ \S+ \w+\.(?P<severity>\w+) (?P<tag>[^\s\[:]+)\S*"
)
_HOUR = re.compile(rb"\d{4}-\d\d-\d\dT\d\d")
_HEADS = 20_000
_NAMES = 20_000
"""How many names a top may have before it is cut down: seldom, since that sorts them all."""
_LIVE = 100_000
_SEVERE = (b"err", b"crit", b"alert", b"emerg")


class Tally:
    """What is counted in an hour, before it becomes a summary."""

    def __init__(self) -> None:
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.tops: defaultdict[str, defaultdict[bytes, int]] = defaultdict(lambda: defaultdict(int))
        self.times: defaultdict[str, defaultdict[bytes, int]] = defaultdict(
            lambda: defaultdict(int)
        )
        """How long something took, as the line says it."""
        self.missed: defaultdict[str, int] = defaultdict(int)
        self.summary = Summary()
        """Times and news so far."""

    def cut(self, most: int = _NAMES) -> None:
        """Brings it back to its size: where there are more than `most` names, a part of them stays."""
        for name, names in self.tops.items():
            if len(names) > most:
                kept, cut = pruned(names, min(most, 4 * KEPT))
                self.missed[name] += cut
                self.tops[name] = defaultdict(int, kept)
        for name, texts in self.times.items():
            times = self.summary.times.setdefault(name, Times())
            for text, number in texts.items():
                try:
                    times.add(float(text), number)
                except ValueError:
                    self.counts["reading.unreadable"] += number
            texts.clear()
        self.summary.cut()

    def frozen(self) -> Summary:
        """The summary; nothing is counted here after that."""
        self.cut()
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


class Memory:
    """What outlives a block: messages on their way, who was greylisted, and all that was seen before."""

    def __init__(self, data: dict[str, Any] | None = None) -> None:
        data = data or {}
        self.since: str = data.get("since", "")
        """When the first line of all came; empty: nothing was read yet."""
        self.hours: dict[str, str] = data.get("hours", {})
        """Machine → the hour of its last line: a line that tells none is of the same."""
        self.shapes = Shapes(data.get("shapes"))
        self.networks = Seen(50, data.get("networks"))
        # A scan fills it: what is stopped afterwards must be news all the same.
        self.flows = Seen(25, data.get("flows"), forget=True)
        self.scans: tuple[tuple[float, float], ...] = ()
        """When watch itself scanned, in seconds since the epoch: what was stopped then is no news. Not kept."""
        self.lost: dict[str, dict[str, int]] = data.get("lost", {})
        """Machine → queue → how many lines it had thrown away when it last said so."""
        self.live: dict[str, dict[bytes, tuple[str, bytes, int]]] = {
            machine: {
                qid.encode(): (way, sender.encode(), size)
                for qid, (way, sender, size) in live.items()
            }
            for machine, live in data.get("live", {}).items()
        }
        """Machine → queue id → the way it came, its sender, its size (-1: not known yet)."""
        self.waiting: dict[bytes, float] = {
            key.encode(): when for key, when in data.get("waiting", {}).items()
        }
        """Sender and recipient that were greylisted → when, in seconds since the epoch."""

    def scanning(self, at: float) -> bool:
        """Whether watch scanned then."""
        return any(begin <= at <= end for begin, end in self.scans)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "since": self.since,
            "hours": self.hours,
            "shapes": self.shapes.plain(),
            "networks": self.networks.plain(),
            "flows": self.flows.plain(),
            "lost": self.lost,
            "live": {
                machine: {
                    _text(qid): (way, _text(sender), size)
                    for qid, (way, sender, size) in list(live.items())[-_LIVE // 4 :]
                }
                for machine, live in self.live.items()
            },
            "waiting": {_text(key): when for key, when in list(self.waiting.items())[-10_000:]},
        }


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")


class Program:
    """How the lines of one program are read."""

    def __init__(self, kinds: dict[bytes, Handler | None], other: Handler | None) -> None:
        self.get = {kind[:LETTERS]: handler for kind, handler in kinds.items()}.get
        self.other = other
        """For all other lines; `SKIP` where none of them matters."""


class Reader:
    """Reads the lines of one machine, in order."""

    def __init__(self, machine: str, memory: Memory, hours: dict[str, Tally]) -> None:
        from mastio.digest import others, postfix  # they import this module

        self.machine = machine
        self.memory = memory
        self.hours = hours
        """Hour (`2026-11-24T21`) → what was counted; filled here."""
        self.tally = Tally()
        self.live = memory.live.setdefault(machine, {})
        self._start = 33 + len(machine.encode()) + 1 + 33
        self._heads: dict[bytes, tuple[Any, Handler | None]] = {}
        self._programs: dict[bytes, Program] = {}
        self._make = (postfix.program, others.program)
        self._hour = memory.hours.get(machine, "0001-01-01T00").encode()
        self._last = b""
        self._met: dict[tuple[str, bytes], str] = {}

    def feed(self, block: bytes) -> int:
        """Takes whole lines, the last of which ends in a line feed; how many they were."""
        lines = block.split(b"\n")
        if lines and not lines[-1]:
            lines.pop()
        for hour, some in self._by_hour(lines):
            if hour != self._last:
                if former := self.hours.get(self._last.decode()):
                    former.cut(KEPT)
                self._last = hour
            self.tally = tally = self.hours.setdefault(hour.decode(), Tally())
            tally.counts[f"lines.{self.machine}"] += len(some)
            self._read(some)
            tally.cut()
        self.memory.hours[self.machine] = self._hour.decode()
        if len(self.live) > _LIVE:
            for qid in list(self.live)[: len(self.live) - _LIVE // 2]:
                del self.live[qid]
        if len(self.memory.waiting) > _LIVE:
            for key in list(self.memory.waiting)[: _LIVE // 2]:
                del self.memory.waiting[key]
        return len(lines)

    def _by_hour(self, lines: list[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
        """Lines in groups by the hour in which they arrived: what begins and ends in one hour is of it."""
        if not lines:
            return
        first, last = lines[0][:13], lines[-1][:13]
        if first == last and _HOUR.fullmatch(first):
            self._hour = first
            yield first, lines
            return
        groups: dict[bytes, list[bytes]] = {}
        for line in lines:
            if (hour := line[:13]) != self._hour and _HOUR.fullmatch(hour):
                self._hour = hour
            groups.setdefault(self._hour, []).append(line)
        yield from groups.items()

    def _read(self, lines: list[bytes]) -> None:
        heads, start = self._heads, self._start
        rest = iter(lines)
        while True:
            try:
                for line in rest:
                    at = line.find(b": ", start)
                    try:
                        get, other = heads[line[start:at]]
                    except KeyError:
                        self._meet(line)
                        continue
                    at += 2
                    if handler := get(line[at : at + 8], other):
                        handler(line[at:], line)
            except (ValueError, IndexError):
                # Not as its program writes them: a forged one perhaps. The next one is read.
                self.tally.counts["reading.unreadable"] += 1
            else:
                return

    def _meet(self, line: bytes) -> None:
        """A line whose head was not met yet, or that does not stand where lines do."""
        found = _HEAD.match(line)
        if (
            not found
            or line[found.end() : found.end() + 1] not in (b"", b" ")
            or not found[0].endswith(b":")
        ):
            self.tally.counts["reading.unreadable"] += 1
            return
        head, _, text = line[self._start :].partition(b": ")
        program = self._program(found["tag"])
        severe = found["severity"] in _SEVERE
        other = program.other
        if other is _UNKNOWN:
            other = self._severe(found["tag"]) if severe else self._unknown(found["tag"])
        reading = (program.get, other)
        # Only what is the same for many lines is kept: with another length of the time it is not.
        if line[33 : self._start].endswith(b" ") and head == line[self._start : found.end() - 1]:
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            self._heads[head] = reading
        else:
            text = line[found.end() + 1 :]
        if handler := reading[0](text[:LETTERS], other):
            handler(text, line)

    def _program(self, tag: bytes) -> Program:
        if (known := self._programs.get(tag)) is None:
            if len(self._programs) > 5_000:
                self._programs.clear()
            made = (make(tag, self) for make in self._make)
            known = next((it for it in made if it), None) or Program({}, _UNKNOWN)
            self._programs[tag] = known
        return known

    # --- for the programs' readers --------------------------------------------------------------

    def _unknown(self, tag: bytes) -> Handler:
        program = _text(tag)

        def handler(text: bytes, line: bytes) -> None:
            self.odd(program, text, line)

        return handler

    def _severe(self, tag: bytes) -> Handler:
        unknown = self._unknown(tag)

        def handler(text: bytes, line: bytes) -> None:
            self.tally.tops["errors"][b"%b %b" % (self.machine.encode(), tag)] += 1
            unknown(text, line)

        return handler

    def odd(self, program: str, text: bytes, line: bytes) -> None:
        """A line that nothing is known of: perhaps of a new shape."""
        self.tally.counts["reading.mined"] += 1
        # Most lines have been here before but for their numbers.
        key = (program, text[:300].translate(None, b"0123456789"))
        try:
            trouble = self._met[key]
        except KeyError:
            trouble = next((words for words, mark in _ALARMING if mark in text), "")
            if len(self._met) >= _HEADS:
                self._met.clear()
            self._met[key] = trouble
            if shape := self.memory.shapes.new(program, text):
                self.news("shapes", f"{program}: {shape}", text, line)
        if trouble:
            self.tally.counts[f"trouble.{trouble}"] += 1
            self.tally.tops["trouble"][b"%b: %b" % (self.machine.encode(), text[:160])] += 1

    def news(self, kind: str, what: str, text: bytes, line: bytes) -> None:
        """Tells of something new."""
        example = f"{self.machine} {_text(text[:200])}"
        self.tally.summary.meet(kind, what, Novelty(example, 1, _text(line[:32])))


def _void(_: bytes, __: bytes) -> None:
    """A mark only."""


_UNKNOWN: Handler = _void
_ALARMING = (
    ("disk full", b"No space left on device"),
    ("disk full", b"disk full"),
    ("read-only disk", b"Read-only file system"),
    ("out of memory", b"Out of memory"),
    ("out of memory", b"oom-kill"),
    ("quota", b"Quota exceeded"),
    ("quota", b"quota exceeded"),
    ("logs lost", b"queue is full"),
    ("clock", b"Can't synchronise"),
    ("a service failed", b": Failed with result"),
    ("a program crashed", b"segfault"),
    ("a program crashed", b"core dumped"),
    ("a program crashed", b"panic:"),
)
"""Trouble by name, and what its lines say."""
