"""Greylisting on real machines: who is asked to come again, who never is, and what if its memory is away.

It remembers senders, so each test has senders of its own.
"""

import time
from collections.abc import Iterator

import pytest

from mastio.lab import internet, outside
from mastio.roles.gateway.files import VALKEY
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, token
from tests.lab.patience import at_last, eventually
from tests.lab.sabotage import hung, valkey_ends
from tests.lab.test_filter import ODD, PILLS, TUNED, arrives, fires, send, somebody
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", autouse=True)
def impatient(lab: Lab) -> Iterator[None]:
    """Who is greylisted may come again after four seconds."""
    with tuned(lab, TUNED):
        yield


def test_only_suspicious_mail_must_come_again(lab: Lab, alice: tuple[str, str]) -> None:
    word, sender = token(), somebody()
    letter = message(sender, alice[0], word, PILLS)
    code, text = send(lab, letter, sender, alice[0])
    assert code == 451 and "greylisted" in text, text
    # What is not suspicious is let in, even now, even from the same sender.
    assert send(lab, message(sender, alice[0], token()), sender, alice[0])[0] == 250


def test_a_retry_passes_from_another_address_too(lab: Lab, alice: tuple[str, str]) -> None:
    word, sender = token(), somebody()
    letter = message(sender, alice[0], word, PILLS)
    # Both in one talk: by two, the delay may be over before the second.
    twice = (f"MAIL FROM:<{sender}>", f"RCPT TO:<{alice[0]}>", "DATA") * 2
    source = next(it for it in internet.stranger(lab.site) if it.version == 4)
    replies = mail.talk(lab, twice, letter.as_string(), source=source)
    assert [code for code, _ in replies] == [250, 250, 451] * 2, "too early"
    time.sleep(5)
    assert send(lab, letter, sender, alice[0], version=6)[0] == 250
    assert arrives(lab, alice, word)


def test_another_message_is_no_second_try(lab: Lab, alice: tuple[str, str]) -> None:
    """A robot that sends something else each day never comes again; a server that did is believed from then on."""
    sender = somebody()
    first, other, later, elsewhere = (message(sender, alice[0], token(), PILLS) for _ in "1234")
    assert send(lab, first, sender, alice[0])[0] == 451
    time.sleep(5)
    code, text = send(lab, other, sender, alice[0])
    assert code == 451 and "greylisted" in text, text
    assert send(lab, first, sender, alice[0])[0] == 250
    assert send(lab, later, sender, alice[0])[0] == 250
    assert send(lab, elsewhere, sender, alice[0], version=6)[0] == 451, "from another network"


def test_a_retry_is_judged_anew(lab: Lab, alice: tuple[str, str]) -> None:
    sender, other = somebody(), somebody()
    letter = message(sender, alice[0], token(), PILLS)
    assert send(lab, letter, sender, alice[0])[0] == 451
    lab.mastio("greylist", "block", sender, other)
    try:
        # By the other one it is seen that the filter has the list.
        eventually(
            lambda: send(lab, message(other, alice[0], token()), other, alice[0])[0] >= 500,
            "the list does not arrive",
        )
        time.sleep(5)
        fires(send(lab, letter, sender, alice[0]), "not wanted")
    finally:
        lab.mastio("greylist", "forget", sender, other)


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_the_greylist_outlives_valkey(lab: Lab, alice: tuple[str, str], how: str) -> None:
    sender = somebody()
    letter = message(sender, alice[0], token(), PILLS)
    assert send(lab, letter, sender, alice[0])[0] == 451
    time.sleep(5)  # the delay, and longer than Valkey waits before it writes
    valkey_ends(lab, mail.the(lab, Role.GATEWAY_IN).name, how)
    assert send(lab, letter, sender, alice[0])[0] == 250


def test_nothing_suspicious_passes_while_the_greylist_is_away(
    lab: Lab, alice: tuple[str, str]
) -> None:
    """Valkey neither answers nor is gone: the message has to come again, and then is greylisted like any.

    Who is proven and not suspicious is not greylisted, but Bayes, whose memory Valkey is, would judge the text: what
    it was not asked about comes again as well. What users send does not wait for it.
    """
    sender, proven, sent = somebody(), somebody(outside.DOMAIN), token()
    letter = message(sender, alice[0], token(), PILLS)
    ordinary = message(proven, alice[0], token())
    with hung(lab, mail.the(lab, Role.GATEWAY_IN).name, "valkey-server"):
        code, text = send(lab, letter, sender, alice[0])
        assert code == 451 and "the greylist is not ready" in text, text
        code, text = send(lab, ordinary, proven, alice[0], forged=False)
        assert code == 451 and "what users taught the filter is not ready" in text, text
        assert mail.submit(lab, *alice, message(alice[0], CAROL, sent))[0] == 250
        assert mail.at_carols(lab, sent)
    said = at_last(
        lambda: send(lab, ordinary, proven, alice[0], forged=False), lambda it: it[0] == 250
    )
    assert said[0] == 250, said
    text = at_last(lambda: send(lab, letter, sender, alice[0])[1], lambda it: "not ready" not in it)
    assert "greylisted" in text, text
    time.sleep(5)
    assert send(lab, letter, sender, alice[0])[0] == 250


