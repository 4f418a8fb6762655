"""What Dovecot says when a user's script sends, and how it is said to Postfix."""

import smtplib
import socket
from threading import Thread

import pytest

from mastio.roles.store import sieve_send
from mastio.roles.store.sieve_send import asked, lines, xtext

BOB = "bob@x.test"


def test_dovecots_words_are_understood_and_no_others() -> None:
    assert asked([BOB, "-i", "-f", "<>", "--", "a@y.test"]) == (BOB, "", ["a@y.test"])
    assert asked([BOB, "-i", "-f", "c@y.test", "--", "-x", "b"]) == (BOB, "c@y.test", ["-x", "b"])
    for words in ([], [BOB, "-i", "-f", "<>", "--"], ["two", "words", "-i", "-f", "<>", "--", "a"]):
        with pytest.raises(ValueError):
            asked(words)


def test_a_name_is_said_in_xtext() -> None:
    assert xtext("bob@x.test") == "bob@x.test"
    assert xtext("a+b=c d\r\né") == "a+2Bb+3Dc+20d+0D+0A+C3+A9"


def test_a_message_ends_where_it_ends() -> None:
    assert b"".join(lines([b"A: b\n", b"\n", b".\n", b"..x\r\n", b"end"])) == (
        b"A: b\r\n\r\n..\r\n...x\r\nend\r\n.\r\n"
    )
    assert b"".join(lines([])) == b".\r\n"


def talk(*replies: str) -> list[str]:
    """What is said to a server that answers so; SMTPResponseException when it does not take the message."""
    ours, theirs = socket.socketpair()
    said: list[str] = []

    def serve() -> None:
        with theirs, theirs.makefile("rwb", buffering=0) as wire:
            for reply in replies:
                said.append(wire.readline().decode().strip())
                if said[-1] == "Subject: x":
                    while (line := wire.readline()) not in (b".\r\n", b""):
                        said.append(line.decode().strip())
                wire.write(f"{reply}\r\n".encode())

    server = Thread(target=serve)
    server.start()
    door = smtplib.SMTP()
    door.sock = ours
    try:
        sieve_send.send(door, BOB, "", ["a@y.test"], [b"Subject: x\n", b"\n", b".dot\n"])
    finally:
        ours.close()
        door.close()
        server.join()
    return said


TAKEN = ("250 store", "220 store", "250 store", "250 Ok", "250 Ok", "354 go on", "250 queued")


def test_the_user_is_named_before_the_message() -> None:
    assert talk(*TAKEN) == [
        "EHLO sieve", f"XCLIENT LOGIN={BOB}", "EHLO sieve", "MAIL FROM:<>", "RCPT TO:<a@y.test>",
        "DATA", "Subject: x", "", "..dot",
    ]  # fmt: skip


@pytest.mark.parametrize("step", range(len(TAKEN)))
def test_what_is_not_taken_is_an_error(step: int) -> None:
    with pytest.raises(smtplib.SMTPResponseException, match="451"):
        talk(*TAKEN[:step], "451 nobody can count")
