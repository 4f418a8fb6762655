"""What the site file may say of the filter, beyond `test_filter`: treatments, lists of networks and of one domain,
thresholds and weights of one domain.

The lab's own domain is tuned; a second one, that has only what the whole site has, gets the same message
and has another verdict. Together with `test_filter` each treatment is seen with each kind of attachment.
"""

import time
from collections.abc import Iterator

import pytest

from mastio.lab import internet, outside
from mastio.site.model import Role
from tests.lab import mail, ole2
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, token
from tests.lab.patience import at_last
from tests.lab.test_filter import (
    FILED,
    LET_IN,
    ODD,
    PILLS,
    REFUSED,
    arrives,
    attached,
    fires,
    send,
    somebody,
    zipped,
)  # fmt: skip
from tests.lab.test_quarantine import held
from tests.lab.tuned import rewritten

pytestmark = pytest.mark.lab

BETS = "Casino, jackpot, poker and betting."
"""One topic: not suspicious, where nobody gives it more weight."""
UNWANTED = f"unwanted.{outside.DOMAIN}"
FIRST = ("mark", "reject", "mark")
MARK = "X-Mastio-Attachment"


def tuned(lab: Lab, dangerous: str, macros: str, encrypted: str) -> str:
    networks = ", ".join(
        f'"{it}/{29 if it.version == 4 else 125}"' for it in internet.admin(lab.site)
    )
    return f"""
[policy]
greylist_delay = 4
greylist_score = 4.0
spam_junk_score = 8.0

[filter]
dangerous_attachments = "{dangerous}"
macro_documents = "{macros}"
encrypted_archives = "{encrypted}"
block = [{networks}]

[filter.domains."{lab.site.domains[0]}"]
greylist_score = 7.0
spam_reject_score = 9.0
welcome = ["{outside.DOMAIN}", "{outside.PLAIN}"]
block = ["{UNWANTED}"]
topics.gambling = 3
"""


@pytest.fixture(scope="module", autouse=True)
def first(lab: Lab) -> Iterator[None]:
    before = (lab.folder / "site.toml").read_text()
    machines = [it.name for it in lab.site.carrying(Role.GATEWAY_IN, Role.GATEWAY_OUT)]
    with rewritten(lab, before + tuned(lab, *FIRST), *machines):
        yield


@pytest.fixture(scope="module")
def other(lab: Lab, alice: tuple[str, str]) -> Iterator[str]:
    """Alice's address in a second domain."""
    domain = f"{token()}.test"
    lab.mastio("domain", "add", domain)
    lab.mastio("alias", "add", f"alice@{domain}", alice[0])
    yield f"alice@{domain}"
    lab.mastio("alias", "delete", f"alice@{domain}")
    lab.mastio("domain", "delete", domain)


# --- lists


@pytest.mark.parametrize("version", [4, 6])
def test_a_blocked_network_is_refused(lab: Lab, alice: tuple[str, str], version: int) -> None:
    sender = somebody()
    letter = message(sender, alice[0], token()).as_string()
    source = next(it for it in internet.admin(lab.site) if it.version == version)
    commands = (f"MAIL FROM:<{sender}>", f"RCPT TO:<{alice[0]}>", "DATA")
    fires(mail.talk(lab, commands, letter, version=version, source=source)[-1], "not wanted")
    assert send(lab, letter, sender, alice[0], version=version)[0] == 250


def test_a_domain_blocks_a_domain_with_all_below_it(
    lab: Lab, alice: tuple[str, str], other: str
) -> None:
    envelope = somebody(outside.DOMAIN)
    for domain in (UNWANTED, f"below.{UNWANTED}"):
        letter = message(somebody(domain), alice[0], token())
        fires(send(lab, letter, envelope, alice[0], forged=False), "not wanted")
        assert send(lab, letter, envelope, other, forged=False)[0] == 250
    wanted = message(somebody(f"not{UNWANTED}"), alice[0], token())
    assert send(lab, wanted, envelope, alice[0], forged=False)[0] == 250


def test_a_domain_welcomes_a_domain_that_is_proven(
    lab: Lab, alice: tuple[str, str], other: str
) -> None:
    sender, word = somebody(outside.DOMAIN), token()
    letter = message(sender, alice[0], word, ODD)
    assert send(lab, letter, sender, other, forged=False)[0] == 451
    assert send(lab, letter, sender, alice[0], forged=False)[0] == 250
    assert arrives(lab, alice, word)
    # Nothing proves who writes in this one's name; it is welcome as well.
    forged = somebody()
    fires(send(lab, message(forged, alice[0], token(), ODD), forged, alice[0]))


