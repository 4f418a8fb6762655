#!/usr/bin/python3
"""Dovecot's sendmail: what a user's Sieve script sends (redirects, answers) goes to Postfix in that user's name.

    mastio-sieve-send USER -i -f SENDER -- RECIPIENT…     the message comes by stdin

sendmail(1) would say nobody's name, and ask no policy. This speaks SMTP with a door that only Dovecot's mail user and
Postfix may touch, and says there who the user is (XCLIENT LOGIN, XCLIENT_README): so outbound.py holds it while that
user is paused. Ends with EX_TEMPFAIL when the message was not taken: Dovecot then defers the
delivery whose script it was. A line at a time, since Dovecot's processes have little memory. Standard library only.
"""

import smtplib
import socket
import sys
from collections.abc import Iterable
from typing import Any

DOOR = "/run/mastio-sieve.sock"
"""Led into Postfix by systemd-socket-proxyd(8)."""
EX_USAGE, EX_TEMPFAIL = 64, 75
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


def send(
    door: smtplib.SMTP, user: str, sender: str, recipients: list[str], message: Iterable[bytes]
) -> None:
    """Hands the message over; SMTPResponseException when it is not taken."""

    def say(expected: int, *words: str) -> None:
        _heard(expected, *door.docmd(*words))

    say(250, "EHLO", "sieve")
    say(220, "XCLIENT", f"LOGIN={xtext(user)}")
    say(250, "EHLO", "sieve")
    say(250, "MAIL", f"FROM:<{sender}>")
    for recipient in recipients:
        say(250, "RCPT", f"TO:<{recipient}>")
    say(354, "DATA")
    wire: Any = door.sock
    with wire.makefile("wb") as out:
        out.writelines(lines(message))
    _heard(250, *door.getreply())


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
