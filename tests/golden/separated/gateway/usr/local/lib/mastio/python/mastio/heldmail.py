"""What the programs that hold mail back have in common: the store's quarantine and outbound limits, the gateway's hold.

Runs on machines beside those programs (`PLACE` in `FILE`); standard library only. Messages were written by strangers:
they are parsed here, never executed or rendered, and what comes out is safe to print.
"""

import email.header
import email.policy
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from email.message import EmailMessage
from email.parser import BytesHeaderParser, BytesParser
from email.utils import format_datetime, localtime, make_msgid
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Protocol

PLACE = "/usr/local/lib/mastio/python"
"""What the programs add to `sys.path`."""
FILE = f"{PLACE}/mastio/heldmail.py"
MISSING = "there is no such message in quarantine"
FREE = 0.1
"""On a disk with less than this part free there is no room for more that is held."""
LONGEST = 65536
"""So many characters of a message's text are shown."""


class Office(Protocol):
    """In whose name people are told."""

    @property
    def organisation(self) -> str: ...

    @property
    def admin(self) -> str:
        """To whom they answer."""
        ...

    @property
    def sender(self) -> str: ...


def shortage(folder: Path) -> int:
    """So many bytes are too few on a folder's disk."""
    disk = os.statvfs(folder)
    return max(0, int(FREE * disk.f_blocks - disk.f_bavail) * disk.f_frsize)


def mailbox(address: str) -> str:
    """Whose an address is: in lower case, without a tag."""
    name, at, domain = address.lower().rpartition("@")
    return name.partition("+")[0] + at + domain


def shown(value: object, most: int = 998) -> str:
    """One line that is safe to print: no control or bidirectional characters, encoded words decoded."""
    with suppress(Exception):  # a stranger wrote it: whatever is wrong with it, show it raw
        value = str(email.header.make_header(email.header.decode_header(str(value))))
    plain = "".join(it if it.isprintable() else " " for it in str(value))
    return " ".join(plain.split())[:most]


def harmless(words: str) -> str:
    """A stranger's words, in which no mail program finds a link to click on."""
    return re.sub(r"(?i)(?<=\w)[.:](?=[\w/])", lambda it: f"[{it[0]}]", words)[:200]


def header(message: bytes, name: str) -> str | None:
    """A header of a message itself, safe to print; None when it has none."""
    value = BytesHeaderParser(policy=email.policy.compat32).parsebytes(message).get(name)
    return None if value is None else shown(value)


def summary(entry: dict[str, Any], message: bytes) -> dict[str, Any]:
    """What is known of a message, as a list shows it. `size` is in bytes, the message's unless `entry` says it."""
    return {
        "size": len(message),
        **entry,
        "from": header(message, "From") or "",
        "subject": header(message, "Subject") or "",
    }


def matches(item: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a list's entry passes a filter. A sender is looked for in the envelope and in From:."""
    for key, value in wanted.items():
        if key == "before":
            if item["arrived"] >= value:
                return False
        elif key == "sender":
            if value.lower() not in f"{item['sender']} {item['from']}".lower():
                return False
        elif key == "recipient":
            if value.lower() not in f"{item['recipient']} {item['original']}".lower():
                return False
        elif value.lower() not in item[key].lower():
            return False
    return True


class _Words(HTMLParser):
    """The words of an HTML text."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style") and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def details(entry: dict[str, Any], message: bytes) -> dict[str, Any]:
    """A summary with headers, text and the names of its parts; HTML is reduced to its words."""
    mail = BytesParser(policy=email.policy.compat32).parsebytes(message)
    texts, parts = [], []
    for part in mail.walk():
        if part.is_multipart():
            continue
        payload = part.get_payload(decode=True)
        content = payload if isinstance(payload, bytes) else b""
        kind, name = part.get_content_type(), part.get_filename()
        parts.append({"type": kind, "name": shown(name or ""), "size": len(content)})
        if kind in ("text/plain", "text/html") and not name:
            try:
                text = content.decode(str(part.get_content_charset("utf-8")), "replace")
            except LookupError:
                text = content.decode("utf-8", "replace")
            if kind == "text/html":
                reader = _Words()
                reader.feed(text)
                text = "".join(reader.words)
            texts.append("\n".join(shown(line) for line in text.splitlines()))
    return {
        **summary(entry, message),
        "headers": [[shown(key), shown(value)] for key, value in mail.items()],
        "text": "\n\n".join(texts)[:LONGEST],
        "parts": parts,
    }


def listed(items: Iterable[dict[str, Any]], *, to: bool = False) -> Iterator[str]:
    """Messages as a letter tells of them, an empty line after each; `to`: with their recipients."""
    for item in items:
        yield f"  Number:   {item['id']}"
        yield f"  Arrived:  {time.strftime('%d %B %Y, %H:%M', time.localtime(item['arrived']))}"
        yield f"  From:     {harmless(item['from'] or item['sender'])}"
        if to:
            yield f"  To:       {harmless(item['recipient'])}"
        yield f"  Subject:  {harmless(item['subject']) or '(none)'}"
        yield f"  Why:      {harmless(item['reason'])}"
        yield ""


def letter(office: Office, recipient: str, subject: str, lines: Iterable[str]) -> EmailMessage:
    """What somebody is told, not to be answered by machines (RFC 3834)."""
    mail = EmailMessage()
    mail["From"] = f'"{office.organisation.replace(chr(34), "")}" <{office.sender}>'
    mail["To"] = recipient
    mail["Reply-To"] = office.admin
    mail["Subject"] = subject
    mail["Date"] = format_datetime(localtime())
    mail["Message-ID"] = make_msgid(domain=office.sender.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("\n".join(lines) + "\n")
    return mail


def messages(count: int) -> str:
    """So many, in words."""
    return f"{count} message{'' if count == 1 else 's'}"
