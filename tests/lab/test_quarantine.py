"""Mail that the gateway wants held back, from the store's delivery port to its release or end."""

import json
import time
from email.message import EmailMessage

import pytest

from mastio.instances import of_store
from mastio.roles.store import holding
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import CAROL, message, token
from tests.lab.patience import PATIENCE, at_last, eventually

pytestmark = pytest.mark.lab


def marked(recipient: str, word: str, reason: str = "dangerous attachment") -> EmailMessage:
    """A message as the gateway hands it in when it wants it held back."""
    content = message(CAROL, recipient, word, "See the attachment.")
    content["X-Mastio-Quarantine"] = reason
    content["X-Spam"] = "Yes"
    content.add_attachment(b"MZ", maintype="application", subtype="x-dosexec", filename="a.exe")
    return content


def held(lab: Lab, word: str, count: int = 1, patience: float = PATIENCE) -> list[dict[str, str]]:
    """What is in quarantine with `word` in its subject, as soon as there are `count`."""

    def listed() -> list[dict[str, str]]:
        return list(json.loads(lab.mastio("quarantine", "list", "--subject", word, "--json")))

    return at_last(listed, lambda it: len(it) >= count, patience)


def test_held_mail_is_in_no_mailbox_and_released_it_arrives_once(
    lab: Lab, alice: tuple[str, str]
) -> None:
    word = token()
    mail.hand_in(lab, marked(alice[0], word))
    (entry,) = held(lab, word)
    assert (entry["recipient"], entry["sender"]) == (alice[0], CAROL)
    assert entry["reason"] == "dangerous attachment"
    for folder in ("INBOX", "Junk", "Trash"):
        assert not mail.inbox(lab, *alice, word, folder=folder, patience=1)
    lab.mastio("quarantine", "release", entry["id"])
    (got,) = mail.inbox(lab, *alice, word)
    assert "X-Mastio-Quarantine" not in got
    assert not held(lab, word, patience=0)
    again = mastio(lab.folder, "quarantine", "release", entry["id"])
    assert again.returncode == 65 and "no such message" in again.stderr
    time.sleep(2)
    assert len(mail.inbox(lab, *alice, word, count=2, patience=3)) == 1


def test_show_tells_what_is_inside(lab: Lab, alice: tuple[str, str]) -> None:
    word = token()
    content = marked(alice[0], word)
    content.replace_header("Subject", f"{word} \x1b]0;owned\x07")
    mail.hand_in(lab, content)
    (entry,) = held(lab, word)
    text = lab.mastio("quarantine", "show", entry["id"])
    assert "See the attachment." in text and "a.exe" in text and f"<{CAROL}>" in text
    assert not set(text) & {"\x1b", "\x07"}, "a stranger's control characters reach the terminal"
    missing = mastio(lab.folder, "quarantine", "show", "nothing-000000")
    assert missing.returncode == 65
    lab.mastio("quarantine", "delete", "--yes", entry["id"])


def test_delete_asks_and_then_the_message_is_gone(lab: Lab, alice: tuple[str, str]) -> None:
    word = token()
    for number in range(2):
        mail.hand_in(lab, marked(alice[0], f"{word} {number}"))
    assert len(held(lab, word, 2)) == 2
    no = mastio(lab.folder, "quarantine", "delete", "--subject", word)
    assert no.returncode == 64 and len(held(lab, word, 2)) == 2
    lab.mastio("quarantine", "delete", "--subject", word, "--yes")
    assert not held(lab, word, patience=0)
    assert not mail.inbox(lab, *alice, word, patience=2)


