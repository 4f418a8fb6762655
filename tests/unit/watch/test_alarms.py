"""Who is told of which alarm, and when; and that none is lost."""

import json
import smtplib
from dataclasses import replace
from datetime import datetime
from email.message import Message
from http.client import BadStatusLine
from pathlib import Path

import pytest

from mastio.site.model import Alarms
from mastio.verify.model import Severity
from mastio.watch import alarm, book, schedule
from mastio.watch.alarm import Alarm
from mastio.watch.bell import Bell
from mastio.watch.book import Book, Letter, Rules
from tests import sites
from tests.unit.watch.test_schedule import SETTINGS

HOUR = 3600.0
NOON = datetime(2026, 11, 24, 12, 0).astimezone().timestamp()
NIGHT = NOON + 11 * HOUR
RULES = Rules(("alice@fortress.test",), ("chief@fortress.test",), (22 * 60, 6 * 60), 4.0)
BAD = Alarm("demo", "verify fast", Severity.HIGH, "[demo] NOT well: N1", "text\n", "failed", NOON)
WELL = replace(BAD, subject="[demo] well again: N1", verdict="passed")


def heard(known: Book, one: Alarm, now: float) -> tuple[Book, list[Letter]]:
    return book.heard(known, one, now, RULES)


def test_the_same_is_told_once_a_day() -> None:
    known, letters = heard({}, BAD, NOON)
    assert letters == [Letter(BAD, RULES.mail)]
    known, letters = heard(known, BAD, NOON + HOUR)
    assert letters == [] and known["verify fast"].times == 2
    worse = replace(BAD, subject="[demo] NOT well: N1, N2")
    known, letters = heard(known, worse, NOON + 2 * HOUR)
    assert [it.alarm for it in letters] == [worse] and known["verify fast"].since == NOON
    assert heard(known, worse, NOON + 27 * HOUR)[1], "a day later it is still wrong"


def test_well_again_ends_it_and_is_said_to_who_knew() -> None:
    known, _ = heard({}, BAD, NOON)
    known, letters = heard(known, WELL, NOON + HOUR)
    assert known == {} and letters == [Letter(WELL, RULES.mail)]
    assert heard(known, WELL, NOON + 2 * HOUR) == ({}, []), "nobody knew that it was wrong"


def test_quiet_hours_keep_all_but_the_critical() -> None:
    known, letters = heard({}, BAD, NIGHT)
    assert letters == []
    assert book.waited(known, NIGHT + HOUR, RULES)[1] == []
    known, letters = book.waited(known, NIGHT + 7 * HOUR, RULES)
    assert letters == [Letter(BAD, RULES.mail)]
    assert book.waited(known, NIGHT + 7 * HOUR, RULES)[1] == []
    critical = replace(BAD, severity=Severity.CRITICAL)
    assert heard({}, critical, NIGHT)[1] == [Letter(critical, RULES.mail)]


def test_what_was_wrong_in_quiet_hours_alone_is_never_said() -> None:
    known, _ = heard({}, BAD, NIGHT)
    known, letters = heard(known, WELL, NIGHT + HOUR)
    assert (known, letters) == ({}, []) and book.waited(known, NIGHT + 8 * HOUR, RULES)[1] == []


@pytest.mark.parametrize(
    ("clock", "quiet", "silent"),
    [("23:00", (1320, 360), True), ("05:59", (1320, 360), True), ("06:00", (1320, 360), False),
     ("12:00", (1320, 360), False), ("13:00", (720, 840), True), ("14:00", (720, 840), False),
     ("12:00", None, False)],
)  # fmt: skip
def test_quiet_hours_may_reach_over_midnight(
    clock: str, quiet: tuple[int, int] | None, silent: bool
) -> None:
    hour, minute = map(int, clock.split(":"))
    now = datetime(2026, 11, 24, hour, minute).astimezone().timestamp()
    assert replace(RULES, quiet=quiet).silent(now) is silent


