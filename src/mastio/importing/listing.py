"""What an IMAP server answers, as data (RFC 9051; names of folders as in RFC 3501). Pure.

mailbox(b'(\\\\HasNoChildren \\\\Sent) "." "INBOX.Gesendet"', prefix="INBOX.")
row(b'1 (UID 5 FLAGS (\\\\Seen $Label1) INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 4711)')
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz

from mastio.importing.folders import decoded
from mastio.importing.message import FLAGS
from mastio.restoring.maildir import INBOX

_STRING = rb'"((?:\\.|[^"\\])*)"'
_LIST = re.compile(rb"\(([^)]*)\) (?:NIL|" + _STRING + rb") (.*)$", re.DOTALL)
_SPACE = re.compile(rb"\(" + _STRING + rb" (?:NIL|" + _STRING + rb")")
_ITEMS = {
    name: re.compile(pattern)
    for name, pattern in {
        "uid": rb"\bUID (\d+)", "flags": rb"\bFLAGS \(([^)]*)\)", "size": rb"\bRFC822\.SIZE (\d+)",
        "date": rb'\bINTERNALDATE "([^"]*)"',
    }.items()
}  # fmt: skip
_USES = {
    "\\sent": "Sent",
    "\\drafts": "Drafts",
    "\\junk": "Junk",
    "\\trash": "Trash",
    "\\archive": "Archive",
}
"""Special uses (RFC 6154) by what this store calls their folders."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the server."""

    raw: bytes
    """Its name as the server writes it."""
    parts: tuple[str, ...]
    """The parts of its name; the inbox has none."""
    use: str = ""
    """What this store calls the folder that is used so."""
    virtual: bool = False
    """It shows what is in other folders (`\\All`, `\\Flagged`; `\\Important`, RFC 8457)."""
    holds: bool = True
    """Whether it can hold messages."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the server says of a message."""

    uid: int
    size: int
    received: float
    flags: str
    keywords: tuple[str, ...]


def personal(answer: Sequence[object]) -> bytes:
    """The prefix of the user's own folders, from NAMESPACE (RFC 2342)."""
    found = _SPACE.search(answer[0]) if answer and isinstance(answer[0], bytes) else None
    return _plain(found[1]) if found else b""


def others(answer: Sequence[object]) -> tuple[bytes, ...]:
    """The prefixes of what is not the user's own."""
    text = answer[0] if answer and isinstance(answer[0], bytes) else b""
    first = _ending(text)
    return tuple(_plain(it[1]) for it in _SPACE.finditer(text, first) if it[1])


def _ending(text: bytes) -> int:
    """Where the first of a NAMESPACE's three lists ends."""
    if not text.startswith(b"("):
        return text.find(b" ") if b" " in text else len(text)
    depth, quoted = 0, False
    for at, sign in enumerate(text):
        if sign == 0x22 and text[at - 1 : at] != b"\\":
            quoted = not quoted
        elif not quoted:
            depth += (sign == 0x28) - (sign == 0x29)
            if not depth:
                return at + 1
    return len(text)


def _plain(text: bytes) -> bytes:
    return re.sub(rb"\\(.)", rb"\1", text)


def mailbox(answer: object, prefix: bytes = b"") -> Folder | None:
    """From a line of LIST, or a line and its literal; None when it makes no sense."""
    literal: bytes = b""
    if isinstance(answer, tuple):
        answer, literal = answer
    found = _LIST.search(answer) if isinstance(answer, bytes) else None
    if not found:
        return None
    raw = literal or found[3].strip()
    if not literal and raw.startswith(b'"'):
        raw = _plain(raw[1:-1])
    flags = {it.lower() for it in found[1].decode("ascii", "replace").split()}
    delimiter = _plain(found[2] or b"")
    rest = raw.removeprefix(prefix) if raw != prefix.rstrip(delimiter or b"\0") else raw
    names = rest.split(delimiter) if delimiter else [rest]
    parts = tuple(decoded(it.decode("utf-8", "replace")).replace("/", "_") for it in names if it)
    return Folder(
        raw, () if [it.upper() for it in parts] == [INBOX] else parts,
        next((_USES[it] for it in sorted(flags) if it in _USES), ""),
        bool({"\\all", "\\flagged", "\\important"} & flags), not {"\\noselect", "\\nonexistent"} & flags,
    )  # fmt: skip


def row(answer: bytes) -> Row | None:
    """From a line of FETCH; None when it is another answer."""
    found = {name: pattern.search(answer) for name, pattern in _ITEMS.items()}
    uid, flags, size, date = found["uid"], found["flags"], found["size"], found["date"]
    if not (uid and flags and size and date):
        return None
    words = flags[1].decode("ascii", "replace").split()
    known = {name.lower(): letter for name, letter in FLAGS.items()}
    moment = parsedate_tz(date[1].decode("ascii", "replace").strip().replace("-", " ", 2))
    return Row(
        int(uid[1]), int(size[1]), float(mktime_tz(moment)) if moment else 0.0,
        "".join(sorted({known[it.lower()] for it in words if it.lower() in known})),
        tuple(it for it in words if not it.startswith("\\")),
    )  # fmt: skip


def bodies(answer: Sequence[object]) -> Iterator[tuple[int, bytes]]:
    """UIDs and octets from the answers to a FETCH of whole messages."""
    for at, it in enumerate(answer):
        if not isinstance(it, tuple):
            continue
        after = answer[at + 1] if at + 1 < len(answer) else b""
        uid = _ITEMS["uid"].search(it[0]) or (
            _ITEMS["uid"].search(after) if isinstance(after, bytes) else None
        )
        if uid:
            yield int(uid[1]), it[1]


def batches(rows: Sequence[Row], octets: int, count: int) -> Iterator[list[Row]]:
    """Messages that are fetched at once: at most `count`, and not much more than `octets`."""
    found: list[Row] = []
    total = 0
    for it in rows:
        if found and (len(found) >= count or total + it.size > octets):
            yield found
            found, total = [], 0
        found.append(it)
        total += it.size
    if found:
        yield found
