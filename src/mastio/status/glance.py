"""What a look at the site means: facts in, words and a level out. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mastio.digest.need import Level as NeedLevel
from mastio.digest.standing import Section
from mastio.site.model import Alarms

FULL = 0.95
"""The share of a disk (or its inodes) from which mail is in danger; the site file says from which somebody should
know (alarms.disk_percent)."""
WAITS, STUCK = 3600.0, 4 * 3600.0
"""Seconds that the oldest message may wait: a receiver may be away for an hour; postmasters are asked after four
(delay_warning_time, postconf(5), is usually 4 h)."""
SCARCE = 0.05
"""The share of memory that should be left."""


class Kind(StrEnum):
    """What a note is about, beside the machine."""

    SILENT = "silent"
    UNITS = "units"
    DISK = "disk"
    MEMORY = "memory"
    QUEUE = "queue"
    HELD = "held"
    NAMES = "names"
    CHECKS = "checks"
    SERVER = "server"


class Level(StrEnum):
    """How much something needs a person, the least first."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth a word."""

    level: Level
    about: str
    """A machine's name, or what watch looks after."""
    words: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Glance:
    """The site at one moment."""

    site: str
    machines: Mapping[str, Mapping[str, Any] | str]
    """What `probes.glance.now` said of each, or why it could not be asked."""
    sets: Mapping[str, Mapping[str, Any] | None]
    """Watch's newest report of each set of checks: `verdict`, `age` (seconds), `late`, `bad` (how many findings)."""
    bans: int | None
    """How many clients are kept out; None when that is not known."""
    drill: Mapping[str, Any] | None = None
    """The last restore drill: `good`, `age` (seconds), `late`; None when there was none, or it is not known."""
    standing: tuple[Section, ...] = ()
    """How updates, integrity and backups stand, as far as watch has found anything."""
    server: tuple[str, ...] = ()
    """What is wrong with the one physical server that carries the machines, where one does."""
    nearly: float = Alarms().disk_percent / 100
    """The share of a disk from which somebody should know."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """All that is worth a word, the worst first."""
        order = list(Level)[::-1]
        found = [
            note
            for name in self.machines
            for note in _machine(name, self.machines[name], self.nearly)
        ]
        found += [note for name in self.sets for note in _set(name, self.sets[name])]
        found += _drill(self.drill) if self.drill else ()
        found += [note for section in self.standing for note in _standing(section)]
        found += [Note(Level.BAD, "server", it, Kind.SERVER) for it in self.server]
        return tuple(sorted(found, key=lambda it: order.index(it.level)))

    @property
    def level(self) -> Level:
        """The worst of all."""
        return max((it.level for it in self.notes), key=list(Level).index, default=Level.GOOD)


def _machine(name: str, facts: Mapping[str, Any] | str, nearly: float) -> Iterator[Note]:
    if isinstance(facts, str):
        yield Note(Level.BAD, name, f"cannot be asked: {facts}", Kind.SILENT)
        return
    for unit in facts["failed"]:
        yield Note(Level.BAD, name, f"{unit} has failed: `systemctl status {unit}`", Kind.UNITS)
    for disk in facts["disks"]:
        for what, share in shares(disk):
            if share >= min(nearly, FULL):
                level = Level.BAD if share >= FULL else Level.WARNING
                yield Note(level, name, f"{what} of {disk['path']} are {share:.0%} used", Kind.DISK)
    left = facts["memory"]["available"] / facts["memory"]["total"]
    if left < SCARCE:
        yield Note(Level.WARNING, name, f"{left:.0%} of its memory is left", Kind.MEMORY)
    queue = facts["queue"] or {}
    if (oldest := queue.get("oldest", 0.0)) >= WAITS:
        level = Level.BAD if oldest >= STUCK else Level.WARNING
        hours = oldest / 3600
        words = f"mail waits for {hours:.1f} h: `postqueue -p` there says for whom"
        yield Note(level, name, words, Kind.QUEUE)
    if held := queue.get("hold", 0):
        are = "message is" if held == 1 else "messages are"
        words = f"{held} {are} held: `mastio outbound show`, `mastio quarantine list`"
        yield Note(Level.WARNING, name, words, Kind.HELD)
    if facts.get("names") is False:
        words = "its resolver finds no names: senders cannot be checked, and nothing leaves"
        yield Note(Level.BAD, name, words, Kind.NAMES)


def shares(disk: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """What of a file system is used up, as shares: its octets, and its inodes where they are counted."""
    yield "octets", 1 - disk["available"] / disk["total"]
    if disk["inodes"]:
        yield "inodes", 1 - disk["inodes_free"] / disk["inodes"]


def _set(name: str, report: Mapping[str, Any] | None) -> Iterator[Note]:
    about = f"verify ({name})"
    if report is None:
        yield Note(Level.WARNING, about, "has not run by itself yet", Kind.CHECKS)
        return
    if report["late"]:
        yield Note(Level.BAD, about, "is overdue: nobody knows how the site is", Kind.CHECKS)
    if report["bad"]:
        words = f"{report['bad']} findings: `mastio verify --scheduled` shows them"
        yield Note(Level.BAD, about, words, Kind.CHECKS)


def _standing(section: Section) -> Iterator[Note]:
    for row in section.rows:
        for need in row.needs:
            level = Level.BAD if need.level is NeedLevel.ACT else Level.WARNING
            yield Note(level, section.title.lower(), f"{need.words}: `{need.remedy}`", Kind.CHECKS)


def _drill(last: Mapping[str, Any]) -> Iterator[Note]:
    about = "restore drill"
    if not last["good"]:
        yield Note(
            Level.BAD,
            about,
            "what is archived could not be restored: `mastio drill status`",
            Kind.CHECKS,
        )
    if last["late"]:
        yield Note(
            Level.BAD,
            about,
            "is overdue: nobody knows whether archives can be restored",
            Kind.CHECKS,
        )
