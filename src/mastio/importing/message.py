"""One message that may come, and what makes it the same as another: its octets, whatever ends its lines.

digest(b"Subject: x\\r\\n\\r\\n") == digest(b"Subject: x\\n\\n")
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field

FLAGS = {"\\Seen": "S", "\\Answered": "R", "\\Flagged": "F", "\\Draft": "D", "\\Deleted": "T"}
"""IMAP's flags (RFC 9051, 2.3.2) by the letters that a Maildir has for them."""
_NO_ATOM = re.compile(r"[^!-~]|[(){%*\"\\\]]")
"""What no keyword of IMAP can hold (RFC 9051, 9: atom)."""
_HEAD = 1 << 16
_ID = re.compile(rb"^message-id:\s*(<[^>\s]{1,200}>)", re.IGNORECASE | re.MULTILINE)


def plain(content: bytes) -> bytes:
    """Lines end as they do in a Maildir of the store."""
    return content.replace(b"\r\n", b"\n")


def digest(content: bytes) -> str:
    """Of a message, however its lines end."""
    return hashlib.sha256(plain(content)).hexdigest()


def title(content: bytes) -> str:
    """The Message-ID in its head, to speak of it; empty when it has none."""
    head = plain(content[:_HEAD]).partition(b"\n\n")[0]
    found = _ID.search(head)
    return found[1].decode("ascii", "replace") if found else ""


@dataclass(frozen=True, slots=True)
class Message:
    """A message that is to be in a mailbox."""

    folder: str
    """Where, by the name that users see."""
    digest: str
    size: int
    """Octets, its lines ending as in a Maildir."""
    received: float
    """When it was received: IMAP's INTERNALDATE, in seconds since the epoch."""
    flags: str = ""
    """Letters of a Maildir."""
    keywords: tuple[str, ...] = ()
    title: str = ""
    read: Callable[[], bytes] = field(default=bytes, compare=False)
    """Its octets, read again."""

    @staticmethod
    def of(
        folder: str, content: bytes, received: float, flags: str, keywords: tuple[str, ...], read: Callable[[], bytes]
    ) -> "Message":  # fmt: skip
        """From its octets."""
        text = plain(content)
        return Message(
            folder, hashlib.sha256(text).hexdigest(), len(text), received,
            "".join(sorted({*flags} & {*FLAGS.values()})), tuple(sorted({_NO_ATOM.sub("_", it) for it in keywords})),
            title(content), read,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """All that may come."""

    messages: tuple[Message, ...]
    folders: tuple[tuple[str, str], ...]
    """What each folder is called there, and here; also of those that are empty."""
    skipped: tuple[str, ...] = ()
    """What does not come, and why."""
    unread: tuple[str, ...] = ()
    """What should come and could not be read, and why."""
