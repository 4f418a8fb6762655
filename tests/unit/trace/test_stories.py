"""Real lines in, words out: each thing that can happen to a message, as the lab's machines told it."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from mastio.trace import Kind, Story, stories, words

LINES = Path(__file__).with_name("lines")
TOLD = {
    "delivered": (Kind.DELIVERED, "delivered into INBOX"),
    "greylisted": (Kind.DELIVERED, "and was delivered into INBOX"),
    "junk": (Kind.JUNK, "came again"),
    "virus": (Kind.VIRUS, "refused by gateway: it contains a virus"),
    "spam": (Kind.SPAM, "refused by gateway as spam (score 15.00 of 15.00"),
    "unknown": (Kind.UNKNOWN, "there is no such recipient"),
    "full": (Kind.FULL, "waiting on store: the mailbox is full (quota exceeded)"),
    "quarantined": (Kind.QUARANTINED, "held back in the quarantine: an archive with a password"),
    "webmail": (Kind.SENT, "sent to mx.outside.test, which answered: 250 OK"),
    "sent": (Kind.SENT, "sent to mx.outside.test, which answered: 250 OK"),
    "bounced": (Kind.BOUNCED, "returned to its sender by gateway"),
    "held": (Kind.HELD, "held on store: end-of-data beyond the limits"),
    "held-released": (
        Kind.SENT,
        "held on gateway (a document with macros), released, and sent to mx.outside.test",
    ),
    "held-deleted": (
        Kind.DROPPED,
        "held on gateway (a document with macros), then deleted unsent by an administrator",
    ),
    "held-expired": (
        Kind.DROPPED,
        "(a document with macros), then deleted unsent since nobody released it",
    ),
    "held-crowded": (
        Kind.DROPPED,
        "(a document with macros), then deleted unsent since the disk was nearly full",
    ),
    "marked": (Kind.SENT, "sent to mx.outside.test, which answered: 250 OK"),
    "virus-out": (Kind.VIRUS, "refused by gateway: it contains a virus"),
    "down": (Kind.WAITING, "waiting on gateway: the store was down (connect to store"),
}


def lines(name: str) -> list[str]:
    return (LINES / f"{name}.log").read_text().splitlines(keepends=True)


def the(name: str) -> Story:
    first, *_ = stories(lines(name))
    return first


@pytest.mark.parametrize("name", TOLD)
def test_what_became_of_it(name: str) -> None:
    (ending,) = the(name).endings
    kind, said = TOLD[name]
    assert ending.kind is kind
    assert said in ending.words
    assert "@" in ending.recipient


def test_lines_may_come_in_any_order() -> None:
    """A machine's queue may have held its lines back."""
    for name in TOLD:
        assert stories(reversed(lines(name))) == stories(lines(name))


def test_what_was_sent_again_is_told_once() -> None:
    """When the connection to watch broke: the same lines arrive later, a second time."""
    again = [line.replace("+00:00", "+00:01", 1) for line in lines("delivered")]
    assert stories(lines("delivered") + again) == stories(lines("delivered"))


def test_two_messages_are_two_stories() -> None:
    both = stories(lines("delivered") + lines("virus"))
    assert {it.endings[0].kind for it in both} == {Kind.DELIVERED, Kind.VIRUS}


def test_greylisted_and_not_yet_back() -> None:
    first = next(it for it in lines("greylisted") if "milter-reject" in it)
    upto = [it for it in lines("greylisted") if it.split()[2] <= first.split()[2]]
    (story,) = stories(upto)
    assert story.endings[0].kind is Kind.GREYLISTED
    assert "must come again after 4 s; has not yet" in story.endings[0].words


