#!/usr/bin/python3 -BIS
"""mastio-held: mail on its way out that the filter wants looked at; it waits in Postfix's hold queue.

    mastio-held serve < REQUEST      an administrator looks and decides
    mastio-held tell                 tells senders and the administrator what is new, forgets what is old
    mastio-held read < MESSAGES      takes messages apart; for itself, as the user mastio-held, who owns nothing

Postfix holds what Rspamd gives the header X-Mastio-Held (main.cf, milter_header_checks); what is on hold without it is
not ours, and is left alone. REQUEST and the answer are those of the store's quarantine (`quarantine serve`); a message
is one entry, however many it is for.

What is released is queued anew (postsuper(1), -r): it passes header_checks, so that it loses what the gateway has said
of it, and no filter; and it has the whole queue's time to be delivered, however long it was held. Its sender is told
when it is held and when it will never be sent, if it is one of us: strangers, whose mail a user's script passes on,
are not. A letter goes first, and what it says is done after: a second letter is better than none.

Settings: /etc/mastio/held.json. Standard library and heldmail.py.
"""

import fcntl
import json
import os
import subprocess
import sys
import syslog
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from enum import StrEnum
from pathlib import Path
from typing import Any

sys.path.append("/usr/local/lib/mastio/python")  # heldmail.PLACE
from mastio import heldmail

SETTINGS = Path("/etc/mastio/held.json")
FOLDER = Path("/var/lib/mastio/held")
"""A file for each message on hold that is known, as old as the message; in it, how far it is: a `Told`."""
HOLD = Path("/var/spool/postfix/hold")
MARK = "X-Mastio-Held"
"""The filter's header; its value is the reason."""
READER = "mastio-held"
"""The user who owns nothing, and takes messages apart."""
SECONDS = 120
Item = dict[str, Any]
Failed = list[subprocess.SubprocessError]
"""What went wrong for one, and kept no other from what is theirs."""


class Told(StrEnum):
    """Who knows of a message."""

    ALL = ""
    SENDER = "sender"
    """The administrator does not."""
    NOBODY = "nobody"
    """It is on hold for another reason, and not ours."""


@dataclass(frozen=True)
class Settings:
    """What the site says."""

    domains: str
    """The file with our domains, one at the beginning of each line."""
    days: int
    organisation: str
    admin: str
    sender: str


def run(*argv: str, words: bytes = b"") -> bytes:
    """A command's output; SubprocessError when it fails or takes too long."""
    done = subprocess.run(argv, input=words, capture_output=True, timeout=SECONDS, check=True)
    return done.stdout


def take(option: str, name: str) -> None:
    """Out of the queue (postsuper(1)): `-d`, or `-r` into it again, where nothing holds it."""
    run("postsuper", option, "-", words=f"{name}\n".encode())


def queued() -> list[Item]:
    """What is on hold, as an entry before its header is known (postqueue(1), -j)."""
    lines = [json.loads(line) for line in run("postqueue", "-j").splitlines()]
    return [_entry(it) for it in lines if it["queue_name"] == "hold"]


def _entry(it: Item) -> Item:
    people = [to["address"] for to in it["recipients"]]
    return {
        "id": it["queue_id"], "recipient": ", ".join(people), "original": ", ".join(people),
        "recipients": people, "sender": it["sender"], "arrived": it["arrival_time"],
        "size": it["message_size"],
    }  # fmt: skip


def apart(items: list[Item], *, whole: bool = False) -> list[Item]:
    """Those of the entries that the filter wanted held, as a list shows them, or (`whole`) with all that is in them.

    One that leaves the queue meanwhile is not among them.
    """
    taken = []
    for item in items:
        try:
            message = run("postcat", "-qhb" if whole else "-qh", item["id"])
        except subprocess.CalledProcessError:
            if (HOLD / item["id"]).exists():
                raise  # or the list would be empty, and look well
            continue
        taken.append([item, message.decode("latin-1")])
    if not taken:
        return []
    return read_apart({"whole": whole, "messages": taken})


def read_apart(request: Item) -> list[Item]:
    """What `read` says, as a user who can reach nothing else."""
    done = subprocess.run(
        [sys.executable, "-BIS", __file__, "read"], input=json.dumps(request).encode(),
        stdout=subprocess.PIPE, timeout=SECONDS, check=True, user=READER, group=READER, extra_groups=(),
    )  # fmt: skip
    found: list[Item] = json.loads(done.stdout)
    return found


def read(request: Item) -> list[Item]:
    """What was taken from the queue, as `apart` gives it."""
    tell = heldmail.details if request["whole"] else heldmail.summary
    found = []
    for item, text in request["messages"]:
        message = text.encode("latin-1")
        reason = heldmail.header(message, MARK)
        if reason is not None:
            found.append(tell({**item, "reason": reason[:200]}, message))
    return found


