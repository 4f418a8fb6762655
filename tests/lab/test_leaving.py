"""Attachments in mail that leaves the site: refused, held or marked, by a policy of its own; each beside a clean twin.

The policies for mail that comes in and for mail that leaves differ for each kind, so that a message to both sorts of
people shows which one counts.
"""

import json
import re
from collections.abc import Iterator
from email.message import EmailMessage, Message
from typing import Any

import pytest

from mastio import services
from mastio.lab import outside
from mastio.roles.gateway.hold import SETTINGS
from mastio.roles.gateway.holding import PROGRAM
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import CAROL, message, token
from tests.lab.outbound import User, carols, show, users
from tests.lab.patience import eventually
from tests.lab.test_filter import FILED, LET_IN, REFUSED, attached, returned
from tests.lab.test_outbound import to_many
from tests.lab.test_quarantine import held
from tests.lab.test_trace import until
from tests.lab.tuned import tuned

pytestmark = pytest.mark.lab

POLICY = """
[filter]
dangerous_attachments = "mark"
macro_documents = "mark"
encrypted_archives = "quarantine"

[filter.leaving]
dangerous_attachments = "reject"
macro_documents = "quarantine"
encrypted_archives = "mark"
"""
PROGRAM_FILE, MACROS, LOCKED = REFUSED["script"], FILED["macros"], FILED["password"]
CLEAN = LET_IN["zip"]
WHY = "a document with macros"


@pytest.fixture(scope="module", autouse=True)
def policy(lab: Lab) -> Iterator[None]:
    machines = [it.name for it in lab.site.carrying(Role.GATEWAY_IN, Role.GATEWAY_OUT)]
    with tuned(lab, POLICY, *machines):
        yield


@pytest.fixture
def ann(lab: Lab) -> Iterator[User]:
    """Who sends; nobody has written to her."""
    with users(lab) as make:
        yield make()


@pytest.fixture(scope="module")
def bob(lab: Lab) -> User:
    """A colleague."""
    return list(lab.accounts.items())[1]


def sent(lab: Lab, user: User, letter: EmailMessage, *to: str) -> str:
    """Submits a message; its message id."""
    webmail = mail.the(lab, Role.WEBMAIL).name
    code, words = mail.remote(
        lab, webmail, to_many, host=lab.site.internal_name(mail.the(lab, Role.STORE).name),
        port=services.SUBMISSIONS.port, user=user[0], password=user[1], recipients=list(to) or [CAROL],
        content=letter.as_string(),
    )  # fmt: skip
    assert code == 250, words
    return str(letter["Message-ID"])


def with_a(lab: Lab, what: tuple[str, bytes], user: User, word: str, *to: str) -> str:
    return sent(lab, user, attached(*what, user[0], ", ".join(to) or CAROL, word), *to)


def gateway(lab: Lab) -> str:
    return mail.the(lab, Role.GATEWAY_OUT).name


def tell(lab: Lab) -> None:
    """What a minute brings by itself."""
    done = lab.run(gateway(lab), ["systemctl", "start", "mastio-held.service"])
    assert done.code == 0, lab.run(gateway(lab), ["journalctl", "-u", "mastio-held", "-n9"]).stdout


def told(lab: Lab, user: User, word: str, count: int = 1) -> list[str]:
    """The letters to a user about held mail with this word in its subject."""

    def found() -> list[str]:
        letters = mail.inbox(lab, *user, "not sent", patience=1)
        texts = [str(it.get_payload(decode=True), "utf-8") for it in letters]
        about = [it for it in texts if word in it]
        return about if len(about) >= count else []

    return eventually(found, "nobody is told", rest=0)


def ours(got: Message) -> list[str]:
    """The headers that are nobody's business outside."""
    return [name for name in got if name.lower().startswith("x-mastio")]


def the_held(lab: Lab, word: str) -> dict[str, Any]:
    (entry,) = held(lab, word)
    return dict(entry)


