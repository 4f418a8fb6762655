"""Restoring from the administrator's side: what was archived, what there is, and bringing the two together.

    restoring = Restoring(site, transport, tell)
    archive = restoring.choose(at)
    plan = restoring.plan(archive, "alice@fortress.example", Wish(into="Restored"))
    restoring.carry_out(archive, [plan])

Watch can only bring: the *ticket*, a folder on the store where it may, is made here, and putting in place is done
with the administrator's own power.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mastio import onwatch
from mastio.errors import Exit, MastioError
from mastio.hearing import BULK
from mastio.restoring import put, rows
from mastio.restoring.maildir import Live, Mailbox, mailbox, name_of
from mastio.restoring.plan import Plan, Wish, plan
from mastio.roles.store import DIRECTORY, VMAIL
from mastio.site.model import Role, Site
from mastio.transport import Transport

_PUT, _ROWS = (Path(str(it.__file__)).read_text() for it in (put, rows))
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive of a machine."""

    machine: str
    name: str
    at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one mailbox."""

    user: str
    put: int
    """Messages that came."""
    double: int = 0
    """Messages that turned out to be there already, elsewhere in the mailbox."""
    whole: bool = False
    """The mailbox came back as it was."""


@dataclass(frozen=True, slots=True)
class OnHold:
    """A message that waited in a gateway's hold queue."""

    sender: str
    recipients: tuple[str, ...]
    arrived: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the accounts directory that the archive has, and the directory lacks or has otherwise."""

    table: str
    row: str
    what: str


class Restoring:
    """What can be had back of `site`; `tell` hears how far it is."""

    def __init__(self, site: Site, transport: Transport, tell: Tell) -> None:
        self._transport, self._tell = transport, tell
        watches = site.carrying(Role.WATCH)
        if not watches:
            raise MastioError("this site has no watch: nothing is archived", code=Exit.USAGE)
        self._watch, self.store = watches[0].name, site.carrying(Role.STORE)[0].name

    def choose(self, at: float | None, machine: str = "") -> Archive:
        """The newest archive of a machine (the store), or the newest that was begun by then."""
        machine = machine or self.store
        found = self._one("choose", {"machine": machine, "at": at})
        return Archive(machine, found["name"], found["at"])

    def mailbox(self, archive: Archive, user: str) -> Mailbox:
        """What an archive has of a user."""
        found = self._one("mailbox", self._order(archive) | {"user": user})
        entries = [(str(path), int(size)) for path, size in found["entries"]]
        return mailbox(user, found["home"], entries, found["validity"])

    def search(self, archive: Archive, user: str, message_id: str) -> frozenset[str]:
        """The paths of the messages with that Message-ID."""
        found = self._one("search", self._order(archive) | {"user": user, "id": message_id})
        return frozenset(found["paths"])

    def homes(self, archive: Archive) -> list[str]:
        """Who has a mailbox in it."""
        return list(self._one("homes", self._order(archive))["homes"])

    def live(self, users: Sequence[str]) -> dict[str, Live]:
        """What there is of users now."""
        return {
            it["user"]: Live(
                it["exists"], {key: frozenset(rows) for key, rows in it["folders"].items()}, it["validity"],
                it["used"], it["limit"],
            )
            for it in self._store({"do": "look", "users": list(users)})
        }  # fmt: skip

    def plan(self, archive: Archive, user: str, wish: Wish) -> Plan:
        """What would come of a user. Raises MastioError when nothing can."""
        return plan(self.mailbox(archive, user), self.live([user])[user], wish)

    def carry_out(self, archive: Archive, plans: Sequence[Plan], *, unique: bool) -> list[Outcome]:
        """Brings what the plans need, and puts it in place. `unique`: not what is there under another name."""
        paths = [path for it in plans for path in it.paths]
        if not paths:
            return [Outcome(it.user, 0) for it in plans]
        with self._ticket(sum(it.octets for it in plans)) as ticket:
            self._bring(archive, ticket, paths, exact=True)
            orders = [_order(it, unique=unique) for it in plans]
            return [
                Outcome(it["user"], it["put"], it.get("double", 0))
                for it in self._store({"do": "put", "ticket": ticket, "plans": orders})
                if self._done(it)
            ]

    def whole(self, archive: Archive, users: Sequence[str], *, every: bool) -> list[Outcome]:
        """Mailboxes of those who have none, as they were; `every`: they are all that the archive has."""
        if not users:
            return []
        prefix = VMAIL.lstrip("/")
        homes = [f"{prefix}/{it.rpartition('@')[2]}/{it.rpartition('@')[0]}" for it in users]
        with self._ticket(0) as ticket:
            self._bring(archive, ticket, [prefix] if every else homes, exact=False)
            order = {"do": "homes", "ticket": ticket, "prefix": prefix, "users": list(users)}
            return [Outcome(it["user"], 0, whole=True) for it in self._store(order)]

    def accounts(self, archive: Archive, domains: Sequence[str], *, change: bool) -> list[Row]:
        """Rows of the archived directory that the store's lacks, put in when `change`, or has otherwise."""
        directory = DIRECTORY.lstrip("/")
        with self._ticket(0) as ticket:
            self._bring(archive, ticket, [directory], exact=True)
            order = {
                "ticket": ticket, "directory": directory, "domains": list(domains), "change": change,
            }  # fmt: skip
            return [Row(**it) for it in self._run(self.store, _ROWS, order)]

    def paths(self, archive: Archive) -> list[str]:
        """All files in an archive."""
        return list(self._one("paths", self._order(archive))["paths"])

    def on_hold(self, archive: Archive) -> list[OnHold]:
        """What an archived gateway held; the messages themselves are nowhere else."""
        return [
            OnHold(it["sender"], tuple(it["recipients"]), it["arrived"])
            for it in self._ask("on_hold", self._order(archive))
        ]

    def state(self, archive: Archive, paths: Sequence[str], units: Sequence[str]) -> int:
        """Files of a machine to where they were, while its `units` stand still; how many."""
        if not paths:
            return 0
        with self._ticket(0, archive.machine) as ticket:
            self._bring(archive, ticket, paths, exact=True)
            order = {"do": "state", "ticket": ticket, "units": list(units)}
            return sum(int(it["files"]) for it in self._on(archive.machine, order))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Dovecot and Postfix stand still: mail waits in the gateway's queue."""
        list(self._store({"do": "hold"}))
        try:
            yield
        finally:
            list(self._store({"do": "release"}))

    def _done(self, event: dict[str, Any]) -> bool:
        if "of" in event:
            self._tell(f"{event['user']}: {event['put']} of {event['of']} in place")
            return False
        return True

    @contextmanager
    def _ticket(self, octets: int, machine: str = "") -> Iterator[str]:
        """A folder on the machine (the store) where watch may bring; gone afterwards."""
        ticket, machine = secrets.token_hex(8), machine or self.store
        (opened,) = self._on(machine, {"do": "open", "ticket": ticket})
        try:
            if octets and octets > opened["free"]:
                raise MastioError(
                    f"{machine} has {opened['free'] / 2**30:.1f} GiB left, and {octets / 2**30:.1f} GiB would come",
                    code=Exit.CANT_CREATE,
                )
            yield ticket
        finally:
            list(self._on(machine, {"do": "close", "ticket": ticket}))

    def _bring(self, archive: Archive, ticket: str, paths: Sequence[str], *, exact: bool) -> None:
        order = self._order(archive) | {"ticket": ticket, "paths": list(paths), "exact": exact}
        for event in self._ask("bring", order):
            self._tell(f"{event['sent'] / 2**20:.1f} MiB brought")

    @staticmethod
    def _order(archive: Archive) -> dict[str, Any]:
        return {"machine": archive.machine, "archive": archive.name}

    def _ask(self, what: str, order: object) -> Iterator[dict[str, Any]]:
        return onwatch.events(self._transport, self._watch, "restoring", [what], order, BULK)

    def _one(self, what: str, order: object) -> dict[str, Any]:
        return next(self._ask(what, order))

    def _store(self, order: dict[str, Any]) -> Iterator[dict[str, Any]]:
        return self._on(self.store, order)

    def _on(self, machine: str, order: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What the program `put` answers there."""
        return self._run(machine, _PUT, {"ticket": "0" * 16, **order})

    def _run(self, machine: str, program: str, order: object) -> Iterator[dict[str, Any]]:
        sent = json.dumps(order).encode()
        for line in self._transport.stream_python(machine, program, sent, most=BULK):
            yield json.loads(line)


def _order(one: Plan, *, unique: bool) -> dict[str, Any]:
    """A plan as `put` reads it."""
    return {
        "user": one.user,
        "home": one.home,
        "unique": unique,
        "whole": list(one.whole),
        "others": list(one.others),
        "moves": [[it.path, it.folder, it.file, it.keywords, it.source] for it in one.moves],
        "names": {it.folder: name_of(it.folder) for it in one.moves},
    }
