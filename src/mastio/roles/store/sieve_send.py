#!/usr/bin/python3
"""Dovecot's sendmail: what a user's Sieve script sends (redirects, answers) goes to Postfix in that user's name.

    mastio-sieve-send USER -i -f SENDER -- RECIPIENT…     the message comes by stdin

sendmail(1) would say nobody's name, and ask no policy. This speaks SMTP with a door that only Dovecot's mail user and
Postfix may touch, and says there who the user is (XCLIENT LOGIN, XCLIENT_README): so outbound.py holds it while that
user is paused.

What a script passes on (`redirect`) stays as it is. What it writes itself (`vacation`, `notify`, `reject`), users write
only as themselves: From: must be one address that Postfix says is the user's, or it becomes the user's. It leaves with
the null sender, so that nothing answers it (RFC 3834, 3.3), and by the word `ANSWER` the gateway knows that it may
sign it.

A delivery that is deferred later on (the mailbox has no room for the message) runs the script again at each try, for
days, and Pigeonhole remembers what it sent only when all went well. So what was passed on is remembered here, as a
digest, and not sent again to the same people for the same user. When nobody can remember, it is: better twice than
never.

Ends with EX_TEMPFAIL when the message was not taken: Dovecot then defers the delivery whose script it was. A body goes
a line at a time, since Dovecot's processes have little memory. Standard library only.
"""

import re
import smtplib
import socket
import sys
import syslog
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from hashlib import sha256
from itertools import chain, islice
from typing import Any

DOOR = "/run/mastio-sieve.sock"
"""Led into Postfix by systemd-socket-proxyd(8)."""
MEMORY = "/var/lib/mastio/passed-on/passed-on.sqlite"
"""What has been passed on: digests, and when."""
LASTS = 6 * 24 * 3600
"""Seconds: longer than Postfix tries to deliver (maximal_queue_lifetime, 5 days unless main.cf says otherwise)."""
EX_USAGE, EX_TEMPFAIL = 64, 75
PASSED_ON, ANSWER = "sieve", "answer"
"""What the client calls itself (EHLO): Postfix asks more of an answer (main.cf). The trace line that Postfix writes on
top has the word, and the gateway looks for it there (sender_is_author.lua)."""
_REDIRECTED = (b"x-sieve:", b"x-sieve-redirected-from:")
"""How a message begins that Dovecot passes on. Of what a script writes itself, Dovecot writes both first lines."""
_LONGEST = 1000
"""Lines of a header in which a Message-ID is looked for: no message may take all of Dovecot's memory."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS passed (mark BLOB PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS passed_at ON passed (at);
"""
_ADDRESS = re.compile(r'[^\s<>()",:;]+@[^\s<>()",:;]+')
PATIENCE = 100
"""Seconds that an answer may take; Dovecot's submission_timeout is longer, or a message that has been taken could be
sent again."""


class Door(smtplib.SMTP):
    """SMTP over a unix socket."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        door = socket.socket(socket.AF_UNIX)
        door.settimeout(timeout)
        door.connect(host)
        return door


def asked(words: list[str]) -> tuple[str, str, list[str]]:
    """User, envelope sender and recipients; ValueError when it is not what Dovecot says."""
    user, ignore_dots, f, sender, end, *recipients = words
    if (ignore_dots, f, end) != ("-i", "-f", "--") or not recipients:
        raise ValueError
    return user, "" if sender == "<>" else sender, recipients


def xtext(text: str) -> str:
    """An attribute's value as XCLIENT wants it (RFC 1891, 5)."""
    octets = text.encode()
    return "".join(
        chr(it) if 33 <= it <= 126 and it not in b"+=" else f"+{it:02X}" for it in octets
    )


def lines(message: Iterable[bytes]) -> Iterable[bytes]:
    """A message as DATA wants it, its end as well (RFC 5321, 4.5.2)."""
    for line in message:
        text = line.removesuffix(b"\n").removesuffix(b"\r")
        yield (b"." if text.startswith(b".") else b"") + text + b"\r\n"
    yield b".\r\n"


def is_passed_on(head: list[bytes]) -> bool:
    """Whether a message with these first two lines is one that came in."""
    return len(head) == len(_REDIRECTED) and all(
        line.lower().startswith(name) for line, name in zip(head, _REDIRECTED, strict=True)
    )


def fields(message: Iterator[bytes]) -> list[list[bytes]]:
    """A message's header: the lines of each field. Stops after the empty line, which is the last of them."""
    found: list[list[bytes]] = []
    for line in message:
        if found and line.startswith((b" ", b"\t")) and line.strip():
            found[-1].append(line)
        else:
            found.append([line])
        if not line.strip(b"\r\n"):
            break
    return found


def is_from(field: list[bytes]) -> bool:
    """Whether it is a From:, in any spelling that a reader may take for one."""
    return field[0].partition(b":")[0].strip().lower() == b"from"


def author(header: list[list[bytes]]) -> str:
    """Whom readers take for the author, without a tag; empty when they may differ."""
    found = [b"".join(it) for it in header if is_from(it)]
    if len(found) != 1:
        return ""
    text = found[0].partition(b":")[2].decode(errors="replace")
    try:
        shown = str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return ""
    # The same look as the gateway's at what users submit (sender_is_author.lua): all of it that looks like an address.
    people = {plain(it) for it in (*_ADDRESS.findall(text), *_ADDRESS.findall(shown))}
    only = people.pop() if len(people) == 1 else ""
    return only if only.isascii() else ""  # no address of ours is another (RFC 6531)


