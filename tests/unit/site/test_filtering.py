"""The site file's `[filter]`: what it says, and that all that is wrong with it is told at once."""

from ipaddress import ip_network

import pytest

from mastio.site import parse
from mastio.site.filter import Filter, Leaving, Topic, Treatment
from mastio.site.problems import SiteFileError

HEAD = """
schema = 1
name = "demo"
organisation = "Fortress Ltd"
domains = ["fortress.test", "pharmacy.test"]
admin = "alice@fortress.test"
public = ["203.0.113.1"]
reach = "lab"
"""


def read(text: str) -> Filter:
    return parse.parse(HEAD + text, "site.toml").filter


def test_the_default_refuses_programs_and_files_away_what_cannot_be_judged() -> None:
    assert read("") == Filter()
    assert Filter().dangerous_attachments is Treatment.REJECT


R, Q, M = Treatment.REJECT, Treatment.QUARANTINE, Treatment.MARK


@pytest.mark.parametrize(
    ("text", "leaving"),
    [
        ("", (R, M, M)),
        ('[filter]\ndangerous_attachments = "quarantine"\nmacro_documents = "reject"', (M, R, M)),
        ('[filter.leaving]\nmacro_documents = "quarantine"', (R, Q, M)),
        ('[filter]\nencrypted_archives = "reject"\nleaving.encrypted_archives = "mark"', (R, M, M)),
    ],
    ids=["nothing-said", "as-coming-in", "its-own", "less-than-coming-in"],
)
def test_what_leaves_is_refused_as_what_comes_in_unless_it_has_its_own_rule(
    text: str, leaving: tuple[Treatment, ...]
) -> None:
    assert read(text).leaving == Leaving(*leaving)


def test_senders_are_sorted_by_their_form() -> None:
    found = read(
        '[filter]\nwelcome = ["Boss@Home.example", "partner.example", "192.0.2.0/24"]'
    ).welcome
    assert found.addresses == ("boss@home.example",)
    assert found.domains == ("partner.example",)
    assert found.networks == (ip_network("192.0.2.0/24"),)


def test_a_pharmacy_may_speak_of_drugs() -> None:
    (one,) = read('[filter.domains."pharmacy.test"]\nspam_junk_score = 5\ntopics.drugs = 0').domains
    assert (one.domain, one.spam_junk_score, one.topics) == (
        "pharmacy.test",
        5.0,
        ((Topic.DRUGS, 0.0),),
    )


def test_all_that_is_wrong_is_told_at_once() -> None:
    text = """
[filter]
dangerous_attachments = "rejct"
leaving.macro_documents = "hold"
leaving.dangerous = "mark"
block = ["192.0.2.1/24", "nobody", "a@b@"]
trusted_forwarders = ["lists"]
[filter.topics]
drgs = 0.0
[filter.domains."other.test"]
spam_junk_score = 20.0
"""
    with pytest.raises(SiteFileError) as caught:
        read(text)
    told = str(caught.value)
    for words in (
        "did you mean reject?", "'hold' is unknown", "filter.leaving.dangerous",
        "its network is 192.0.2.0/24", "'nobody' is not a full domain",
        "'a@b@'", "'lists' is not a full domain", "did you mean drugs?", "none of the site's domains",
        "spam_junk_score (20) must be below spam_reject_score (15)",
    ):  # fmt: skip
        assert words in told, words
