"""What a user's Sieve script sends is held with all else while the user is paused, and never lost; it pauses nobody.

Mail comes in as the gateway brings it; limits are small for the module.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mastio.roles.store.outbound import CONFIG
from mastio.roles.store.outbound import STATE as COUNTS
from mastio.roles.store.sieve_send import DOOR, MEMORY
from mastio.site.model import Role
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import (
    CAROL,
    hand_in,
    headers,
    inbox,
    inside_names,
    message,
    remote,
    submit,
    the,
    token,
)
from tests.lab.outbound import User, carols, held, limited, numbers, paused, script, users
from tests.lab.patience import eventually

pytestmark = pytest.mark.lab

MOST = 3


@pytest.fixture(scope="module", autouse=True)
def small_limits(lab: Lab) -> Iterator[None]:
    with limited(lab, f"recipients_per_hour = {MOST}\n"):
        yield


@pytest.fixture
def new_user(lab: Lab) -> Iterator[Callable[..., User]]:
    with users(lab) as make:
        yield make


def comes(lab: Lab, user: User, subject: str, kib: int = 0) -> None:
    hand_in(lab, message(CAROL, user[0], subject, ("x" * 63 + "\n") * 16 * kib))


def beyond_the_limit(lab: Lab, user: User) -> None:
    """The user writes too much, and is paused."""
    for _ in range(MOST + 1):
        submit(lab, *user, message(user[0], CAROL, token()))
    (one,) = eventually(lambda: held(lab, user[0]), "nothing is held")
    assert user[0] in paused(lab) and not one["by_script"]


def counted(lab: Lab, user: User) -> int:
    query = f"SELECT coalesce(sum(recipients), 0) FROM sent WHERE user = '{user[0]}'"
    return int(lab.run(the(lab, Role.STORE).name, ["sqlite3", str(COUNTS), query]).stdout)


def waiting(lab: Lab, user: User) -> list[dict[str, Any]]:
    """What is in the store's queue for a user's mailbox."""
    listed = lab.run(the(lab, Role.STORE).name, ["postqueue", "-j"]).stdout.splitlines()
    return [
        it
        for it in map(json.loads, listed)
        if user[0] in [to["address"] for to in it["recipients"]]
    ]


def test_redirects_arrive_and_pause_nobody(lab: Lab, new_user: Callable[..., User]) -> None:
    """How many there are, those decide who write to their user."""
    word, user = token(), new_user()
    comes(lab, user, f"{word} before")
    assert inbox(lab, *user, word)
    script(lab, user, f'redirect "{CAROL}";')
    for number in range(MOST + 2):
        comes(lab, user, f"{word} {number}")
    found = carols(lab, word, MOST + 2)
    assert numbers(found) == [str(it) for it in range(MOST + 2)]
    assert {mail["X-Sieve-Redirected-From"] for mail in found} == {user[0]}
    for mail in found:
        assert not [name for name in inside_names(lab) if name in headers(mail)]
    assert counted(lab, user) == 0 and user[0] not in paused(lab)
    assert numbers(inbox(lab, *user, word)) == ["before"]


def test_while_paused_redirects_are_held_and_leave_once_after_release(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    """With a copy: what comes for somebody who may not send is read as ever."""
    word, user, other = token(), new_user(), new_user()
    copies = (
        f'require "copy"; if header :contains "Subject" "{word}" {{ redirect :copy "{CAROL}"; }}'
    )
    beyond_the_limit(lab, user)
    for it in (user, other):
        script(lab, it, copies)
    for number in range(2):
        comes(lab, user, f"{word} {number}")
        assert len(inbox(lab, *user, word, count=number + 1)) == number + 1
    eventually(lambda: len(held(lab, user[0])) == 3, lambda: f"held: {held(lab, user[0])}")
    comes(lab, other, f"{word} other")
    assert numbers(carols(lab, word, 1)) == ["other"]
    # What the user wrote goes; what others have written to the user does not.
    said = lab.mastio("outbound", "drop", user[0], "--yes")
    assert (
        "1 message deleted" in said and "2 messages of the user's Sieve script still held" in said
    )
    assert [it["by_script"] for it in held(lab, user[0])] == [True, True]
    assert "by a Sieve script" in lab.mastio("outbound", "show")
    assert json.loads(lab.mastio("outbound", "release", user[0], "--json")) == {"released": 2}
    comes(lab, user, f"{word} again")
    everything = ["0", "1", "again", "other"]
    assert numbers(carols(lab, word, len(everything))) == everything, "each exactly once"
    assert len(inbox(lab, *user, word)) == 3
    assert waiting(lab, user) == []


def test_a_paused_users_redirects_and_answers_wait_whatever_the_script_keeps(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    word, user = token(), new_user()
    beyond_the_limit(lab, user)
    script(
        lab, user,
        f'require ["fileinto", "vacation"]; fileinto "Archive"; redirect "{CAROL}"; '
        f'vacation :subject "{word} answer" "I am at the sea.";',
    )  # fmt: skip
    comes(lab, user, f"{word} redirect")
    assert len(inbox(lab, *user, word, folder="Archive")) == 1
    eventually(lambda: len(held(lab, user[0])) == 3, lambda: f"held: {held(lab, user[0])}")
    assert carols(lab, word, 1, patience=3) == []
    lab.mastio("outbound", "release", user[0])
    assert numbers(carols(lab, word, 2)) == ["answer", "redirect"]
    assert len(inbox(lab, *user, word, folder="Archive")) == 1


def test_what_a_script_sends_to_its_own_user_is_nobody_elses(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    word, user = token(), new_user()
    beyond_the_limit(lab, user)
    name, _, domain = user[0].partition("@")
    script(lab, user, f'redirect "{name}+again@{domain}";')
    comes(lab, user, word)
    (mail,) = inbox(lab, *user, word)
    assert mail["X-Sieve-Redirected-From"] == user[0]
    assert not [it for it in held(lab, user[0]) if it["by_script"]]


def test_no_other_program_may_speak_in_users_names(lab: Lab) -> None:
    store = the(lab, Role.STORE).name
    said = remote(lab, store, nameless, door=DOOR, recipient=CAROL)
    assert "Access denied" in said, "who says no name is refused"
    ask = f"import socket; socket.socket(socket.AF_UNIX).connect({DOOR!r})"
    for other in ("nobody", "mastio-reports", "mastio-quarantine"):
        done = lab.run(store, ["runuser", "-u", other, "--", "python3", "-c", ask])
        assert b"PermissionError" in done.stderr, other


def nameless(door: str, recipient: str) -> str:
    """A message for `recipient` in nobody's name; the answer."""
    import smtplib
    import socket

    with smtplib.SMTP() as client:
        client.sock = socket.socket(socket.AF_UNIX)
        client.sock.connect(door)
        client.getreply()
        client.ehlo("x")
        client.mail("")
        return client.rcpt(recipient)[1].decode()