def comes_to(lab: Lab, to: str, version: int, code: int) -> None:
    """A suspicious message of somebody new gets this answer, as soon as the filter has the lists."""

    def answer() -> tuple[int, str]:
        sender = somebody()
        return send(lab, message(sender, to, token(), PILLS), sender, to, version=version)

    said = at_last(answer, lambda it: it[0] == code)
    assert said[0] == code, said


@pytest.mark.parametrize("version", [4, 6])
def test_networks_are_let_in_or_refused_by_command(lab: Lab, other: str, version: int) -> None:
    network = str(next(it for it in internet.stranger(lab.site) if it.version == version))
    for verb, code in (("allow", 250), ("block", 554)):
        lab.mastio("greylist", verb, network)
        try:
            comes_to(lab, other, version, code)
            there = somebody()
            two = message(there, other, token(), PILLS)
            assert send(lab, two, there, other, version=10 - version)[0] == 451
        finally:
            lab.mastio("greylist", "forget", network)
        comes_to(lab, other, version, 451)


# --- thresholds and weights


@pytest.mark.parametrize(
    ("text", "here", "there"),
    [(PILLS, 250, 451), (ODD, 554, 451), (BETS, 451, 250)],
    ids=["greylist_score", "spam_reject_score", "topic"],
)
def test_one_message_has_another_verdict_in_another_domain(
    lab: Lab, alice: tuple[str, str], other: str, text: str, here: int, there: int
) -> None:
    one, two = somebody(), somebody()  # who was let in once would be known
    said = [
        send(lab, message(sender, to, token(), text), sender, to)[0]
        for sender, to in ((one, alice[0]), (two, other))
    ]
    assert said == [here, there]


# --- attachments


OLD = {
    "doc": ("report.doc", ole2.document(macros=True)),
    "xls": ("sums.xls", ole2.document(macros=True, main="Workbook", storage="_VBA_PROJECT_CUR")),
    # In an archive none but ClamAV looks, at a project that does not unpack none but our own rule.
    "doc-in-zip": ("a.zip", zipped("report.doc", ole2.document(macros=True))),
    "project-in-disorder": ("report.doc", ole2.compound({"_VBA_PROJECT": b"what it may be"})),
}
OLD_TWINS = {
    "doc": ("report.doc", ole2.document(macros=False)),
    "xls": ("sums.xls", ole2.document(macros=False, main="Workbook")),
    "doc-in-zip": ("a.zip", zipped("report.doc", ole2.document(macros=False))),
    "project-in-disorder": ("report.doc", ole2.compound({"_VBB_PROJECT": b"what it may be"})),
}


def marked(lab: Lab, alice: tuple[str, str], name: str, reason: str) -> None:
    word = token()
    letter = attached(*{**REFUSED, **FILED, **LET_IN}[name], CAROL, alice[0], word)
    letter[MARK] = "a forged reason"
    assert send(lab, letter, CAROL, alice[0], forged=False)[0] == 250
    got = arrives(lab, alice, word).get_all(MARK) or []
    assert len(got) == bool(reason) and reason in "".join(got), got


def refused(lab: Lab, alice: tuple[str, str], name: str) -> None:
    letter = attached(*FILED[name], CAROL, alice[0], token())
    fires(send(lab, letter, CAROL, alice[0], forged=False), "refused")


def test_what_is_marked_arrives_and_says_what_it_has(lab: Lab, alice: tuple[str, str]) -> None:
    marked(lab, alice, "script", "a file of type .js")
    marked(lab, alice, "in-zip", "a file of type .exe")
    marked(lab, alice, "in-nested-zip", "a dangerous file in an archive")
    marked(lab, alice, "password", "an archive with a password")
    marked(lab, alice, "nested-zip", "")
    refused(lab, alice, "macros")
    virus = attached(*REFUSED["virus-in-nested-zip"], CAROL, alice[0], token())
    fires(send(lab, virus, CAROL, alice[0], forged=False), "malware")


