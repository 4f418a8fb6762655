"""A user who sends too much is held, not lost, and nobody else notices.

Limits are made small for the module. Users are made for each test, since what others have sent counts.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator

import pytest

from mastio import services
from mastio.context import PKI
from mastio.instances import calling, of_store
from mastio.roles.gateway.postfix import RELAYED
from mastio.roles.store.book import DAY, HELD
from mastio.roles.store.outbound import CONFIG, LATER
from mastio.roles.store.outbound import STATE as COUNTS
from mastio.site.model import Role
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import (
    CAROL,
    await_known,
    delivery,
    inbox,
    message,
    remote,
    submit,
    the,
    token,
)
from tests.lab.outbound import User, carols, held, limited, numbers, paused, users
from tests.lab.patience import PATIENCE, at_last, eventually
from tests.lab.test_limits import look
from tests.lab.test_mail import EICAR

pytestmark = pytest.mark.lab

MESSAGES = 3
NEWSLETTER = "newsletter"


@pytest.fixture(scope="module", autouse=True)
def small_limits(lab: Lab) -> Iterator[None]:
    exempt = f"{NEWSLETTER}@{lab.site.domains[0]}"
    with limited(
        lab,
        f"messages_per_hour = {MESSAGES}\nrecipients_per_hour = 6\n"
        f'new_recipients_per_day = 4\nbounces_per_day = 2\nexempt = ["{exempt}"]\n',
    ):
        yield


@pytest.fixture
def new_user(lab: Lab) -> Iterator[Callable[..., User]]:
    with users(lab) as make:
        yield make


def send(lab: Lab, user: User, subject: str, to: str = CAROL, words: str = "Good day.") -> None:
    code, text = submit(lab, *user, message(user[0], to, subject, words))
    assert code == 250, text


def test_beyond_the_limit_mail_is_held_alarmed_and_sent_once_after_release(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    word, user, other = token(), new_user(), new_user()
    for number in range(MESSAGES + 2):
        send(lab, user, f"{word} {number}")
    assert numbers(carols(lab, word, MESSAGES)) == ["0", "1", "2"]
    assert paused(lab)[user[0]] == f"{MESSAGES + 1} messages in an hour, more than {MESSAGES}"
    waiting = held(lab, user[0])
    assert len(waiting) == 2
    assert {(it["sender"], *it["recipients"]) for it in waiting} == {(user[0], CAROL)}
    assert [it for it in waiting if it["size"] < 300 or it["arrived"] < time.time() - 300] == []
    # Who must know is told, once, by a way that is not held.
    admin = lab.site.admin_mail
    alarm = f"Outgoing mail of {user[0]} is held"
    (mail,) = inbox(lab, admin, lab.accounts[admin], alarm)
    assert f"mastio outbound release {user[0]}" in str(mail.get_payload())
    assert len(inbox(lab, *user, "Your outgoing mail is being held")) == 1
    about = f"held {the(lab, Role.STORE).name}"
    assert look(lab, about) == {about: "warning"}
    # Nobody else notices.
    send(lab, other, f"{word} other")
    assert len(carols(lab, word, MESSAGES + 1)) == MESSAGES + 1
    assert other[0] not in paused(lab)

    assert json.loads(lab.mastio("outbound", "release", user[0], "--json")) == {"released": 2}
    assert numbers(carols(lab, word, MESSAGES + 3)) == ["0", "1", "2", "3", "4", "other"]
    assert user[0] not in paused(lab)
    assert look(lab, about) == {}
    send(lab, user, f"{word} again")
    found = numbers(carols(lab, word, MESSAGES + 4))
    assert found == ["0", "1", "2", "3", "4", "again", "other"], "each exactly once"
    assert len(inbox(lab, admin, lab.accounts[admin], alarm)) == 1


def test_one_message_goes_and_the_rest_is_dropped_after_a_question(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    word, user = token(), new_user()
    for number in range(MESSAGES + 3):
        send(lab, user, f"{word} {number}")
    first, *_ = sorted(held(lab, user[0]), key=lambda it: float(it["arrived"]))
    lab.mastio("outbound", "release", first["message"])
    assert len(carols(lab, word, MESSAGES + 1)) == MESSAGES + 1
    assert user[0] in paused(lab), "one message is not a pardon"
    refused = mastio(lab.folder, "outbound", "drop", user[0])
    assert refused.returncode == 64
    assert "2 messages would be deleted" in refused.stderr
    assert len(held(lab, user[0])) == 2
    assert "2 messages deleted" in lab.mastio("outbound", "drop", user[0], "--yes")
    assert held(lab, user[0]) == []
    assert len(carols(lab, word, MESSAGES + 2, patience=3)) == MESSAGES + 1


def test_what_waits_has_a_bound(lab: Lab, new_user: Callable[..., User]) -> None:
    user, other = new_user(), new_user()
    for number in range(MESSAGES + HELD * MESSAGES):
        send(lab, user, f"{token()} {number}")
    code, words = submit(lab, *user, message(user[0], CAROL, token()))
    assert code == 450 and LATER.split(maxsplit=2)[2] in words, words
    waiting = held(lab, user[0])
    assert len(waiting) == HELD * MESSAGES
    send(lab, other, token())
    lab.mastio("outbound", "drop", waiting[0]["message"], "--yes")
    send(lab, user, token())
    assert submit(lab, *user, message(user[0], CAROL, token()))[0] == 450
    lab.mastio("outbound", "drop", user[0], "--yes")


def test_on_a_full_disk_nothing_more_of_the_paused_is_held(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    user, other, store, full = new_user(), new_user(), the(lab, Role.STORE).name, "/run/full"
    for number in range(MESSAGES + 1):
        send(lab, user, f"{token()} {number}")
    before = lab.run(store, ["cat", str(CONFIG)]).stdout

    def run(*argv: str, words: bytes = b"") -> None:
        done = lab.transport.run(store, argv, words)
        assert done.code == 0, done.stderr

    run("mkdir", full)
    run("mount", "-t", "tmpfs", "-o", "size=1M", "none", full)
    try:
        run("dd", "if=/dev/zero", f"of={full}/much", "bs=1000K", "count=1")
        run("tee", str(CONFIG), words=json.dumps({**json.loads(before), "queue": full}).encode())
        run("systemctl", "restart", "postfix")  # a program that has begun has read it
        assert submit(lab, *user, message(user[0], CAROL, token()))[0] == 450
        assert len(held(lab, user[0])) == 1
        send(lab, other, token())
    finally:
        run("tee", str(CONFIG), words=before)
        run("systemctl", "restart", "postfix")
        run("umount", full)
        run("rmdir", full)
    send(lab, user, token())
    assert len(held(lab, user[0])) == 2


def test_what_was_held_for_long_has_the_queues_time_again(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    """Nothing of it is returned because the gateway does not take it at once."""
    word, user, store = token(), new_user(), the(lab, Role.STORE).name
    for number in range(MESSAGES + 2):
        send(lab, user, f"{word} {number}")
    assert len(carols(lab, word, MESSAGES)) == MESSAGES
    for it in held(lab, user[0]):
        path = f"{of_store(the(lab, Role.STORE)).queue}/hold/{it['message']}"
        assert remote(lab, store, grown_old, path=path, seconds=9 * DAY)
    assert all(it["arrived"] < time.time() - 8 * DAY for it in held(lab, user[0]))
    gateway = the(lab, Role.GATEWAY_OUT).name
    assert lab.run(gateway, ["systemctl", "stop", "postfix"]).code == 0
    try:
        lab.mastio("outbound", "release", user[0])
        eventually(lambda: len(put_off(lab, word)) == 2, lambda: f"waits: {put_off(lab, word)}")
    finally:
        assert lab.run(gateway, ["systemctl", "start", "postfix"]).code == 0
    assert lab.run(store, ["postqueue", "-f"]).code == 0
    found = numbers(carols(lab, word, MESSAGES + 2))
    assert found == [str(it) for it in range(MESSAGES + 2)], "each exactly once"
    assert not inbox(lab, *user, "Undelivered", patience=1)


def grown_old(path: str, seconds: int) -> bool:
    """Makes a file of Postfix's queue older: its records of times (postcat(1), -e). Whether it has had both."""
    import re
    from pathlib import Path

    file = Path(path)
    old, count = re.subn(
        rb"(T.|create_time=)([0-9]{10})",
        lambda it: it[1] + b"%d" % (int(it[2]) - seconds),
        file.read_bytes(),
    )
    with file.open("r+b") as same:  # another file would have another name (postsuper)
        same.write(old)
    return count == 2