def test_a_wait_that_is_over_is_told() -> None:
    """The store's answer of `delivered`, after the wait of `down`."""
    waited = lines("down")
    late = [it.replace("status=deferred", "status=sent").replace("dsn=4.4.1", "dsn=2.0.0")
            for it in waited if "status=deferred" in it]  # fmt: skip
    later = late[-1].rstrip("\n").rpartition("(")[0] + "(250 2.0.0 Ok: queued as 4jYxdt2zPlzGwhk)\n"
    arrived, machine, _, rest = later.split(" ", 3)
    again = f"{arrived} {machine} 2099-01-01T00:00:00+00:00 {rest}"
    (ending,) = stories([*waited, again])[0].endings
    assert ending.kind is Kind.UNDERWAY
    assert "because the store was down" in ending.words


def test_handed_on_and_silent_is_under_way() -> None:
    (story,) = stories(it for it in lines("delivered") if " gateway " in it)
    assert story.endings[0].kind is Kind.UNDERWAY
    assert "has not said more yet" in story.endings[0].words


def test_what_is_held_on_its_way_out_has_another_command() -> None:
    upto = [it for it in lines("held-released") if it.split()[2] < "2026-11-30T22:14:07"]
    (ending,) = stories(upto)[0].endings
    assert ending.kind is Kind.HELD and ending.recipient == "carol@outside.test"
    assert ending.words == (
        "held on gateway: a document with macros; `mastio quarantine list` lists it"
    )


def test_a_release_that_has_not_been_taken_up() -> None:
    upto = [it for it in lines("held-released") if "4jddbM6CdWzFdLP" not in it]
    (ending,) = stories(upto)[0].endings
    assert ending.kind is Kind.UNDERWAY


def test_the_steps_tell_what_was_held_released_and_marked() -> None:
    steps = "\n".join(words.told(the("held-released")))
    assert "put on hold: a document with macros" in steps
    assert "released from hold, as 4jddbM6CdWzFdLP" in steps
    assert "it has an archive with a password" in "\n".join(words.told(the("marked")))
    assert "it has" not in "\n".join(words.told(the("sent")))


def test_a_held_message_that_is_dropped() -> None:
    held = lines("held")
    queue = held[0].split()[5].rstrip(":")
    at = "2099-01-01T00:00:00+00:00"
    gone = f"{at} store {at} mail.info postfix/postsuper[9]: {queue}: removed\n"
    (ending,) = stories([*held, gone])[0].endings
    assert ending.kind is Kind.DROPPED
    assert ending.words == "held by the outbound limits, then dropped by an administrator"


def test_the_notice_is_linked_and_told_after() -> None:
    bounced, notice = stories(lines("bounced"))
    assert bounced.notices == (notice.message,)
    assert notice.sender == ""
    assert f"    the sender was told: {notice.message}" in words.told(bounced)


def test_the_stores_own_copy_of_a_notice_is_not_what_the_sender_was_told() -> None:
    assert the("virus-out").notices == ("<4jYyXc4p25zGwkF@store.logs.internal>",)


def test_the_words_tell_every_machine() -> None:
    told = "\n".join(words.told(the("delivered")))
    for word in ("postscreen", "gateway", "filter: no action", "over TLSv1.3", "store", "Sieve"):
        assert word in told


def test_who_wrote_it_in_the_webmail_is_told() -> None:
    told = words.plain(the("webmail"))
    (step,) = [it for it in told["steps"] if it["machine"] == "webmail"]
    wrote = "written in the webmail by alice@fortress.test from 203.0.113.100"
    assert step["what"] == f"{wrote}, taken as 4jcbFs57X7zGpdb"
    assert told["endings"][0]["kind"] == Kind.SENT
    # Somebody else's message of the same id, which he chose himself, is not alice's.
    others = [
        it.replace("4jcbFs5", "4jcbFs6") for it in lines("webmail") if " roundcube: " not in it
    ]
    assert wrote not in "\n".join(
        line
        for story in stories([*others, *(it for it in lines("webmail") if " roundcube: " in it)])
        for line in words.told(story)
    )


