"""Held outgoing mail from the administrator's side: who is paused, what is held, and what becomes of it.

    outbound = Outbound(site, transport)
    outbound.show().paused
    outbound.release("bob@fortress.test")      # → how many messages went

`WHAT` is a user, or one message by its queue id.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from mastio.errors import Exit, MastioError
from mastio.instances import calling, of_store
from mastio.roles.store import OUTBOUND
from mastio.roles.store.outbound import UNKNOWN
from mastio.site.model import Role, Site
from mastio.transport import Transport, ended, last_line

_TIMEOUT = 300
"""In seconds; thousands of held messages take a while."""


@dataclass(frozen=True, slots=True)
class Paused:
    """A user whose messages are held."""

    user: str
    since: float
    """Seconds since the epoch."""
    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """A message in the hold queue."""

    message: str
    """Its queue id."""
    user: str
    """Empty when somebody else put it there, by postsuper(1)."""
    sender: str
    recipients: tuple[str, ...]
    size: int
    """In octets."""
    arrived: float
    by_script: bool = False
    """The user's Sieve script has sent it: a redirect, an answer."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything that waits for a decision."""

    paused: tuple[Paused, ...]
    held: tuple[Held, ...]

    def of(self, what: str) -> tuple[Held, ...]:
        """The messages of a user, or the one message of that name."""
        return tuple(it for it in self.held if what in (it.user, it.message))

    def doomed(self, what: str) -> tuple[Held, ...]:
        """Those of them that `drop` deletes. Of what scripts pass on only the message that is named: it may be the only
        copy of what somebody else has written."""
        return tuple(it for it in self.of(what) if what == it.message or not it.by_script)


class Outbound:
    """The hold queue of `site`'s store, behind `transport`."""

    def __init__(self, site: Site, transport: Transport) -> None:
        store = site.carrying(Role.STORE)[0]
        self._store, self._calling = store.name, calling(of_store(store))
        self._transport = transport

    def show(self) -> Shown:
        """Who is paused and what is held."""
        answer = json.loads(self._run(["show"]))
        return Shown(
            tuple(Paused(**it) for it in answer["paused"]),
            tuple(Held(**{**it, "recipients": tuple(it["recipients"])}) for it in answer["held"]),
        )

    def release(self, what: str) -> int:
        """Sends what is held; a user may go on, counted from zero. How many messages went."""
        return int(self._run(["release", what]))

    def drop(self, what: str) -> int:
        """Deletes what is held (see `doomed`), for good; a user stays paused. How many messages went."""
        return int(self._run(["drop", what]))

    def _run(self, words: Sequence[str]) -> str:
        done = self._transport.run(
            self._store, [*self._calling, OUTBOUND, *words], timeout=_TIMEOUT
        )
        if done.code == UNKNOWN:
            raise MastioError(
                last_line(done.stderr), hint="`mastio outbound show` lists both", code=Exit.DATA
            )
        if done.code:
            raise MastioError(
                f"{self._store}: {last_line(done.stderr) or ended(done.code)}",
                hint="is the machine built? `mastio apply`",
            )
        return done.stdout.decode()
