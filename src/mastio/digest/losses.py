"""Lines that a machine itself threw away before they left it. Pure.

rsyslog's counters count since its start. Only those of a queue that has lost something are sent, each minute, as lines
with the tag `rsyslogd-pstats` (impstats, rsyslog's documentation); what grows is news. They arrive when the queue
empties: a loss is told when watch is back, not while it is away. journald hands lines on to rsyslog without waiting.
How many it could not, it says each time anew, in the journal alone: the machine's sign of life brings that along.
"""

import re
from dataclasses import dataclass

from mastio.roles.logbook import MISSED

COUNTERS = "rsyslogd-pstats"
TAGS = (COUNTERS, MISSED)
"""Whose lines may tell of losses."""
QUEUES = 50
"""Of so many queues of a machine losses are known; rsyslog has a few."""
_COUNTERS = re.compile(
    r"(?P<queue>\S.*?): origin=core\.queue .*?discarded\.full=(\d{1,15}) discarded\.nf=(\d{1,15})\b"
)
_SAID = re.compile(r"Forwarding to syslog missed (\d{1,15}) messages")


@dataclass(frozen=True, slots=True)
class Loss:
    """What a queue has thrown away: since its rsyslog started, or since it last said so."""

    queue: str
    lines: int
    counter: bool = True
    """Whether `lines` counts on, and names what was told before again."""


def loss(tag: str, text: str) -> Loss | None:
    """The loss that a line with that tag and text tells of; None when it tells of none."""
    if tag == MISSED:
        missed = _SAID.match(text.strip())
        return Loss("journald to rsyslog", int(missed[1]), counter=False) if missed else None
    found = _COUNTERS.match(text.strip())
    if not found or not (lines := int(found[2]) + int(found[3])):
        return None
    return Loss(found["queue"], lines)


def grown(known: dict[str, int], one: Loss) -> int:
    """By how many lines a loss is more than was known, which is then known; after a start it counts anew."""
    if not one.counter:
        return one.lines
    if one.queue not in known and len(known) >= QUEUES:
        return 0
    before = known.get(one.queue, 0)
    known[one.queue] = one.lines
    return one.lines - before if one.lines >= before else one.lines