def test_who_does_not_answer_is_told_on() -> None:
    known, _ = heard({}, BAD, NOON)
    assert book.waited(known, NOON + 3 * HOUR, RULES)[1] == []
    known, (letter,) = book.waited(known, NOON + 4 * HOUR, RULES)
    assert letter.to == RULES.others and letter.alarm.subject.startswith("[unanswered for 4 h]")
    assert book.waited(known, NOON + 6 * HOUR, RULES)[1] == []
    assert book.waited(known, NOON + 29 * HOUR, RULES)[1], "once a day"
    (letter,) = heard(known, WELL, NOON + 7 * HOUR)[1]
    assert letter.to == (*RULES.mail, *RULES.others), "they are told that it is over"


def test_an_answer_ends_that_until_something_else_is_wrong() -> None:
    known, _ = heard({}, BAD, NOON)
    known = book.answer(known, BAD.about, "alice: on it")
    assert book.waited(known, NOON + 40 * HOUR, RULES)[1] == []
    worse = replace(BAD, subject="[demo] NOT well: N2")
    known, letters = heard(known, worse, NOON + HOUR)
    assert letters and known[BAD.about].answered == ""
    with pytest.raises(KeyError):
        book.answer(known, "nothing", "x")


def test_what_is_slight_is_nobody_elses_matter() -> None:
    known, letters = heard({}, replace(BAD, severity=Severity.LOW), NOON)
    assert letters and book.waited(known, NOON + 9 * HOUR, RULES)[1] == []


def test_without_others_the_same_are_asked_again() -> None:
    alone = replace(RULES, others=())
    known, _ = book.heard({}, BAD, NOON, alone)
    (letter,) = book.waited(known, NOON + 4 * HOUR, alone)[1]
    assert letter.to == RULES.mail


def test_the_book_comes_back_from_json() -> None:
    known, _ = heard({}, BAD, NOON)
    assert book.recall(json.loads(json.dumps(book.plain(known)))) == known
    with pytest.raises(ValueError, match="not a book"):
        book.recall({"x": {"alarm": {}}})


def test_alarms_wait_until_they_can_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = replace(sites.demo_site(), alarms=Alarms(webhook="https://hook.test/x"))
    bell = Bell(tmp_path / "alarms", site)
    bell.raise_(BAD, NOON)
    sent: list[str] = []

    def away(*_: object) -> None:
        raise ConnectionRefusedError("no store")

    monkeypatch.setattr(alarm, "mail", away)
    monkeypatch.setattr(alarm, "call", lambda it, url, _: sent.append(f"{url} {it.subject}"))
    (words,) = bell.ring(SETTINGS, NOON)
    assert "no store" in words and sent == [f"https://hook.test/x {BAD.subject}"]
    monkeypatch.setattr(alarm, "mail", lambda it, _site, _settings, to: sent.append(f"{to}"))
    again = Bell(tmp_path / "alarms", site)
    assert again.ring(SETTINGS, NOON + 60) == [] and sent[1:] == ["['alice@fortress.test']"]
    assert {it.name for it in (tmp_path / "alarms").iterdir()} == {"book.json", "lock", "ways.json"}
    assert again.ring(SETTINGS, NOON + 120) == [] and len(sent) == 2
    assert (tmp_path / "alarms/book.json").stat().st_mode & 0o777 == 0o600


def test_a_bell_is_mute_when_no_way_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise TimeoutError("30 s are over")

    site = replace(sites.demo_site(), alarms=Alarms(webhook="https://hook.test/x"))
    bell = Bell(tmp_path, site)
    assert not bell.mute
    monkeypatch.setattr(alarm, "mail", away)
    monkeypatch.setattr(alarm, "call", lambda *_: None)
    bell.raise_(BAD, NOON)
    bell.ring(SETTINGS, NOON)
    assert bell.stuck and not bell.mute, "the webhook is left"
    monkeypatch.setattr(alarm, "call", away)
    bell.raise_(replace(BAD, about="another"), NOON)
    bell.ring(SETTINGS, NOON)
    assert bell.mute
    monkeypatch.setattr(alarm, "call", lambda *_: None)
    bell.ring(SETTINGS, NOON)
    assert not bell.mute


