"""Blocks of lines of one machine → tallies by hour.

A line, as roles/watch/receive.conf.j2 writes it:

    ARRIVED MACHINE WRITTEN FACILITY.SEVERITY TAG: TEXT

Ten million lines a day leave about a microsecond for each. So what stands before the text is looked up
whole, as bytes; a program's lines are told apart by their first eight bytes; most kinds are known to say
nothing; and names are counted as bytes, in plain dicts that are cut down (`pruned`) after each block. Only
lines that no program's reader knows are compared with known shapes.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any

from mastio.digest.memory import LIVE, Memory, as_text
from mastio.digest.shapes import LONGEST, Shares
from mastio.digest.summary import EXAMPLE, KEPT, WHEN, Novelty
from mastio.digest.tally import Tally

Handler = Callable[[bytes, bytes], Any]
"""Takes a line's text and the whole line."""
Reading = tuple[Callable[[bytes, Handler | None], Handler | None], Handler | None]
"""How a text is read: what tells a handler by its first letters, and the handler of all others."""
Step = Callable[..., None]
"""What hangs on what came before. Takes the reader and plain data; a module's function, so that it can be sent."""
Later = tuple[bytes, Step, int, list[Any]]
"""What was put off: the hour, a step that is to be done some times, how much it takes, and what it takes each time.

All in one list, since there are ten thousands: each tuple of its own would be sent, and looked at by the collector.
"""
LETTERS = 8
"""By how many of its first bytes a program's line is told apart."""
SKIP: None = None
"""Instead of a handler: such lines say nothing that is counted."""

_HEAD = re.compile(
    rb"(?P<hour>\d{4}-\d\d-\d\dT\d\d):\d\d:\d\d\S* \S+ \S+ \w+\.(?P<severity>\w+) (?P<tag>[^\s\[:]+)\S*"
)
UNREADABLE = (ValueError, LookupError, ArithmeticError, RecursionError)
"""What reading a line may raise that is not as its program writes it: 1e999, ten thousand brackets."""
HOUR = re.compile(rb"\d{4}-\d\d-\d\dT\d\d")
_HEADS = 20_000
_SEVERE = (b"err", b"crit", b"alert", b"emerg")


class Program:
    """How the lines of one program are read."""

    def __init__(self, kinds: dict[bytes, Handler | None], other: Handler | None) -> None:
        self.get = {kind[:LETTERS]: handler for kind, handler in kinds.items()}.get
        self.other = other
        """For all other lines; `SKIP` where none of them matters."""


