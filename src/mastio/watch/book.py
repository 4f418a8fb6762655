"""Who is told of which alarm, and when: the one place that decides. Pure; times are seconds since the epoch.

    book, letters = heard(book, alarm, now, rules)     something is wrong, or well again
    book, letters = waited(book, now, rules)           time has passed

| | |
|---|---|
| once | the same about the same thing is told once a day, however often it is raised |
| quiet hours | what is not critical waits for their end; what is well again by then was never said |
| answered | `mastio alarms ack` says that somebody is at it |
| unanswered | after some hours others are told too, then once a day, until it is answered or well again |
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from mastio.site.model import Site
from mastio.verify.model import Severity
from mastio.watch.alarm import Alarm

DAY = 86_400.0
PRESSING = (Severity.CRITICAL, Severity.HIGH)
"""What others are told of when nobody answers."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the site file says of alarms."""

    mail: tuple[str, ...]
    """Who is told."""
    others: tuple[str, ...] = ()
    """Who is told as well when nobody answers; the same people again when there are none."""
    quiet: tuple[int, int] | None = None
    """Minutes of the day between which only what is critical is told, by watch's clock."""
    hours: float = 4.0
    """How long somebody has to answer."""

    def silent(self, now: float) -> bool:
        """Whether it is the quiet time of the day."""
        if self.quiet is None:
            return False
        clock = datetime.fromtimestamp(now).astimezone()
        minute, (begin, end) = clock.hour * 60 + clock.minute, self.quiet
        return begin <= minute < end if begin <= end else minute >= begin or minute < end


@dataclass(frozen=True, slots=True)
class Open:
    """Something that is wrong, and who knows."""

    alarm: Alarm
    since: float
    times: int = 1
    """How often it was raised since it was told."""
    told: float | None = None
    """When it was told last; None: it waits for the end of quiet hours."""
    urged: float | None = None
    """When others were told last."""
    answered: str = ""
    """Who is at it, and why it may wait."""


Book = Mapping[str, Open]
"""What is open, by what it is about."""


@dataclass(frozen=True, slots=True)
class Letter:
    """An alarm on its way."""

    alarm: Alarm
    to: tuple[str, ...]


def rules(site: Site) -> Rules:
    """What the site file says."""
    return Rules(
        (site.admin_mail, *site.alarms.mail), site.alarms.escalate_to, site.alarms.quiet,
        site.alarms.escalate_hours,
    )  # fmt: skip


def heard(book: Book, alarm: Alarm, now: float, rules: Rules) -> tuple[Book, list[Letter]]:
    """What follows from an alarm."""
    known = book.get(alarm.about)
    if alarm.well:
        rest = {about: it for about, it in book.items() if about != alarm.about}
        if known is None or known.told is None:
            return rest, []
        more = rules.others if known.urged else ()
        return rest, [Letter(alarm, (*rules.mail, *more))]
    if known and known.alarm.words == alarm.words and now - (known.told or now) < DAY:
        return {**book, alarm.about: replace(known, times=known.times + 1)}, []
    fresh = Open(alarm, known.since if known else now)
    return _tell({**book, alarm.about: fresh}, alarm.about, now, rules)


def waited(book: Book, now: float, rules: Rules) -> tuple[Book, list[Letter]]:
    """What is due: alarms that waited for the end of quiet hours, and those that nobody answers."""
    letters: list[Letter] = []
    for about, it in book.items():
        if it.told is None:
            book, told = _tell(book, about, now, rules)
            letters += told
        elif _unanswered(it, now, rules):
            hours = (now - it.since) / 3600
            words = f"[unanswered for {hours:.0f} h] {it.alarm.subject}"
            text = f"Nobody has answered this alarm (`mastio alarms ack`).\n\n{it.alarm.text}"
            urgent = replace(it.alarm, subject=words, text=text, at=now)
            letters.append(Letter(urgent, rules.others or rules.mail))
            book = {**book, about: replace(it, urged=now)}
    return book, letters


def answer(book: Book, about: str, words: str) -> Book:
    """Somebody is at it. Raises KeyError when nothing of that name is open."""
    return {**book, about: replace(book[about], answered=words)}


def _tell(book: Book, about: str, now: float, rules: Rules) -> tuple[Book, list[Letter]]:
    it = book[about]
    if rules.silent(now) and it.alarm.severity is not Severity.CRITICAL:
        return book, []
    return {**book, about: replace(it, told=now, times=1)}, [Letter(it.alarm, rules.mail)]


def _unanswered(it: Open, now: float, rules: Rules) -> bool:
    if it.answered or it.alarm.severity not in PRESSING:
        return False
    if rules.silent(now) and it.alarm.severity is not Severity.CRITICAL:
        return False
    last = it.urged
    return now - (it.told or now) >= rules.hours * 3600 if last is None else now - last >= DAY


def plain(book: Book) -> dict[str, Any]:
    """The book for JSON."""
    return {about: asdict(it) for about, it in book.items()}


def recall(rows: Mapping[str, Any]) -> Book:
    """The book that `plain` wrote; ValueError when it is none."""
    try:
        return {about: Open(**{**it, "alarm": Alarm.of(it["alarm"])}) for about, it in rows.items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a book of alarms: {error}") from error
