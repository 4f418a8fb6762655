"""What the gateway's own rules do with real messages: each rule fires, and its clean twin passes.

The site file is tuned for the time of these tests (`TUNED`), and put back.
"""

import io
import time
import zipfile
from base64 import b64decode
from collections.abc import Iterator
from email.message import EmailMessage, Message

import pytest

from mastio.lab import internet, outside
from mastio.site.model import Role
from tests.lab import arc, mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, token
from tests.lab.patience import eventually
from tests.lab.test_quarantine import held
from tests.lab.tuned import tuned as with_tables

pytestmark = pytest.mark.lab

EICAR = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
PILLS = "Cheap viagra and cialis pills: take a loan, refinance your mortgage, forget your debt."
"""Two topics: suspicious, not yet Junk."""
ODD = f"{PILLS} Bitcoin, crypto. Sexy, naked."
"""Four topics: beyond the score for Junk."""
TUNED = f"""
[policy]
greylist_delay = 4
greylist_score = 4.0
spam_junk_score = 8.0

[filter]
trusted_forwarders = ["{outside.DOMAIN}"]
welcome = ["friend@{outside.PLAIN}", "{CAROL}"]
block = ["foe@{outside.PLAIN}", "unwanted.{outside.DOMAIN}"]

[filter.domains."fortress.test"]
topics.gambling = 0
"""


@pytest.fixture(scope="module", autouse=True)
def tuned(lab: Lab) -> Iterator[None]:
    gateways = [it.name for it in lab.site.carrying(Role.GATEWAY_IN, Role.GATEWAY_OUT)]
    with with_tables(lab, TUNED, *gateways, outside.MACHINE):
        yield


