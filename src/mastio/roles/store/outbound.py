#!/usr/bin/python3 -BIS
"""How much a user may send: Postfix's policy, and the list of what is held. Runs on the store.

    mastio-outbound policy            answer Postfix (SMTPD_POLICY_README); started by spawn(8)
    mastio-outbound returned          count a message that our own gateway refused; Postfix's notice of it by stdin
    mastio-outbound notify            mail what happened to the administrator and to the user
    mastio-outbound show              who is paused and what is held, as JSON
    mastio-outbound release WHAT      let a user write again and send what is held, or send one message
    mastio-outbound drop WHAT         delete a user's held messages, or one message

Postfix asks at each recipient of a submitted message (to remember who it is for), at its end (to count and
decide), and at each recipient of a bounce. When a user goes beyond a limit, this message and all that
follow go to Postfix's hold queue: the user's program hears 250, nothing is lost, and nothing leaves until
an administrator has looked. After a release everything is counted from zero. What is held has a bound (book.HELD, and
a tenth of the disk); beyond it the user's program hears 450.

What a user's Sieve script sends (redirects, answers) waits with the rest while the user is paused. It pauses nobody:
how much that is, others decide, who write to the user. Nor is it dropped with the rest: a redirected message may be
the only copy of what somebody else has written.

A bounce counts only against addresses that have lately written to more recipients than have come back, so
forged bounces cannot pause somebody who hardly writes. What our own gateway refuses never leaves the store, whose
bounce(8) tells the user; Postfix hands a copy of that notice to us (notify_classes), and whose message it was is known
by its queue id.

It also keeps whom users have written to, as digests, for `learn tell` to bring to the gateways: the filter does not
delay these people's answers. Mail that is held counts when it is released; what a script sends never does. The
counts are in book.py. Standard library and that.
"""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from email import message_from_binary_file
from email.message import EmailMessage, Message
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any, TextIO

sys.path.append("/usr/local/lib/mastio/python")  # heldmail.PLACE
from mastio import heldmail
from mastio.roles.store.book import DAY, HOUR, Book

CONFIG = Path("/etc/mastio/outbound.json")
STATE = Path("/var/lib/mastio/outbound/outbound.sqlite")
ALARM = Path("/var/lib/mastio/outbound/alarm")
"""There while somebody must be told of something; systemd watches for it."""
NEWS = Path("/var/lib/mastio/outbound/news")
"""There while gateways have not been told whom users have written to; the same."""
UNKNOWN, TEMPFAIL = 3, 75
NOBODY = "MAILER-DAEMON"
"""How postqueue(1) calls the null sender."""
SIEVE = "sieve"
"""Postfix's policy context for what users' scripts send (master.cf)."""
HOLD = "HOLD beyond the limits of what one user may send"
LATER = "450 4.7.1 Too much mail of yours waits for an administrator"


def requests(stream: TextIO) -> Iterator[dict[str, str]]:
    """Postfix's questions: name=value lines, an empty one at the end of each."""
    request: dict[str, str] = {}
    for line in stream:
        name, sign, value = line.rstrip("\n").partition("=")
        if sign:
            request[name] = value
        elif request:
            yield request
            request = {}


