"""The quarantine's program: what it keeps, shows, lets out and forgets. No daemon is needed for these."""

import json
import os
import smtplib
import sqlite3
import subprocess
import sys
import time
from dataclasses import asdict
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mastio
from mastio import heldmail
from mastio.roles.store import quarantine
from mastio.roles.store.quarantine import Quarantine, Settings

MESSAGE = (
    b"From: =?utf-8?q?Eve_=1B=5B31m?= <eve@out.test>\nTo: ann@a.test\n"
    b"X-Mastio-Quarantine: virus:\n Eicar\nSubject: Win \xe2\x80\xae now\nX-Spam: Yes\nX-Spam-Status: x\n"
    b"Content-Type: text/html; charset=nonsense\n\n<script>evil()</script><p>Click\x07 <b>here</b></p>\n"
    b"X-Spam: in the text\n"
)
Letters = list[tuple[str, str, bytes]]


@pytest.fixture
def held(tmp_path: Path) -> Quarantine:
    with sqlite3.connect(tmp_path / "directory") as base:
        base.executescript(
            "CREATE TABLE domain (name TEXT PRIMARY KEY); INSERT INTO domain VALUES ('a.test');"
            "CREATE TABLE account (address TEXT PRIMARY KEY);"
            "INSERT INTO account VALUES ('ann@a.test'), ('bob@a.test'), ('full@a.test')"
        )
    base.close()
    (tmp_path / "q").mkdir()
    return Quarantine(
        Settings(
            str(tmp_path / "q"), str(tmp_path / "directory"), "/none", 30, 'A "B" Ltd',
            "admin@a.test", "postmaster@a.test",
        )
    )  # fmt: skip


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> Letters:
    """What would have gone to Dovecot."""
    sent: Letters = []

    def note(_: Settings, sender: str, recipient: str, message: bytes) -> None:
        if recipient == "full@a.test":
            raise smtplib.SMTPRecipientsRefused({recipient: (452, b"mailbox full")})
        sent.append((sender, recipient, message))

    monkeypatch.setattr(quarantine, "deliver", note)
    return sent


def take(held: Quarantine, recipient: str = "ann@a.test", original: str = "info@a.test") -> str:
    return held.take("eve@out.test", recipient, original, "4gQueue", MESSAGE)


def ask(held: Quarantine, action: str, **what: Any) -> list[dict[str, Any]]:
    return quarantine.serve(held, {"action": action, **what})


def test_the_same_message_for_the_same_recipient_is_kept_once(held: Quarantine) -> None:
    names = {take(held), take(held), take(held, "bob@a.test")}
    assert len(names) == 2
    assert {it["id"] for it in ask(held, "list")} == names
    assert {path.name for path in held.folder.iterdir()} <= {"new", "told", "lock"}


def test_a_strangers_words_are_made_printable(held: Quarantine) -> None:
    (details,) = ask(held, "show", ids=[take(held)])
    assert details["from"] == "Eve [31m <eve@out.test>"
    assert details["reason"] == "virus: Eicar"
    assert "‮" not in details["subject"]
    assert details["text"].startswith("Click here") and "evil" not in details["text"]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 1),
        ({"recipient": "A.TEST"}, 1),
        ({"recipient": "info@"}, 1),
        ({"recipient": "bob"}, 0),
        ({"sender": "eve@"}, 1),
        ({"reason": "eicar", "subject": "win"}, 1),
        ({"reason": "eicar", "subject": "lose"}, 0),
        ({"before": 1}, 0),
        ({"before": time.time() + 86_400}, 1),
    ],
)
def test_filters(held: Quarantine, wanted: dict[str, Any], count: int) -> None:
    take(held)
    assert len(ask(held, "list", filter=wanted)) == count


def test_release_takes_the_gateways_marks_away_and_nothing_else(
    held: Quarantine, letters: Letters
) -> None:
    name = take(held)
    (answer,) = ask(held, "release", ids=[name])
    assert answer["done"]
    ((sender, recipient, message),) = letters
    assert (sender, recipient) == ("eve@out.test", "ann@a.test")
    marks = (b"X-Mastio-Quarantine: virus:\n Eicar\n", b"X-Spam: Yes\n")
    assert message == MESSAGE.replace(marks[0], b"").replace(marks[1], b"")
    (again,) = ask(held, "release", ids=[name])
    assert not again["done"] and len(letters) == 1


