"""mbox files: where each message lies, and what its file says of it besides (flags, words, when it came). Pure.

    for start, stop, line in spans(file): …

A message begins with a line `From SENDER DATE` after an empty line (mbox(5)). Python's own `mailbox` takes *any* line
that begins with `From ` for one, and so cuts in two what programs wrote that did not quote such lines.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_tz

_CLOCK, _YEAR = re.compile(rb"\b\d{1,2}:\d\d\b"), re.compile(rb"\b\d{4}\b")
_TIME = re.compile(
    r"(?P<month>[A-Z][a-z]{2}) +(?P<day>\d{1,2}) +(?P<clock>\d{1,2}:\d\d(?::\d\d)?)"
    r"(?: +(?P<zone1>[+-]\d{4}|[A-Z]{2,4}))? +(?P<year>\d{4})(?: +(?P<zone2>[+-]\d{4}))?"
)
_OWN = re.compile(
    rb"^(status|x-status|x-keywords|x-uid|x-imap|x-imapbase|content-length|x-mozilla-keys|x-mozilla-status2?):",
    re.IGNORECASE,
)
"""What programs that keep mbox files write into the messages for themselves."""
_STATUS = {"R": "S", "A": "R", "F": "F", "T": "D", "D": "T"}
"""Letters of Status and X-Status (as c-client and mutt write them) by those of a Maildir."""
_MOZILLA = {0x0001: "S", 0x0002: "R", 0x0004: "F"}
_EXPUNGED = 0x0008
_INTERNAL = b"folder internal data"


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of an mbox file."""

    content: bytes
    """Without what its file says of it besides."""
    received: float
    flags: str
    keywords: tuple[str, ...]


def spans(lines: Iterable[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Where the messages lie, the line before each not counted, and that line. Raises ValueError for no mbox."""
    at, start, first, empty = 0, -1, b"", True
    before = 0
    for line in lines:
        if empty and _begins(line):
            if start >= 0:
                yield start, before, first
            start, first = at + len(line), line
        elif start < 0 and line.strip():
            raise ValueError("does not begin as an mbox file does, with a line “From SENDER DATE”")
        empty = not line.strip()
        if empty:
            before = at
        at += len(line)
    if start >= 0:
        # The empty line at the end is the file's, as those between messages.
        yield start, max(start, before if empty else at), first


def _begins(line: bytes) -> bool:
    return bool(line.startswith(b"From ") and _CLOCK.search(line) and _YEAR.search(line))


def entry(content: bytes, first: bytes, otherwise: float) -> Entry | None:
    """A message from its octets and the line before it, which came `otherwise` when nothing says; None: it is none, or
    was removed."""
    head, gap, body = content.replace(b"\r\n", b"\n").partition(b"\n\n")
    kept, own = _headers(head)
    status = (own.get("status", "") + own.get("x-status", "")).upper()
    try:
        mozilla = int(own.get("x-mozilla-status", "0"), 16)
    except ValueError:
        mozilla = 0
    if mozilla & _EXPUNGED or (
        {"x-imap", "x-imapbase"} & {*own} and _INTERNAL in content[:4096].lower()
    ):
        return None
    flags = {letter for word, letter in _STATUS.items() if word in status}
    flags |= {letter for bit, letter in _MOZILLA.items() if mozilla & bit}
    words = (*own.get("x-keywords", "").split(), *own.get("x-mozilla-keys", "").split())
    return Entry(kept + gap + body, received(first, head, otherwise), "".join(sorted(flags)), words)


def _headers(head: bytes) -> tuple[bytes, dict[str, str]]:
    """The head without what is the file's own, and that."""
    kept: list[bytes] = []
    own: dict[str, str] = {}
    name = ""
    for line in head.split(b"\n"):
        if line[:1] not in (b" ", b"\t"):
            found = _OWN.match(line)
            name = found[1].decode().lower() if found else ""
        if name:
            own[name] = own.get(name, "") + line.partition(b":")[2].decode("ascii", "replace").strip()  # fmt: skip
        else:
            kept.append(line)
    return b"\n".join(kept), own


def received(first: bytes, head: bytes, otherwise: float) -> float:
    """When a message came: by the line before it (UTC, unless it says otherwise), else by its own Date."""
    found = _TIME.search(first.decode("ascii", "replace"))
    if found:
        zone = found["zone1"] or found["zone2"] or "+0000"
        clock = found["clock"] if found["clock"].count(":") == 2 else f"{found['clock']}:00"
        text = f"{found['day']} {found['month']} {found['year']} {clock} {zone}"
        if (moment := _seconds(text)) is not None:
            return moment
    said = re.search(rb"(?im)^date:\s*(.+)$", head)
    moment = _seconds(said[1].decode("ascii", "replace")) if said else None
    return otherwise if moment is None else moment


def _seconds(text: str) -> float | None:
    parsed = parsedate_tz(text)
    if not parsed:
        return None
    try:
        return datetime(*parsed[:6], tzinfo=UTC).timestamp() - (parsed[9] or 0)
    except (ValueError, OverflowError):
        return None
