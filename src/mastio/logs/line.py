"""One log line, taken apart.

>>> read("2026-11-24T22:03:30+00:00 gateway 2026-11-24T22:03:29+00:00 mail.info postfix/smtpd[9]: hello").text
'hello'
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Line:
    """As watch wrote it (its rsyslog's template `Line`)."""

    arrived: datetime
    machine: str
    written: datetime
    level: str
    """Facility and severity, as `mail.info`."""
    program: str
    """The tag without its process id, as `postfix/smtpd`."""
    process: str
    """The process id; empty when the tag has none."""
    text: str


def read(line: str) -> Line | None:
    """The line's parts; None when it is no line of this kind."""
    parts = line.rstrip("\n").split(" ", 4)
    if len(parts) < 5:
        return None
    try:
        arrived, written = datetime.fromisoformat(parts[0]), datetime.fromisoformat(parts[2])
    except ValueError:
        return None
    tag, _, text = parts[4].partition(": ")
    program, _, process = tag.rstrip(":").partition("[")
    return Line(arrived, parts[1], written, parts[3], program, process.rstrip("]"), text.strip())
