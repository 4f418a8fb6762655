"""What an administrator asks of the quarantine on the store.

    quarantine = Quarantine(site, transport)
    for entry in quarantine.find(Filter(recipient="alice@")): ...
    quarantine.decide(Verdict.RELEASE, ids=["4gXk…-0a1b2c"])

The store's program answers as its own user: what strangers wrote is parsed there, and comes here as JSON,
one line to a value, without control characters.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from mastio.errors import Exit, MastioError
from mastio.instances import calling, of_store
from mastio.roles.store import holding
from mastio.site.model import Role, Site
from mastio.transport import Transport, ended, last_line

_TIMEOUT = 300
"""In seconds; ten thousand messages take some."""


class Verdict(StrEnum):
    """What may become of a message."""

    RELEASE = "release"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages: parts of values, in any case of letters; empty fits all."""

    recipient: str = ""
    """In the recipient's address or in the one that led there; a domain will do."""
    sender: str = ""
    """In the envelope's sender or in From:."""
    reason: str = ""
    subject: str = ""
    before: float = 0
    """Arrived before this moment, in seconds since 1970; 0: whenever."""

    def plain(self) -> dict[str, Any]:
        """What is given, as the store's program reads it."""
        return {key: value for key, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that is held back for one recipient."""

    id: str
    recipient: str
    original: str
    """The address that it was sent to, before aliases and forwards."""
    sender: str
    """The envelope's."""
    reason: str
    arrived: int
    """Seconds since 1970."""
    from_: str
    subject: str
    size: int
    """In bytes."""


@dataclass(frozen=True, slots=True)
class Part:
    """A MIME part that holds something: text, a picture, an attachment."""

    type: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Details:
    """A message, taken apart for the eye; nothing of it is executed or fetched."""

    entry: Entry
    headers: tuple[tuple[str, str], ...]
    text: str
    """Plain text, and the words of HTML."""
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of a verdict on one message."""

    id: str
    done: bool
    why: str
    """Why not, when it is not done; the message is then still there, unless it never was."""


class Quarantine:
    """The quarantine of `site`, behind `transport`."""

    def __init__(self, site: Site, transport: Transport) -> None:
        self._transport = transport
        store = site.carrying(Role.STORE)[0]
        self._store, self._calling = store.name, calling(of_store(store))

    def find(self, which: Filter) -> tuple[Entry, ...]:
        """The messages that fit, oldest first."""
        return tuple(_entry(it) for it in self._ask("list", filter=which.plain()))

    def show(self, name: str) -> Details:
        """One message; raises MastioError when it is not there."""
        for it in self._ask("show", ids=[name]):
            headers = tuple((str(key), str(value)) for key, value in it["headers"])
            parts = tuple(Part(**part) for part in it["parts"])
            return Details(_entry(it), headers, it["text"], parts)
        raise MastioError(
            f"there is no message {name} in quarantine",
            hint="`mastio quarantine list` shows all",
            code=Exit.DATA,
        )

    def decide(self, verdict: Verdict, ids: Sequence[str]) -> tuple[Decided, ...]:
        """Releases messages to their recipients, or deletes them."""
        answers = self._ask(verdict, ids=list(ids))
        return tuple(Decided(it["id"], it["done"], it["why"]) for it in answers)

    def _ask(self, action: str, **what: Any) -> list[dict[str, Any]]:
        command = ["runuser", "-u", holding.USER, "--", *self._calling, holding.PROGRAM, "serve"]
        request = json.dumps({"action": action, **what}).encode()
        done = self._transport.run(self._store, command, request, timeout=_TIMEOUT)
        if done.code:
            raise MastioError(
                f"{self._store}: the quarantine does not answer: "
                f"{last_line(done.stderr) or ended(done.code)}",
                hint="`mastio apply` puts its program there",
            )
        answer: list[dict[str, Any]] = json.loads(done.stdout)
        return answer


def _entry(it: dict[str, Any]) -> Entry:
    return Entry(
        it["id"], it["recipient"], it["original"], it["sender"], it["reason"], it["arrived"],
        it["from"], it["subject"], it["size"],
    )  # fmt: skip
