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


PASSED_ON = [
    b"X-Sieve: Pigeonhole\n", b"X-Sieve-Redirected-From: bob@x.test\n", b"From: carol@y.test\n", b"\n", b".dot\n",
]  # fmt: skip


def written(*lines: str) -> list[bytes]:
    """What a script writes, with these lines in its header."""
    head = ("X-Sieve: Pigeonhole", "Message-ID: <1@x.test>", *lines, "", ".dot")
    return [f"{it}\r\n".encode() for it in head]


def talk(message: list[bytes], *replies: str) -> list[str]:
    """What is said to a server that answers so; SMTPResponseException when it does not take the message."""
    ours, theirs = socket.socketpair()
    said: list[str] = []

    def serve() -> None:
        with theirs, theirs.makefile("rwb", buffering=0) as wire:
            for reply in replies:
                said.append(wire.readline().decode().strip())
                if said[-1].startswith(("X-Sieve", "From: ")):
                    while (line := wire.readline()) not in (b".\r\n", b""):
                        said.append(line.decode().strip())
                wire.write(f"{reply}\r\n".encode())

    server = Thread(target=serve)
    server.start()
    door = smtplib.SMTP()
    door.sock = ours
    try:
        sieve_send.send(door, BOB, "carol@y.test", ["a@y.test"], iter(message))
    finally:
        ours.close()
        door.close()
        server.join()
    return said


NAMED = ("250 store", "220 store", "250 store")
TAKEN = ("250 Ok", "250 Ok", "354 go on", "250 queued")


def named(name: str) -> list[str]:
    return [f"EHLO {name}", f"XCLIENT LOGIN={BOB}", f"EHLO {name}"]


def test_what_is_passed_on_keeps_its_sender_and_author() -> None:
    assert talk(PASSED_ON, *NAMED, *TAKEN) == [
        *named("sieve"), "MAIL FROM:<carol@y.test>", "RCPT TO:<a@y.test>", "DATA",
        "X-Sieve: Pigeonhole", "X-Sieve-Redirected-From: bob@x.test", "From: carol@y.test", "", "..dot",
    ]  # fmt: skip


def test_what_a_script_writes_has_no_sender_and_an_author_that_its_user_owns() -> None:
    said = talk(
        written('From: "Sales" <Sales+x@x.test>'), *NAMED, "250 Ok", "250 Ok", "250 Ok", *TAKEN
    )
    assert said == [
        *named("answer"), "MAIL FROM:<sales@x.test>", "RCPT TO:<a@y.test>", "RSET",
        "MAIL FROM:<>", "RCPT TO:<a@y.test>", "DATA",
        "X-Sieve: Pigeonhole", "Message-ID: <1@x.test>", 'From: "Sales" <Sales+x@x.test>', "", "..dot",
    ]  # fmt: skip


def test_who_is_not_its_user_is_replaced() -> None:
    said = talk(
        written("From: boss@x.test", "To: a"), *NAMED, "250 Ok", "553 not yours", "250 Ok", *TAKEN
    )
    assert said[-7:] == [
        "DATA", f"From: {BOB}", "X-Sieve: Pigeonhole", "Message-ID: <1@x.test>", "To: a", "", "..dot",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("From:",),
        ("From: bob@x.test", "From: bob@x.test"),
        ("From: bob@x.test", "from : boss@x.test"),
        ("From: bob@x.test, boss@x.test",),
        ('From: "boss@x.test" <bob@x.test>',),
        ("From: bob@x.test (boss@x.test)",),
        ("From: bob@x.test,", "\tboss@x.test"),
        ("From: =?utf-8?q?boss=40x.test?= <bob@x.test>",),
        ("From: =?no-such?q?boss?= <bob@x.test>",),
    ],
)
def test_an_author_of_whom_readers_may_differ_is_replaced(fields: tuple[str, ...]) -> None:
    said = talk(written(*fields), *NAMED, *TAKEN)  # nobody is asked whose it is
    head = said[said.index("DATA") + 1 : said.index("")]
    assert [it for it in head if "@" in it] == [f"From: {BOB}", "Message-ID: <1@x.test>"]


@pytest.mark.parametrize(
    ("message", "taken"),
    [
        (PASSED_ON, (*NAMED, *TAKEN)),
        (written(f"From: {BOB}"), (*NAMED, "250 Ok", "250 Ok", "250 Ok", *TAKEN)),
    ],
)
def test_what_is_not_taken_is_an_error(message: list[bytes], taken: tuple[str, ...]) -> None:
    for step in range(len(taken)):
        asking = len(taken) > len(NAMED + TAKEN) and step in (3, 4)
        after = ("250 Ok",) if asking else ()  # what has begun is taken back
        with pytest.raises(smtplib.SMTPResponseException, match="451"):
            talk(message, *taken[:step], "451 nobody can count", *after)
