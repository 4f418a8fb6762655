"""What signs of life say: who is silent, which lines are lost, whose clock is wrong. Pure, and one line at a time.

Each machine writes a line a minute (tag `mastio-alive`): `boot=ID seq=N up=SECONDS clock=SECONDS`, the boot's id,
a number that goes up by one within a boot, the seconds since the boot (a clock that nobody can set) and the time.

- silence: no sign has *arrived* for `SILENT` seconds;
- a gap: a number is missing, within a boot. What comes late, from a queue after an outage, closes it again;
- a jump: `clock` went another way than `up` between two signs of one boot, by more than `JUMP` seconds;
- a wrong clock: the time in a sign is ahead of its arrival, or behind it although signs arrive one by one (a queue
  that empties after an outage is late as well, but its lines come all at once).

A new boot counts from 1: what its first signs were, is known, too.
"""

import re
from dataclasses import dataclass, field
from typing import Any

TAG = "mastio-alive"
EVERY = 60
"""Seconds between two signs."""
SILENT = 5 * 60.0
JUMP = 5.0
OFF = 30.0
"""Seconds by which a clock may be wrong."""
GRACE = 60.0
"""Seconds in which a sign may still come after its follower."""
REMEMBERED = 86400.0
"""Seconds for which a sign that has not come is told."""
LASTING = ("silent", "clock")
"""What is so now; all else that is told was over at once."""
MISSING = 1000
"""At most so many that have not come are remembered of a machine."""
_SECONDS = r"(\d{1,12}(?:\.\d{1,9})?)"
_SIGN = re.compile(rf"boot=([0-9a-f-]{{8,36}}) seq=(\d{{1,12}}) up={_SECONDS} clock={_SECONDS}")
"""More digits are no time, and may be more than a number can have."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One sign of life."""

    arrived: float
    boot: str
    number: int
    up: float
    clock: float


def sign(arrived: float, text: str) -> Sign | None:
    """The sign that a line's text is; None when it is none."""
    match = _SIGN.fullmatch(text.strip())
    if not match:
        return None
    return Sign(arrived, match[1], int(match[2]), float(match[3]), float(match[4]))


@dataclass(slots=True)
class Heard:
    """What is known of one machine."""

    arrived: float = 0.0
    """When its last sign came; 0: none yet."""
    boot: str = ""
    number: int = 0
    up: float = 0.0
    clock: float = 0.0
    missing: dict[str, float] = field(default_factory=dict)
    """Signs that have not come (`boot:number`), and when that was noticed."""
    off: float = 0.0
    """By how many seconds the clock is wrong; 0: it is right."""

    doubt: bool = False
    """Whether the last sign was late and came alone: the first of a queue, or a clock that is behind."""
    former: str = ""
    """The boot before this one: what was on its way when it ended comes again, and may come late."""

    def take(self, one: Sign) -> list[str]:
        """One more sign; what happened with it that is over at once, in words: a jump of the clock."""
        name = one.boot[:8]
        if self.missing.pop(f"{name}:{one.number}", None) is not None:
            return []
        if one.boot == self.former or (one.boot == self.boot and one.number <= self.number):
            return []
        happened = []
        between = one.arrived - self.arrived if self.arrived else EVERY
        first = 1
        if one.boot == self.boot:
            first = self.number + 1
            jump = (one.clock - self.clock) - (one.up - self.up)
            if abs(jump) > JUMP:
                way = "forward" if jump > 0 else "back"
                happened.append(f"its clock was set {way} by {abs(jump):.0f} seconds")
        self.missing = {it: at for it, at in self.missing.items() if one.arrived - at < REMEMBERED}
        if self.arrived:  # of what was before the first sign, nothing is known
            room = MISSING - len(self.missing)
            for number in range(max(first, one.number - room), one.number):
                self.missing[f"{name}:{number}"] = one.arrived
        behind = one.arrived - one.clock
        alone = behind > OFF and between > EVERY / 2
        if behind < -OFF or (alone and self.doubt):
            self.off = -behind
        elif abs(behind) <= OFF:
            self.off = 0.0
        self.doubt = alone
        if one.boot != self.boot:
            self.former = self.boot
        self.arrived, self.boot, self.number = one.arrived, one.boot, one.number
        self.up, self.clock = one.up, one.clock
        return happened

    def state(self, now: float, since: float) -> dict[str, str]:
        """What is wrong now, by its kind. `since`: from when on signs could be expected."""
        wrong = {}
        last = max(self.arrived, since)
        if now - last > SILENT:
            wrong["silent"] = f"no sign of life for {(now - last) / 60:.0f} minutes"
        due = [it for it, at in self.missing.items() if now - at >= GRACE]
        if due:
            some = f"{due[0]} to {due[-1]}" if len(due) > 1 else due[0]
            wrong["gap"] = (
                f"lines are lost: {len(due)} signs of life have not come (boot:number {some})"
            )
        if self.off:
            way = "ahead" if self.off > 0 else "behind"
            wrong["clock"] = f"its clock is {abs(self.off):.0f} seconds {way}"
        return wrong

    def plain(self) -> dict[str, Any]:
        """For the state file."""
        return {name: getattr(self, name) for name in self.__slots__}