def test_what_may_not_leave_comes_back(lab: Lab, ann: User) -> None:
    word, clean = token(), token()
    with_a(lab, PROGRAM_FILE, ann, word)
    with_a(lab, CLEAN, ann, clean)
    assert "a file of type .js" in returned(lab, ann, word)
    (got,) = mail.at_carols(lab, clean)
    assert not ours(got)
    assert not mail.at_carols(lab, word, patience=0)
    assert not held(lab, word, patience=0)


def test_what_is_marked_leaves_and_the_log_says_so(lab: Lab, ann: User) -> None:
    word = token()
    name = with_a(lab, LOCKED, ann, word)
    (got,) = mail.at_carols(lab, word)
    assert not ours(got)
    assert "dkim=pass" in str(got["Authentication-Results"])
    story = until(lab, name, "it has an archive with a password")
    assert "it has an archive with a password" in json.dumps(story), story


def test_what_is_held_leaves_once_after_its_release(lab: Lab, ann: User) -> None:
    word, clean = token(), token()
    name = with_a(lab, MACROS, ann, word)
    with_a(lab, CLEAN, ann, clean)
    assert mail.at_carols(lab, clean)
    entry = the_held(lab, word)
    assert (entry["direction"], entry["machine"]) == ("leaving", gateway(lab))
    assert (entry["sender"], entry["recipients"], entry["recipient"]) == (ann[0], [CAROL], CAROL)
    assert entry["reason"] == WHY and entry["size"] > 500 and entry["arrived"] > 0
    for wanted in (("--sender", ann[0]), ("--recipient", CAROL), ("--reason", "macros")):
        found = lab.mastio("quarantine", "list", "--subject", word, *wanted, "--json")
        assert [it["id"] for it in json.loads(found)] == [entry["id"]]
    assert not json.loads(lab.mastio("quarantine", "list", "--sender", "nobody@", "--json"))
    # Everybody who must know is told, once.
    for _ in range(2):
        tell(lab)
    (letter,) = told(lab, ann, word)
    assert entry["id"] in letter and WHY in letter and lab.site.admin_mail in letter
    admin = (lab.site.admin_mail, lab.accounts[lab.site.admin_mail])
    letters = mail.inbox(lab, *admin, "held on the way out")
    about = [it for it in map(Message.as_string, letters) if entry["id"] in it]
    assert len(about) == 1 and "mastio quarantine release" in about[0]
    assert " held: `mastio outbound show`" in lab_status(lab)
    # It is not a matter of the limits, and no user's to read.
    assert entry["id"] not in json.dumps(show(lab))
    assert not mail.inbox(lab, *ann, word, patience=0)
    shown = lab.mastio("quarantine", "show", entry["id"])
    assert "report.docm" in shown and WHY in shown and f"leaving, to {CAROL}" in shown
    (story,) = until(lab, name, "held on")
    (ending,) = story["endings"]
    assert ending["kind"] == "held" and WHY in ending["words"], ending
    assert "`mastio quarantine list` lists it" in ending["words"]
    assert not mail.at_carols(lab, word, patience=0)

    lab.mastio("quarantine", "release", entry["id"])
    (got,) = carols(lab, word, 1)
    assert not ours(got), mail.headers(got)
    assert "dkim=pass" in str(got["Authentication-Results"]), mail.headers(got)
    said = mail.headers(got)
    assert "userid" not in said, "it tells who runs Postfix"
    assert not [it for it in mail.inside_names(lab) if it in said], said
    assert not held(lab, word, patience=0)
    (story,) = until(lab, name, "released, and sent to")
    (ending,) = story["endings"]
    assert ending["kind"] == "sent" and f"({WHY}), released, and sent to" in ending["words"]
    tell(lab)
    assert len(carols(lab, word, 2, patience=3)) == 1
    assert len(told(lab, ann, word)) == 1
    again = mastio(lab.folder, "quarantine", "release", entry["id"])
    assert again.returncode == 65 and "no such message" in again.stderr


def lab_status(lab: Lab) -> str:
    return mastio(lab.folder, "status").stdout


