"""What an administrator asks of the quarantine on the store, and of the gateways where mail is held on its way out.

    quarantine = Quarantine(site, transport)
    for entry in quarantine.find(Filter(recipient="alice@")): ...
    quarantine.decide(Verdict.RELEASE, ids=["4gXk…-0a1b2c"])

The machines' programs answer: what strangers wrote is parsed there, as a user who owns nothing else, and comes here as
JSON, one line to a value, without control characters. A machine that does not answer is in `silent`; the others count.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from mastio.errors import Exit, MastioError
from mastio.heldmail import MISSING
from mastio.instances import calling, of_store
from mastio.roles.gateway import holding as gateway_holding
from mastio.roles.store import holding as store_holding
from mastio.site.model import Role, Site
from mastio.transport import Transport, ended, last_line

_TIMEOUT = 300
"""In seconds; ten thousand messages take some."""


class Verdict(StrEnum):
    """What may become of a message."""

    RELEASE = "release"
    DELETE = "delete"


class Direction(StrEnum):
    """Where a message was going."""

    INCOMING = "incoming"
    """To a mailbox: held by the store, for each recipient by itself."""
    LEAVING = "leaving"
    """Out of the site: held by a gateway, for all recipients."""


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
    """A message that is held back: for one recipient, or on its way out."""

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
    direction: Direction
    machine: str
    """Where it is held."""
    recipients: tuple[str, ...]
    """All whom the decision is for; `recipient` has them in one text."""
    sent: bool = False
    """It was released to an address elsewhere, and this is a copy."""


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
    sent: bool = False
    """It is on its way to an address elsewhere; a copy stays, since the gateway may refuse it."""


@dataclass(frozen=True, slots=True)
class _Place:
    machine: str
    direction: Direction
    command: tuple[str, ...]

    def may_have(self, name: str) -> bool:
        """Whether an entry of that name may be here: the gateway's is a queue id, the store's has more behind it."""
        return ("-" in name) == (self.direction is Direction.INCOMING)


class Quarantine:
    """All that is held back in `site`, behind `transport`."""

    def __init__(self, site: Site, transport: Transport) -> None:
        self._transport = transport
        self._silent: dict[_Place, MastioError] = {}
        store = site.carrying(Role.STORE)[0]
        as_its_user = ("runuser", "-u", store_holding.USER, "--", *calling(of_store(store)))
        self._places = (
            _Place(store.name, Direction.INCOMING, (*as_its_user, store_holding.PROGRAM, "serve")),
            *(
                _Place(it.name, Direction.LEAVING, (gateway_holding.PROGRAM, "serve"))
                for it in site.carrying(Role.GATEWAY_OUT)
            ),
        )

    @property
    def silent(self) -> tuple[MastioError, ...]:
        """Who did not answer so far, and why."""
        return tuple(self._silent.values())

    def find(self, which: Filter) -> tuple[Entry, ...]:
        """The messages that fit, oldest first."""
        found = [
            _entry(place, it)
            for place in self._places
            for it in self._ask(place, "list", filter=which.plain())
        ]
        return tuple(sorted(found, key=lambda it: (it.arrived, it.id)))

    def show(self, name: str) -> Details:
        """One message; raises MastioError when it is not there."""
        for place in (it for it in self._places if it.may_have(name)):
            for it in self._ask(place, "show", ids=[name]):
                headers = tuple((str(key), str(value)) for key, value in it["headers"])
                parts = tuple(Part(**part) for part in it["parts"])
                return Details(_entry(place, it), headers, it["text"], parts)
        for error in self.silent:
            raise error
        raise MastioError(
            f"there is no message {name} in quarantine",
            hint="`mastio quarantine list` shows all",
            code=Exit.DATA,
        )

    def decide(self, verdict: Verdict, ids: Sequence[str]) -> tuple[Decided, ...]:
        """Releases messages to their recipients, or deletes them."""
        decided: dict[str, Decided] = {}
        for place in self._places:
            here = [it for it in ids if place.may_have(it)]
            for it in self._ask(place, verdict, ids=here) if here else ():
                said = Decided(it["id"], it["done"], it["why"], it.get("sent", False))
                # Of several gateways one has it; the others say that there is no such message.
                if said.id not in decided or said.done or said.why != MISSING:
                    decided[said.id] = said
        return tuple(self._fate(decided.get(it, Decided(it, False, MISSING))) for it in ids)

    def _fate(self, said: Decided) -> Decided:
        """Who did not answer may have what all others have not."""
        away = ", ".join(it.machine for it in self._silent if it.may_have(said.id))
        return replace(said, why=f"{away} did not answer") if away and said.why == MISSING else said

    def _ask(self, place: _Place, action: str, **what: Any) -> list[dict[str, Any]]:
        request = json.dumps({"action": action, **what}).encode()
        try:
            done = self._transport.run(place.machine, place.command, request, timeout=_TIMEOUT)
        except MastioError as error:
            self._silent[place] = error
            return []
        if done.code:
            self._silent[place] = MastioError(
                f"{place.machine}: the quarantine does not answer: "
                f"{last_line(done.stderr) or ended(done.code)}",
                hint="`mastio apply` puts its program there",
            )
            return []
        answer: list[dict[str, Any]] = json.loads(done.stdout)
        return answer


def _entry(place: _Place, it: dict[str, Any]) -> Entry:
    return Entry(
        it["id"], it["recipient"], it["original"], it["sender"], it["reason"], it["arrived"],
        it["from"], it["subject"], it["size"], place.direction, place.machine,
        tuple(it.get("recipients", [it["recipient"]])), it.get("sent", False),
    )  # fmt: skip
