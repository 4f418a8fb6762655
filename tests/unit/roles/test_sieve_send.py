"""What Dovecot says when a user's script sends, and how it is said to Postfix."""

import smtplib
import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from mastio.roles.store import sieve_send
from mastio.roles.store.sieve_send import asked, lines, xtext

BOB, SENT_TO = "bob@x.test", ("a@y.test",)


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


def talk(
    message: list[bytes], *replies: str, user: str = BOB, to: tuple[str, ...] = SENT_TO
) -> list[str]:
    """What is said to a server that answers so; SMTPResponseException when it does not take the message."""
    ours, theirs = socket.socketpair()
    said: list[str] = []

    def serve() -> None:
        with theirs, theirs.makefile("rwb", buffering=0) as wire:
            for reply in replies:
                if not (line := wire.readline()):
                    break
                said.append(line.decode().strip())
                if said[-1].startswith(("X-Sieve", "From: ")):
                    while (line := wire.readline()) not in (b".\r\n", b""):
                        said.append(line.decode().strip())
                wire.write(f"{reply}\r\n".encode())

    server = Thread(target=serve)
    server.start()
    door = smtplib.SMTP()
    door.sock = ours
    try:
        sieve_send.send(door, user, "carol@y.test", [*to], iter(message))
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
        ("From: b\u00f6b@x.test",),
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


CAME = ("Received: a try",)
ONE, TWO = "Message-ID: <1@y.test>", "message-id : <2@y.test>"


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "passed-on.sqlite"
    monkeypatch.setattr(sieve_send, "MEMORY", str(file))
    return file


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines that go to syslog."""
    found: list[str] = []
    monkeypatch.setattr(sieve_send.syslog, "syslog", lambda _, line: found.append(line))
    return found


def redirect(*named: str, user: str = BOB, to: tuple[str, ...] = SENT_TO, code: str = "") -> bool:
    """Passes on a message that has these lines in its header; whether it was sent."""
    head, taken = [f"{it}\n".encode() for it in named], list(TAKEN)
    taken[1:1] = ["250 Ok"] * (len(to) - 1)
    if code:
        taken[-1] = code
    return bool(talk([*PASSED_ON[:3], *head, *PASSED_ON[3:]], *NAMED, *taken, user=user, to=to))


def test_what_was_passed_on_is_not_sent_again(memory: Path, logged: list[str]) -> None:
    assert redirect(ONE) and logged == []
    for same in (ONE, "MESSAGE-ID:\n <1@y.test>"):
        assert not redirect(same)
    assert logged == ["bob@x.test: passed on already: b'<1@y.test>'"] * 2
    assert redirect(TWO) and not redirect(TWO)
    assert redirect(ONE, user="dan@x.test"), "another user's script"
    assert redirect(ONE, *CAME, "Received: b") and redirect(ONE, *CAME, "Received: c"), (
        "it came twice"
    )
    assert not redirect(ONE, "Received: another try", "Received: b"), "only the top line is LMTP's"
    assert redirect(ONE, to=("b@y.test",)) and redirect(ONE, to=("a@y.test", "b@y.test"))
    assert b"y.test" not in memory.read_bytes(), "digests alone"


def test_a_message_that_is_not_sent_is_read_to_its_end(memory: Path, logged: list[str]) -> None:
    assert redirect(ONE)
    message = iter([*PASSED_ON[:3], f"{ONE}\n".encode(), *PASSED_ON[3:]])
    sieve_send.send(smtplib.SMTP(), BOB, "carol@y.test", [*SENT_TO], message)
    assert next(message, b"") == b"" and logged


def test_what_was_not_taken_is_sent_again(memory: Path) -> None:
    with pytest.raises(smtplib.SMTPResponseException, match="451"):
        redirect(ONE, code="451 full")
    assert redirect(ONE)


@pytest.mark.parametrize(
    "named",
    [
        (),
        ("Message-ID:",),
        ("Message-ID: <1@y.test> <2@y.test>",),
        (ONE, TWO),
        (ONE, ONE),
        (*["X: y"] * sieve_send._LONGEST, ONE),
    ],
)
def test_without_one_message_id_all_is_sent(memory: Path, named: tuple[str, ...]) -> None:
    assert redirect(*named) and redirect(*named)
    assert not memory.exists()


def test_what_a_script_writes_is_not_remembered(memory: Path) -> None:
    for _ in range(2):
        assert talk(written(f"From: {BOB}"), *NAMED, "250 Ok", "250 Ok", "250 Ok", *TAKEN)[-1]
    assert not memory.exists()


def test_the_memory_ends(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1e9]
    monkeypatch.setattr(sieve_send.time, "time", lambda: now[0])
    assert redirect(ONE)
    now[0] += sieve_send.LASTS - 1
    assert redirect(TWO) and not redirect(ONE)
    now[0] += 1
    assert redirect(ONE) and not redirect(TWO)
    now[0] += sieve_send.LASTS
    assert redirect(TWO)
    assert sieve_send.remember("SELECT count(*) FROM passed") == [(1,)], "old rows go"


@pytest.mark.parametrize("broken", ["no folder", "no database", "no right"])
def test_without_a_memory_all_is_sent(
    memory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    if broken == "no folder":
        monkeypatch.setattr(sieve_send, "MEMORY", str(memory / "none" / "x"))
    elif broken == "no database":
        memory.write_text("This is no database, and long enough for SQLite to see it.\n" * 9)
    else:
        memory.mkdir()
    assert redirect(ONE) and redirect(ONE)
    assert "what is passed on cannot be remembered: " in capsys.readouterr().err


def test_only_who_passes_on_pays_for_a_memory() -> None:
    there = str(Path(sieve_send.__file__).parent)
    look = (
        f"import sys; sys.path.insert(0, {there!r}); import sieve_send; "
        "print('sqlite3' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-IS", "-c", look], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