def serve(settings: Settings, request: Item) -> list[Item]:
    """Carries out an administrator's request."""
    names, action = request.get("ids"), request["action"]
    items = [it for it in queued() if names is None or it["id"] in names]
    if action == "show":
        return apart(items, whole=True)
    wanted = request.get("filter", {})
    found = [it for it in apart(items) if heldmail.matches(it, wanted)]
    if action == "list":
        return sorted(found, key=lambda it: (it["arrived"], it["id"]))
    known = {it["id"]: it for it in found}
    return [decide(settings, action, it, known.get(it)) for it in names or known]


def decide(settings: Settings, action: str, name: str, item: Item | None) -> Item:
    """Releases or deletes one message: {"id", "done", "why"}."""
    if item is None:
        return {"id": name, "done": False, "why": heldmail.MISSING}
    try:
        if action == "delete":
            for who, its in by_sender(settings, [item]).items():
                unsent(settings, who, its, "An administrator has looked at {it} and deleted {it}.")
        take("-r" if action == "release" else "-d", name)
    except subprocess.SubprocessError as error:
        return {"id": name, "done": False, "why": complaint(error)}
    note(f"{action}d", item, item["reason"])
    if action == "release":
        with suppress(subprocess.SubprocessError):  # then it is taken up within a minute
            run("postkick", "public", "pickup", "W")
    return {"id": name, "done": True, "why": "", "recipient": item["recipient"]}


def complaint(error: subprocess.SubprocessError) -> str:
    """What a command said."""
    if not isinstance(error, subprocess.CalledProcessError):
        return str(error)
    words = heldmail.shown((error.stderr or b"").decode(errors="replace"), 300)
    return f"{error.cmd[0]}: {words or f'exit code {error.returncode}'}"


def note(verb: str, item: Item, why: str) -> None:
    """A line in the log."""
    words = f"{verb}: {item['id']} from <{item['sender']}> to <{item['recipient']}>: {why}"
    syslog.syslog(syslog.LOG_NOTICE, words)  # what is less, the unit that tells does not log


def tell(settings: Settings) -> None:
    """Deletes what is old or too much, and tells of what is new, once; what failed is raised after all else."""
    marks = {path.name: path for path in FOLDER.iterdir() if path.name != "lock"}
    there = {path.name for path in HOLD.iterdir()}
    for name in marks.keys() - there:
        marks.pop(name).unlink()
    told = {name: Told(path.read_text()) for name, path in marks.items()}
    limit = time.time() - settings.days * 86400
    ours = [name for name in told if told[name] is not Told.NOBODY]
    due = any(told[it] is Told.SENDER or marks[it].stat().st_mtime < limit for it in ours)
    if there <= told.keys() and not due and not (ours and shortage()):
        return  # as nearly always; this is asked each minute, and a whole queue takes long to list
    items = [it for it in queued() if told.get(it["id"]) is not Told.NOBODY]
    new = {it["id"]: it for it in apart([it for it in items if it["id"] not in told])}
    for item in items:
        known = item["id"] in told or item["id"] in new
        if not known and (HOLD / item["id"]).exists():  # it may have left meanwhile
            mark(item, Told.NOBODY)
    items = [it for it in items if it["id"] in told or it["id"] in new]
    old = [it for it in items if it["arrived"] < limit]
    why = f"Nobody has released {{it}} within {settings.days} days."
    failed = expire(settings, old, why, f"{settings.days} days")
    young = [it for it in items if it["arrived"] >= limit]
    much = oldest(young, shortage())
    why = "There was no more room to keep {it}: the disk is nearly full."
    failed += expire(settings, much, why, "the disk is nearly full")
    rest = [it for it in young if it not in much]
    half = apart([it for it in rest if told.get(it["id"]) is Told.SENDER])
    failed += announce(settings, [new[it["id"]] for it in rest if it["id"] in new], half)
    if failed:
        raise failed[0]


def mark(item: Item, told: Told) -> None:
    """Remembers who knows of a message."""
    path = FOLDER / item["id"]
    path.write_text(told)
    os.utime(path, (item["arrived"], item["arrived"]))


def shortage() -> int:
    """So many bytes are too few on the queue's disk. The oldest make room: Postfix takes no mail at all without any."""
    return heldmail.shortage(HOLD)


def oldest(items: list[Item], octets: int) -> list[Item]:
    """The oldest that are as large together."""
    found = []
    for item in sorted(items, key=lambda it: it["arrived"]):
        if octets <= 0:
            break
        octets -= item["size"]
        found.append(item)
    return found


def expire(settings: Settings, items: list[Item], why: str, short: str) -> Failed:
    """Deletes messages whose senders have been told; `why` is for them, `short` for the log."""

    def step(who: str, its: list[Item]) -> None:
        unsent(settings, who, its, why)
        for item in its:
            take("-d", item["id"])
            note("expired", item, short)

    return for_each(settings, apart(items), step)


