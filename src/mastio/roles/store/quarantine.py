#!/usr/bin/python3 -IS
"""quarantine: mail that the gateway wants held back, apart from all mailboxes.

    quarantine take SENDER RECIPIENT ORIGINAL QUEUE-ID < MESSAGE     Postfix's pipe(8) brings one
    quarantine serve < REQUEST                                       an administrator looks and decides
    quarantine daily                                                 tells recipients, forgets what is old

One file is one message for one recipient: a line of JSON (the envelope), then the message as it came. It is
in new/ until its recipient has been told of it by `daily`, then in told/. The user mastio-quarantine, as whom
all this runs, owns them; Dovecot cannot read them, so no IMAP client can. Messages are parsed, never
executed or rendered.

REQUEST is `{"action": "list"|"show"|"release"|"delete", "ids": […]}` or, in the place of ids, a filter:
`{"recipient": …, "sender": …, "reason": …, "subject": …}` (parts of them, in any case of letters) and
`{"before": …}` (seconds since 1970). Settings: /etc/mastio/quarantine.json. Only the standard library is used.
"""

import contextlib
import email.header
import email.policy
import fcntl
import hashlib
import json
import os
import re
import smtplib
import sqlite3
import subprocess
import sys
import syslog
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from email.parser import BytesHeaderParser, BytesParser
from email.utils import format_datetime, localtime, make_msgid
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/mastio/quarantine.json")
MARK = "X-Mastio-Quarantine"
"""The gateway's header; its value is the reason."""
MARKS = re.compile(rb"^(?:X-Mastio-Quarantine|X-Spam)[ \t]*:.*\n(?:[ \t].*\n)*", re.I | re.M)
"""What would send released mail back into quarantine, or into Junk."""
TEMPFAIL = 75
"""sysexits(3): Postfix keeps the message in its queue and comes again."""
LONGEST = 65536
"""So many characters of a message's text are shown."""


@dataclass(frozen=True)
class Settings:
    """What the site says."""

    folder: str
    directory: str
    lmtp: str
    days: int
    organisation: str
    admin: str
    sender: str


@dataclass(frozen=True)
class Entry:
    """The envelope of one message for one recipient."""

    id: str
    recipient: str
    original: str
    """The address that it was sent to, before aliases and forwards."""
    sender: str
    reason: str
    arrived: int


