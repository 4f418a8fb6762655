"""What needs a person: each rule fires, and has a clean twin."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from mastio.digest.judge import Digest, Verified, needs
from mastio.digest.need import Level
from mastio.digest.summary import NEWS, Novelty, Summary, Times, Top

HOUR = "2026-11-24T21"


def digest(summary: Summary, **other: object) -> Digest:
    """Of one hour, long after learning."""
    known = Digest(
        "demo", "2026-11-24T00", "2026-11-25T00", {HOUR: summary}, learning_since="2026-11-01T00"
    )
    return replace(known, **other)  # type: ignore[arg-type]


def calm(**counts: int) -> Summary:
    """A usual hour."""
    usual = {
        "mail.in": 500,
        "sent.store/smtp": 490,
        "sent.lmtp": 490,
        "lines.gateway": 9_000,
        "refused.in.spam": 80,
    }
    summary = Summary(
        {**usual, "login.good.mailbox": 90, "login.failed.mailbox": 9, "deferred.smtp": 12}
    )
    summary.times["store/smtp"] = Times()
    summary.times["store/smtp"].add(0.3, 490)
    summary.counts |= {name.replace("__", "."): number for name, number in counts.items()}
    return summary


def having(name: str, number: int) -> Summary:
    summary = calm()
    summary.counts[name] = number
    return summary


def slow(seconds: float) -> Summary:
    summary = calm()
    summary.times["store/smtp"].add(seconds, 100)
    return summary


def held() -> Summary:
    summary = having("held.outgoing", 2)
    summary.tops["held"] = Top({"alice@fortress.test": 2})
    return summary


def reported(kind: str, **counts: int) -> Summary:
    summary = calm()
    summary.counts |= {f"{kind}.{name}": number for name, number in counts.items()}
    return summary


def full() -> Summary:
    summary = calm()
    summary.tops["nearly full"] = Top({"alice@fortress.test": 2})
    return summary


def novel(kind: str) -> Summary:
    summary = calm()
    summary.meet(kind, "something", Novelty("store something", 1, f"{HOUR}:00"))
    return summary


def crowded(kind: str) -> Summary:
    """More than is told by name."""
    summary = calm()
    for number in range(NEWS + 50):
        summary.meet(kind, f"thing {number}", Novelty("store something", 1, f"{HOUR}:00"))
    summary.cut()
    return summary


def test_a_usual_day_needs_nobody() -> None:
    assert needs(digest(calm())) == []
    # Strangers speak all sorts of things all day.
    assert needs(digest(having("intrusion.others", 5_000))) == []
    assert needs(digest(calm(), machines=("gateway",))) == []
    assert needs(digest(reported("dmarc", messages=1000, passed=990))) == []
    assert needs(digest(reported("tls reports", sessions=1000, failed=3))) == []
    passed = Verified("fast", "passed", "2026-11-24T21:00:00+00:00", False, ())
    assert needs(digest(calm(), verified=(passed,))) == []


@pytest.mark.parametrize(
    ("summary", "level", "words"),
    [
        (having("trouble.disk full", 1), Level.ACT, "a disk is full (1 ×)"),
        (having("trouble.read-only disk", 1), Level.ACT, "a disk cannot be written (1 ×)"),
        (having("trouble.out of memory", 1), Level.ACT, "memory ran out (1 ×)"),
        (having("trouble.a program crashed", 1), Level.ACT, "a program crashed (1 ×)"),
        (having("trouble.logs lost", 7), Level.ACT, "log lines were lost on their way (7 ×)"),
        (having("trouble.clock", 1), Level.LOOK, "a clock is not synchronised (1 ×)"),
        (having("trouble.too much was new", 1), Level.LOOK, "more of the kind will not be told (1 ×)"),
        (having("trouble.a log file was changed", 1), Level.ACT, "a log file on watch"),
        (having("trouble.Postfix gave up", 3), Level.ACT, "Postfix gave up"),
        (having("trouble.quota", 3), Level.LOOK, "quota"),
        (having("trouble.a service failed", 3), Level.LOOK, "a service failed (3 ×)"),
        (having("trouble.a service hung", 1), Level.LOOK, "a service did not answer, and was restarted (1 ×)"),
        (having("trouble.a service hangs", 1), Level.ACT, "a service does not answer, though it was restarted"),
        (having("trouble.a machine sends too much", 9), Level.LOOK, "handed over more mail in a minute than it may (9 ×)"),
        (having("reading.unreadable", 100), Level.LOOK, "100 log lines could not be read"),
        (having("refused.in.scanner away, to come again", 5), Level.LOOK, "the scanner was away: 5"),
        (having("refused.in.scanner away, to come again", 500), Level.ACT, "the scanner was away: 500"),
        (having("deferred.smtp", 300), Level.LOOK, "300 deliveries were put off"),
        (having("refused.in.mailbox or disk full", 4), Level.LOOK, "4 times there was no room"),
        (having("expired", 1), Level.LOOK, "given up"),
        (having("refused.out.virus", 1), Level.ACT, "tried to send malware"),
        (having("login.failed.webmail", 400), Level.LOOK, "409 log-ins failed, 90 did not"),
        (having("intrusion.inside", 2), Level.ACT, "machines of ours spoke what no flow declares (2 ×)"),
        (novel("alerts"), Level.LOOK, "1 kind of alert from intrusion detection"),
        (slow(1000), Level.LOOK, "one message in twenty took 1,000 s or more"),
        (slow(10_000), Level.ACT, "one message in twenty took"),
        (reported("dmarc", messages=1000, passed=900), Level.LOOK, "100 of 1,000 messages in our name"),
        (reported("tls reports", sessions=100, failed=3), Level.LOOK, "3 of 100 connections to us failed in TLS"),
        (full(), Level.LOOK, "1 mailboxes are nearly full"),
        (held(), Level.ACT, "outgoing mail is held: 2 of alice@fortress.test"),
        (having("leaving.held", 3), Level.ACT, "mail is held on its way out, because of what is attached: 3"),
        (novel("shapes"), Level.LOOK, "1 log line of a new shape"),
        (novel("networks"), Level.LOOK, "1 log-in from a network"),
        (novel("flows"), Level.LOOK, "1 conversation that"),
        (crowded("shapes"), Level.LOOK, f"{NEWS + 50} log lines of a new shape"),
        (crowded("networks"), Level.LOOK, f"{NEWS + 50} log-ins from a network"),
        (novel("begun"), Level.LOOK, "1 conversation with the outside for the first time"),
    ],
)  # fmt: skip
def test_what_needs_a_person(summary: Summary, level: Level, words: str) -> None:
    (need,) = needs(digest(summary))
    assert need.level is level and words in need.words


@pytest.mark.parametrize(
    ("verdict", "late", "level"),
    [("failed", False, Level.ACT), ("passed", True, Level.ACT), ("could not check", False, Level.LOOK)],
)  # fmt: skip
def test_verification_counts(verdict: str, late: bool, level: Level) -> None:
    one = Verified("fast", verdict, "2026-11-24T21:00:00+00:00", late, ("H4 store: a hole",))
    (need,) = needs(digest(calm(), verified=(one,)))
    assert need.level is level and need.remedy == "mastio verify --scheduled"


def test_silence_is_no_good_news() -> None:
    (need,) = needs(digest(calm(), machines=("gateway", "store")))
    assert need.level is Level.ACT and need.words == "not one line came from store"


@pytest.mark.parametrize("since", ["", "2026-11-24T20"])
def test_in_the_first_day_nothing_is_news(since: str) -> None:
    summary: Callable[[], Summary] = lambda: novel("shapes")  # noqa: E731
    assert needs(digest(summary(), learning_since=since)) == []


def test_what_is_to_be_acted_on_comes_first() -> None:
    summary = having("trouble.quota", 1)
    summary.counts["trouble.disk full"] = 1
    assert [it.level for it in needs(digest(summary))] == [Level.ACT, Level.LOOK]
