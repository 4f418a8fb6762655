"""One message to several domains, each of which has its own say in the filter: the strictest counts.

Three domains: one that bears much (`LENIENT`, the lab's own), one that bears little (`STRICT`), and one of which the
site file says nothing. Whichever recipient is named first, the answer is the same; each alone has its own.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mastio.lab import demo, outside
from mastio.site.model import Role
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, token
from tests.lab.test_filter import ODD, PILLS, arrives, fires, send, somebody
from tests.lab.test_filter_tuned import BETS, UNWANTED
from tests.lab.tuned import rewritten

pytestmark = pytest.mark.lab

LENIENT, STRICT, PLAIN = demo.DOMAIN, "strict.test", "plain-and-ours.test"
TUNED = f"""
[policy]
greylist_delay = 4
greylist_score = 4.0
spam_junk_score = 8.0

[filter]
welcome = ["{CAROL}"]

[filter.domains."{LENIENT}"]
greylist_score = 7.5
welcome = ["{outside.DOMAIN}"]
topics.drugs = 0

[filter.domains."{STRICT}"]
spam_junk_score = 4.1
spam_reject_score = 9.0
block = ["{UNWANTED}"]
topics.gambling = 3
"""


@dataclass(frozen=True)
class People:
    """An address in each domain; Alice's, Bob's and Alice's."""

    lenient: str
    strict: str
    plain: str


@pytest.fixture(scope="module", autouse=True)
def tuned(lab: Lab) -> Iterator[None]:
    before = (lab.folder / "site.toml").read_text()
    machines = [it.name for it in lab.site.carrying(Role.GATEWAY_IN, Role.GATEWAY_OUT)]
    ours = f'domains = ["{LENIENT}"]'
    assert ours in before
    text = before.replace(ours, f'domains = ["{LENIENT}", "{STRICT}"]') + TUNED
    try:
        with rewritten(lab, text, *machines):
            yield
    finally:
        lab.mastio("domain", "delete", STRICT)


@pytest.fixture(scope="module")
def people(lab: Lab, tuned: None) -> Iterator[People]:
    alice, bob = lab.accounts
    aliases = {f"bob@{STRICT}": bob, f"alice@{PLAIN}": alice}
    lab.mastio("domain", "add", PLAIN)
    for alias, user in aliases.items():
        lab.mastio("alias", "add", alias, user)
    yield People(alice, *aliases)
    for alias in aliases:
        lab.mastio("alias", "delete", alias)
    lab.mastio("domain", "delete", PLAIN)


def answers(lab: Lab, text: str, *to: str, author: str = "", forged: bool = True) -> list[int]:
    """What senders of whom nothing is known are told, with the recipients in this order and in the other."""
    codes = []
    for recipients in (to, to[::-1]):
        envelope = somebody(outside.PLAIN if forged else outside.DOMAIN)
        letter = message(author or envelope, ", ".join(to), token(), text)
        codes.append(send(lab, letter, envelope, *recipients, forged=forged)[0])
    return codes


def test_one_domain_is_enough_to_block(lab: Lab, people: People) -> None:
    foe = somebody(UNWANTED)
    for to in (people.lenient, people.plain):
        assert answers(lab, "Good day.", to, people.strict, author=foe) == [554, 554]
    assert answers(lab, "Good day.", people.lenient, people.plain, author=foe) == [250, 250]
    assert answers(lab, "Good day.", people.lenient, people.strict) == [250, 250]


def test_all_domains_must_welcome(lab: Lab, people: People) -> None:
    text = f"{ODD} {BETS}"
    assert answers(lab, text, people.lenient, forged=False) == [250, 250]
    assert answers(lab, text, people.lenient, people.plain, forged=False) == [451, 451]
    assert answers(lab, text, people.lenient, people.strict, forged=False) == [554, 554]
    # Whom the site welcomes, each of its domains does.
    everybody = (people.lenient, people.plain, people.strict)
    assert answers(lab, text, *everybody, author=CAROL, forged=False) == [250, 250]


def test_a_topic_counts_for_the_most_that_it_does_anywhere(lab: Lab, people: People) -> None:
    assert answers(lab, PILLS, people.lenient) == [250, 250]
    assert answers(lab, PILLS, people.lenient, people.plain) == [451, 451]
    assert answers(lab, BETS, people.lenient, people.plain) == [250, 250]
    assert answers(lab, BETS, people.lenient, people.strict) == [451, 451]


def test_the_lowest_score_for_greylisting_counts(lab: Lab, people: People) -> None:
    text = "Take a loan, refinance your mortgage. Sexy, naked."
    assert answers(lab, text, people.lenient) == [250, 250]
    for other in (people.plain, people.strict):
        assert answers(lab, text, people.lenient, other) == [451, 451]


def test_the_lowest_score_for_refusal_counts(lab: Lab, people: People) -> None:
    assert answers(lab, ODD, people.plain) == [451, 451]
    assert answers(lab, ODD, people.plain, people.strict) == [554, 554]
    assert answers(lab, ODD, people.plain, people.lenient) == [451, 451]


@pytest.mark.parametrize("order", [1, -1])
def test_the_lowest_score_for_junk_counts(lab: Lab, people: People, order: int) -> None:
    alice, bob = lab.accounts.items()
    both, one = (token() for _ in range(2))
    to = (people.plain, people.strict)[::order]
    letters = []
    for word, recipients in ((both, to), (one, (people.plain, people.lenient))):
        sender = somebody()
        letters.append((message(sender, ", ".join(recipients), word, PILLS), sender, *recipients))
    assert [send(lab, *it)[0] for it in letters] == [451, 451]
    time.sleep(5)
    assert [send(lab, *it)[0] for it in letters] == [250, 250]
    assert arrives(lab, alice, both, "Junk")
    assert arrives(lab, bob, both, "Junk")
    assert arrives(lab, alice, one)


def test_an_odd_way_to_write_a_domain_is_no_way_around_it(lab: Lab, people: People) -> None:
    foe, envelope = somebody(UNWANTED), somebody()
    letter = message(foe, people.strict, token())
    for to in ((f"{people.strict}.",), (people.lenient, f"{people.strict}.")):
        fires(send(lab, letter, envelope, *to), "not wanted")
    other = somebody()
    assert send(lab, message(other, people.strict, token()), other, f"{people.strict}.")[0] == 250
