"""Mailboxes as Dovecot keeps them (Maildir++): names of files and folders, and what there is of one. Pure.

folder_of("Work/2026")                 ".Work.2026"
Name.of("1764312345.M1P2.store,S=9,W=10:2,Sa")   base "1764312345.M1P2.store,S=9,W=10", flags "S", keywords "a"
"""

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

INBOX = "INBOX"
_SIZE = re.compile(r",S=(\d+)")
_HEADER = re.compile(r"3 V(\d+) N(\d+)\b")


def folder_of(name: str) -> str:
    """A folder's directory below Maildir, from the name that users see; "" is the inbox. Raises ValueError."""
    if name.upper() == INBOX:
        return ""
    parts = name.split("/")
    if not all(parts) or "." in name or any(ord(it) < 32 for it in name):
        raise ValueError(f"not the name of a folder: {name!r}")
    return "".join(f".{to_utf7(it)}" for it in parts)


def name_of(folder: str) -> str:
    """The name that users see."""
    if not folder:
        return INBOX
    return "/".join(from_utf7(it) for it in folder.removeprefix(".").split("."))


def to_utf7(text: str) -> str:
    """Modified UTF-7 (RFC 3501, 5.1.3)."""

    def shifted(found: re.Match[str]) -> str:
        packed = base64.b64encode(found[0].encode("utf-16-be")).decode().rstrip("=")
        return f"&{packed.replace('/', ',')}-"

    return re.sub(r"[^\x20-\x7e]+", shifted, text.replace("&", "&-"))


def from_utf7(text: str) -> str:
    """The same back. Raises ValueError for what no base64 is."""

    def plain(found: re.Match[str]) -> str:
        if not found[1]:
            return "&"
        packed = found[1].replace(",", "/")
        packed += "=" * (-len(packed) % 4)
        return base64.b64decode(packed).decode("utf-16-be", "replace")

    return re.sub(r"&([^-]*)-", plain, text)


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a message's file (maildir(5)): what never changes, and its flags."""

    base: str
    flags: str = ""
    keywords: str = ""
    """Letters; what they stand for is in the folder's `dovecot-keywords`."""

    @staticmethod
    def of(file: str) -> "Name":
        """From the file's name."""
        base, _, info = file.partition(":2,")
        info = info.partition(",")[0]
        return Name(
            base,
            "".join(it for it in info if it.isupper()),
            "".join(it for it in info if it.islower()),
        )

    @property
    def file(self) -> str:
        """The file's name in `cur`, without keywords, whose letters differ from folder to folder."""
        return f"{self.base}:2,{self.flags}"


@dataclass(frozen=True, slots=True)
class Message:
    """A message in an archive."""

    path: str
    """Its whole path there."""
    name: Name
    size: int
    """Octets of its file."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder in an archive."""

    messages: Mapping[str, Message]
    """By base name."""
    validity: int = 0
    """IMAP's UIDVALIDITY (RFC 9051, 2.3.1.1); 0: not known."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """What an archive has of a user."""

    user: str
    home: str
    """Where it lies in the archive."""
    folders: Mapping[str, Folder] = field(default_factory=dict)
    """By directory."""
    others: tuple[str, ...] = ()
    """Other files' paths: lists of UIDs and keywords, subscriptions, Sieve."""

    @property
    def count(self) -> int:
        """How many messages."""
        return sum(len(it.messages) for it in self.folders.values())


@dataclass(frozen=True, slots=True)
class Live:
    """What there is of a user now."""

    exists: bool
    """Whether there is such an account."""
    folders: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Base names by directory."""
    validity: Mapping[str, int] = field(default_factory=dict)
    used: int = 0
    limit: int = 0
    """Octets that the mailbox has and may have; a limit of 0 is none."""


MADE_ANEW = (
    "dovecot.index",
    "dovecot.list.index",
    "dovecot.mailbox.log",
    "fts-flatcurve",
    "maildirsize",
)
"""What Dovecot makes anew from the messages, `dovecot-uidlist` and `dovecot-keywords`."""


def is_made_anew(path: str) -> bool:
    """Whether a file need not come back."""
    return any(part.startswith(MADE_ANEW) for part in path.split("/")[-3:])


def validity_of(uidlist: str) -> int:
    """UIDVALIDITY from the first line of a `dovecot-uidlist`; 0 when it says none."""
    found = _HEADER.match(uidlist)
    return int(found[1]) if found else 0


def mailbox(
    user: str, home: str, entries: Iterable[tuple[str, int]], validity: Mapping[str, int]
) -> Mailbox:
    """From the archive's files below `home` (path, size), and `validity` by the path of each `dovecot-uidlist`."""
    messages: dict[str, dict[str, Message]] = {}
    others = []
    for path, size in entries:
        rest = path.removeprefix(f"{home}/").split("/")
        folder, part = (
            (rest[1], rest[2]) if len(rest) == 4 else ("", rest[1]) if len(rest) == 3 else ("", "")
        )
        if rest[0] == "Maildir" and part in ("cur", "new"):
            name = Name.of(rest[-1])
            messages.setdefault(folder, {})[name.base] = Message(path, name, size)
        elif part != "tmp" and not is_made_anew(path):
            others.append(path)
            if rest[0] == "Maildir" and rest[-1] == "dovecot-uidlist" and len(rest) in (2, 3):
                messages.setdefault(rest[1] if len(rest) == 3 else "", {})
    found = {
        it: Folder(
            rows, validity.get("/".join(filter(None, (home, "Maildir", it, "dovecot-uidlist"))), 0)
        )
        for it, rows in sorted(messages.items())
    }
    return Mailbox(user, home, found, tuple(others))