@pytest.mark.parametrize("name", OLD)
def test_a_document_of_before_2007_is_known_by_its_macros(
    lab: Lab, alice: tuple[str, str], name: str
) -> None:
    letter = attached(*OLD[name], CAROL, alice[0], token())
    said = send(lab, letter, CAROL, alice[0], forged=False)
    fires(said, "refused: it has a document with macros")
    word = token()
    letter = attached(*OLD_TWINS[name], CAROL, alice[0], word)
    assert send(lab, letter, CAROL, alice[0], forged=False)[0] == 250
    assert arrives(lab, alice, word)[MARK] is None


@pytest.fixture
def otherwise(lab: Lab) -> None:
    """Other treatments, until the module ends."""
    file = lab.folder / "site.toml"
    file.write_text(
        file.read_text().replace(tuned(lab, *FIRST), tuned(lab, "quarantine", "mark", "reject"))
    )
    lab.mastio("apply", "--yes", mail.the(lab, Role.GATEWAY_IN).name)


def test_each_kind_can_be_treated_otherwise(
    lab: Lab, alice: tuple[str, str], otherwise: None
) -> None:
    word = token()
    for name in ("script", "in-nested-zip"):
        letter = attached(*REFUSED[name], CAROL, alice[0], word)
        assert send(lab, letter, CAROL, alice[0], forged=False)[0] == 250
    entries = held(lab, word, 2)
    assert len(entries) == 2
    assert not mail.inbox(lab, *alice, word, patience=1), "its reader has it all the same"
    lab.mastio("quarantine", "delete", "--yes", *(it["id"] for it in entries))
    refused(lab, alice, "password")
    marked(lab, alice, "macros", "a document with macros")
    marked(lab, alice, "document", "")


# --- what is tried with other settings of the domain


def domain_with(lab: Lab, lines: str) -> None:
    """Other settings for the domain, until the module ends."""
    file = lab.folder / "site.toml"
    text, mark = file.read_text(), f'[filter.domains."{lab.site.domains[0]}"]\n'
    file.write_text(text[: text.index(mark)] + mark + lines)
    lab.mastio("apply", "--yes", mail.the(lab, Role.GATEWAY_IN).name)


def test_a_domain_files_in_junk_from_a_score_of_its_own(
    lab: Lab, alice: tuple[str, str], other: str
) -> None:
    domain_with(lab, "greylist_score = 4.0\nspam_junk_score = 4.1\n")
    here, there, senders = token(), token(), (somebody(), somebody())
    letters = [
        (message(sender, to, word, PILLS), sender, to)
        for sender, to, word in zip(senders, (alice[0], other), (here, there), strict=True)
    ]
    assert [send(lab, *it)[0] for it in letters] == [451, 451]
    time.sleep(5)
    assert [send(lab, *it)[0] for it in letters] == [250, 250]
    assert arrives(lab, alice, here, "Junk")
    assert arrives(lab, alice, there)


def test_a_domain_welcomes_a_network(lab: Lab, alice: tuple[str, str], other: str) -> None:
    networks = ", ".join(f'"{it}"' for it in internet.stranger(lab.site))
    domain_with(lab, f"welcome = [{networks}]\n")
    for version in (4, 6):
        for to, code in ((alice[0], 250), (other, 451)):
            sender = somebody()
            letter = message(sender, to, token(), ODD)
            assert send(lab, letter, sender, to, version=version)[0] == code, (to, version)


# --- what is tried with other settings of the whole site


def test_a_topic_and_the_score_for_refusal_are_set_for_all_domains(
    lab: Lab, alice: tuple[str, str], other: str
) -> None:
    """A topic that does not count is no reason to wait; what is beyond the score is refused, not filed away."""
    file = lab.folder / "site.toml"
    text = file.read_text()
    site = text[: text.index("[filter.domains.")]
    for key, line in (("greylist_delay", "spam_reject_score = 9.0"), ("block", "topics.drugs = 0")):
        site = site.replace(f"\n{key} =", f"\n{line}\n{key} =")
    file.write_text(site)
    lab.mastio("apply", "--yes", mail.the(lab, Role.GATEWAY_IN).name)
    for to in (alice[0], other):
        senders = [somebody() for _ in range(3)]
        texts = (PILLS, f"{BETS} {PILLS}", f"{ODD} {BETS}")
        said = [
            send(lab, message(sender, to, token(), words), sender, to)[0]
            for sender, words in zip(senders, texts, strict=True)
        ]
        assert said == [250, 451, 554], to
