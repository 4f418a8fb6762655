"""The house stands when this passes: carol's mail is read and answered in a real browser.

Screenshots of every step are in `test-results/`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from mastio.lab import outside
from tests.lab import browser, mail
from tests.lab.browser import Webmail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, token
from tests.lab.patience import PATIENCE
from tests.lab.test_learning import arrive, learned, soon

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def chromium(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    trusted = lab.run(outside.MACHINE, ["cat", outside.TRUSTED]).stdout.decode()
    home: Path = tmp_path_factory.mktemp("browser")
    with browser.browser(trusted, home, lab.site.webmail_host, lab.webmail_url) as chromium:
        yield chromium


@pytest.fixture
def webmail(lab: Lab, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Webmail]:
    session = Webmail(chromium, lab.site.webmail_host, request.node.name.removeprefix("test_"))
    yield session
    session.close()


def test_carols_mail_is_read_and_answered(
    lab: Lab, webmail: Webmail, alice: tuple[str, str]
) -> None:
    word = token()
    mail.from_carol(lab, message(CAROL, alice[0], f"Lunch {word}", "Are you free at noon?"))
    assert mail.inbox(lab, *alice, word)
    webmail.login(*alice)
    assert "Are you free at noon?" in webmail.read(word)
    webmail.answer("Yes, gladly.")
    (answer,) = mail.at_carols(lab, word)
    assert "Yes, gladly." in str(answer.get_payload())
    assert answer["From"] and alice[0] in str(answer["From"])
    assert str(answer["Subject"]).startswith("Re: Lunch")
    assert answer["DKIM-Signature"], "the answer is not signed"
    verdict = str(answer["Authentication-Results"])
    assert "dkim=pass" in verdict and "spf=pass" in verdict, verdict
    said = mail.headers(answer)
    assert not [name for name in mail.inside_names(lab) if name in said], said


def test_a_wrong_password_is_refused(webmail: Webmail, alice: tuple[str, str]) -> None:
    assert not webmail.try_login(alice[0], "not the password")


def test_a_user_changes_the_password(lab: Lab, webmail: Webmail, somebody: tuple[str, str]) -> None:
    user, old = somebody
    new = token() + token()
    webmail.login(user, old)
    webmail.change_password(old, new)
    assert mail.lets_in(lab, user, new)
    assert not mail.lets_in(lab, user, old)


def test_a_vacation_message_answers(lab: Lab, webmail: Webmail, somebody: tuple[str, str]) -> None:
    user, password = somebody
    word = token()
    webmail.login(user, password)
    webmail.set_vacation(f"Away {word}", "I am at the sea until Monday.")
    mail.from_carol(lab, message(CAROL, user, "Are you there?"))
    (answer,) = mail.at_carols(lab, word)
    assert "at the sea" in str(answer.get_payload())
    said = mail.headers(answer)
    assert not [name for name in mail.inside_names(lab) if name in said], said


def test_the_button_for_junk_teaches_the_filter_and_so_does_the_one_that_takes_it_back(
    lab: Lab, webmail: Webmail, somebody: tuple[str, str]
) -> None:
    word = token()
    arrive(lab, somebody, word)
    webmail.login(*somebody)
    before = learned(lab)
    webmail.mark(word, "junk")
    assert mail.inbox(lab, *somebody, word, folder="Junk")
    assert not mail.inbox(lab, *somebody, word, patience=0)
    spam, ham = (before[it] + 1 for it in ("BAYES_SPAM", "BAYES_HAM"))
    assert soon(lab, "BAYES_SPAM", spam, PATIENCE) == spam
    assert learned(lab)["BAYES_HAM"] == before["BAYES_HAM"]
    webmail.mark(word, "notjunk", "Junk")
    assert mail.inbox(lab, *somebody, word)
    assert not mail.inbox(lab, *somebody, word, folder="Junk", patience=0)
    assert soon(lab, "BAYES_HAM", ham, PATIENCE) == ham
    assert learned(lab)["BAYES_SPAM"] == before["BAYES_SPAM"], "it is no longer learned as spam"