class Quarantine:
    """The folder and what is in it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = Path(settings.folder)

    def take(
        self, sender: str, recipient: str, original: str, queue_id: str, message: bytes
    ) -> str:
        """Keeps one message, durably; its id. Brought twice (a crash in between), it is kept once."""
        brand = hashlib.sha256(recipient.encode()).hexdigest()[:6]
        entry = Entry(
            f"{re.sub('[^0-9A-Za-z]', '', queue_id)}-{brand}",
            recipient, original or recipient, sender,
            shown(BytesHeaderParser(policy=email.policy.compat32).parsebytes(message).get(MARK, "?"), 200),
            int(time.time()),
        )  # fmt: skip
        for state in ("new", "told"):
            (self.folder / state).mkdir(mode=0o700, exist_ok=True)
        if self.find(entry.id):
            return entry.id
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
            file.write(json.dumps(asdict(entry)).encode() + b"\n" + message)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(self.folder / "new" / entry.id)
        return entry.id

    def find(self, name: str) -> Path | None:
        """The file of an entry, wherever it is."""
        if not re.fullmatch("[0-9A-Za-z]+-[0-9a-f]{6}", name):
            return None
        places = (self.folder / state / name for state in ("new", "told"))
        return next((path for path in places if path.exists()), None)

    def paths(self, *states: str) -> list[Path]:
        """The files of all entries in these states."""
        return [path for state in states for path in sorted((self.folder / state).glob("*-*"))]

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else releases, deletes or tells meanwhile."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def read(path: Path) -> tuple[Entry, bytes]:
    """An entry and its message."""
    line, _, message = path.read_bytes().partition(b"\n")
    return Entry(**json.loads(line)), message


def shown(value: object, most: int = 998) -> str:
    """One line that is safe to print: no control or bidirectional characters, encoded words decoded."""
    with contextlib.suppress(
        Exception
    ):  # a stranger wrote it: whatever is wrong with it, show it raw
        value = str(email.header.make_header(email.header.decode_header(str(value))))
    plain = "".join(it if it.isprintable() else " " for it in str(value))
    return " ".join(plain.split())[:most]


def summary(path: Path) -> dict[str, Any]:
    """An entry as a list shows it."""
    entry, message = read(path)
    head = BytesHeaderParser(policy=email.policy.compat32).parsebytes(message)
    return {
        **asdict(entry),
        "from": shown(head.get("From", "")),
        "subject": shown(head.get("Subject", "")),
        "size": len(message),
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


def details(path: Path) -> dict[str, Any]:
    """An entry with its headers, its text and the names of its parts; HTML is reduced to its words."""
    _, message = read(path)
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
        **summary(path),
        "headers": [[shown(key), shown(value)] for key, value in mail.items()],
        "text": "\n\n".join(texts)[:LONGEST],
        "parts": parts,
    }


def is_ours(settings: Settings, address: str) -> bool:
    """Whether an address is in a domain of this store."""
    domain = address.rpartition("@")[2].lower()
    with contextlib.closing(
        sqlite3.connect(f"file:{settings.directory}?mode=ro", uri=True)
    ) as base:
        return bool(base.execute("SELECT 1 FROM domain WHERE name = ?", (domain,)).fetchone())


def deliver(settings: Settings, sender: str, recipient: str, message: bytes) -> None:
    """Into a mailbox of this store, by Dovecot's LMTP (RFC 2033); raises SMTPException or OSError."""
    with smtplib.LMTP(settings.lmtp, local_hostname="quarantine") as dovecot:
        dovecot.sendmail(sender, [recipient], re.sub(rb"\r?\n", b"\r\n", message))


def release(settings: Settings, path: Path) -> None:
    """Gives a message to its recipient, without what the gateway said of it; raises as `deliver` does.

    One that an alias or a forward leads away leaves as it would have: through the gateway.
    """
    entry, message = read(path)
    end = re.search(rb"^\r?\n", message, re.M)
    head, body = (message[: end.start()], message[end.start() :]) if end else (message, b"")
    message = MARKS.sub(b"", head) + body
    if is_ours(settings, entry.recipient):
        return deliver(settings, entry.sender, entry.recipient, message)
    command = ["/usr/sbin/sendmail", "-i", "-f", entry.sender, "--", entry.recipient]
    done = subprocess.run(command, input=message, capture_output=True, check=False)
    if done.returncode:
        raise OSError(done.stderr.decode(errors="replace").strip())
    return None


