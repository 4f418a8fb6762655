"""What users' Sieve scripts write, they write as themselves, and it is signed; what they pass on stays as it was."""

from collections.abc import Callable, Iterator
from email.message import Message
from email.utils import parseaddr

import pytest

from mastio import services
from mastio.context import PKI
from mastio.site.model import Role
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, delivery, hand_in, message, remote, the, token
from tests.lab.outbound import User, carols, script, users
from tests.lab.tuned import rewritten

pytestmark = pytest.mark.lab

SECOND = "second.test"


@pytest.fixture
def new_user(lab: Lab) -> Iterator[Callable[..., User]]:
    with users(lab) as make:
        yield make


def verdict(mail: Message) -> str:
    """What carol's server says of it."""
    return str(mail["Authentication-Results"]).replace("\n", " ")


def only(mails: list[Message]) -> Message:
    (mail,) = mails
    return mail


FORGED = {
    "from": 'vacation :subject "{word}" :from "{boss}" "At the sea.";',
    "name": 'vacation :subject "{word}" :from "\\"{boss}\\" <{user}>" "At the sea.";',
    "addresses": 'vacation :subject "{word}" :addresses ["{boss}"] "At the sea.";',
    "mime": 'vacation :subject "{word}" :mime "From: {boss}\r\nContent-Type: text/plain\r\n\r\nAt the sea.";',
    "notify": 'notify :from "{boss}" :message "{word}" "mailto:{carol}";',
    "redirected": 'vacation :subject "{word}" :from "{boss}" :mime "X-Sieve: x\r\n'
    'X-Sieve-Redirected-From: {user}\r\nContent-Type: text/plain\r\n\r\nAt the sea.";',
}


@pytest.mark.parametrize("how", FORGED)
def test_a_script_does_not_write_as_a_colleague(
    lab: Lab, new_user: Callable[..., User], how: str
) -> None:
    word, user, boss = token(), new_user(), lab.site.admin_mail
    text = FORGED[how].format(word=word, boss=boss, user=user[0], carol=CAROL)
    script(lab, user, f'require ["vacation", "enotify"]; {text}')
    mail = message(CAROL, user[0], token())
    mail["Cc"] = boss
    if how == "addresses":
        del mail["To"], mail["Cc"]
        mail["To"] = boss
        bring(lab, CAROL, user[0], mail)
    else:
        hand_in(lab, mail)
    got = only(carols(lab, word, 1))
    assert got.get_all("From") == [user[0]]
    assert got["Return-path"] == "<>", "nothing answers it"
    assert got["Auto-Submitted"].startswith("auto-")
    assert "dkim=pass" in verdict(got)


def test_a_script_writes_as_an_alias_of_its_user(lab: Lab, new_user: Callable[..., User]) -> None:
    word, user = token(), new_user()
    alias, beside = (f"{token()}@{lab.site.domains[0]}" for _ in range(2))
    lab.mastio("alias", "add", alias, user[0])
    lab.mastio("alias", "add", beside, alias)
    try:
        for own in (alias, beside, user[0].replace("@", "+sea@").upper()):
            shown = f"Somebody <{own}>"
            script(
                lab,
                user,
                f'require "vacation"; vacation :handle "{own}" :from "{shown}" :subject "{word}" "x";',
            )
            hand_in(lab, message(CAROL, user[0], token()))
            got = only([it for it in carols(lab, word, 1) if it["From"] == shown])
            assert got["Return-path"] == "<>" and "dkim=pass" in verdict(got)
            word = token()
    finally:
        lab.mastio("alias", "delete", beside)
        lab.mastio("alias", "delete", alias)


def test_a_refusal_by_a_script_comes_from_its_user(lab: Lab, new_user: Callable[..., User]) -> None:
    word, user = token(), new_user()
    script(lab, user, f'require "reject"; reject "{word}";')
    hand_in(lab, message(CAROL, user[0], word))
    assert only(carols(lab, user[0], 1))["From"] == user[0]


def test_what_a_script_passes_on_has_its_author_and_no_signature_of_ours(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    """Nobody has proven who wrote it, even if it names one of us and has the null sender."""
    word, user, boss = token(), new_user(), lab.site.admin_mail
    script(lab, user, f'redirect "{CAROL}";')
    # Nor if it calls itself, in a trace line of its own, what the store calls its users' answers.
    forged = Message()
    forged["Received"] = "from answer (localhost [127.0.0.1]) by store (Postfix) with ESMTP id 4jd"
    for name, value in (letter := message(boss, user[0], f"{word} empty")).items():
        forged[name] = value
    forged.set_payload(letter.get_payload())
    bring(lab, "", user[0], forged)
    hand_in(lab, message(f"dave@{CAROL.partition('@')[2]}", user[0], f"{word} stranger"))
    for mail in carols(lab, word, 2):
        empty = str(mail["Subject"]).endswith("empty")
        assert mail["From"] == (boss if empty else f"dave@{CAROL.partition('@')[2]}")
        assert (mail["Return-path"] == "<>") == empty
        assert mail["DKIM-Signature"] is None, verdict(mail)


def test_an_answer_from_a_second_domain_is_signed_by_it(lab: Lab) -> None:
    """Its From: is not aligned with the gateway's name, so DMARC has nothing but the signature."""
    word, text = token(), (lab.folder / "site.toml").read_text()
    first = f'domains = ["{lab.site.domains[0]}"'
    assert first in text
    with rewritten(lab, text.replace(first, f'{first}, "{SECOND}"')), users(lab) as make:
        user = make(domain=SECOND)
        script(lab, user, f'require "vacation"; vacation :subject "{word}" "At the sea.";')
        hand_in(lab, message(CAROL, user[0], token()))
        got = only(carols(lab, word, 1))
        assert (parseaddr(got["From"])[1], got["Return-path"]) == (user[0], "<>")
        assert "dkim=pass" in verdict(got) and f"header.d={SECOND}" in verdict(got), verdict(got)


def bring(lab: Lab, sender: str, recipient: str, content: Message) -> None:
    """To the store as the gateway does, with an envelope of its own."""
    gateway = the(lab, Role.GATEWAY_IN).name
    code = remote(
        lab, gateway, delivery, host=lab.site.internal_name(the(lab, Role.STORE).name),
        port=services.DELIVERY.port, pki=PKI, name=lab.site.internal_name(gateway), sender=sender,
        recipients=[recipient], content=content.as_string(),
    )  # fmt: skip
    assert code == 250
