"""What users have sent in the lab: who is paused, what is held, what has arrived outside; users of a test alone."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any

from mastio.site.model import Role
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import at_carols, the, token
from tests.lab.patience import PATIENCE, at_last
from tests.lab.tuned import tuned

User = tuple[str, str]


@contextmanager
def users(lab: Lab) -> Iterator[Callable[..., User]]:
    """Makes users; at the end they are gone, and what is held of them too."""
    made: list[str] = []

    def make(name: str = "", domain: str = "") -> User:
        address = f"{name or token()}@{domain or lab.site.domains[0]}"
        password = token() + token()
        made.append(address)
        lab.mastio("user", "add", address, "--password-stdin", stdin=password + "\n")
        return address, password

    yield make
    for address in made:
        for it in held(lab, address):
            lab.mastio("outbound", "drop", it["message"], "--yes")
        mastio(lab.folder, "outbound", "release", address)
        lab.mastio("user", "delete", address, "--purge")


def script(lab: Lab, user: User, text: str) -> None:
    """Gives a user this Sieve script."""
    put = ["doveadm", "sieve", "put", "-u", user[0], "-a", "rules"]
    done = lab.run(the(lab, Role.STORE).name, put, text.encode())
    assert done.code == 0, done.stderr


@contextmanager
def limited(lab: Lab, limits: str) -> Iterator[None]:
    """Small limits for a while."""
    with tuned(lab, f"[outbound]\n{limits}"):
        yield
    # Whoever sent much before was paused by them.
    for it in show(lab)["paused"]:
        lab.mastio("outbound", "release", it["user"])


def show(lab: Lab) -> dict[str, Any]:
    """Who is paused and what is held."""
    return dict(json.loads(lab.mastio("outbound", "show", "--json")))


def paused(lab: Lab) -> dict[str, str]:
    """User → why."""
    return {it["user"]: it["reason"] for it in show(lab)["paused"]}


def held(lab: Lab, user: str) -> list[dict[str, Any]]:
    """A user's messages that wait for an administrator."""
    return [it for it in show(lab)["held"] if it["user"] == user]


def carols(lab: Lab, word: str, count: int, patience: float = PATIENCE) -> list[Message]:
    """What carol has, as soon as there are `count` of them."""
    return at_last(lambda: at_carols(lab, word, patience=1), lambda it: len(it) >= count, patience)


def numbers(mails: list[Message]) -> list[str]:
    """The last word of each subject."""
    return sorted(str(mail["Subject"]).split()[-1] for mail in mails)