def test_what_is_deleted_never_leaves_and_its_sender_is_told(lab: Lab, ann: User) -> None:
    word = token()
    name = with_a(lab, MACROS, ann, word)
    entry = the_held(lab, word)
    tell(lab)
    lab.mastio("quarantine", "delete", "--subject", word, "--yes")
    last = told(lab, ann, word, 2)
    assert any("was not sent to anybody" in it and "An administrator" in it for it in last), last
    assert not held(lab, word, patience=0)
    (story,) = until(lab, name, "deleted unsent")
    (ending,) = story["endings"]
    assert f"({WHY}), then deleted unsent by an administrator" in ending["words"]
    assert not mail.at_carols(lab, word, patience=1)
    assert entry["id"] not in lab.run(gateway(lab), ["postqueue", "-j"]).stdout.decode()


def test_what_nobody_looks_at_is_forgotten_and_its_sender_is_told(lab: Lab, ann: User) -> None:
    word = token()
    name = with_a(lab, MACROS, ann, word)
    assert the_held(lab, word)
    before = lab.run(gateway(lab), ["cat", str(SETTINGS)]).stdout.decode()
    soon = re.sub(r'"days": \d+', '"days": 0', before)
    write = ["tee", str(SETTINGS)]
    assert lab.transport.run(gateway(lab), write, soon.encode()).code == 0

    def gone() -> bool:
        tell(lab)  # one that was running has read the settings before
        return not held(lab, word, patience=0)

    try:
        eventually(gone, "it is kept")
    finally:
        assert lab.transport.run(gateway(lab), write, before.encode()).code == 0
    eventually(
        lambda: any("Nobody has released it" in it for it in told(lab, ann, word)),
        "its sender is not told",
    )
    (story,) = until(lab, name, "nobody released it")
    assert "deleted unsent since nobody released it" in story["endings"][0]["words"]


def test_one_message_to_both_sorts_of_people_has_the_stricter_policy(
    lab: Lab, ann: User, bob: User
) -> None:
    refused, out, quarantined = token(), token(), token()
    people = (bob[0], CAROL)
    # Marked coming in, refused leaving: refused for both.
    with_a(lab, PROGRAM_FILE, ann, refused, *people)
    assert "a file of type .js" in returned(lab, ann, refused)
    # Held leaving only, and held coming in only: held for both, here.
    with_a(lab, MACROS, ann, out, *people)
    with_a(lab, LOCKED, ann, quarantined, *people)
    for word in (out, quarantined):
        entry = the_held(lab, word)
        assert entry["direction"] == "leaving"
        assert sorted(entry["recipients"]) == sorted(people)
    for word in (refused, out, quarantined):
        assert not mail.inbox(lab, *bob, word, patience=0)
        assert not mail.at_carols(lab, word, patience=0)
    for word in (out, quarantined):
        lab.mastio("quarantine", "release", "--subject", word, "--yes")
        (got,) = carols(lab, word, 1)
        assert not ours(got) and "dkim=pass" in str(got["Authentication-Results"])
        (copy,) = mail.inbox(lab, *bob, word)
        assert "X-Mastio-Held" not in copy
        assert not held(lab, word, patience=1), "the store holds what somebody has released"


def test_a_message_to_very_many_has_one_policy(lab: Lab, ann: User) -> None:
    """Postfix hands over to fifty at a time unless told otherwise: the first fifty would be colleagues alone."""
    with users(lab) as make:
        people = [make() for _ in range(6)]
        # Dovecot takes ten at a time for one mailbox.
        tagged = [user.replace("@", f"+{it}@") for user, _ in people for it in range(9)]
        refused, clean = token(), token()
        with_a(lab, PROGRAM_FILE, ann, refused, *tagged, CAROL)
        back = returned(lab, ann, refused)
        assert "a file of type .js" in back and all(f"<{it}>" in back for it in tagged)
        with_a(lab, CLEAN, ann, clean, *tagged, CAROL)
        assert carols(lab, clean, 1)
        assert not mail.at_carols(lab, refused, patience=0)
        for user in people:
            assert len(mail.inbox(lab, *user, clean, count=9)) == 9
            assert not mail.inbox(lab, *user, refused, patience=0)