def test_while_nobody_can_count_a_redirect_waits_in_the_queue(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    word, user, plain, store = token(), new_user(), new_user(), the(lab, Role.STORE).name
    script(lab, user, f'redirect "{CAROL}";')
    aside = f"{CONFIG}.aside"
    assert lab.run(store, ["mv", str(CONFIG), aside]).code == 0
    try:
        # a program that has begun has read it
        assert lab.run(store, ["systemctl", "restart", "postfix"]).code == 0
        comes(lab, user, word)
        comes(lab, plain, word)
        assert inbox(lab, *plain, word), "who redirects nothing is not concerned"
        (left,) = eventually(
            lambda: [it for it in waiting(lab, user) if it["queue_name"] == "deferred"], "not kept"
        )
        assert "temporary failure" in left["recipients"][0]["delay_reason"]
        assert carols(lab, word, 1, patience=3) == []
    finally:
        assert lab.run(store, ["mv", aside, str(CONFIG)]).code == 0
    assert lab.run(store, ["postqueue", "-f"]).code == 0
    assert len(carols(lab, word, 1)) == 1
    eventually(lambda: waiting(lab, user) == [], "still in the queue")
    assert len(carols(lab, word, 2, patience=3)) == 1, "exactly once"


def test_a_message_that_does_not_fit_is_redirected_once(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    """Each try to store it runs the script again."""
    word, user, store = token(), new_user(), the(lab, Role.STORE).name
    lab.mastio("user", "change", user[0], "--quota", "1")
    comes(lab, user, f"{word} before", 900)
    assert inbox(lab, *user, word)
    script(lab, user, f'require "copy"; redirect :copy "{CAROL}"; keep;')
    comes(lab, user, f"{word} large", 300)
    assert numbers(carols(lab, word, 1)) == ["large"]
    for tries in (1, 2, 3):
        eventually(lambda: deferred(lab, user), "it fits")
        assert lab.run(store, ["postqueue", "-f"]).code == 0
        eventually(lambda n=tries: passed_on_already(lab, user) >= n, f"no try {tries}")  # type: ignore[misc]
    comes(lab, user, f"{word} small")
    assert numbers(carols(lab, word, 2)) == ["large", "small"]
    assert numbers(inbox(lab, *user, word, count=2)) == ["before", "small"]
    lab.mastio("user", "change", user[0], "--quota", "0")
    assert lab.run(store, ["postqueue", "-f"]).code == 0
    assert numbers(inbox(lab, *user, word, count=3)) == ["before", "large", "small"]
    assert waiting(lab, user) == []
    assert numbers(carols(lab, word, 3, patience=3)) == ["large", "small"], "each exactly once"


def test_a_redirect_leaves_although_nobody_can_remember_it(
    lab: Lab, new_user: Callable[..., User]
) -> None:
    word, user, store = token(), new_user(), the(lab, Role.STORE).name
    folder = str(Path(MEMORY).parent)
    script(lab, user, f'redirect "{CAROL}";')
    argv = ["journalctl", "-q", "-o", "cat", "-t", "dovecot", "-g", "cannot be remembered"]
    before = lab.run(store, argv).stdout
    assert lab.run(store, ["chmod", "0", folder]).code == 0
    try:
        comes(lab, user, word)
        assert len(carols(lab, word, 1)) == 1
        eventually(lambda: lab.run(store, argv).stdout != before, "the log does not say so")
    finally:
        assert lab.run(store, ["chmod", "0700", folder]).code == 0


def deferred(lab: Lab, user: User) -> bool:
    """Whether mail for a user waits because there is no room for it."""
    return any(
        it["queue_name"] == "deferred" and "4.2.2" in it["recipients"][0]["delay_reason"]
        for it in waiting(lab, user)
    )


def passed_on_already(lab: Lab, user: User) -> int:
    """How often a redirect of a user's was not sent again."""
    argv = ["journalctl", "-q", "-o", "cat", "-t", "mastio-sieve-send"]
    return lab.run(the(lab, Role.STORE).name, argv).stdout.count(f"{user[0]}: ".encode())
