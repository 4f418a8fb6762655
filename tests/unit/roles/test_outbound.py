"""What one user may send: counted, held, released from zero; told of once. Whom users have written to."""

import hashlib
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from mastio.roles.store.book import DAY, HELD, HOUR, Book
from mastio.roles.store.outbound import NOBODY, Policy, came_back, is_old, requests

LIMITS = {
    "messages_per_hour": 3, "recipients_per_hour": 6, "new_recipients_per_day": 4,
    "bounces_per_day": 2, "exempt": ["news@x.test"],
}  # fmt: skip
BOB = "bob@x.test"


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(str(tmp_path / "outbound.sqlite"), LIMITS)


def send(book: Book, now: float, *recipients: str, user: str = BOB) -> bool:
    to = list(recipients or ["carol@y.test"])
    return book.message(user, user, to, len(to), f"Q{now}", now)


def reason(book: Book) -> str:
    (found,) = book.paused()
    return str(found["reason"])


def test_the_message_beyond_the_limit_and_all_that_follow_are_held(book: Book) -> None:
    assert [send(book, now) for now in (1, 2, 3, 4, 5)] == [False, False, False, True, True]
    assert reason(book) == "4 messages in an hour, more than 3"
    assert book.owners() == {"Q4": BOB, "Q5": BOB}
    assert book.notices() == [(BOB, "4 messages in an hour, more than 3")]
    assert not send(book, 6, user="alice@x.test"), "another user is not concerned"
    assert send(book, 6 + 2 * DAY), "time alone releases nobody"


def test_slowly_is_not_too_much(book: Book) -> None:
    assert not any(send(book, number * HOUR / 2) for number in range(20))


def test_a_release_counts_from_zero(book: Book) -> None:
    assert [send(book, now) for now in (1, 2, 3, 4)][-1]
    book.resume(BOB, 5)
    assert [send(book, now) for now in (6, 7, 8, 9)] == [False, False, False, True]


def test_recipients_and_new_people_count(book: Book) -> None:
    assert not send(book, 1, "a@y.test", "b@y.test", "c@y.test", "A@y.test")
    assert send(book, 2, "a@y.test", "b@y.test", "c@y.test")
    assert reason(book) == "7 recipients in an hour, more than 6"
    book.resume(BOB, 3)
    assert send(book, 4, "d@y.test", "e@y.test", "f@y.test", "g@y.test", "h@y.test")
    assert reason(book) == "5 new recipients in a day, more than 4"


def test_the_exempt_have_no_limit(book: Book) -> None:
    assert not any(send(book, now, user="news@x.test") for now in range(9))


def test_bounces_count_up_to_what_was_written(book: Book) -> None:
    for now in range(9):
        book.bounced(BOB, now)
    send(book, 10)
    for now in range(11, 30):
        book.bounced(BOB, now)
    assert book.paused() == [], "forged ones pause nobody who hardly writes"
    send(book, 31, "a@y.test", "b@y.test")
    for now in range(32, 40):
        book.bounced(BOB, now)
    assert reason(book) == "3 bounces in a day, more than 2"
    assert book.alarm


def notice(message: str) -> Message:
    """What Postfix's bounce(8) tells of a message."""
    return message_from_string(f"""From: MAILER-DAEMON@x.test
Subject: Postmaster Copy: Undelivered Mail
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

<carol@y.test>: host gateway said: 554 5.7.1 Virus
X-Postfix-Queue-ID: Q9

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; store
X-Postfix-Queue-ID: {message}
X-Postfix-Sender: rfc822; bob@x.test

Final-Recipient: rfc822; carol@y.test
Action: failed

--b
Content-Type: text/rfc822-headers

X-Postfix-Queue-ID: Q9
--b--
""")


def test_what_our_own_gateway_refuses_counts_for_who_submitted_it(book: Book) -> None:
    for now in (1, 2, 3):
        send(book, now)
        send(book, now + 0.5, user="alice@x.test")
    for number in (1, 2):
        book.returned(came_back(notice(f"Q{number}")), 4)
    assert book.paused() == []
    book.returned(came_back(notice("Q3")), 5)
    assert reason(book) == "3 bounces in a day, more than 2"
    assert [it["user"] for it in book.paused()] == [BOB] and book.alarm


