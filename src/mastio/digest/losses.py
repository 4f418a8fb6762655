"""Lines that a machine's own rsyslog threw away: its queue to watch was full. Pure.

Its counters count since its start. Only those of a queue that has lost something are sent, each minute, as lines with
the tag `rsyslogd-pstats` (impstats, rsyslog's documentation); what grows is news. They arrive when the queue
empties: a loss is told when watch is back, not while it is away.
"""

import re
from dataclasses import dataclass

TAG = "rsyslogd-pstats"
QUEUES = 50
"""Of so many queues of a machine losses are known; rsyslog has a few."""
_COUNTERS = re.compile(
    r"(?P<queue>\S.*?): origin=core\.queue .*?discarded\.full=(\d+) discarded\.nf=(\d+)"
)


@dataclass(frozen=True, slots=True)
class Loss:
    """What a queue has thrown away since its rsyslog started."""

    queue: str
    lines: int


def loss(text: str) -> Loss | None:
    """The loss that a line's text tells of; None when it tells of none."""
    found = _COUNTERS.match(text.strip())
    if not found or not (lines := int(found[2]) + int(found[3])):
        return None
    return Loss(found["queue"], lines)


def grown(known: dict[str, int], one: Loss) -> int:
    """By how many lines a loss is more than was known, which is then known; after a start it counts anew."""
    if one.queue not in known and len(known) >= QUEUES:
        return 0
    before = known.get(one.queue, 0)
    known[one.queue] = one.lines
    return one.lines - before if one.lines >= before else one.lines
