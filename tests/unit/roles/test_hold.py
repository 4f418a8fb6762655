"""What waits on its way out: what is shown, who is told, what is let out, what is forgotten. No Postfix is needed."""

import json
import os
import subprocess
import time
from email import message_from_bytes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mastio.roles.gateway import hold
from mastio.roles.gateway.hold import Settings, read, serve, tell

HEADER = (
    "Received: from a\nX-Mastio-Held: a document\n with macros\nFrom: Ann <ann@a.test>\n"
    "To: x@out.test\nSubject: Sums \x1b[31m http://a.test/\n"
)
WHOLE = HEADER + "\nSee below.\n"
OTHERS = "From: ann@a.test\nSubject: by hand\n\nX-Mastio-Held: in the text\n"


class Queue:
    """Postfix, as far as its commands tell: queue id → message; what was sent, released, deleted."""

    def __init__(self, domains: Path) -> None:
        self.messages: dict[str, str] = {}
        self.entries: dict[str, dict[str, Any]] = {}
        self.sent: list[tuple[str, str, str]] = []
        self.settings = Settings(str(domains), 30, 'A "B" Ltd', "admin@a.test", "postmaster@a.test")
        self.broken = self.slow = ""
        self.deaf: set[str] = set()
        self.asked: list[str] = []

    def put(self, name: str, text: str = WHOLE, sender: str = "ann@a.test", age: float = 0) -> str:
        self.messages[name] = text
        (hold.HOLD / name).touch()
        self.entries[name] = {
            "queue_id": name, "queue_name": "hold", "sender": sender, "message_size": 999,
            "arrival_time": int(time.time() - age * 86400),
            "recipients": [{"address": "x@out.test"}, {"address": "bob@a.test"}],
        }  # fmt: skip
        return name

    def run(self, *argv: str, words: bytes = b"") -> bytes:
        self.asked.append(argv[0])
        if argv[0] == self.broken or argv[-1] in self.deaf:
            raise subprocess.CalledProcessError(1, argv, stderr=b"\x1bno\n")
        if argv[0] == self.slow:
            raise subprocess.TimeoutExpired(argv, 120)
        match argv:
            case ("postqueue", "-j"):
                return "\n".join(map(json.dumps, self.entries.values())).encode()
            case ("postcat", "-qh" | "-qhb" as option, name):
                if name not in self.messages:
                    raise subprocess.CalledProcessError(1, argv)
                text = self.messages[name]
                return (text if "b" in option else text.partition("\n\n")[0] + "\n").encode()
            case ("postsuper", "-r" | "-d", "-"):
                name = words.decode().strip()
                del self.entries[name]
                (hold.HOLD / name).unlink()
            case ("postkick", *_):
                pass
            case ("sendmail", "-i", "-f", sender, "--", who):
                letter = message_from_bytes(words)
                text = letter.get_payload(decode=True)
                assert isinstance(text, bytes) and letter["Auto-Submitted"] == "auto-generated"
                assert sender == "postmaster@a.test"
                self.sent.append((who, str(letter["Subject"]), text.decode()))
            case _:
                raise AssertionError(argv)
        return b""

    def told(self, who: str) -> list[str]:
        return [subject for to, subject, _ in self.sent if to == who]

    def ask(self, action: str, **what: Any) -> list[dict[str, Any]]:
        return serve(self.settings, {"action": action, **what})


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    (tmp_path / "domains").write_text("a.test OK\nb.test OK\n")
    (tmp_path / "held").mkdir()
    (tmp_path / "hold").mkdir()
    found = Queue(tmp_path / "domains")
    monkeypatch.setattr(hold, "run", found.run)
    monkeypatch.setattr(hold, "FOLDER", tmp_path / "held")
    monkeypatch.setattr(hold, "HOLD", tmp_path / "hold")
    monkeypatch.setattr(hold, "read_apart", read)
    monkeypatch.setattr(hold, "shortage", lambda: 0)
    return found