def test_an_unknown_name_is_said_to_be_unknown(lab: Lab) -> None:
    for verb in ("release", "drop"):
        done = mastio(lab.folder, "outbound", verb, f"nobody@{lab.site.domains[0]}")
        assert done.returncode == 65, verb
        assert "nobody is paused" in done.stderr


def test_a_user_without_limits_has_none(lab: Lab, new_user: Callable[..., User]) -> None:
    word, user = token(), new_user(NEWSLETTER)
    for number in range(MESSAGES + 2):
        send(lab, user, f"{word} {number}")
    assert len(carols(lab, word, MESSAGES + 2)) == MESSAGES + 2
    assert user[0] not in paused(lab)


def test_many_new_people_in_one_message_hold_it(lab: Lab, new_user: Callable[..., User]) -> None:
    user = new_user()
    known = [f"carol+{token()}@{CAROL.partition('@')[2]}" for _ in range(5)]
    webmail = the(lab, Role.WEBMAIL).name
    text = message(user[0], known[0], token()).as_string()
    code, words = remote(
        lab, webmail, to_many, host=lab.site.internal_name(the(lab, Role.STORE).name),
        port=services.SUBMISSIONS.port, user=user[0], password=user[1], recipients=known, content=text,
    )  # fmt: skip
    assert code == 250, words
    assert paused(lab)[user[0]] == "5 new recipients in a day, more than 4"
    assert held(lab, user[0])[0]["recipients"] == known
    digest, store = hashlib.sha256(known[0].encode()).hexdigest(), the(lab, Role.STORE).name
    count = f"sqlite3 {COUNTS} \"SELECT count(*) FROM wrote WHERE person = '{digest}'\""
    assert lab.run(store, ["sh", "-c", count]).stdout.split() == [b"0"], (
        "held: nobody was written to"
    )
    lab.mastio("outbound", "release", user[0])
    await_known(lab, known[0])


