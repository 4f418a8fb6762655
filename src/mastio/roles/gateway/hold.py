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
are not. Settings: /etc/mastio/held.json. Standard library and heldmail.py.
"""

import fcntl
import json
import os
import subprocess
import sys
import syslog
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

sys.path.append("/usr/local/lib/mastio/python")  # heldmail.PLACE
from mastio import heldmail

SETTINGS = Path("/etc/mastio/held.json")
FOLDER = Path("/var/lib/mastio/held")
"""An empty file for each message of which its sender has been told."""
HOLD = Path("/var/spool/postfix/hold")
MARK = "X-Mastio-Held"
"""The filter's header; its value is the reason."""
READER = "mastio-held"
"""The user who owns nothing, and takes messages apart."""
SECONDS = 120
Item = dict[str, Any]


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
    """A command's output; CalledProcessError when it fails."""
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
    why = ""
    try:
        take("-r" if action == "release" else "-d", name)
        note(f"{action}d", item)
        if action == "delete":
            why = "deleted, but its sender is not told: "
            unsent(settings, item, "An administrator has looked at it and deleted it.")
    except subprocess.CalledProcessError as error:
        return {"id": name, "done": False, "why": why + complaint(error)}
    if action == "release":
        with suppress(subprocess.CalledProcessError):  # then it is taken up within a minute
            run("postkick", "public", "pickup", "W")
    return {"id": name, "done": True, "why": "", "recipient": item["recipient"]}


def complaint(error: subprocess.CalledProcessError) -> str:
    """What a command said."""
    words = heldmail.shown((error.stderr or b"").decode(errors="replace"), 300)
    return f"{error.cmd[0]}: {words or f'exit code {error.returncode}'}"


def note(verb: str, item: Item) -> None:
    """A line in the log."""
    words = (
        f"{verb}: {item['id']} from <{item['sender']}> to <{item['recipient']}>: {item['reason']}"
    )
    syslog.syslog(syslog.LOG_NOTICE, words)  # what is less, the unit that tells does not log


def tell(settings: Settings) -> None:
    """Deletes what is old, and tells of what is new, once."""
    told = {path.name for path in FOLDER.iterdir() if path.name != "lock"}
    if not told and not any(HOLD.iterdir()):
        return  # as nearly always; this is asked each minute
    items = queued()
    for name in told - {it["id"] for it in items}:
        (FOLDER / name).unlink()
    limit = time.time() - settings.days * 86400
    old = apart([it for it in items if it["arrived"] < limit])
    for item in old:
        take("-d", item["id"])
        note("expired", item)
        unsent(settings, item, f"Nobody has released it within {settings.days} days.")
    new = apart([it for it in items if it["arrived"] >= limit and it["id"] not in told])
    if not new:
        return
    send(settings, waiting(settings, new))
    for who, its in by_sender(settings, new).items():
        send(settings, delayed(settings, who, its))
    for item in new:
        (FOLDER / item["id"]).touch()
        note("held", item)


def by_sender(settings: Settings, items: Iterable[Item]) -> dict[str, list[Item]]:
    """The senders who may be told, each with what is theirs."""
    domains: set[str] = set()
    with suppress(FileNotFoundError):  # nobody has an account yet
        text = Path(settings.domains).read_text()
        domains = {line.split()[0] for line in text.splitlines() if line.split()}
    found: dict[str, list[Item]] = {}
    for item in items:
        if item["sender"].rpartition("@")[2].lower() in domains:
            found.setdefault(item["sender"], []).append(item)
    return found


def waiting(settings: Settings, items: list[Item]) -> EmailMessage:
    """What the administrator is told of new messages."""
    subject = f"{heldmail.messages(len(items))} held on the way out"
    return heldmail.letter(settings, settings.admin, subject, [
        "Held, because of what is attached. Nothing is lost, and nothing leaves before you have looked:", "",
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


def unsent(settings: Settings, item: Item, why: str) -> None:
    """Tells its sender that a message will never arrive."""
    for who, its in by_sender(settings, [item]).items():
        send(settings, heldmail.letter(settings, who, "1 message of yours was not sent", [
            "It was held on its way out, because of what is attached, and was not sent to anybody:", "",
            *heldmail.listed(its, to=True),
            f"{why} If you do not know why, ask {settings.admin}: answer this mail.",
        ]))  # fmt: skip


def send(settings: Settings, mail: EmailMessage) -> None:
    """By Postfix here, which gives it to the store; CalledProcessError when it does not take it."""
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
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{complaint(error)}\n")
        return 75
    return 0


if __name__ == "__main__":
    sys.exit(main())