def test_a_heartbeat_that_nobody_hears_is_told_and_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*_: object) -> None:
        raise TimeoutError("30 s are over")

    monkeypatch.setattr(alarm, "beat", away)
    schedule.beat("https://pings.test/secret", SETTINGS)
    said = capsys.readouterr().err
    assert "(alarms.heartbeat) did not reach pings.test: 30 s are over" in said
    assert "secret" not in said


def test_who_answers_with_no_http_is_a_way_that_does_not_work(tmp_path: Path) -> None:
    """What does not belong to OSError would end the look that rings."""
    empty = tmp_path / "authorities"
    empty.touch()
    settings = replace(SETTINGS, authorities=str(empty))

    def nonsense(*_: object, **__: object) -> None:
        raise BadStatusLine("hello")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("urllib.request.urlopen", nonsense)
        with pytest.raises(OSError, match="no answer of HTTP"):
            alarm.beat("https://pings.test/x", settings)


def test_a_way_that_fails_is_tried_once_and_the_others_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = replace(
        sites.demo_site(), alarms=Alarms(webhook="https://hook.test/x", outside=("ops@far.test",))
    )
    bell, tried = Bell(tmp_path, site), list[str]()
    for number in range(3):
        bell.raise_(replace(BAD, about=f"it {number}"), NOON)

    def away(*_: object) -> None:
        tried.append("mail")
        raise TimeoutError("30 s are over")

    monkeypatch.setattr(alarm, "mail", away)
    monkeypatch.setattr(alarm, "call", lambda *_: tried.append("webhook"))
    monkeypatch.setattr(alarm, "outside", lambda *_: tried.append("outside"))
    (words,) = bell.ring(SETTINGS, NOON)
    assert tried == ["mail", *["outside"] * 3, *["webhook"] * 3]
    assert words.startswith("alarms wait, 3 by mail") and "30 s are over" in words
    bell.ring(SETTINGS, NOON + 60)
    stuck = Bell(tmp_path, site).stuck["mail"]
    assert (stuck["since"], stuck["waiting"]) == (NOON, 3) and "30 s" in stuck["words"]
    monkeypatch.setattr(alarm, "mail", lambda *_: None)
    assert bell.ring(SETTINGS, NOON + 120) == [] and bell.stuck == {}


