#!/usr/bin/python3 -BIS
"""quarantine: mail that the gateway wants held back, apart from all mailboxes.

    quarantine take SENDER RECIPIENT ORIGINAL QUEUE-ID < MESSAGE     Postfix's pipe(8) brings one
    quarantine serve < REQUEST                                       an administrator looks and decides
    quarantine daily                                                 tells recipients, forgets what is old

One file is one message for one recipient: a line of JSON (the envelope), then the message as it came. It is
in new/ until its recipient has been told of it by `daily`, then in told/. What was released to an address elsewhere
is in sent/ from then on: the gateway may refuse it, and this may be the only copy. The user mastio-quarantine, as whom
all this runs, owns them; Dovecot cannot read them, so no IMAP client can. How messages are parsed: heldmail.py.

REQUEST is `{"action": "list"|"show"|"release"|"delete", "ids": […]}` or, in the place of ids, a filter:
`{"recipient": …, "sender": …, "reason": …, "subject": …}` (parts of them, in any case of letters) and
`{"before": …}` (seconds since 1970). Settings: /etc/mastio/quarantine.json. Standard library and
heldmail.py.
"""

import contextlib
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
from pathlib import Path
from typing import Any

TEMPFAIL = 75
"""sysexits(3): Postfix keeps the message in its queue and comes again."""
sys.path.append("/usr/local/lib/mastio/python")  # heldmail.PLACE
try:
    from mastio import heldmail
    from mastio.heldmail import matches, shown
except (
    ImportError
) as error:  # Python would say 1, for which Postfix returns the message to its sender
    sys.stderr.write(f"{error}\n")
    sys.exit(TEMPFAIL)

SETTINGS = Path("/etc/mastio/quarantine.json")
STATES = ("new", "told", "sent")
"""The folders in which an entry may be."""
MARK = "X-Mastio-Quarantine"
"""The gateway's header; its value is the reason."""
MARKS = re.compile(rb"^(?:X-Mastio-Quarantine|X-Spam)[ \t]*:.*\n(?:[ \t].*\n)*", re.I | re.M)
"""What would send released mail back into quarantine, or into Junk."""


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
            (heldmail.header(message, MARK) or "?")[:200],
            int(time.time()),
        )  # fmt: skip
        new = self.place("new")
        if self.find(entry.id):
            return entry.id
        self.make_room()
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
            file.write(json.dumps(asdict(entry)).encode() + b"\n" + message)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(new / entry.id)
        return entry.id

    def make_room(self) -> None:
        """While the disk is nearly full, deletes the oldest that was told or sent: mailboxes are on it."""
        if not self._is_scarce():
            return
        with self.alone():
            for path in sorted(self.paths("told", "sent"), key=lambda it: it.stat().st_mtime):
                entry, _ = read(path)
                path.unlink()
                expired(entry, "the disk is nearly full")
                if not self._is_scarce():
                    return

    def _is_scarce(self) -> bool:
        return heldmail.shortage(self.folder) > 0

    def place(self, state: str) -> Path:
        """The folder of what is in this state."""
        folder = self.folder / state
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def find(self, name: str) -> Path | None:
        """The file of an entry, wherever it is."""
        if not re.fullmatch("[0-9A-Za-z]+-[0-9a-f]{6}", name):
            return None
        places = (self.folder / state / name for state in STATES)
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


def expired(entry: Entry, why: str) -> None:
    """Says that an entry is gone."""
    syslog.syslog(f"expired: {entry.id} from <{entry.sender}> to <{entry.recipient}>: {why}")


def summary(path: Path) -> dict[str, Any]:
    """An entry as a list shows it."""
    entry, message = read(path)
    return heldmail.summary(_shown(entry, path), message)


def _shown(entry: Entry, path: Path) -> dict[str, Any]:
    return {**asdict(entry), "sent": path.parent.name == "sent"}


def is_ours(settings: Settings, address: str) -> bool:
    """Whether an address is in a domain of this store."""
    domain = address.rpartition("@")[2].lower()
    return _known(settings, "SELECT 1 FROM domain WHERE name = ?", domain)


def has_mailbox(settings: Settings, address: str) -> bool:
    """Whether an address, with a tag or without, is a mailbox of this store."""
    question = "SELECT 1 FROM account WHERE address = ?"
    return _known(settings, question, heldmail.mailbox(address))


def _known(settings: Settings, question: str, name: str) -> bool:
    uri = f"file:{settings.directory}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as base:
        return base.execute(question, (name,)).fetchone() is not None