def _known_twin(lab: Lab, to: str) -> None:
    stranger = somebody()
    assert send(lab, message(stranger, to, token(), PILLS), stranger, to)[0] == 451


def test_a_sender_with_a_history_is_never_delayed(lab: Lab, alice: tuple[str, str]) -> None:
    sender = somebody()
    assert send(lab, message(sender, alice[0], token()), sender, alice[0])[0] == 250
    assert send(lab, message(sender, alice[0], token(), PILLS), sender, alice[0])[0] == 250
    _known_twin(lab, alice[0])


def test_whom_a_user_has_written_to_is_never_delayed(lab: Lab, alice: tuple[str, str]) -> None:
    friend, word = f"{token()}@{outside.PLAIN}", token()
    assert mail.submit(lab, *alice, message(alice[0], friend, word))[0] == 250
    mail.await_known(lab, friend)
    assert send(lab, message(friend, alice[0], token(), PILLS), friend, alice[0])[0] == 250
    _known_twin(lab, alice[0])


def test_who_is_below_our_domain_can_be_known_like_others(lab: Lab, alice: tuple[str, str]) -> None:
    friend, other = (somebody(outside.below(lab.site)) for _ in "12")
    assert mail.submit(lab, *alice, message(alice[0], friend, token()))[0] == 250
    mail.await_known(lab, friend)
    for sender, code in ((friend, 250), (other, 451)):
        letter = message(sender, alice[0], token(), ODD)
        assert send(lab, letter, sender, alice[0], forged=False)[0] == code


def test_who_only_claims_to_be_known_is_delayed(lab: Lab, alice: tuple[str, str]) -> None:
    friend, claimed = somebody(), somebody(outside.CAUTIOUS)
    for person in (friend, claimed):
        assert mail.submit(lab, *alice, message(alice[0], person, token()))[0] == 250
        mail.await_known(lab, person)
    code, text = send(lab, message(claimed, alice[0], token(), PILLS), claimed, alice[0])
    assert code == 451 and "greylisted" in text, text
    assert send(lab, message(friend, alice[0], token(), PILLS), friend, alice[0])[0] == 250


def test_whom_a_user_has_written_to_is_not_filed_in_junk(lab: Lab, alice: tuple[str, str]) -> None:
    friend, other = (somebody(outside.DOMAIN) for _ in range(2))
    assert mail.submit(lab, *alice, message(alice[0], friend, token()))[0] == 250
    mail.await_known(lab, friend)
    word = token()
    odd = message(friend, alice[0], word, ODD)
    assert send(lab, odd, friend, alice[0], forged=False)[0] == 250
    assert arrives(lab, alice, word)
    letter = message(other, alice[0], token(), ODD)
    assert send(lab, letter, other, alice[0], forged=False)[0] == 451


def test_a_proven_sender_is_never_delayed(lab: Lab, alice: tuple[str, str]) -> None:
    sender = f"{token()}@{outside.DOMAIN}"
    letter = message(sender, alice[0], token(), PILLS)
    assert send(lab, letter, sender, alice[0], forged=False)[0] == 250
    _known_twin(lab, alice[0])


def delayed(lab: Lab) -> int:
    """How many messages were asked to come again."""
    ask = ["valkey-cli", "-s", VALKEY, "HGET", "mastio:counts", "delayed"]
    return int(lab.run(mail.the(lab, Role.GATEWAY_IN).name, ask).stdout or 0)


@pytest.mark.parametrize("octets", [b"a\xe2\x80\xa8b@c.test", b"\xc0\x80@c.test", b'"\n"@c.test'])
def test_show_bears_any_address(lab: Lab, alice: tuple[str, str], octets: bytes) -> None:
    sender, gateway = somebody(), mail.the(lab, Role.GATEWAY_IN).name
    assert send(lab, message(sender, alice[0], token(), PILLS), sender, alice[0])[0] == 451
    call, odd = ["valkey-cli", "-s", VALKEY], f"mastio:grey:{token()}"
    assert lab.run(gateway, [*call, "-x", "HSET", odd, "sender"], octets).stdout == b"1\n"
    try:
        for words in ((), ("--json",)):
            said = lab.mastio("greylist", "show", *words)
            assert sender in said and "@c.test" in said
    finally:
        lab.run(gateway, [*call, "DEL", odd])


def test_allow_and_show(lab: Lab, alice: tuple[str, str]) -> None:
    sender, before = somebody(), delayed(lab)
    letter = message(sender, alice[0], token(), PILLS)
    for _ in range(2):  # as a rule within the same second
        assert send(lab, letter, sender, alice[0])[0] == 451
    assert delayed(lab) == before + 1
    assert sender in lab.mastio("greylist", "show", "--json")

    def at_once() -> bool:
        """Whether somebody of whom nobody has heard passes."""
        other = somebody()
        return send(lab, message(other, alice[0], token(), PILLS), other, alice[0])[0] == 250

    assert not at_once()
    lab.mastio("greylist", "allow", outside.PLAIN)
    try:
        eventually(at_once, "it is not allowed")
    finally:
        lab.mastio("greylist", "forget", outside.PLAIN)
    eventually(lambda: not at_once(), "it is not forgotten")