def send(lab: Lab, letter: EmailMessage | str, sender: str, *to: str, forged: bool = True,
         version: int = 4) -> tuple[int, str]:  # fmt: skip
    """Hands a message to the MX: from a host that no policy names, or (not `forged`) from Carol's own."""
    hosts = internet.stranger(lab.site) if forged else internet.mta(lab.site)
    source = next(it for it in hosts if it.version == version)
    text = letter if isinstance(letter, str) else letter.as_string()
    commands = (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{it}>" for it in to), "DATA")
    *steps, verdict = mail.talk(lab, commands, text, version=version, source=source)
    assert {code for code, _ in steps} == {250}, steps
    return verdict


def somebody(domain: str = outside.PLAIN) -> str:
    return f"{token()}@{domain}"


def fires(verdict: tuple[int, str], word: str = "") -> bool:
    code, text = verdict
    assert 500 <= code < 600 and word in text, verdict
    return True


def arrives(lab: Lab, user: tuple[str, str], word: str, folder: str = "INBOX") -> Message:
    (got,) = mail.inbox(lab, *user, word, folder=folder)
    return got


# --- authenticity


def test_dmarc_reject_is_obeyed(lab: Lab, alice: tuple[str, str]) -> None:
    for forged, code in ((True, 550), (False, 250)):
        letter = message(CAROL, alice[0], token())
        verdict = send(lab, letter, CAROL, alice[0], forged=forged)
        assert verdict[0] // 10 == code // 10, verdict


def test_dmarc_quarantine_is_obeyed(lab: Lab, alice: tuple[str, str]) -> None:
    word, forger = token(), somebody(outside.CAUTIOUS)
    letter = message(forger, alice[0], word)
    assert send(lab, letter, forger, alice[0])[0] == 451
    time.sleep(5)
    assert send(lab, letter, forger, alice[0])[0] == 250
    assert arrives(lab, alice, word, "Junk")


def test_nobody_outside_is_one_of_us(
    lab: Lab, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    stranger = somebody()
    for author, sender in ((bob[0], stranger), (bob[0], bob[0]), (stranger, bob[0]), (bob[0], "")):
        fires(send(lab, message(author, alice[0], token()), sender, alice[0]), "nothing proves")
    assert send(lab, message(stranger, alice[0], token()), stranger, alice[0])[0] == 250


OUTSIDE, STRANGE = outside.DOMAIN, outside.CAUTIOUS
PASS, FAIL = (f"dmarc={it} header.from=fortress.test" for it in ("pass", "fail"))
DKIM = "dkim=pass header.d=fortress.test"
SEALS: dict[str, tuple[int, list[tuple[str, str]]]] = {
    "sealed": (250, [(OUTSIDE, PASS)]),
    "by-a-comment-too": (250, [(OUTSIDE, "dmarc=pass (p=reject dis=none)\r\n header.from=fortress.test")]),
    "only-dkim": (250, [(OUTSIDE, f"spf=fail smtp.mailfrom=x@plain.test; {DKIM}")]),
    "only-spf": (250, [(OUTSIDE, "spf=pass (a (b \\) c) d) smtp.mailfrom=bob@fortress.test")]),
    "trusted-over-untrusted": (250, [(STRANGE, "dmarc=fail"), (OUTSIDE, PASS)]),
    "untrusted-over-trusted": (550, [(OUTSIDE, PASS), (STRANGE, PASS)]),
    "untrusted": (550, [(STRANGE, PASS)]),
    "failed-there": (550, [(OUTSIDE, FAIL)]),
    "of-another": (550, [(OUTSIDE, "dmarc=pass header.from=plain.test")]),
    "of-nobody": (550, [(OUTSIDE, "dmarc=pass")]),
    "others-spf": (550, [(OUTSIDE, "spf=pass smtp.mailfrom=x@plain.test; dkim=pass header.d=plain.test")]),
    "others-dkim-beside": (550, [(OUTSIDE, f"{FAIL}; dkim=pass header.d={OUTSIDE}")]),
    "in-a-name": (550, [(OUTSIDE, f"spf=pass smtp.mailfrom=dmarc=pass@plain.test; {FAIL}")]),
    "in-a-comment": (550, [(OUTSIDE, f"spf=pass (; {PASS};) smtp.mailfrom=x@plain.test")]),
    "in-quotes": (550, [(OUTSIDE, f'spf=pass smtp.mailfrom="x; {PASS}; "@plain.test')]),
    "quotes-in-comments": (550, [(OUTSIDE, f'spf=pass (a"b) smtp.mailfrom=x; {FAIL}; {DKIM} (a"b)')]),
    "never-closed": (550, [(OUTSIDE, f'spf=pass (a smtp.mailfrom=x; {PASS}')]),
    "twice": (550, [(OUTSIDE, f"spf=pass smtp.mailfrom=x; {PASS}; x@plain.test; {FAIL}")]),
}  # fmt: skip
"""Forwarders' seals: (what becomes of the message, who says what, the first one first)."""


@pytest.mark.parametrize("name", [*SEALS, "unsealed"])
def test_a_trusted_forwarder_vouches(
    lab: Lab, alice: tuple[str, str], bob: tuple[str, str], name: str
) -> None:
    letter = message(bob[0], alice[0], token())
    code, sets = SEALS.get(name, (550, []))
    key = lab.run(outside.MACHINE, ["cat", "/etc/exim4/dkim.key"]).stdout.decode()
    got = send(lab, arc.sealed(letter, "m1", key, *sets), somebody(), alice[0])
    assert got[0] // 10 == code // 10, got


@pytest.mark.parametrize("instance", ["i=1", "i = 1", "I=1"])
@pytest.mark.parametrize("place", ["above", "below"])
def test_a_verdict_beside_the_sealed_one_vouches_for_nobody(
    lab: Lab, alice: tuple[str, str], bob: tuple[str, str], place: str, instance: str
) -> None:
    """The seal covers the lowest that begins in the usual way; who passes the message on adds another."""
    key = lab.run(outside.MACHINE, ["cat", "/etc/exim4/dkim.key"]).stdout.decode()
    text = arc.sealed(message(bob[0], alice[0], token()), "m1", key, (OUTSIDE, FAIL))
    forged = f"ARC-Authentication-Results: {instance}; {OUTSIDE}; {PASS}\r\n"
    text = forged + text if place == "above" else text.replace("From:", f"{forged}From:", 1)
    fires(send(lab, text, somebody(), alice[0]), "nothing proves")


SHOWN = {
    "quoted": '"{own}"',
    "with-a-name": '"Alice <{own}>"',
}
"""One of us where readers look for a person's name: a claim it is not (0011), for lists write such names, too."""


@pytest.mark.parametrize("name", SHOWN)
def test_who_shows_one_of_us_as_a_name_is_junk(
    lab: Lab, alice: tuple[str, str], bob: tuple[str, str], name: str
) -> None:
    shown, stranger, word = SHOWN[name].format(own=bob[0]), somebody(), token()
    text = message(stranger, alice[0], word).as_string()
    letter = text.replace(f"From: {stranger}", f"From: {shown} <{stranger}>")
    assert letter != text
    assert send(lab, letter, stranger, alice[0])[0] == 451
    time.sleep(5)
    assert send(lab, letter, stranger, alice[0])[0] == 250
    assert arrives(lab, alice, word, "Junk")


# --- attachments


def zipped(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def attached(name: str, data: bytes, sender: str, to: str, word: str) -> EmailMessage:
    letter = message(sender, to, word)
    letter.add_attachment(data, "application", "octet-stream", filename=name)
    return letter


LOCKED = b64decode(
    "UEsDBBQAAQAIAAAAIVp3q9u8JgAAAD8AAAAJAAAAcHJpY2UudHh0jOX5WSQ5ksXjq2DZ2rr8jvKPkOIYUHCuo4F2RqOMR0x5DSKjZR5QSwECFAAU"
    "AAEACAAAACFad6vbvCYAAAA/AAAACQAAAAAAAAAAAAAAAAAAAAAAcHJpY2UudHh0UEsFBgAAAAABAAEANwAAAE0AAAAAAA=="
)
"""A zip archive that only the password `secret` opens."""
INNER = zipped("run.exe", b"MZ nothing to run")
REFUSED = {
    "script": ("invoice.js", b"alert(1)"),
    "double": ("invoice.pdf.exe", b"hello"),
    "dots": ("invoice.scr. .", b"hello"),
    "image": ("disk.iso", b"hello"),
    "shortcut": ("link.lnk", b"hello"),
    "in-zip": ("a.zip", INNER),
    "in-nested-zip": ("a.zip", zipped("b.zip", INNER)),
    "virus": ("a.bin", EICAR.encode()),
    "virus-in-zip": ("a.zip", zipped("a.txt", EICAR.encode())),
    "virus-in-nested-zip": ("a.zip", zipped("b.zip", zipped("a.txt", EICAR.encode()))),
}
LET_IN = {
    "document": ("invoice.pdf", b"hello"),
    "zip": ("a.zip", zipped("readme.txt", b"hello")),
    "nested-zip": ("a.zip", zipped("b.zip", zipped("readme.txt", b"hello"))),
}
FILED = {
    "macros": ("report.docm", zipped("word/vbaProject.bin", b"hello")),
    "macros-by-another-name": ("report.doc", zipped("word/vbaProject.bin", b"hello")),
    "password": ("a.zip", LOCKED),
    "password-in-zip": ("a.zip", zipped("b.zip", LOCKED)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_dangerous_attachment_is_refused(lab: Lab, alice: tuple[str, str], name: str) -> None:
    letter = attached(*REFUSED[name], CAROL, alice[0], token())
    fires(send(lab, letter, CAROL, alice[0], forged=False), "refused")


@pytest.mark.parametrize("name", LET_IN)
def test_a_harmless_attachment_is_let_in(lab: Lab, alice: tuple[str, str], name: str) -> None:
    word = token()
    letter = attached(*LET_IN[name], CAROL, alice[0], word)
    letter["X-Mastio-Quarantine"] = "a forged reason"
    assert send(lab, letter, CAROL, alice[0], forged=False)[0] == 250
    assert arrives(lab, alice, word)["X-Mastio-Quarantine"] is None


@pytest.mark.parametrize("name", FILED)
def test_what_no_scanner_can_judge_is_filed_away(
    lab: Lab, alice: tuple[str, str], name: str
) -> None:
    word = token()
    letter = attached(*FILED[name], CAROL, alice[0], word)
    assert send(lab, letter, CAROL, alice[0], forged=False)[0] == 250
    (entry,) = held(lab, word)
    assert entry["recipient"] == alice[0] and entry["reason"]
    assert not mail.inbox(lab, *alice, word, patience=1), "its reader has it all the same"
    lab.mastio("quarantine", "delete", "--yes", entry["id"])


def returned(lab: Lab, user: tuple[str, str], word: str) -> str:
    """The notice to a user that the message with this word in its subject was refused."""

    def notice() -> str:
        notices = mail.inbox(lab, *user, "Undelivered", patience=1)
        return next((text for text in map(Message.as_string, notices) if word in text), "")

    return eventually(notice, "no notice came back", rest=0)


@pytest.mark.parametrize("name", ["virus", "virus-in-zip", "virus-in-nested-zip", "in-zip"])
def test_the_same_does_not_go_out(lab: Lab, alice: tuple[str, str], name: str) -> None:
    word, clean = token(), token()
    assert mail.submit(lab, *alice, attached(*REFUSED[name], alice[0], CAROL, word))[0] == 250
    assert mail.submit(lab, *alice, attached(*LET_IN["zip"], alice[0], CAROL, clean))[0] == 250
    assert ("malware" in returned(lab, alice, word)) == name.startswith("virus")
    assert mail.at_carols(lab, clean)
    assert not mail.at_carols(lab, word, patience=0)


def test_a_colleagues_virus_is_a_virus(
    lab: Lab, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    word, clean = token(), token()
    for what, its in ((REFUSED["virus-in-zip"], word), (LET_IN["zip"], clean)):
        assert mail.submit(lab, *alice, attached(*what, alice[0], bob[0], its))[0] == 250
    assert "malware" in returned(lab, alice, word)
    assert arrives(lab, bob, clean)
    assert not mail.inbox(lab, *bob, word, patience=0)


# --- lists and topics


def test_the_block_list_is_obeyed(lab: Lab, alice: tuple[str, str]) -> None:
    foe, other = f"foe@{outside.PLAIN}", somebody()
    fires(send(lab, message(foe, alice[0], token()), foe, alice[0]), "not wanted")
    fires(send(lab, message(foe, alice[0], token()), other, alice[0]), "not wanted")
    assert send(lab, message(other, alice[0], token()), other, alice[0])[0] == 250


def test_a_welcome_sender_must_be_proven(lab: Lab, alice: tuple[str, str]) -> None:
    word, friend = token(), f"friend@{outside.PLAIN}"
    letter = message(CAROL, alice[0], word, PILLS * 2)
    assert send(lab, letter, CAROL, alice[0], forged=False)[0] == 250
    assert arrives(lab, alice, word)
    assert send(lab, message(friend, alice[0], token(), PILLS), friend, alice[0])[0] == 451


def test_a_domain_may_speak_of_what_it_likes(lab: Lab, alice: tuple[str, str]) -> None:
    sender, one, two = somebody(), "a loan, your mortgage", "casino, jackpot, poker, betting"
    letter = message(sender, alice[0], token(), f"{one}; {two}")
    assert send(lab, letter, sender, alice[0])[0] == 250, "a topic with weight 0 counts"
    assert send(lab, message(sender, alice[0], token(), PILLS), somebody(), alice[0])[0] == 451