def serve(quarantine: Quarantine, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Carries out an administrator's request."""
    with quarantine.alone():
        if "ids" in request:
            chosen = [(name, quarantine.find(name)) for name in request["ids"]]
        else:
            every = quarantine.paths("new", "told")
            wanted = request.get("filter", {})
            chosen = [(path.name, path) for path in every if matches(summary(path), wanted)]
        match request["action"]:
            case "list":
                found = [summary(path) for _, path in chosen if path]
                return sorted(found, key=lambda it: (it["arrived"], it["id"]))
            case "show":
                return [details(path) for _, path in chosen if path]
        return [decide(quarantine, request["action"], name, path) for name, path in chosen]


def decide(quarantine: Quarantine, action: str, name: str, path: Path | None) -> dict[str, Any]:
    """Releases or deletes one message: {"id", "done", "why"}."""
    if path is None:
        return {"id": name, "done": False, "why": "there is no such message in quarantine"}
    entry, _ = read(path)
    try:
        if action == "release":
            release(quarantine.settings, path)
        path.unlink()
    except (OSError, smtplib.SMTPException) as error:
        return {"id": name, "done": False, "why": shown(error, 300)}
    syslog.syslog(f"{action}d: {name} from <{entry.sender}> to <{entry.recipient}>: {entry.reason}")
    return {"id": name, "done": True, "why": "", "recipient": entry.recipient}


def letter(settings: Settings, recipient: str, items: list[dict[str, Any]]) -> EmailMessage:
    """What a recipient is told of new messages in quarantine (RFC 3834: not to be answered by machines)."""
    many = len(items) != 1
    mail = EmailMessage()
    mail["From"] = f'"{settings.organisation.replace(chr(34), "")}" <{settings.sender}>'
    mail["To"] = recipient
    mail["Reply-To"] = settings.admin
    mail["Subject"] = f"{len(items)} message{'s' if many else ''} held back for you"
    mail["Date"] = format_datetime(localtime())
    mail["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"
    lines = [
        f"{'These messages were' if many else 'This message was'} sent to you and held back, because "
        f"{'they' if many else 'it'} may be dangerous:", "",
    ]  # fmt: skip
    for item in items:
        moment = time.strftime("%d %B %Y, %H:%M", time.localtime(item["arrived"]))
        lines += [
            f"  Number:   {item['id']}", f"  Arrived:  {moment}",
            f"  From:     {harmless(item['from'] or item['sender'])}",
            f"  Subject:  {harmless(item['subject']) or '(none)'}",
            f"  Why:      {harmless(item['reason'])}", "",
        ]  # fmt: skip
    lines += [
        "You do not have to do anything. If you expected such a message and know its sender, answer this",
        f"mail (it goes to {settings.admin}), name the number and ask for its release.",
        f"What nobody asks for is deleted after {settings.days} days.",
    ]
    mail.set_content("\n".join(lines) + "\n")
    return mail


def harmless(words: str) -> str:
    """A stranger's words, in which no mail program finds a link to click on."""
    return re.sub(r"(?i)(?<=\w)[.:](?=[\w/])", lambda it: f"[{it[0]}]", words)[:200]


def daily(quarantine: Quarantine) -> None:
    """Deletes what is old, and tells recipients of what is new."""
    settings = quarantine.settings
    limit = time.time() - settings.days * 86400
    for path in quarantine.paths("new", "told"):
        entry, _ = read(path)
        if entry.arrived < limit:
            path.unlink()
            syslog.syslog(f"expired: {entry.id} from <{entry.sender}> to <{entry.recipient}>")
    told: dict[str, list[Path]] = {}
    for path in quarantine.paths("new"):
        entry, _ = read(path)
        # An address elsewhere is told nothing; the one here that leads there is.
        who = next((it for it in (entry.recipient, entry.original) if is_ours(settings, it)), "")
        told.setdefault(who, []).append(path)
    for who, paths in told.items():
        try:
            if who:
                mail = letter(settings, who, [summary(path) for path in paths])
                deliver(settings, settings.sender, who, mail.as_bytes(policy=email.policy.SMTP))
        except (OSError, smtplib.SMTPException) as error:
            syslog.syslog(syslog.LOG_WARNING, f"cannot tell <{who}>: {shown(error, 200)}")
            continue
        for path in paths:
            path.rename(quarantine.folder / "told" / path.name)


def main() -> int:
    """One of the uses above."""
    syslog.openlog("mastio-quarantine", syslog.LOG_PID, syslog.LOG_MAIL)
    os.umask(0o077)
    try:
        quarantine = Quarantine(Settings(**json.loads(SETTINGS.read_text())))
        match sys.argv[1:]:
            case ["take", sender, recipient, original, queue_id]:
                name = quarantine.take(
                    sender, recipient, original, queue_id, sys.stdin.buffer.read()
                )
                syslog.syslog(f"held: {name} from <{sender}> to <{recipient}>")
            case ["serve"]:
                json.dump(serve(quarantine, json.load(sys.stdin)), sys.stdout)
            case ["daily"]:
                with quarantine.alone():
                    daily(quarantine)
            case _:
                sys.stderr.write("usage: quarantine take … | serve | daily\n")
                return 64
    except Exception as error:  # whatever it is: Postfix must keep the message
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return TEMPFAIL
    return 0


if __name__ == "__main__":
    sys.exit(main())