def test_only_what_the_filter_holds_is_shown(queue: Queue) -> None:
    queue.put("4gOne")
    queue.put("4gHand", OTHERS)
    queue.entries["4gTwo"] = {**queue.entries["4gOne"], "queue_id": "4gTwo", "queue_name": "active"}
    queue.entries["4gGone"] = {**queue.entries["4gOne"], "queue_id": "4gGone"}
    (it,) = queue.ask("list")
    assert (it["id"], it["sender"], it["recipient"]) == (
        "4gOne",
        "ann@a.test",
        "x@out.test, bob@a.test",
    )
    assert it["recipients"] == ["x@out.test", "bob@a.test"]
    assert (it["reason"], it["size"], it["from"]) == (
        "a document with macros",
        999,
        "Ann <ann@a.test>",
    )
    assert "\x1b" not in it["subject"]
    (it,) = queue.ask("show", ids=["4gOne"])
    assert it["text"] == "See below." and ["To", "x@out.test"] in it["headers"]
    assert not queue.ask("show", ids=["4gHand"])


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({"recipient": "BOB@"}, True), ({"recipient": "carol"}, False), ({"sender": "ann"}, True),
        ({"sender": "eve"}, False), ({"reason": "macros"}, True), ({"subject": "sums"}, True),
        ({"before": 9e9}, True), ({"before": 1}, False),
    ],
)  # fmt: skip
def test_filters(queue: Queue, wanted: dict[str, Any], fits: bool) -> None:
    queue.put("4gOne")
    assert len(queue.ask("list", filter=wanted)) == fits
    assert len(queue.ask("delete", filter=wanted)) == fits
    assert bool(queue.entries) is not fits


def test_a_verdict_is_for_what_the_filter_holds_alone(queue: Queue) -> None:
    queue.put("4gOne")
    queue.put("4gHand", OTHERS)
    said = queue.ask("release", ids=["4gOne", "4gHand", "4gNone", "ALL"])
    assert [it["done"] for it in said] == [True, False, False, False]
    assert set(queue.entries) == {"4gHand"}
    assert not queue.sent


def test_a_verdict_that_fails_says_how_far_it_came(queue: Queue) -> None:
    queue.put("4gOne")
    queue.broken = "postsuper"
    assert queue.ask("delete", ids=["4gOne"])[0] == {
        "id": "4gOne",
        "done": False,
        "why": "postsuper: no",
    }
    queue.broken, queue.slow = "", "postsuper"
    assert "timed out" in queue.ask("release", ids=["4gOne"])[0]["why"]


def test_what_its_sender_cannot_be_told_is_not_deleted(queue: Queue) -> None:
    queue.put("4gOne")
    queue.put("4gOld", age=31)
    queue.broken = "sendmail"
    (said,) = queue.ask("delete", ids=["4gOne"])
    assert (said["done"], said["why"]) == (False, "sendmail: no")
    with pytest.raises(subprocess.CalledProcessError):
        tell(queue.settings)
    assert set(queue.entries) == {"4gOne", "4gOld"}
    queue.broken = ""
    tell(queue.settings)
    assert set(queue.entries) == {"4gOne"}


def test_a_queue_that_cannot_be_read_is_no_empty_one(queue: Queue) -> None:
    queue.put("4gOne")
    queue.broken = "postcat"
    with pytest.raises(subprocess.CalledProcessError):
        queue.ask("list")


def test_a_release_needs_no_haste(queue: Queue) -> None:
    queue.put("4gOne")
    queue.broken = "postkick"
    assert queue.ask("release", ids=["4gOne"])[0]["done"] and not queue.entries


def test_each_message_is_told_of_once(queue: Queue) -> None:
    queue.put("4gOne")
    queue.put("4gTwo")
    queue.put("4gHand", OTHERS)
    for _ in range(2):
        tell(queue.settings)
    assert queue.told("ann@a.test") == ["2 messages of yours not sent yet"]
    assert queue.told("admin@a.test") == ["2 messages held on the way out"]
    text = next(text for who, _, text in queue.sent if who == "admin@a.test")
    assert "4gOne" in text and "mastio quarantine release" in text and "http://" not in text
    assert "To:       x@out[.]test, bob@a[.]test" in text
    queue.put("4gThree")
    tell(queue.settings)
    assert queue.told("ann@a.test")[1:] == ["1 message of yours not sent yet"]


def test_while_nobody_can_be_told_it_is_tried_again(queue: Queue) -> None:
    queue.put("4gOne")
    queue.broken = "sendmail"
    with pytest.raises(subprocess.CalledProcessError):
        tell(queue.settings)
    queue.broken = ""
    tell(queue.settings)
    assert len(queue.sent) == 2


def test_one_letter_that_fails_repeats_no_other(queue: Queue) -> None:
    queue.put("4gOne")
    queue.put("4gBob", sender="bob@a.test")
    queue.put("4gEve", sender="eve@a.test")
    queue.deaf = {"bob@a.test"}
    for _ in range(3):
        with pytest.raises(subprocess.CalledProcessError):
            tell(queue.settings)
    people = ["ann@a.test", "eve@a.test", "admin@a.test"]
    assert [who for who, *_ in queue.sent] == people
    queue.deaf = set()
    tell(queue.settings)
    assert [who for who, *_ in queue.sent] == [*people, "bob@a.test", "admin@a.test"]
    assert "4gBob" in queue.sent[-1][2] and "4gOne" not in queue.sent[-1][2]


