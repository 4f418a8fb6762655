"""`mastio trace` tells what happened to real messages, in words: one message for each thing that can happen."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from ipaddress import ip_address
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest

from mastio.instances import of_store
from mastio.lab import internet, outside
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.arrivals import talk
from tests.lab.browser import Webmail, browser
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import CAROL, message, token
from tests.lab.patience import at_last
from tests.lab.test_filter import EICAR, LOCKED, PILLS, attached, send, somebody
from tests.lab.test_mail import GTUBE
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

DELAY = 4
PATIENCE = 200
"""Seconds until a message is where it belongs, and what is said of it on watch."""
User = tuple[str, str]
SAYS = {
    "delivered": "delivered into INBOX",
    "greylisted": "s later and was delivered into INBOX",
    "virus": "it contains a virus",
    "spam": "as spam",
    "junk": "filed in Junk (the filter: DMARC quarantine)",
    "quarantined": "held back in the quarantine: an archive with a password",
    "unknown": "there is no such recipient",
    "full": "waiting on store: the mailbox is full (quota exceeded)",
    "sent": "sent to mx.outside.test",
    "bounced": "returned to its sender by gateway",
    "held": "held on store: end-of-data beyond the limits",
    "down": "waiting on gateway: the store was down",
}


@dataclass(frozen=True)
class Happened:
    """By the name of what happened: what a person would ask for, and what was told."""

    asked: dict[str, str]
    told: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def happened(lab: Lab) -> Iterator[Happened]:
    """Makes each thing happen."""
    talk(lab)
    limits = (
        "[policy]\ngreylist_delay = 4\nspam_junk_score = 8.0\n[outbound]\nmessages_per_hour = 2\n"
    )
    with tuned(lab, limits), somebody_small(lab) as user:
        alice = next(iter(lab.accounts.items()))
        asked: dict[str, str] = {}

        def noted(name: str, letter: EmailMessage) -> EmailMessage:
            asked[name] = letter["Message-ID"]
            return letter

        stranger, forger = somebody(), f"{token()}@{outside.CAUTIOUS}"
        grey = noted("greylisted", message(stranger, alice[0], token(), PILLS))
        junk = noted("junk", message(forger, alice[0], token()))
        assert send(lab, grey, stranger, alice[0])[0] == 451
        assert send(lab, junk, forger, alice[0])[0] == 451
        again = time.monotonic() + DELAY + 1

        mail.from_carol(lab, noted("delivered", message(CAROL, alice[0], token())))
        mail.deliver(lab, noted("virus", message(CAROL, alice[0], token(), EICAR)))
        mail.deliver(lab, noted("spam", message(CAROL, alice[0], token(), GTUBE)))
        asked["unknown"] = f"{token()}@{lab.site.domains[0]}"
        assert mail.recipient(lab, asked["unknown"])[0] == 550
        large = noted("full", message(CAROL, user[0], token()))
        large.add_attachment(b"abc def " * 200_000, "application", "octet-stream", filename="a.bin")
        mail.from_carol(lab, large)
        locked_up = attached("a.zip", LOCKED, CAROL, alice[0], token())
        mail.deliver(lab, noted("quarantined", locked_up))
        nowhere = f"{token()}@nowhere.{outside.DOMAIN}"
        mail.submit(lab, *user, noted("bounced", message(user[0], nowhere, token())))
        mail.submit(lab, *user, noted("sent", message(user[0], CAROL, token())))
        mail.submit(lab, *user, noted("held", message(user[0], CAROL, token())))
        time.sleep(max(0, again - time.monotonic()))
        assert send(lab, grey, stranger, alice[0])[0] == 250
        assert send(lab, junk, forger, alice[0])[0] == 250
        with without_postfix(lab):
            mail.deliver(lab, noted("down", message(CAROL, alice[0], token())))
            down = until(lab, asked["down"], ": deferred to ")
        told = {
            name: until(lab, what, SAYS[name]) for name, what in asked.items() if name != "down"
        }
        yield Happened(asked, {**told, "down": down})


@contextmanager
def somebody_small(lab: Lab) -> Iterator[User]:
    """A user whose mailbox holds one MiB."""
    address, password = f"{token()}@{lab.site.domains[0]}", token() + token()
    options = ("--password-stdin", "--quota", "1")
    lab.mastio("user", "add", address, *options, stdin=password + "\n")
    try:
        yield address, password
    finally:
        mastio(lab.folder, "outbound", "drop", address, "--yes")
        mastio(lab.folder, "outbound", "release", address)
        lab.mastio("user", "delete", address, "--purge")


@contextmanager
def without_postfix(lab: Lab) -> Iterator[None]:
    """The store takes no mail."""
    store = mail.the(lab, Role.STORE)
    unit = of_store(store).unit
    assert lab.run(store.name, ["systemctl", "stop", unit]).code == 0
    try:
        yield
    finally:
        assert lab.run(store.name, ["systemctl", "start", unit]).code == 0


def trace(lab: Lab, what: str) -> list[dict[str, Any]]:
    """What mastio tells of it."""
    done = mastio(lab.folder, "trace", what, "--since", "1h", "--json")
    return list(json.loads(done.stdout)) if done.returncode == 0 else []


def until(lab: Lab, what: str, word: str) -> list[dict[str, Any]]:
    """The story of a message, when it has come so far, or as it is after a while."""
    return at_last(lambda: trace(lab, what), lambda it: word in json.dumps(it), PATIENCE)


@pytest.mark.parametrize("name", SAYS)
def test_it_tells_what_happened(happened: Happened, name: str) -> None:
    first, *_ = happened.told[name]
    (ending,) = first["endings"]
    assert SAYS[name] in ending["words"], first


def through(lab: Lab, story: dict[str, Any]) -> list[str]:
    """What the firewall is said to have done."""
    name = mail.the(lab, Role.FIREWALL).name
    return [it["what"] for it in story["steps"] if it["machine"] == name]


@pytest.mark.parametrize("name", ["delivered", "virus", "unknown", "down"])
def test_the_firewall_let_it_in_before_all(lab: Lab, happened: Happened, name: str) -> None:
    (story,) = until(lab, happened.asked[name], "the firewall let ")
    (said,) = through(lab, story)
    assert re.fullmatch(r"the firewall let \S+, port \d+, in to \S+, port 25", said)
    client = ip_address(said.removeprefix("the firewall let ").partition(",")[0])
    assert client in internet.outside(lab.site)
    # But for what is told of its client's past, where another test had it banned.
    before = dropwhile(lambda it: it["what"].startswith("the firewall kept "), story["steps"])
    assert next(before)["what"] == said


def test_who_came_twice_was_let_in_twice(lab: Lab, happened: Happened) -> None:
    (story,) = trace(lab, happened.asked["greylisted"])
    ports = {it.split()[5] for it in through(lab, story)}
    assert len(ports) == 2, story


def test_the_firewall_let_it_out_to_the_server_that_took_it(lab: Lab, happened: Happened) -> None:
    (story,) = until(lab, happened.asked["sent"], " out to ")
    (said,) = [it for it in through(lab, story) if " out to " in it]
    server = said.partition(" out to ")[2].partition(",")[0]
    assert f"[{server}]" in json.dumps(story["steps"])
    (held,) = happened.told["held"]
    assert through(lab, held) == [], "it has not left"


def test_it_is_found_by_queue_id_and_by_address(lab: Lab, happened: Happened) -> None:
    (known,) = trace(lab, happened.asked["delivered"])
    queues = {step["what"].split()[0] for step in known["steps"] if " came from " in step["what"]}
    assert len(queues) == 2
    for queue in queues:
        assert trace(lab, queue) == [known]
    assert known in trace(lab, known["endings"][0]["recipient"])
    assert trace(lab, happened.asked["delivered"].strip("<>")) == [known]


def test_the_notice_is_told_with_what_it_is_about(lab: Lab, happened: Happened) -> None:
    bounced, notice = until(lab, happened.asked["bounced"], "into INBOX")
    assert bounced["notices"] == [notice["message_id"]]
    assert "into INBOX" in notice["endings"][0]["words"]


def test_it_tells_who_wrote_it_in_the_webmail_and_from_where(
    lab: Lab, happened: Happened, somebody: User, tmp_path: Path
) -> None:
    # Of their own: the limits of this module hold what anybody else sends as well.
    user, password = somebody
    host, word = lab.site.webmail_host, token()
    trusted = lab.run(outside.MACHINE, ["cat", outside.TRUSTED]).stdout.decode()
    with browser(trusted, tmp_path, host, lab.webmail_url) as chromium:
        webmail = Webmail(chromium, host, "trace")
        webmail.login(user, password)
        webmail.send(CAROL, word, "notes.txt", b"Good day.\n")
    (letter,) = mail.at_carols(lab, word)
    written = f"written in the webmail by {user} from "
    (story,) = until(lab, str(letter["Message-ID"]), written)
    (step,) = [it for it in story["steps"] if it["what"].startswith(written)]
    assert step["machine"] == mail.the(lab, Role.WEBMAIL).name
    address, _, queue = step["what"].removeprefix(written).partition(", taken as ")
    assert ip_address(address) in internet.outside(lab.site), (
        "the browser's, as the webmail sees it"
    )
    store = mail.the(lab, Role.STORE).name
    whats = [it["what"] for it in story["steps"] if it["machine"] == store]
    assert any(it.startswith(f"{queue} came from ") for it in whats), "the hop that it led to"


def test_what_nobody_knows_is_an_error(lab: Lab) -> None:
    done = mastio(lab.folder, "trace", f"{token()}@nowhere.test", "--since", "1h")
    assert done.returncode == 1
    assert "no log line" in done.stderr