class Policy:
    """One Postfix process's questions, in order. A message is named by its `instance`."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.instance = ""
        self.recipients: list[str] = []

    def answer(self, request: dict[str, str], now: float, *, scarce: bool = False) -> str:
        """What Postfix is to do (access(5)), and a side note taken; `scarce`: there is hardly room to hold anything."""
        user = request.get("sasl_username", "").lower()
        state, recipient = request.get("protocol_state"), request.get("recipient", "")
        if not user:
            if state == "RCPT" and not request.get("sender"):
                self.book.bounced(recipient, now)
            return "DUNNO"
        if request.get("instance") != self.instance:
            self.instance, self.recipients = request.get("instance", ""), []
        if state == "RCPT":
            self.recipients.append(recipient)
            return "DUNNO"
        if state != "END-OF-MESSAGE":
            return "DUNNO"
        name, by_script = request.get("queue_id", ""), request.get("policy_context") == SIEVE
        if by_script and {heldmail.mailbox(it) for it in self.recipients} == {user}:
            return "DUNNO"
        if self.book.is_full(user, by_script=by_script, scarce=scarce):
            return LATER
        if by_script:
            held = self.book.scripted(user, name, now)
        else:
            count = int(request.get("recipient_count") or len(self.recipients))
            sender = request.get("sender", "").lower()
            held = self.book.message(user, sender, self.recipients, count, name, now)
        return HOLD if held else "DUNNO"


def policy(config: dict[str, Any]) -> None:
    """Answers until Postfix hangs up. A question that cannot be answered ends in silence: 4xx."""
    book = Book(str(STATE), config)
    judge, queue_folder = Policy(book), Path(config["queue"])
    for request in requests(sys.stdin):
        scarce = heldmail.shortage(queue_folder) > 0
        answer = judge.answer(request, time.time(), scarce=scarce)
        if book.alarm:
            ALARM.touch()
            book.alarm = False
        sys.stdout.write(f"action={answer}\n\n")
        sys.stdout.flush()
        if book.news:
            NEWS.touch()
            book.news = False


def came_back(notice: Message) -> str:
    """The queue id of the message that a notice of Postfix's tells of (RFC 3464, 2.2); empty when it tells of none."""
    # The parser makes a part of each of the status' blocks; the first tells of the message.
    for part in notice.walk():
        if part.get_content_type() == "message/delivery-status":
            head: Any = part.get_payload(0)
            return str(next((it for name, it in head.items() if name.endswith("-Queue-ID")), ""))
    return ""


def queue() -> list[dict[str, Any]]:
    """What is in Postfix's hold queue (postqueue(1), -j)."""
    output = subprocess.run(["postqueue", "-j"], capture_output=True, text=True, check=True).stdout
    found = [json.loads(line) for line in output.splitlines()]
    return [it for it in found if it["queue_name"] == "hold"]


def show(book: Book) -> dict[str, Any]:
    """Who is paused and what is held; messages that others put on hold have no user."""
    owners, scripts = book.owners(), book.scripts()
    messages = [
        {
            "message": it["queue_id"], "user": owners.get(it["queue_id"], ""), "sender": it["sender"],
            "by_script": it["queue_id"] in scripts,
            "recipients": [to["address"] for to in it["recipients"]], "size": it["message_size"],
            "arrived": it["arrival_time"],
        }
        for it in queue()
    ]  # fmt: skip
    # Younger ones may not be listed yet: their end of data has just been answered.
    gone = set(owners) - {it["message"] for it in messages}
    old = {
        name
        for (name,) in book.db.execute(
            "SELECT message FROM held WHERE at < ?", (time.time() - HOUR,)
        )
    }
    book.forget(sorted(gone & old))
    return {"paused": book.paused(), "held": messages}


def settle(book: Book, verb: str, what: str) -> int:
    """Releases or drops a user's messages (what scripts send is dropped by its own name alone) or one message; how
    many. KeyError when there is none."""
    shown = show(book)
    users = {it["user"] for it in (*shown["paused"], *shown["held"])}
    mine = [it for it in shown["held"] if what in (it["user"], it["message"])]
    if not mine and what not in users:
        raise KeyError(what)
    if verb == "release" and what in users:
        # First, so that what is sent meanwhile is not held after its fellows have left.
        book.resume(what, time.time())
        mine = [it for it in show(book)["held"] if it["user"] == what]
    if verb == "drop":
        mine = [it for it in mine if it["message"] == what or not it["by_script"]]
    if mine:
        messages = [it["message"] for it in mine]
        if verb == "drop":
            _take("-d", messages)
            book.forget(messages)
        else:
            old = {it["message"] for it in mine if is_old(it, time.time())}
            young = [it for it in messages if it not in old]
            _take("-H", young)
            _take("-r", sorted(old))
            book.forget(messages)
            written = [to for it in mine if not it["by_script"] for to in it["recipients"]]
            book.wrote(written, time.time())
            NEWS.touch()
            # else they would wait for the next run of the queue
            for argv in (
                ["postkick", "public", "pickup", "W"],
                *(["postqueue", "-i", it] for it in young),
            ):
                subprocess.run(argv, check=False, capture_output=True)
    return len(mine)