def announce(settings: Settings, new: list[Item], half: list[Item]) -> Failed:
    """Tells senders of what is new, and the administrator of that and of what only its senders know (`half`)."""
    known = list(half)

    def step(who: str, its: list[Item]) -> None:
        if who:
            send(settings, delayed(settings, who, its))
        for item in its:
            mark(item, Told.SENDER)
            note("held", item, item["reason"])
        known.extend(its)

    failed = for_each(settings, new, step)
    if known:
        try:
            send(settings, waiting(settings, known))
        except subprocess.SubprocessError as error:
            return [*failed, error]
        for item in known:
            mark(item, Told.ALL)
    return failed


def for_each(
    settings: Settings, items: Iterable[Item], step: Callable[[str, list[Item]], None]
) -> Failed:
    """Does something for each sender, as `by_sender` names them."""
    failed: Failed = []
    for who, its in by_sender(settings, items).items():
        try:
            step(who, its)
        except subprocess.SubprocessError as error:
            failed.append(error)
    return failed


def by_sender(settings: Settings, items: Iterable[Item]) -> dict[str, list[Item]]:
    """The senders, each with what is theirs; all who may not be told are one, without a name."""
    domains: set[str] = set()
    with suppress(FileNotFoundError):  # nobody has an account yet
        text = Path(settings.domains).read_text()
        domains = {line.split()[0] for line in text.splitlines() if line.split()}
    found: dict[str, list[Item]] = {}
    for item in items:
        ours = item["sender"].rpartition("@")[2].lower() in domains
        found.setdefault(item["sender"] if ours else "", []).append(item)
    return found


def waiting(settings: Settings, items: list[Item]) -> EmailMessage:
    """What the administrator is told of new messages."""
    subject = f"{heldmail.messages(len(items))} held on the way out"
    return heldmail.letter(settings, settings.admin, subject, [
        "Held on the gateway, because of what is attached; nothing leaves before you have looked:", "",
        *heldmail.listed(items, to=True),
        "  mastio quarantine show NUMBER       what is in it",
        "  mastio quarantine release NUMBER    send it, without another look of the filter",
        "  mastio quarantine delete NUMBER     delete it; its sender is told", "",
        f"What nobody releases is deleted after {settings.days} days.",
    ])  # fmt: skip


def delayed(settings: Settings, who: str, items: list[Item]) -> EmailMessage:
    """What a sender is told of new messages."""
    subject = f"{heldmail.messages(len(items))} of yours not sent yet"
    return heldmail.letter(settings, who, subject, [
        "Held on the way out, because of what is attached:", "",
        *heldmail.listed(items, to=True),
        "An administrator will look at it; do not send it again. If it cannot wait, answer this mail (it goes to",
        f"{settings.admin}) and name the number. What nobody releases is deleted after {settings.days} days, and you",
        "are told. If it was not you who sent it, change your password now.",
    ])  # fmt: skip


def unsent(settings: Settings, who: str, items: list[Item], why: str) -> None:
    """Tells a sender, if there is one to tell, that messages will never arrive; in `why`, {it} are they."""
    if not who:
        return
    one = len(items) == 1
    was = "was" if one else "were"
    subject = f"{heldmail.messages(len(items))} of yours {was} not sent"
    send(settings, heldmail.letter(settings, who, subject, [
        f"Held on the way out, because of what is attached; {'it' if one else 'they'} {was} not sent to anybody:", "",
        *heldmail.listed(items, to=True),
        f"{why.format(it='it' if one else 'them')} If you do not know why, ask {settings.admin}: answer this mail.",
    ]))  # fmt: skip


def send(settings: Settings, mail: EmailMessage) -> None:
    """By Postfix here, which gives it to the store; SubprocessError when it does not take it."""
    run("sendmail", "-i", "-f", settings.sender, "--", str(mail["To"]), words=mail.as_bytes())


def main() -> int:
    """One of the uses above."""
    os.umask(0o077)
    words = sys.argv[1:]
    if words == ["read"]:
        json.dump(read(json.load(sys.stdin)), sys.stdout)
        return 0
    syslog.openlog("mastio-held", syslog.LOG_PID, syslog.LOG_MAIL)
    try:
        settings = Settings(**json.loads(SETTINGS.read_text()))
        with (FOLDER / "lock").open("w") as lock:
            # Nobody is told twice, and nothing is released while it expires.
            fcntl.flock(lock, fcntl.LOCK_EX)
            match words:
                case ["serve"]:
                    json.dump(serve(settings, json.load(sys.stdin)), sys.stdout)
                case ["tell"]:
                    tell(settings)
                case _:
                    sys.stderr.write("usage: mastio-held serve | tell\n")
                    return 64
    except subprocess.SubprocessError as error:
        sys.stderr.write(f"{complaint(error)}\n")
        return 75
    return 0


if __name__ == "__main__":
    sys.exit(main())