def test_the_administrators_letter_is_tried_again_alone(queue: Queue) -> None:
    queue.put("4gOne")
    queue.deaf = {"admin@a.test"}
    with pytest.raises(subprocess.CalledProcessError):
        tell(queue.settings)
    queue.deaf = set()
    for _ in range(2):
        tell(queue.settings)
    assert [who for who, *_ in queue.sent] == ["ann@a.test", "admin@a.test"]


def test_the_queue_is_listed_when_something_is_new(queue: Queue) -> None:
    queue.put("4gOne")
    queue.put("4gHand", OTHERS)
    tell(queue.settings)
    assert "postqueue" in queue.asked
    queue.asked.clear()
    tell(queue.settings)
    assert not queue.asked
    os.utime(hold.FOLDER / "4gOne", (1, 1))
    os.utime(hold.FOLDER / "4gHand", (1, 1))
    tell(queue.settings)
    assert "postqueue" in queue.asked


def test_while_the_disk_is_nearly_full_the_oldest_make_room(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(hold.syslog, "syslog", lambda _, words: said.append(words))
    for age, name in enumerate(("4gNew", "4gYoung", "4gOlder", "4gOldest")):
        queue.put(name, age=age)
    queue.put("4gHand", OTHERS, age=9)
    tell(queue.settings)
    queue.sent.clear()
    monkeypatch.setattr(hold, "shortage", lambda: 1000)
    tell(queue.settings)
    assert set(queue.entries) == {"4gNew", "4gYoung", "4gHand"}
    (letter,) = queue.sent
    assert letter[:2] == ("ann@a.test", "2 messages of yours were not sent")
    assert "no more room to keep them: the disk is nearly full" in letter[2]
    line = next(it for it in said if it.startswith("expired: 4gOldest "))
    assert line.endswith(": the disk is nearly full")


@pytest.mark.parametrize(("free", "short"), [(30, 0), (10, 0), (4, 6 * 512)])
def test_a_tenth_of_the_disk_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, short: int
) -> None:
    disk = SimpleNamespace(f_blocks=100, f_bavail=free, f_frsize=512)
    monkeypatch.setattr(hold.os, "statvfs", lambda _: disk)
    assert hold.shortage() == short


@pytest.mark.parametrize("sender", ["", "carol@out.test", "ann@sub.a.test"])
def test_strangers_are_told_nothing(queue: Queue, sender: str) -> None:
    """A user's script passes their mail on."""
    queue.put("4gOne", sender=sender)
    tell(queue.settings)
    queue.ask("delete", ids=["4gOne"])
    assert [who for who, *_ in queue.sent] == ["admin@a.test"]


def test_the_sender_is_told_what_is_never_sent(queue: Queue) -> None:
    queue.put("4gOne")
    queue.ask("delete", ids=["4gOne"])
    (letter,) = queue.sent
    assert letter[:2] == ("ann@a.test", "1 message of yours was not sent")
    assert "An administrator has looked at it and deleted it." in letter[2] and "4gOne" in letter[2]


def test_what_is_old_is_forgotten_and_its_sender_told(queue: Queue) -> None:
    queue.put("4gOld", age=31)
    queue.put("4gYoung", age=29)
    queue.put("4gHand", OTHERS, age=99)
    tell(queue.settings)
    assert set(queue.entries) == {"4gYoung", "4gHand"}
    assert queue.told("ann@a.test") == [
        "1 message of yours was not sent",
        "1 message of yours not sent yet",
    ]
    assert "within 30 days" in queue.sent[0][2]


def test_it_is_not_remembered_for_ever_who_was_told(queue: Queue) -> None:
    queue.put("4gOne")
    tell(queue.settings)
    assert [it.name for it in hold.FOLDER.iterdir()] == ["4gOne"]
    queue.ask("release", ids=["4gOne"])
    tell(queue.settings)
    assert not list(hold.FOLDER.iterdir())


def test_an_empty_queue_costs_nothing(queue: Queue) -> None:
    tell(queue.settings)
    assert not queue.asked


def test_nobody_has_an_account_yet(queue: Queue) -> None:
    Path(queue.settings.domains).unlink()
    queue.put("4gOne")
    tell(queue.settings)
    assert queue.told("admin@a.test") and not queue.told("ann@a.test")