def test_who_refuses_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those who took it, who must not get it again, nor what comes behind it."""
    bell, sent = Bell(tmp_path, sites.demo_site()), list[tuple[str, list[str]]]()
    for number in range(2):
        bell.raise_(replace(BAD, about=f"it {number}", subject=f"it {number}"), NOON)
    for path in tmp_path.glob("*.mail"):
        waiting = json.loads(path.read_text())
        path.write_text(json.dumps({**waiting, "to": ["here@fortress.test", "gone@fortress.test"]}))

    def refusing(one: Alarm, _site: object, _settings: object, to: list[str]) -> None:
        sent.append((one.subject, to))
        if one.subject == "it 0" and "gone@fortress.test" in to:
            raise smtplib.SMTPRecipientsRefused({"gone@fortress.test": (550, b"unknown")})

    monkeypatch.setattr(alarm, "mail", refusing)
    (words,) = bell.ring(SETTINGS, NOON)
    assert words.startswith("alarms wait, 1 by mail: 'it 0'") and "550" in words
    assert [subject for subject, _ in sent] == ["it 0", "it 1"]
    assert bell.stuck["mail"]["waiting"] == 1
    bell.ring(SETTINGS, NOON + 60)
    assert sent[2:] == [("it 0", ["gone@fortress.test"])]


def test_what_the_filter_refuses_waits_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bell, sent = Bell(tmp_path, sites.demo_site()), list[str]()
    for number in range(2):
        bell.raise_(replace(BAD, about=f"it {number}", subject=f"it {number}"), NOON)

    def refusing(one: Alarm, *_: object) -> None:
        sent.append(one.subject)
        if one.subject == "it 0":
            raise smtplib.SMTPDataError(550, b"it looks like spam")

    monkeypatch.setattr(alarm, "mail", refusing)
    assert "it looks like spam" in bell.ring(SETTINGS, NOON)[0]
    bell.ring(SETTINGS, NOON + 60)
    assert sent == ["it 0", "it 1", "it 0"]


@pytest.mark.parametrize(
    "odd", ["\ud800", "\udcff", "a\nb", "a\r\nBcc: x@far.test", "\x00\x1b[2J", "=?x?q?=ff?="]
)
def test_whatever_its_words_are_it_can_be_written(odd: str) -> None:
    one = replace(BAD, subject=f"{BAD.subject} {odd}", text=f"{odd}\n", about=f"verify {odd}")
    assert one.about.isprintable() and replace(one) == one
    mail = alarm.message(one, sites.demo_site(), ["a@fortress.test"]).as_bytes()
    head = mail.partition(b"\n\n")[0]
    assert b"\nSubject: [demo] NOT well: N1" in head and b"\nBcc" not in head
    known, letters = heard({}, one, NOON)
    assert letters and book.recall(json.loads(json.dumps(book.plain(known)))) == known
    assert heard(known, replace(one, verdict="passed"), NOON + HOUR)[0] == {}


def test_no_alarm_is_larger_than_a_mailbox_takes() -> None:
    one = replace(BAD, subject="x" * 100_000, text="é" * 2_000_000)
    assert len(alarm.message(one, sites.demo_site(), ["a@fortress.test"]).as_bytes()) < 1_000_000
    assert one.subject.endswith("x…") and one.text.endswith("é…")
    assert replace(BAD, text="x" * 1000).text == "x" * 1000


def test_what_cannot_be_written_or_read_waits_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bell, sent = Bell(tmp_path, sites.demo_site()), list[str]()
    for number in range(2):
        bell.raise_(replace(BAD, about=f"it {number}", subject=f"it {number}"), NOON)
    first = min(tmp_path.glob("*.mail"))
    first.write_text(json.dumps({**json.loads(first.read_text()), "to": ["a\nb@fortress.test"]}))
    (tmp_path / "0.mail").write_text("{}")
    monkeypatch.setattr(alarm, "_hand_over", lambda mail, *_: sent.append(mail["Subject"]))
    (words,) = bell.ring(SETTINGS, NOON)
    assert words.startswith("alarms wait, 2 by mail: 0.mail: KeyError") and sent == ["it 1"]
    assert bell.stuck["mail"]["waiting"] == 2 and bell.mute, "an alarm has reached nobody"
    (tmp_path / "0.mail").unlink()
    assert "it 0" in bell.ring(SETTINGS, NOON + 60)[0] and sent == ["it 1"]
    first.unlink()
    assert bell.ring(SETTINGS, NOON + 120) == [] and not bell.mute


def test_outside_takes_the_first_gateway_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    site = replace(sites.demo_site(), alarms=Alarms(outside=("ops@far.test",)))
    settings = replace(SETTINGS, gateways=["one", "two"])
    asked: list[tuple[object, ...]] = []

    def hand_over(mail: Message, _site: object, _settings: object, *where: object) -> None:
        asked.append((mail["To"], *where))
        if where[1] == "one":
            raise ConnectionRefusedError("it is away")

    monkeypatch.setattr(alarm, "_hand_over", hand_over)
    alarm.outside(BAD, site, settings, site.alarms.outside)
    assert asked == [("ops@far.test", ("ops@far.test",), it, 587) for it in ("one", "two")]
    with pytest.raises(OSError, match="one: it is away"):
        alarm.outside(BAD, site, replace(settings, gateways=["one"]), ["ops@far.test"])
    with pytest.raises(OSError, match="no other machine"):
        alarm.outside(BAD, site, replace(settings, gateways=[]), ["ops@far.test"])


def test_the_mail_is_from_the_site_to_whom_it_is_for() -> None:
    site = sites.demo_site()
    mail = alarm.message(BAD, site, ["a@fortress.test", "b@fortress.test"])
    assert mail["To"] == "a@fortress.test, b@fortress.test"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["From"] == "mastio <postmaster@fortress.test>"