def is_old(held: dict[str, Any], now: float) -> bool:
    """Whether a message must be queued anew (postsuper(1), -r), with the whole queue's time to be delivered: when that
    time has passed while it was held, it would be returned at the first try that fails.

    What has no sender goes as it is, however old: the gateway signs an answer by the trace line on its top, and a new
    one would come above it. So does what is young: for a day we know by its name who has submitted it.
    """
    return bool(held["sender"] != NOBODY and held["arrived"] < now - DAY)


def _take(option: str, names: list[str]) -> None:
    """Out of the hold queue (postsuper(1))."""
    if names:
        words = "".join(f"{it}\n" for it in names)
        argv = ["postsuper", option, "-"]
        subprocess.run(argv, input=words, text=True, check=True, capture_output=True)


def notify(book: Book, config: dict[str, Any]) -> None:
    """One mail to the administrator and one to the user, by a way that no limit is on."""
    for user, reason in book.notices():
        _mail(
            config, config["admin"], f"Outgoing mail of {user} is held",
            f"{user} has sent {reason}.\n\nWhat {user} sends from now on is held on the store, not lost; "
            "when very much is held, more is refused for now. "
            "If the account is in the wrong hands, change its password first (mastio user change), then:\n\n"
            f"  mastio outbound show              what is held\n"
            f"  mastio outbound release {user}    send it, and count from zero\n"
            f"  mastio outbound drop {user}       delete it, but for what a Sieve script passes on\n",
        )  # fmt: skip
        _mail(
            config, user, "Your outgoing mail is being held",
            f"You have sent {reason}.\n\nTo protect you and everybody you write to, your messages now wait until "
            f"an administrator ({config['admin']}) has looked at them. What was taken is not lost; do not send "
            "it again. If it was not you who sent them, change your password now.\n",
        )  # fmt: skip
        book.told(user)


def _mail(config: dict[str, Any], recipient: str, subject: str, text: str) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = (
        f"Mail system <{config['sender']}>",
        recipient,
        subject,
    )
    mail["Date"], mail["Message-ID"] = (
        formatdate(),
        make_msgid(domain=config["sender"].rpartition("@")[2]),
    )
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834
    mail.set_content(text)
    # Not the null sender: it would come back into the store as a bounce, and count.
    argv = ["/usr/sbin/sendmail", "-f", config["sender"], "--", recipient]
    subprocess.run(argv, input=mail.as_bytes(), check=True)


def main() -> int:
    """The command line; the exit code."""
    verb, *rest = sys.argv[1:] or ["show"]
    os.umask(0o027)
    config = json.loads(CONFIG.read_text())
    if verb == "policy":
        policy(config)
        return 0
    if not STATE.exists() and os.geteuid() == 0:
        STATE.touch(0o640)
        os.chown(STATE, STATE.parent.stat().st_uid, STATE.parent.stat().st_gid)
    if verb == "returned":
        try:
            book = Book(str(STATE), config)
            book.returned(came_back(message_from_binary_file(sys.stdin.buffer)), time.time())
        except sqlite3.Error as error:
            print(f"not counted: {error}", file=sys.stderr)
            return TEMPFAIL  # Postfix comes again
        if book.alarm:
            ALARM.touch()
        return 0
    book = Book(str(STATE), config)
    if verb == "notify":
        ALARM.unlink(missing_ok=True)  # first: who is paused meanwhile raises it anew
        try:
            notify(book, config)
        except subprocess.CalledProcessError:
            ALARM.touch()
            raise
    elif verb == "show":
        print(json.dumps(show(book)))
    elif verb in ("release", "drop") and len(rest) == 1:
        try:
            print(settle(book, verb, rest[0]))
        except KeyError:
            print(
                f"nobody is paused, and no message is held, by the name {rest[0]}", file=sys.stderr
            )
            return UNKNOWN
    else:
        print(f"unknown words: {' '.join(sys.argv[1:])}", file=sys.stderr)
        return 64
    return 0


if __name__ == "__main__":
    sys.exit(main())