class Reader:
    """Reads the lines of one machine, in order.

    One that is `ahead` reads from the middle of a log: what hangs on what came before it puts off (`later`), for
    a reader that knows (`catch_up`).
    """

    def __init__(
        self, machine: str, memory: Memory, hours: dict[str, Tally], *, ahead: bool = False
    ) -> None:
        from mastio.digest import others, postfix  # they import this module

        self.machine = machine
        self.memory = memory
        self.hours = hours
        """Hour (`2026-11-24T21`) → what was counted; filled here."""
        self.tally = Tally()
        self.ahead = ahead
        self.later: list[Later] = []
        self.live = memory.live.setdefault(machine, {})
        self._start = 33 + len(machine.encode()) + 1 + 33
        self._heads: dict[bytes, Reading] = {}
        """What stands before a text → how it is read."""
        self._tags: dict[bytes, Reading] = {}
        """The same without the number of the process."""
        self._programs: dict[bytes, Program] = {}
        self._make = (postfix.program, others.program)
        self._hour = memory.hours.get(machine, "0001-01-01T00").encode()
        self._last = b""
        self._met: dict[tuple[str, bytes], str] = {}

    def feed(self, lines: list[bytes]) -> None:
        """Takes whole lines, without what ends them."""
        for hour, some in self._by_hour(lines):
            if hour != self._last:
                if not self.ahead:
                    self.past(self._last.decode())
                self._last = hour
            self.tally = tally = self.hours.setdefault(hour.decode(), Tally())
            tally.counts[f"lines.{self.machine}"] += len(some)
            self._read(some)
            tally.cut()
        self.memory.hours[self.machine] = self._hour.decode()
        self.bound()

    def _by_hour(self, lines: list[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
        """Lines in groups by the hour in which they arrived: what begins and ends in one hour is of it."""
        if not lines:
            return
        first, last = lines[0][:13], lines[-1][:13]
        if first == last and HOUR.fullmatch(first):
            self._hour = first
            yield first, lines
            return
        groups: dict[bytes, list[bytes]] = {}
        for line in lines:
            if (hour := line[:13]) != self._hour and HOUR.fullmatch(hour):
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
                        self._meet(line, at)
                        continue
                    at += 2
                    if handler := get(line[at : at + 8], other):
                        handler(line[at:], line)
            except UNREADABLE:
                # A forged one perhaps. The next one is read.
                self.tally.counts["reading.unreadable"] += 1
            else:
                return

    def _meet(self, line: bytes, at: int) -> None:
        """A line whose head was not met yet, or that does not stand where lines do; its text begins behind `at`."""
        head = line[self._start : at]
        tag, _, number = head.partition(b"[")
        # Another process of a program that is known, as most are.
        if (reading := self._tags.get(tag)) and number[:-1].isdigit() and number[-1:] == b"]":
            self._remember(head, reading)
            self._take(reading, line[at + 2 :], line)
            return
        found = _HEAD.match(line)
        if (
            not found
            or line[found.end() : found.end() + 1] not in (b"", b" ")
            or found[0][-1:] != b":"
        ):
            self.tally.counts["reading.unreadable"] += 1
            return
        reading = self._reading(found["tag"], severe=found["severity"] in _SEVERE)
        # Only what is the same for many lines is kept: with another length of the time it is not.
        if line[33 : self._start].endswith(b" ") and found.end() - 1 == at:
            self._remember(head, reading)
            self._tags[tag] = reading
        self._take(reading, line[found.end() + 1 :], line)

    def _reading(self, tag: bytes, *, severe: bool) -> Reading:
        """How lines with that tag are read."""
        program = self._program(tag)
        if program.other is not _UNKNOWN:
            return program.get, program.other
        return program.get, self._severe(tag) if severe else self._unknown(tag)

    @staticmethod
    def _take(reading: Reading, text: bytes, line: bytes) -> None:
        get, other = reading
        if handler := get(text[:LETTERS], other):
            handler(text, line)

    def _remember(self, head: bytes, reading: Reading) -> None:
        if len(self._heads) >= _HEADS:
            self._heads.clear()
            self._tags.clear()
        self._heads[head] = reading

    def _program(self, tag: bytes) -> Program:
        if (known := self._programs.get(tag)) is None:
            if len(self._programs) > 5_000:
                self._programs.clear()
            made = (make(tag, self) for make in self._make)
            known = next((it for it in made if it), None) or Program({}, _UNKNOWN)
            self._programs[tag] = known
        return known

    def bound(self) -> None:
        """Forgets the oldest of too many messages: they never end, or nobody comes again."""
        if len(self.live) > LIVE:
            for qid in list(self.live)[: len(self.live) - LIVE // 2]:
                del self.live[qid]
        if len(self.memory.waiting) > LIVE:
            for key in list(self.memory.waiting)[: LIVE // 2]:
                del self.memory.waiting[key]

    def past(self, hour: str) -> None:
        """There are no more lines of that hour."""
        if former := self.hours.get(hour):
            former.cut(KEPT)

    def end(self) -> None:
        """Lets go of the programs' readers, which know this one: so all is gone without the collector."""
        for known in (self._heads, self._tags, self._programs):
            known.clear()

    def stands_at(self, hour: str) -> None:
        """Lines up to that hour were read by others."""
        self._hour, self.memory.hours[self.machine] = hour.encode(), hour

    def catch_up(self, later: Iterable[Later]) -> None:
        """Does what a reader ahead of this one has put off."""
        former = None
        for hour, step, number, taken in later:
            if hour != former:
                former, self.tally = hour, self.hours.setdefault(hour.decode(), Tally())
            for args in zip(*[iter(taken)] * number, strict=True):
                try:
                    step(self, *args)
                except UNREADABLE:
                    self.tally.counts["reading.unreadable"] += 1

    # --- for the programs' readers --------------------------------------------------------------

    def then(self, step: Step, *args: Any) -> None:
        """Does what hangs on all that came before. `args` are as many each time, one at least."""
        if not self.ahead:
            step(self, *args)
        elif self.later and self.later[-1][1] is step and self.later[-1][0] == self._last:
            self.later[-1][3].extend(args)
        else:
            self.later.append((self._last, step, len(args), list(args)))

    def puts_off(self, line: bytes) -> bool:
        """Whether a line of a message that is not known is put off, since it may have been known before."""
        if self.ahead:
            self.then(_again, line)
        return self.ahead

    def _unknown(self, tag: bytes) -> Handler:
        program = as_text(tag)

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
            self.then(_shape, program, text, line)
        if trouble:
            self.tally.counts[f"trouble.{trouble}"] += 1
            self.tally.tops["trouble"][b"%b: %b" % (self.machine.encode(), text[:160])] += 1

    def news(self, kind: str, what: str, text: bytes, line: bytes) -> None:
        """Tells of something new."""
        example = f"{self.machine} {as_text(text[:EXAMPLE])}"
        when = as_text(line[:WHEN])
        self.tally.summary.meet(kind, what[: 2 * LONGEST], Novelty(example, 1, when))

    def filled(self, known: Shares, group: str) -> None:
        """After something new: tells when there is no room for more of that machine's."""
        if (full := known.full(self.machine, group)) is not None:
            self.tally.counts["trouble.too much was new"] += 1
            of = full[:80] or "conversations with the outside"
            what = f"{self.machine}: no longer told, so much of it was new: {of}"
            self.tally.tops["trouble"][what.encode("utf-8", "backslashreplace")] += 1


@lru_cache(4)
def _minute(text: bytes) -> float:
    return datetime.fromisoformat(text.decode() + ":00+00:00").timestamp()


def seconds(line: bytes) -> float:
    """When a line arrived, in seconds since the epoch; 0 when it does not say."""
    try:
        return _minute(line[:16]) + float(line[17:19])
    except ValueError:
        return 0.0


def _again(reader: Reader, line: bytes) -> None:
    reader._read([line])


def _shape(reader: Reader, program: str, text: bytes, line: bytes) -> None:
    shapes = reader.memory.shapes
    if shape := shapes.new(reader.machine, program, text):
        reader.news("shapes", f"{program}: {shape}", text, line)
        reader.filled(shapes, program)


def _void(_: bytes, __: bytes) -> None:
    """A mark only."""


_UNKNOWN: Handler = _void
_ALARMING = (
    ("disk full", b"No space left on device"),
    ("disk full", b"disk full"),
    ("read-only disk", b"Read-only file system"),
    ("out of memory", b"Out of memory"),
    ("out of memory", b"oom-kill"),
    ("out of memory", b"killed by the OOM killer"),
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