def test_each_recipients_copy_is_held_by_itself(
    lab: Lab, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    word, alias = token(), f"{token()}@{lab.site.domains[0]}"
    lab.mastio("alias", "add", alias, alice[0], bob[0])
    try:
        mail.hand_in(lab, marked(alias, word))
        entries = held(lab, word, 2)
        assert {it["recipient"] for it in entries} == {alice[0], bob[0]}
        assert {it["original"] for it in entries} == {alias}
        lab.mastio("quarantine", "release", "--recipient", bob[0], "--subject", word, "--yes")
        assert mail.inbox(lab, *bob, word)
        assert [it["recipient"] for it in held(lab, word)] == [alice[0]]
        assert not mail.inbox(lab, *alice, word, patience=1)
    finally:
        lab.mastio("alias", "delete", alias)
        lab.mastio("quarantine", "delete", "--subject", word, "--yes")


def test_what_an_alias_leads_elsewhere_is_never_the_only_copy(lab: Lab) -> None:
    """The gateway looks at it as at all that leaves: one with a program is refused, one without arrives."""
    word, alias = token(), f"{token()}@{lab.site.domains[0]}"
    lab.mastio("alias", "add", alias, CAROL)
    clean = message(CAROL, alias, f"{word} clean", "See nothing.")
    clean["X-Mastio-Quarantine"] = "because I say so"
    try:
        for content in (marked(alias, f"{word} program"), clean):
            mail.hand_in(lab, content)
        entries = {it["subject"].split()[-1]: it["id"] for it in held(lab, word, 2)}
        began = int(time.time())
        said = lab.mastio("quarantine", "release", *entries.values())
        assert said.startswith("released: 2 messages") and said.count("a copy stays") == 2
        (got,) = mail.at_carols(lab, f"{word} clean")
        assert "X-Mastio-Quarantine" not in got
        refused = [
            "journalctl",
            "-q",
            "--since",
            f"@{began}",
            "-t",
            "postfix/smtp",
            "-g",
            "a file of type .exe",
        ]
        store = mail.the(lab, Role.STORE).name
        eventually(lambda: lab.run(store, refused).stdout, "the gateway did not look at it")
        assert all(it["sent"] for it in held(lab, word, 2)) and len(held(lab, word, 2)) == 2
        again = lab.mastio("quarantine", "release", "--subject", word, "--yes")
        assert "released: 0 messages" in again, "by its name alone it is sent once more"
        assert len(mail.at_carols(lab, f"{word} clean", patience=1)) == 1
    finally:
        lab.mastio("alias", "delete", alias)
        lab.mastio("quarantine", "delete", "--subject", word, "--yes")


def test_the_summary_tells_the_recipient_once(lab: Lab, bob: tuple[str, str]) -> None:
    word, store = token(), mail.the(lab, Role.STORE).name
    mail.hand_in(lab, marked(bob[0], word, "virus: Eicar http://evil.test/x"))
    (entry,) = held(lab, word)
    try:
        for _ in range(2):
            assert lab.run(store, ["systemctl", "start", "mastio-quarantine.service"]).code == 0
        letters = mail.inbox(lab, *bob, "held back for you", count=1)
        texts = [str(it.get_payload(decode=True)) for it in letters]
        about = [text for text in texts if entry["id"] in text]
        assert len(about) == 1, "told of it once, by two runs"
        assert word in about[0] and lab.site.admin_mail in about[0]
        assert "http://" not in about[0], "a stranger's link can be clicked"
        assert held(lab, word), "it is still there"
    finally:
        lab.mastio("quarantine", "delete", entry["id"], "--yes")


def test_old_mail_is_forgotten(lab: Lab, alice: tuple[str, str]) -> None:
    word, store = token(), mail.the(lab, Role.STORE).name
    for age in ("old", "young"):
        mail.hand_in(lab, marked(alice[0], f"{word} {age}"))
    entries = {it["subject"].split()[-1]: it["id"] for it in held(lab, word, 2)}
    back = time.time() - (lab.site.policy.quarantine_days + 1) * 86400
    path = f"{holding.FOLDER}/new/{entries['old']}"
    edit = ["sed", "-i", f'1s/"arrived": [0-9]*/"arrived": {back:.0f}/', path]
    assert lab.run(store, ["runuser", "-u", holding.USER, "--", *edit]).code == 0
    assert lab.run(store, ["systemctl", "start", "mastio-quarantine.service"]).code == 0
    assert [it["id"] for it in held(lab, word)] == [entries["young"]]
    lab.mastio("quarantine", "delete", "--subject", word, "--yes")


def test_while_the_quarantine_is_broken_mail_waits_and_is_not_delivered(
    lab: Lab, alice: tuple[str, str]
) -> None:
    word, store = token(), mail.the(lab, Role.STORE).name
    postfix = of_store(mail.the(lab, Role.STORE))
    assert lab.run(store, ["chmod", "000", holding.FOLDER]).code == 0
    try:
        mail.hand_in(lab, marked(alice[0], word))
        assert not mail.inbox(lab, *alice, word, patience=3)
    finally:
        assert lab.run(store, ["chmod", "700", holding.FOLDER]).code == 0
    assert lab.run(store, ["postqueue", "-c", postfix.config, "-f"]).code == 0
    (entry,) = held(lab, word)
    lab.mastio("quarantine", "delete", entry["id"], "--yes")


def test_users_cannot_have_mail_held_back(
    lab: Lab, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    word = token()
    content = message(alice[0], bob[0], word)
    content["X-Mastio-Quarantine"] = "because I say so"
    code, _ = mail.submit(lab, *alice, content)
    assert code == 250
    (got,) = mail.inbox(lab, *bob, word)
    assert "X-Mastio-Quarantine" not in got
    assert not held(lab, word, patience=0)


def test_a_message_about_held_mail_is_not_held(lab: Lab, alice: tuple[str, str]) -> None:
    word = token()
    outer = message(CAROL, alice[0], word)
    outer.add_attachment(marked(alice[0], "inner"))
    mail.hand_in(lab, outer)
    (got,) = mail.inbox(lab, *alice, word)
    assert "X-Mastio-Quarantine: dangerous attachment" in got.as_string()