def test_mail_to_colleagues_has_the_incoming_policy(lab: Lab, ann: User, bob: User) -> None:
    marked, filed = token(), token()
    with_a(lab, MACROS, ann, marked, bob[0])
    with_a(lab, LOCKED, ann, filed, bob[0])
    (got,) = mail.inbox(lab, *bob, marked)
    assert got["X-Mastio-Attachment"] == WHY
    entry = the_held(lab, filed)
    assert (entry["direction"], entry["machine"]) == ("incoming", mail.the(lab, Role.STORE).name)
    assert (entry["recipient"], entry["recipients"]) == (bob[0], [bob[0]])
    lab.mastio("quarantine", "delete", entry["id"], "--yes")


def test_who_is_merely_below_our_domain_is_no_colleague(lab: Lab, ann: User) -> None:
    word, clean, there = token(), token(), f"list@{outside.below(lab.site)}"
    with_a(lab, PROGRAM_FILE, ann, word, there)
    with_a(lab, CLEAN, ann, clean, there)
    assert "a file of type .js" in returned(lab, ann, word)
    assert mail.at_carols(lab, clean)
    assert not mail.at_carols(lab, word, patience=0)


def test_nobody_can_have_mail_held(lab: Lab, ann: User, bob: User) -> None:
    word = token()
    letter = message(ann[0], f"{CAROL}, {bob[0]}", word)
    letter["X-Mastio-Held"] = "because I say so"
    letter["x-mastio-held "] = "and so"
    sent(lab, ann, letter, CAROL, bob[0])
    assert not ours(mail.at_carols(lab, word)[0])
    assert not ours(mail.inbox(lab, *bob, word)[0])
    assert not held(lab, word, patience=0)


def test_what_else_is_on_hold_is_left_alone(lab: Lab, ann: User) -> None:
    """An administrator's own `postsuper -h`."""
    word = token()
    letter = f"From: {ann[0]}\nTo: {CAROL}\nSubject: {word}\n\nGood day.\n"
    stop = ["postconf", "-e", "defer_transports=smtp"]
    on = gateway(lab)
    assert lab.run(on, stop).code == 0 and lab.run(on, ["postfix", "reload"]).code == 0
    own: list[str] = []

    def queued(*names: str) -> list[str]:
        listed = map(json.loads, lab.run(on, ["postqueue", "-j"]).stdout.splitlines())
        return [
            it["queue_id"] for it in listed if it["sender"] == ann[0] and it["queue_name"] in names
        ]

    try:
        put = ["sendmail", "-f", ann[0], CAROL]
        assert lab.transport.run(on, put, letter.encode()).code == 0
        own = eventually(lambda: queued("active", "deferred"), "it is not in the queue")
        assert lab.run(on, ["postsuper", "-h", *own]).code == 0
        assert queued("hold") == own
        tell(lab)
        assert not held(lab, word, patience=0)
        refused = mastio(lab.folder, "quarantine", "delete", own[0], "--yes")
        assert refused.returncode == 65 and "no such message" in refused.stderr
    finally:
        for name in own:
            lab.run(on, ["postsuper", "-d", name])
        lab.run(on, ["postconf", "-X", "defer_transports"])
        # The file is as it was, so that no apply would tell Postfix.
        assert lab.run(on, ["postfix", "reload"]).code == 0


def test_while_one_machine_is_silent_the_others_are_heard(lab: Lab, ann: User, bob: User) -> None:
    word = token()
    with_a(lab, LOCKED, ann, word, bob[0])
    entry = the_held(lab, word)
    on = gateway(lab)
    assert lab.run(on, ["chmod", "-x", PROGRAM]).code == 0
    try:
        done = mastio(lab.folder, "quarantine", "list", "--subject", word, "--json")
        assert [it["id"] for it in json.loads(done.stdout)] == [entry["id"]]
        assert done.returncode and f"{on}: the quarantine does not answer" in done.stderr
        unknown = mastio(lab.folder, "quarantine", "show", "4gQueueOfGateway")
        assert unknown.returncode and "does not answer" in unknown.stderr
    finally:
        assert lab.run(on, ["chmod", "+x", PROGRAM]).code == 0
    lab.mastio("quarantine", "delete", entry["id"], "--yes")