def deliver(settings: Settings, sender: str, recipient: str, message: bytes) -> None:
    """Into a mailbox of this store, by Dovecot's LMTP (RFC 2033); raises SMTPException or OSError."""
    with smtplib.LMTP(settings.lmtp, local_hostname="quarantine") as dovecot:
        dovecot.sendmail(sender, [recipient], re.sub(rb"\r?\n", b"\r\n", message))


def release(settings: Settings, path: Path) -> bool:
    """Gives a message to its recipient, without what the gateway said of it; raises as `deliver` does.

    Whether it is there. One that an alias or a forward leads away leaves as it would have: through the gateway, which
    may hold or refuse it by the policy of what leaves.
    """
    entry, message = read(path)
    end = re.search(rb"^\r?\n", message, re.M)
    head, body = (message[: end.start()], message[end.start() :]) if end else (message, b"")
    message = MARKS.sub(b"", head) + body
    if is_ours(settings, entry.recipient):
        deliver(settings, entry.sender, entry.recipient, message)
        return True
    command = ["/usr/sbin/sendmail", "-i", "-f", entry.sender, "--", entry.recipient]
    done = subprocess.run(command, input=message, capture_output=True, check=False)
    if done.returncode:
        raise OSError(done.stderr.decode(errors="replace").strip())
    return False


def serve(quarantine: Quarantine, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Carries out an administrator's request."""
    with quarantine.alone():
        if "ids" in request:
            chosen = [(name, quarantine.find(name)) for name in request["ids"]]
        else:
            every = quarantine.paths(*STATES)
            wanted = request.get("filter", {})
            chosen = [(path.name, path) for path in every if matches(summary(path), wanted)]
        match request["action"]:
            case "list":
                found = [summary(path) for _, path in chosen if path]
                return sorted(found, key=lambda it: (it["arrived"], it["id"]))
            case "show":
                taken = [(*read(path), path) for _, path in chosen if path]
                return [heldmail.details(_shown(entry, path), it) for entry, it, path in taken]
        return [decide(quarantine, request["action"], name, path) for name, path in chosen]


def decide(quarantine: Quarantine, action: str, name: str, path: Path | None) -> dict[str, Any]:
    """Releases or deletes one message: {"id", "done", "why"}, and whether it was `sent` on, and stays."""
    if path is None:
        return {"id": name, "done": False, "why": heldmail.MISSING}
    entry, _ = read(path)
    sent = False
    try:
        if action == "release" and not release(quarantine.settings, path):
            sent = True
            path.rename(quarantine.place("sent") / name)
        else:
            path.unlink()
    except (OSError, smtplib.SMTPException) as error:
        return {"id": name, "done": False, "why": shown(error, 300)}
    syslog.syslog(f"{action}d: {name} from <{entry.sender}> to <{entry.recipient}>: {entry.reason}")
    return {"id": name, "done": True, "why": "", "recipient": entry.recipient, "sent": sent}


def letter(settings: Settings, recipient: str, items: list[dict[str, Any]]) -> EmailMessage:
    """What a recipient is told of new messages in quarantine."""
    many = len(items) != 1
    subject = f"{heldmail.messages(len(items))} held back for you"
    return heldmail.letter(settings, recipient, subject, [
        f"{'These messages were' if many else 'This message was'} sent to you and held back, because "
        f"{'they' if many else 'it'} may be dangerous:", "",
        *heldmail.listed(items),
        "You do not have to do anything. If you expected such a message and know its sender, answer this",
        f"mail (it goes to {settings.admin}), name the number and ask for its release.",
        f"What nobody asks for is deleted after {settings.days} days.",
    ])  # fmt: skip


def daily(quarantine: Quarantine) -> None:
    """Deletes what is old, and tells recipients of what is new."""
    settings = quarantine.settings
    limit = time.time() - settings.days * 86400
    for path in quarantine.paths(*STATES):
        entry, _ = read(path)
        if entry.arrived < limit:
            path.unlink()
            expired(entry, f"{settings.days} days")
    told: dict[str, list[Path]] = {}
    for path in quarantine.paths("new"):
        entry, _ = read(path)
        # An address elsewhere is told nothing, nor is an alias that leads there; a mailbox that forwards is.
        people = (entry.recipient, entry.original)
        who = next((it for it in people if has_mailbox(settings, it)), "")
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
            path.rename(quarantine.place("told") / path.name)


def main() -> int:
    """One of the uses above."""
    syslog.openlog("mastio-quarantine", syslog.LOG_PID, syslog.LOG_MAIL)
    os.umask(0o077)
    try:
        quarantine = Quarantine(Settings(**json.loads(SETTINGS.read_text())))
        # An envelope may hold any octets; what stands for those that are not ASCII is written to a file and to the log.
        words = [os.fsencode(it).decode("ascii", "backslashreplace") for it in sys.argv[1:]]
        match words:
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