def test_what_cannot_be_delivered_stays(held: Quarantine, letters: Letters) -> None:
    name = take(held, "full@a.test")
    (answer,) = ask(held, "release", ids=[name])
    assert not answer["done"] and "mailbox full" in answer["why"]
    assert [it["id"] for it in ask(held, "list")] == [name]


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What Postfix was called with; it takes no mail for nobody@out.test."""
    calls: list[list[str]] = []

    def call(argv: list[str], **_: object) -> SimpleNamespace:
        calls.append(argv)
        return SimpleNamespace(returncode=int(argv[-1].startswith("nobody")), stderr=b"no\n")

    monkeypatch.setattr(quarantine.subprocess, "run", call)
    return calls


def test_what_goes_elsewhere_may_be_refused_so_a_copy_stays(
    held: Quarantine, letters: Letters, posted: list[list[str]]
) -> None:
    """The original address is a mailbox that forwards: its user is not told of what has been decided."""
    name, inside = take(held, "far@out.test", "ann@a.test"), take(held, "bob@a.test")
    answers = ask(held, "release", ids=[name, inside])
    assert [(it["done"], it["sent"]) for it in answers] == [(True, True), (True, False)]
    assert posted == [["/usr/sbin/sendmail", "-i", "-f", "eve@out.test", "--", "far@out.test"]]
    assert [(it["id"], it["sent"]) for it in ask(held, "list")] == [(name, True)]
    assert ask(held, "show", ids=[name])[0]["sent"]
    quarantine.daily(held)
    assert [to for _, to, _ in letters] == ["bob@a.test"], "released, and nobody told"
    assert take(held, "far@out.test", "ann@a.test") == name
    assert len(held.paths(*quarantine.STATES)) == 1, "Postfix brought it again: it is kept once"
    (again,) = ask(held, "release", ids=[name])
    assert again["sent"] and len(posted) == 2
    (gone,) = ask(held, "delete", ids=[name])
    assert gone["done"] and not gone["sent"] and not ask(held, "list")


def test_what_postfix_does_not_take_was_not_sent(held: Quarantine, posted: list[list[str]]) -> None:
    name = take(held, "nobody@out.test", "info@a.test")
    (answer,) = ask(held, "release", ids=[name])
    assert not answer["done"] and answer["why"] == "no" and posted
    assert [(it["id"], it["sent"]) for it in ask(held, "list")] == [(name, False)]


def test_the_copy_of_what_was_sent_makes_room_and_is_forgotten_as_all_else(
    held: Quarantine, posted: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [take(held, f"far{it}@out.test") for it in (1, 2)]
    ask(held, "release", ids=names)
    paths = held.paths("sent")
    os.utime(paths[0], (1, 1))

    def one_fits(_: object) -> SimpleNamespace:
        free = 9 + (len(held.paths("sent")) < 2)
        return SimpleNamespace(f_blocks=100, f_bavail=free, f_frsize=512)

    monkeypatch.setattr(os, "statvfs", one_fits)
    new = take(held, "cid@a.test")
    assert {it["id"] for it in ask(held, "list")} == {paths[1].name, new}
    later = time.time() + 31 * 86400
    monkeypatch.setattr(quarantine.time, "time", lambda: later)
    quarantine.daily(held)
    assert not ask(held, "list")


@pytest.mark.parametrize("name", ["", "../new/x-000000", "4gQueue-00000", "x" * 300])
def test_no_name_leads_out_of_the_folder(held: Quarantine, name: str) -> None:
    (answer,) = ask(held, "delete", ids=[name])
    assert not answer["done"]


def test_each_recipient_is_told_once_and_in_harmless_words(
    held: Quarantine, letters: Letters
) -> None:
    names = [
        take(held),
        take(held, "far@out.test", "ann@a.test"),
        take(held, "no@x.test", "b@x.test"),
    ]
    for _ in range(2):
        quarantine.daily(held)
    ((sender, recipient, message),) = letters
    assert (sender, recipient) == ("postmaster@a.test", "ann@a.test")
    assert all(name.encode() in message for name in names[:2])
    assert names[2].encode() not in message
    assert b"Auto-Submitted: auto-generated" in message and b"2 messages held back" in message
    assert len(ask(held, "list")) == 3


def test_an_alias_that_leads_elsewhere_is_told_nothing(held: Quarantine, letters: Letters) -> None:
    name = take(held, "ann@elsewhere.test", "info@a.test")
    quarantine.daily(held)
    assert not letters and (held.folder / "told" / name).exists()


def test_on_a_full_disk_the_oldest_that_was_told_makes_room(
    held: Quarantine, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = take(held), take(held, "bob@a.test")
    quarantine.daily(held)
    os.utime(held.folder / "told" / first, (1, 1))
    new = take(held, "cid@a.test")

    def two_fit(_: object) -> SimpleNamespace:
        free = 9 + (len(held.paths("new", "told")) < 3)
        return SimpleNamespace(f_blocks=100, f_bavail=free, f_frsize=512)

    monkeypatch.setattr(os, "statvfs", two_fit)
    last = take(held, "dan@a.test")
    assert {it["id"] for it in ask(held, "list")} == {second, new, last}
    assert len(letters) == 2, "both had been told"


def test_who_cannot_be_told_is_told_another_day(held: Quarantine, letters: Letters) -> None:
    take(held, "full@a.test")
    quarantine.daily(held)
    assert len(held.paths("new")) == 1


def test_after_its_days_a_message_is_forgotten(held: Quarantine, letters: Letters) -> None:
    old, young = take(held), take(held, "bob@a.test")
    path = held.find(old)
    assert path
    line, _, rest = path.read_bytes().partition(b"\n")
    entry = {**json.loads(line), "arrived": time.time() - 31 * 86400}
    path.write_bytes(json.dumps(entry).encode() + b"\n" + rest)
    quarantine.daily(held)
    assert [it["id"] for it in ask(held, "list")] == [young]


def test_links_cannot_be_clicked() -> None:
    words = heldmail.harmless("see http://evil.test/x or www.evil.test")
    assert words == "see http[:]//evil[.]test/x or www[.]evil[.]test"


def test_a_summary_survives_odd_settings(held: Quarantine) -> None:
    mail: EmailMessage = quarantine.letter(held.settings, "ann@a.test", [])
    assert mail["From"].addresses[0].addr_spec == "postmaster@a.test"


@pytest.mark.parametrize(
    ("options", "why"), [(["-I"], "No module named 'mastio'"), ([], "FileNotFoundError")]
)
def test_postfix_is_told_to_come_again_when_anything_is_wrong(options: list[str], why: str) -> None:
    """What it needs is not there; there are no settings here."""
    program, package = str(Path(quarantine.__file__)), str(Path(mastio.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, *options, program, "take", "a@b.test", "c@d.test", "", "Q"],
        input=b"x", capture_output=True, check=False, env={"PYTHONPATH": package},
    )  # fmt: skip
    assert done.returncode == 75 and why in done.stderr.decode()


@pytest.mark.parametrize("octets", [b"j\xf6rg", "jörg".encode(), b"j\x01rg", b"jorg"])
def test_whatever_octets_an_envelope_holds_its_message_is_kept(
    held: Quarantine, octets: bytes
) -> None:
    settings = held.folder / "settings"
    settings.write_text(json.dumps(asdict(held.settings)))
    program = (
        "import sys; from pathlib import Path; from mastio.roles.store import quarantine\n"
        f"quarantine.SETTINGS = Path({str(settings)!r}); sys.exit(quarantine.main())"
    )
    envelope = [octets + b"@out.test", octets + b"+x@a.test", octets + b"@a.test"]
    done = subprocess.run(
        [sys.executable, "-c", program, "take", *envelope, "4gQueue"], input=MESSAGE,
        capture_output=True, check=False,
        env={"PYTHONPATH": str(Path(mastio.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (entry,) = ask(held, "list")
    shown = octets.decode("ascii", "backslashreplace")
    assert (entry["sender"], entry["original"]) == (f"{shown}@out.test", f"{shown}@a.test")
