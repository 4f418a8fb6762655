"""What runs out, and what has failed: alarms from the glance that watch has at every machine each five minutes.

    news(seen, known, at)       what is to be said: of what is new, worse, or well again
    grow(kept, seen, at)        how full the disks were, an hour a row
    soon(kept)                  which of them will be full within days

A disk is told before it is full, by the site file's threshold or by the pace at which it fills. What may mend itself,
a unit that starts again, a resolver that misses an answer, is told when it is so at two looks in a row. Silence of a
whole machine is told elsewhere (`logbook.py`), and so is what checks find.
"""

import errno
import smtplib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mastio.site.model import Site
from mastio.status.glance import Glance, Kind, Level
from mastio.verify.model import Severity
from mastio.watch import alarm, book
from mastio.watch.alarm import Alarm
from mastio.watch.settings import Settings

HOUR, DAY = 3600.0, 86_400.0
KEPT = 72
"""Hours of which is known how full a disk was."""
LEAST = 6
"""Hours after which a pace says something."""
SOON = 7 * DAY
"""A disk that would be full sooner is told."""
_HALF = 0.5
"""An emptier disk has time, whatever its pace."""
_AGAIN = 3600.0
"""Seconds between two mails of a watch that cannot write."""

_WORDS: Mapping[Kind, tuple[str, str, str]] = {
    Kind.DISK: ("its disk fills up", "its disk is full", "its disk has room again"),
    Kind.UNITS: ("a unit has failed", "a unit has failed", "all units run again"),
    Kind.MEMORY: ("its memory is nearly used up", "its memory is used up", "it has memory again"),
    Kind.QUEUE: ("mail waits for long", "mail is stuck", "mail flows again"),
    Kind.HELD: (
        "outgoing mail is held",
        "outgoing mail is held",
        "no outgoing mail is held any more",
    ),
    Kind.NAMES: ("it finds no names", "it finds no names", "it finds names again"),
}
"""What is told by alarms: a warning, what is bad, and well again."""
_PATIENT = (Kind.UNITS, Kind.MEMORY, Kind.NAMES)
"""What is told when it is still so at the next look."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with one machine, of one kind."""

    machine: str
    kind: Kind
    level: Level
    words: tuple[str, ...]

    @property
    def about(self) -> str:
        """As the bell calls it."""
        return f"{self.kind} {self.machine}"


def troubles(seen: Glance, filling: Mapping[str, str]) -> Iterator[Trouble]:
    """All that is wrong; `filling` says of machines which disk will be full soon."""
    levels = list(Level)
    for machine in seen.machines:
        for kind in _WORDS:
            notes = [it for it in seen.notes if it.about == machine and it.kind is kind]
            words = [it.words for it in notes]
            if kind is Kind.DISK and machine in filling:
                words.append(filling[machine])
            if words:
                worst = max((it.level for it in notes), key=levels.index, default=Level.WARNING)
                yield Trouble(machine, kind, worst, tuple(words))


def news(
    site: str, found: Iterator[Trouble], known: Mapping[str, Any], at: float, silent: frozenset[str]
) -> tuple[list[Alarm], dict[str, Any]]:
    """The alarms, and what is known from now on. `known` is what was; `silent` machines could not be asked: what was
    wrong with them is wrong still."""
    told: list[Alarm] = []
    now: dict[str, Any] = {}
    for it in found:
        before = known.get(it.about, {})
        patient = it.kind in _PATIENT and not before
        said = before.get("said", before.get("words", []))
        # Of units each is a trouble of its own: another one that is down at two looks is told as well.
        more = it.kind is Kind.UNITS and ({*it.words} & {*before.get("words", ())}) - {*said}
        news = not patient and (before.get("level") != it.level or bool(more))
        now[it.about] = {
            "kind": str(it.kind), "machine": it.machine, "level": "" if patient else str(it.level),
            "words": [*it.words], "said": [*it.words] if news else [] if patient else said,
        }  # fmt: skip
        if news:
            told.append(_alarm(site, it, at))
    for about, before in known.items():
        if about in now:
            continue
        if before["machine"] in silent:
            now[about] = before
        elif before["level"]:
            kind, machine = Kind(before["kind"]), before["machine"]
            subject = f"[{site}] {machine}: {_WORDS[kind][2]}"
            text = "\n".join(("It was:", *before["words"], ""))
            told.append(Alarm(site, about, Severity.HIGH, subject, text, alarm.WELL, at))
    return told, now