def test_a_notice_of_what_nobody_submitted_counts_for_nobody(book: Book) -> None:
    """What a script has passed on; and a notice that comes again counts no further than what was written."""
    send(book, 1)
    for now in range(2, 20):
        book.returned(came_back(notice("Q7")), now)
        book.returned(came_back(notice("Q1")), now)
        book.returned(
            came_back(message_from_string("Subject: transcript\n\nX-Postfix-Queue-ID: Q1\n")), now
        )
    assert book.paused() == []


def digest(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()


def known(book: Book) -> dict[str, tuple[int, float]]:
    """Person → number and time."""
    return {person: (n, at) for n, person, at in book.db.execute("SELECT * FROM wrote")}


def test_whom_users_write_to_is_kept_as_a_digest_and_in_order(book: Book) -> None:
    send(book, 1, "a@y.test", "B@y.test", "b@Y.test")
    assert {*known(book)} == {digest("a@y.test"), digest("b@y.test")}
    assert book.news
    last = max(n for n, _ in known(book).values())
    book.news = False
    send(book, 2, "a@y.test")
    assert not book.news and known(book)[digest("a@y.test")][1] == 1, "no news within a day"
    send(book, 2 + DAY, "a@y.test", user="news@x.test")
    assert book.news
    n, at = known(book)[digest("a@y.test")]
    assert n > last and at == 2 + DAY and len(known(book)) == 2


def test_who_has_been_written_to_in_a_message_that_is_held_is_not_known(book: Book) -> None:
    assert [send(book, now, f"{now}@y.test") for now in (1, 2, 3, 4, 5)][3:] == [True, True]
    assert {*known(book)} == {digest(f"{it}@y.test") for it in (1, 2, 3)}
    book.wrote(["4@y.test"], 6)
    assert digest("4@y.test") in known(book), "released"


def ask(**values: str) -> dict[str, str]:
    return {"sasl_username": BOB, "sender": BOB, "instance": "i1", **values}


def test_postfix_is_answered(book: Book) -> None:
    policy = Policy(book)
    answers: list[str] = []
    for number in range(4):
        step: dict[str, Any] = {"instance": f"i{number}"}
        answers.append(
            policy.answer(ask(protocol_state="RCPT", recipient="a@y.test", **step), number + 1)
        )
        end = ask(
            protocol_state="END-OF-MESSAGE", recipient_count="1", queue_id=f"Q{number}", **step
        )
        answers.append(policy.answer(end, number + 1))
    assert [it.split()[0] for it in answers] == ["DUNNO"] * 7 + ["HOLD"]
    bounce = {"sasl_username": "", "sender": "", "protocol_state": "RCPT", "recipient": BOB}
    assert policy.answer(bounce, 9) == "DUNNO"


def by_script(book: Book, number: int, *recipients: str, scarce: bool = False) -> str:
    """What Postfix is told at the end of a message that bob's script sends."""
    policy = Policy(book)
    step = {"policy_context": "sieve", "sender": "carol@y.test", "instance": f"i{number}"}
    for it in recipients:
        assert policy.answer(ask(protocol_state="RCPT", recipient=it, **step), number) == "DUNNO"
    end = ask(protocol_state="END-OF-MESSAGE", recipient_count=str(len(recipients)),
              queue_id=f"Q{number}", **step)  # fmt: skip
    return policy.answer(end, number, scarce=scarce).split()[0]


def test_what_a_script_sends_waits_with_the_rest_and_pauses_nobody(book: Book) -> None:
    """How much it is, those decide who write to its user: strangers would shut users out."""
    assert [by_script(book, it, f"a{it}@y.test") for it in range(1, 30)] == ["DUNNO"] * 29
    assert [send(book, it) for it in (31, 32, 33)] == [False] * 3, "nothing of it counts"
    assert send(book, 34)
    assert by_script(book, 35, "a@y.test") == "HOLD"
    assert book.owners()["Q35"] == BOB and book.scripts() == {"Q35"}
    book.resume(BOB, 36)
    assert by_script(book, 37, "a@y.test") == "DUNNO"
    book.forget(["Q35"])
    assert book.scripts() == frozenset()


def test_a_script_may_write_to_its_own_user(book: Book) -> None:
    assert [by_script(book, it, "Bob+copy@X.test") for it in range(1, 9)] == ["DUNNO"] * 8
    for now in (11, 12, 13, 14):
        send(book, now)
    assert by_script(book, 15, BOB) == "DUNNO", "paused"
    assert by_script(book, 16, BOB, "a@y.test") == "HOLD", "not to him alone"
    assert by_script(book, 17, "bob@y.test") == "HOLD", "another bob"


def test_who_hears_from_a_script_alone_has_not_been_written_to(book: Book) -> None:
    assert by_script(book, 1, "a@y.test") == "DUNNO"
    assert not known(book) and not book.news


def test_what_comes_back_of_a_redirect_is_not_its_users(book: Book) -> None:
    for now in (1, 2, 3):
        by_script(book, now, "a@y.test")
    for now in range(4, 9):
        book.bounced("carol@y.test", now)
    assert book.paused() == []


def written(book: Book, number: int, user: str = BOB, *, scarce: bool = False) -> str:
    """What Postfix is told at the end of a message that a user submits."""
    end = ask(protocol_state="END-OF-MESSAGE", recipient_count="1", queue_id=f"Q{number}",
              instance=f"i{number}", sasl_username=user)  # fmt: skip
    return Policy(book).answer(end, number, scarce=scarce).split()[0]


def test_what_waits_has_a_bound_and_what_is_more_must_come_later(book: Book) -> None:
    most, allowed = HELD * LIMITS["messages_per_hour"], LIMITS["messages_per_hour"]  # type: ignore[operator]
    answers = [written(book, it) for it in range(1, allowed + most + 3)]
    assert answers == ["DUNNO"] * allowed + ["HOLD"] * most + ["450"] * 2
    assert len(book.owners()) == most
    assert written(book, 500, "alice@x.test") == "DUNNO", "another user is not concerned"
    assert by_script(book, 501, "a@y.test") == "HOLD", "it may be the only copy"
    book.forget(["Q4"])
    assert [written(book, it) for it in (502, 503)] == ["HOLD", "450"], "one has been dropped"
    book.resume(BOB, 504)
    assert written(book, 505) == "DUNNO"


def test_with_hardly_any_room_nothing_more_of_the_paused_is_held(book: Book) -> None:
    scarce = True
    for name in (BOB, "news@x.test"):
        assert [written(book, it, name, scarce=scarce) for it in (1, 2, 3)] == ["DUNNO"] * 3
    assert written(book, 4, scarce=scarce) == "HOLD", "who was not paused has sent it"
    assert written(book, 5, scarce=scarce) == "450"
    assert by_script(book, 6, "a@y.test", scarce=scarce) == "450"
    assert by_script(book, 7, BOB, scarce=scarce) == "DUNNO", "it stays here"
    assert written(book, 8, "alice@x.test", scarce=scarce) == "DUNNO"
    assert written(book, 9, "news@x.test", scarce=scarce) == "DUNNO"
    assert written(book, 10) == "HOLD" and by_script(book, 11, "a@y.test") == "HOLD"


@pytest.mark.parametrize(
    ("sender", "age", "anew"),
    [(BOB, 9 * DAY, True), (BOB, DAY + 1, True), (BOB, DAY - 1, False), (NOBODY, 9 * DAY, False)],
)
def test_what_was_held_for_long_is_queued_anew(sender: str, age: float, anew: bool) -> None:
    assert is_old({"sender": sender, "arrived": 10 * DAY - age}, 10 * DAY) is anew


def test_questions_are_lines_up_to_an_empty_one() -> None:
    lines = iter(["request=smtpd_access_policy\n", "sender=\n", "helo=a=b\n", "\n", "x=1\n", "\n"])
    assert list(requests(lines)) == [  # type: ignore[arg-type]
        {"request": "smtpd_access_policy", "sender": "", "helo": "a=b"},
        {"x": "1"},
    ]