def plain(address: str) -> str:
    """An address as the directory has it: lower case, no tag."""
    name, at, domain = address.lower().rpartition("@")
    return name.partition("+")[0] + at + domain


def written_by(user: str, header: list[list[bytes]]) -> list[list[bytes]]:
    """The header with this user's address as From:, and no other."""
    return [[f"From: {user}\r\n".encode()], *(it for it in header if not is_from(it))]


class Sending:
    """A user's turn at the door; SMTPResponseException when something is not taken."""

    def __init__(self, door: smtplib.SMTP, user: str, name: str) -> None:
        self.door = door
        self.say(250, "EHLO", name)
        self.say(220, "XCLIENT", f"LOGIN={xtext(user)}")
        self.say(250, "EHLO", name)

    def say(self, expected: int, *words: str) -> None:
        _heard(expected, *self.door.docmd(*words))

    def owns(self, address: str, recipient: str) -> bool:
        """Whether the user may write as this, by a transaction that is not finished."""
        try:
            self.say(250, "MAIL", f"FROM:<{address}>")
            self.say(250, "RCPT", f"TO:<{recipient}>")
        except smtplib.SMTPResponseException as refusal:
            if refusal.smtp_code < 500:
                raise
            return False
        finally:
            self.say(250, "RSET")
        return True

    def send(self, sender: str, recipients: list[str], message: Iterable[bytes]) -> None:
        self.say(250, "MAIL", f"FROM:<{sender}>")
        for recipient in recipients:
            self.say(250, "RCPT", f"TO:<{recipient}>")
        self.say(354, "DATA")
        wire: Any = self.door.sock
        with wire.makefile("wb") as out:
            out.writelines(lines(message))
        _heard(250, *self.door.getreply())


def send(
    door: smtplib.SMTP, user: str, sender: str, recipients: list[str], message: Iterator[bytes]
) -> None:
    """Hands the message over; SMTPResponseException when it is not taken."""
    head = list(islice(message, len(_REDIRECTED)))
    message = chain(head, message)
    if is_passed_on(head):
        pass_on(door, user, sender, recipients, message)
        return
    header, turn = fields(message), Sending(door, user, ANSWER)
    shown = author(header)
    if not shown or not turn.owns(shown, recipients[0]):
        header = written_by(user, header)
    turn.send("", recipients, chain(*header, message))


def pass_on(
    door: smtplib.SMTP, user: str, sender: str, recipients: list[str], message: Iterator[bytes]
) -> None:
    """Hands over a message that came in, unless that has been done; SMTPResponseException when it is not taken."""
    top = list(islice(message, _LONGEST))
    header = fields(iter(top))
    name = message_id(header)
    mark = sha256(repr((user, recipients, name, way(header))).encode()).digest()
    if name and remember("SELECT 1 FROM passed WHERE mark = ? AND at > ?", mark, _oldest()):
        syslog.openlog("mastio-sieve-send", syslog.LOG_PID, syslog.LOG_MAIL)
        syslog.syslog(syslog.LOG_INFO, f"{user}: passed on already: {name[:200]!r}")
        for _ in message:  # Dovecot takes it amiss when nobody reads
            pass
        return
    Sending(door, user, PASSED_ON).send(sender, recipients, chain(top, message))
    if name:
        remember("DELETE FROM passed WHERE at <= ?", _oldest())
        remember("INSERT OR REPLACE INTO passed VALUES (?, ?)", mark, time.time())


def message_id(header: list[list[bytes]]) -> bytes:
    """What tells this message from all others; empty when it has none, or several."""
    found = [it for it in header if it[0].partition(b":")[0].strip().lower() == b"message-id"]
    ids = [word for it in found for word in b"".join(it).partition(b":")[2].split()]
    return ids[0] if len(found) == len(ids) == 1 else b""


def way(header: list[list[bytes]]) -> list[bytes]:
    """The trace of how it came into this queue (RFC 5321, 4.4): another message of that name came by itself. Each try
    of LMTP's writes another line on top."""
    return [b"".join(it) for it in header if it[0].lower().startswith(b"received:")][1:]


def remember(what: str, *values: Any) -> list[Any]:
    """Asks or tells the memory, in SQL. When that cannot be done, it says so and knows nothing."""
    try:
        import sqlite3  # only those who pass on pay for it

        # A lock held longer than this would bring the whole near Dovecot's submission_timeout.
        with closing(sqlite3.connect(MEMORY, timeout=3, isolation_level=None)) as book:
            book.executescript(_SCHEMA)
            return book.execute(what, values).fetchall()
    except Exception as error:  # whatever it is, the mail goes
        print(f"what is passed on cannot be remembered: {error}", file=sys.stderr)
        return []


def _oldest() -> float:
    return time.time() - LASTS


def _heard(expected: int, code: int, words: bytes) -> None:
    if code != expected:
        raise smtplib.SMTPResponseException(code, words)


def main() -> int:
    """The command line; the exit code."""
    try:
        user, sender, recipients = asked(sys.argv[1:])
    except ValueError:
        print("usage: mastio-sieve-send USER -i -f SENDER -- RECIPIENT…", file=sys.stderr)
        return EX_USAGE
    try:
        with Door(timeout=PATIENCE) as door:
            _heard(220, *door.connect(DOOR))
            send(door, user, sender, recipients, sys.stdin.buffer)
    except OSError as error:  # smtplib's are, too
        print(f"what a Sieve script of {user} sends was not taken: {error}", file=sys.stderr)
        return EX_TEMPFAIL
    return 0


if __name__ == "__main__":
    sys.exit(main())