def _alarm(site: str, it: Trouble, at: float) -> Alarm:
    bad = it.level is Level.BAD
    severity = Severity.MEDIUM
    if bad:
        severity = Severity.CRITICAL if it.kind is Kind.DISK else Severity.HIGH
    subject = f"[{site}] {it.machine}: {_WORDS[it.kind][bad]}"
    text = "\n".join((*(f"{it.machine}: {words}" for words in it.words), "", _NEXT[it.kind], ""))
    which = "; ".join(it.words) if it.kind is Kind.UNITS else ""
    return Alarm(site, it.about, severity, subject, text, "failed" if bad else "warning", at, which)


_NEXT: Mapping[Kind, str] = {
    Kind.DISK: "Until there is room mail is answered with 4xx, so that its senders keep it (of watch: the other "
    "machines keep what they log; its own lines may be lost). Make room, or give the machine a larger disk; then all "
    "goes on by itself. `mastio status` shows how full the disks are.",
    Kind.UNITS: "systemd goes on trying. `systemctl status` and `journalctl -u` there say why it fails.",
    Kind.MEMORY: "Give the machine more, or see what takes it: `systemd-cgtop -m` there.",
    Kind.QUEUE: "`postqueue -p` there says for whom, and why it cannot be delivered.",
    Kind.HELD: "A user has sent more than the site file allows, or what it wants looked at first. Nothing of it is "
    "lost, and nothing leaves until you decide: the two commands say who, what and why, and release it or delete it.",
    Kind.NAMES: "Until it does, incoming mail is put off with 4xx and outgoing mail waits: none is lost. See whether "
    "its resolver runs (`systemctl status unbound`), and what the firewall's way to the internet does.",
}


# --- how fast disks fill ---


def grow(kept: Mapping[str, Any], seen: Glance, at: float) -> dict[str, Any]:
    """What is kept, with this look: `machine path` → rows of when, octets left, octets in all, one an hour."""
    after: dict[str, Any] = {}
    for machine, facts in seen.machines.items():
        if isinstance(facts, str):
            after |= {name: rows for name, rows in kept.items() if name.split()[0] == machine}
            continue
        for disk in facts["disks"]:
            rows = [*kept.get(f"{machine} {disk['path']}", ())]
            if not rows or at - rows[-1][0] >= HOUR:
                rows.append([at, disk["available"], disk["total"]])
            after[f"{machine} {disk['path']}"] = rows[-KEPT:]
    return after


def soon(kept: Mapping[str, Any]) -> dict[str, str]:
    """The machines of which a disk will be full soon, and which, at its pace since the oldest row of the same size."""
    found: dict[str, str] = {}
    for name, rows in kept.items():
        machine, _, path = name.partition(" ")
        last = rows[-1]
        first = next(it for it in rows if it[2] == last[2])
        hours, used = (last[0] - first[0]) / HOUR, first[1] - last[1]
        if hours < LEAST or used <= 0 or last[1] > _HALF * last[2]:
            continue
        left = last[1] / used * (last[0] - first[0])
        if left < SOON:
            found[machine] = (
                f"{path} will be full in {left / DAY:.1f} days, at its pace of the last {hours:.0f} h"
            )
    return found


# --- a watch that cannot write ---


def cry(problem: OSError, site: Site, settings: Settings, marker: Path, now: float) -> bool:
    """Mail past the bell, whose book is on the disk that is full; once an hour. False when it is something else."""
    if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
        return False
    if marker.exists() and now - marker.stat().st_mtime < _AGAIN:
        return True
    it = Trouble(settings.machine, Kind.DISK, Level.BAD, (f"nothing can be written: {problem}",))
    try:
        alarm.mail(_alarm(site.name, it, now), site, settings, book.rules(site).mail)
    except (OSError, smtplib.SMTPException):
        return True  # and at the next look
    with suppress(OSError):
        marker.touch()
    return True