def test_many_recipients_in_an_hour_hold_the_next_message(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    """The same four again: no new people, and not many messages."""
    user, webmail = new_user(), the(lab, Role.WEBMAIL).name
    known = [f"carol+{token()}@{CAROL.partition('@')[2]}" for _ in range(4)]
    for recipients in (known, known[:2], known[:1]):
        assert paused(lab).get(user[0]) is None
        code, words = remote(
            lab, webmail, to_many, host=lab.site.internal_name(the(lab, Role.STORE).name),
            port=services.SUBMISSIONS.port, user=user[0], password=user[1], recipients=recipients,
            content=message(user[0], known[0], token()).as_string(),
        )  # fmt: skip
        assert code == 250, words
    assert paused(lab)[user[0]] == "7 recipients in an hour, more than 6"
    assert held(lab, user[0])[0]["recipients"] == known[:1]


def test_what_the_store_itself_tells_is_no_mail_that_comes_back(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    user = new_user()
    for number in range(MESSAGES + 1):
        send(lab, user, f"{token()} {number}")
    assert inbox(lab, *user, "Your outgoing mail is being held")
    assert bounces(lab, user) == 0


def to_many(
    host: str, port: int, user: str, password: str, recipients: list[str], content: str
) -> list[object]:
    """Submit one message for several; the last reply."""
    import smtplib
    import ssl

    context = ssl.create_default_context(cafile="/etc/mastio/pki/ca.pem")
    with smtplib.SMTP_SSL(host, port, timeout=60, context=context) as client:
        client.login(user, password)
        client.mail(user)
        for recipient in recipients:
            client.rcpt(recipient)
        code, words = client.data(content)
    return [code, words.decode()]


def test_mail_that_comes_back_counts(lab: Lab, new_user: Callable[..., User]) -> None:
    user = new_user()
    for _ in range(MESSAGES):
        send(lab, user, token(), f"{token()}@nowhere.{CAROL.partition('@')[2]}")
    told = at_last(lambda: paused(lab), lambda it: user[0] in it, rest=1)
    assert told[user[0]] == "3 bounces in a day, more than 2"


def bounces(lab: Lab, user: User) -> int:
    query = f"SELECT count(*) FROM bounce WHERE user = '{user[0]}'"
    return int(lab.run(the(lab, Role.STORE).name, ["sqlite3", str(COUNTS), query]).stdout)


def test_what_our_own_gateway_refuses_counts(lab: Lab, new_user: Callable[..., User]) -> None:
    """It comes back from the store's own queue, by no door. A few are an accident."""
    user, other = new_user(), new_user()
    for _ in range(MESSAGES - 1):
        send(lab, other, token(), words=EICAR)
    for _ in range(MESSAGES):
        send(lab, user, token(), words=EICAR)
    told = at_last(lambda: paused(lab), lambda it: user[0] in it, rest=1)
    assert told[user[0]] == "3 bounces in a day, more than 2"
    # Who wrote it hears of it as before.
    assert len(inbox(lab, *user, "Undelivered Mail", count=MESSAGES)) == MESSAGES
    eventually(lambda: bounces(lab, other) == MESSAGES - 1, "not counted")
    assert other[0] not in paused(lab)


def test_a_machine_that_submits_too_much_in_a_minute_is_told_to_come_later(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    one, other = new_user(f"{NEWSLETTER}"), new_user()
    send(lab, one, token())
    most, store = 3, the(lab, Role.STORE).name
    file = lab.folder / "site.toml"
    before = file.read_text()
    few = f"[outbound]\nmachine_messages_per_minute = {most}\n"
    file.write_text(before.replace("[outbound]\n", few))
    try:
        lab.mastio("apply", "--yes", store)
        said = [submit(lab, *one, message(one[0], CAROL, token())) for _ in range(most + 1)]
        assert said[-1][0] == 450 and "too much mail" in said[-1][1], said
        # All users together: another one has to come later too, and is not paused for it.
        assert submit(lab, *other, message(other[0], CAROL, token()))[0] == 450
        assert other[0] not in paused(lab)
        assert held(lab, other[0]) == []
    finally:
        file.write_text(before)
        lab.mastio("apply", "--yes", store)
    send(lab, other, token())


def test_a_store_that_sends_too_much_in_a_minute_waits_and_loses_nothing(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    """Somebody with root on the store asks no policy; the gateway's relay port lets through so much a minute."""
    user, few, crowd, many = new_user(), token(), token(), token()
    most = 4
    file, gateway = lab.folder / "site.toml", the(lab, Role.GATEWAY_OUT)
    before = file.read_text()
    limit = f"[outbound]\nmachine_messages_per_minute = {most // RELAYED}\n"
    alarms = f'[alarms]\noutside = ["{CAROL}"]\n'
    file.write_text(before.replace("[outbound]\n", alarms + limit))
    try:
        lab.mastio("apply", "--yes")
        by_hand(lab, user[0], [CAROL], [f"{few} {it}" for it in range(most - 1)])
        assert len(carols(lab, few, most - 1)) == most - 1
        assert put_off(lab, few) == []
        people = [f"carol+{token()}@{CAROL.partition('@')[2]}" for _ in range(5 * most)]
        by_hand(lab, user[0], people, [crowd])
        put = eventually(lambda: put_off(lab, crowd), "it went to all at once")
        assert len(put) < len(people), "it went to nobody"
        by_hand(lab, user[0], [CAROL], [f"{many} {it}" for it in range(3 * most)])
        put = eventually(lambda: put_off(lab, many), "all of it went at once")
        assert all("450 4.7.1" in it or "too many errors" in it for it in put), put
        assert any("too much mail" in it for it in put), put
        # Watch has a count of its own.
        watch, alarm = the(lab, Role.WATCH).name, f"postmaster@{lab.site.domains[0]}"
        code = remote(
            lab, watch, delivery, host=lab.site.internal_name(gateway.name), port=services.RELAY.port,
            pki=PKI, name=lab.site.internal_name(watch), sender=alarm, recipients=[CAROL],
            content=message(alarm, CAROL, token()).as_string(),
        )  # fmt: skip
        assert code == 250
    finally:
        file.write_text(before)
        lab.mastio("apply", "--yes")
    # It goes on by itself; nobody flushes the queue.
    found = numbers(carols(lab, many, 3 * most, 3 * PATIENCE))
    assert found == sorted(map(str, range(3 * most))), "each exactly once"
    eventually(lambda: not put_off(lab, crowd), "some people never get it", 3 * PATIENCE)


def by_hand(lab: Lab, sender: str, people: list[str], subjects: list[str]) -> None:
    """Messages that begin on the store itself, all at once."""
    store = the(lab, Role.STORE)
    argv = [*calling(of_store(store)), "sendmail", "-f", sender, *people]
    texts = [message(sender, people[0], it).as_string() for it in subjects]
    assert remote(lab, store.name, fed, argv=argv, texts=texts) == [0] * len(texts)


def fed(argv: list[str], texts: list[str]) -> list[int]:
    """How a command ended with each of the texts."""
    import subprocess

    return [subprocess.run(argv, input=it.encode(), check=False).returncode for it in texts]


def put_off(lab: Lab, word: str) -> list[str]:
    """Why messages with this word wait on the store."""
    store = the(lab, Role.STORE)
    calls = [*calling(of_store(store))]
    waiting = lab.run(store.name, [*calls, "postqueue", "-j"]).stdout.splitlines()
    reasons = []
    for it in map(json.loads, waiting):
        why = [person["delay_reason"] for person in it["recipients"] if "delay_reason" in person]
        head = [*calls, "postcat", "-qh", it["queue_id"]]
        if why and word.encode() in lab.run(store.name, head).stdout:
            reasons += why
    return reasons