def test_a_ban_of_the_client_before_is_told_another_is_not() -> None:
    at = "2026-11-24T21:40:00.000000+00:00"
    client = "2001:db8:113::/64"

    def ban(client: str, at: str = at) -> str:
        return f"{at} watch {at} daemon.info mastio-offences[7]: banned {client} for 600 seconds: SMTP abuse\n"

    told = words.told(stories([*lines("delivered"), ban(client)])[0])
    assert any(
        it.endswith(f"watch     the firewall kept {client} out for 10 min: SMTP abuse")
        for it in told
    )
    for other in (ban("198.51.100.1/32"), ban(client, "2026-11-24T23:59:00.000000+00:00")):
        assert stories([*lines("delivered"), other]) == stories(lines("delivered"))


IN = "the firewall let 2001:db8:113::100, port 43489, in to fd98:f38f:12db:1::a, port 25"
OUT = "the firewall let 10.77.1.10 out to 203.0.113.100, port 25"


def steps(told: Iterable[str]) -> list[tuple[str, str]]:
    return [(it["machine"], it["what"]) for it in words.plain(stories(told)[0])["steps"]]


def test_the_firewall_is_the_first_that_tells() -> None:
    """It writes a moment after postscreen has, of what it did before."""
    assert steps(lines("delivered"))[:2] == [
        ("firewall", IN),
        ("gateway", "postscreen knows it: 2001:db8:113::100"),
    ]
    (firewall, refused) = steps(lines("unknown"))
    assert firewall == (
        "firewall",
        "the firewall let 203.0.113.101, port 54490, in to 10.77.1.10, port 25",
    )
    assert refused[0] == "gateway"


def test_another_connection_of_the_same_client_is_not_told() -> None:
    others = [it.replace("SPT=43489", "SPT=43490") for it in lines("delivered")]
    assert [it for it in steps(others) if it[0] == "firewall"] == []


def test_the_way_out_is_told_before_what_the_server_said() -> None:
    told = steps(lines("sent"))
    at = told.index(("firewall", OUT))
    assert told[at + 1][1].startswith("smtp for carol@outside.test: sent to mx.outside.test")
    for wrong in (("DPT=25", "DPT=587"), ("DST=203.0.113.100", "DST=203.0.113.101")):
        others = [it.replace(*wrong) if " ulogd[" in it else it for it in lines("sent")]
        assert "firewall" not in dict(steps(others))
    late = [it.replace("22:17:58.950100", "22:18:00.950100") for it in lines("sent")]
    assert "firewall" not in dict(steps(late)), "that was somebody else's"


def test_a_server_that_does_not_answer_was_let_out_to() -> None:
    """As Postfix says so of `relay=none`."""
    away = (
        "relay=none, delay=30, delays=0/0/30/0, dsn=4.4.1, status=deferred "
        "(connect to mx.outside.test[203.0.113.100]:25: Connection timed out)"
    )
    told = [
        re.sub(r"relay=mx.outside.*", away, it) if " postfix/smtp[" in it else it
        for it in lines("sent")
    ]
    assert ("firewall", OUT) in steps(told)


def test_each_recipient_has_an_ending() -> None:
    """One who is unknown, two who go on together."""
    endings = {it.recipient.partition("@")[0][:5]: it for it in the("several").endings}
    assert {name: it.kind for name, it in endings.items()} == {
        "nobod": Kind.UNKNOWN, "alice": Kind.DELIVERED, "bob": Kind.DELIVERED,
    }  # fmt: skip
    assert endings["alice"].words == endings["bob"].words == "delivered into INBOX"


def test_what_header_checks_refuse() -> None:
    """As `filter:` lines, which are real in `quarantined`; header_checks(5)."""
    (line,) = [it for it in lines("quarantined") if "filter: header" in it]
    refused = line.replace("filter: ", "reject: ").rstrip("\n").rpartition(": ")[0]
    (ending,) = stories([f"{refused}: 5.7.1 message content rejected\n"])[0].endings
    assert (ending.kind, ending.recipient) == (Kind.REFUSED, "alice@fortress.test")
    assert "5.7.1 message content rejected (header)" in ending.words


def test_what_is_no_log_line_is_passed_over() -> None:
    noise = ["", "hello", "2026 x y z", "a b c d e: f", *lines("delivered")]
    assert stories(noise) == stories(lines("delivered"))
