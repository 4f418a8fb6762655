"""Accounts from the administrator's side: changes go to the store, the outcome to all gateways.

    accounts = Accounts(site, transport)
    accounts.change([AddUser("alice@fortress.test", passwords.hashed(secret))]).notes
    accounts.listing().users

A change is applied whole or refused whole, with all reasons (`Refusal`). A gateway that cannot be
reached does not undo it: `Outcome.late` names it, and the next `sync` brings it up to date.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from types import ModuleType
from typing import Any

from mastio.accounts import directory, recipients, ways
from mastio.accounts.model import Change, clean, plain, subject
from mastio.errors import Exit, MastioError
from mastio.roles import store
from mastio.roles.gateway.files import RECIPIENTS
from mastio.site.model import DUTIES, REPORTS, Role, Site
from mastio.transport import Transport, ended, last_line

_TIMEOUT = 120
"""In seconds; a hundred thousand accounts need a few."""
_ROUNDS = 5
"""How often a push starts again because somebody else has changed accounts meanwhile."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a change was refused."""

    change: int
    """Its index; -1 when several together are wrong."""
    what: str
    hint: str = ""

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.what, self.hint)))


class RefusedError(MastioError):
    """All that is wrong with a list of changes; nothing was changed."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        self.refusals = tuple(refusals)
        super().__init__("\n".join(map(str, refusals)), hint="nothing was changed", code=Exit.DATA)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a change or a sync."""

    notes: tuple[str, ...] = ()
    """What the administrator should know."""
    updated: tuple[str, ...] = ()
    """Gateways that got a new list; the others had it."""
    late: tuple[tuple[str, str], ...] = ()
    """Gateways that could not be updated, and why."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A mail domain and how much is in it."""

    name: str
    catch_all: str
    users: int
    aliases: int


@dataclass(frozen=True, slots=True)
class User:
    """A mailbox."""

    address: str
    name: str
    quota_mib: int
    """0: the site's default."""
    enabled: bool
    forwards: tuple[str, ...]
    keep_copy: bool


@dataclass(frozen=True, slots=True)
class Alias:
    """An address that leads elsewhere."""

    address: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything in the directory but the passwords."""

    domains: tuple[Domain, ...]
    users: tuple[User, ...]
    aliases: tuple[Alias, ...]


class Accounts:
    """The accounts of `site`, behind `transport`."""

    def __init__(self, site: Site, transport: Transport) -> None:
        self._site = site
        self._transport = transport
        self._store = site.carrying(Role.STORE)[0].name
        self._gateways = [it.name for it in site.carrying(Role.GATEWAY_IN, Role.GATEWAY_OUT)]

    def change(self, changes: Sequence[Change]) -> Outcome:
        """Applies all of `changes` or none, and tells the gateways.

        Raises RefusedError, or MastioError when the store cannot be reached.
        """
        judged = [clean(it) for it in changes]
        if refusals := _wrong(judged):
            raise RefusedError(refusals)
        return self._push(self._ask([change for change, _ in judged], want="recipients"))

    def sync(self) -> Outcome:
        """Gives all gateways the current list; harmless when they have it."""
        return self._push(self._ask(want="recipients"))

    def listing(self) -> Listing:
        """What is in the directory."""
        answer = self._ask(want="listing")
        return Listing(
            domains=tuple(Domain(**it) for it in answer["domains"]),
            users=tuple(
                User(**{**it, "forwards": tuple(it["forwards"])}) for it in answer["users"]
            ),
            aliases=tuple(Alias(it["address"], tuple(it["targets"])) for it in answer["aliases"]),
        )

    def judge(self, changes: Sequence[Change]) -> None:
        """Raises RefusedError with everything that is wrong, in the changes themselves and with them
        on the store; changes nothing.
        """
        judged = [clean(it) for it in changes]
        refusals = _wrong(judged)
        sound = [index for index, (_, wrong) in enumerate(judged) if not wrong]
        try:
            self._ask([judged[index][0] for index in sound], dry=True)
        except RefusedError as more:
            refusals += [
                Refusal(sound[it.change] if it.change >= 0 else -1, it.what, it.hint)
                for it in more.refusals
            ]
        if refusals:
            raise RefusedError(sorted(refusals, key=lambda it: it.change))

    def _ask(
        self, changes: Sequence[Change] = (), *, want: str = "", dry: bool = False
    ) -> dict[str, Any]:
        request = directory.Request(
            path=store.DIRECTORY,
            schema=Path(store.__file__).with_name("directory.sql").read_text(),
            owner=store.OWNER,
            vmail=store.VMAIL,
            admin=self._site.admin_mail,
            duties=list(DUTIES),
            reports=[f"{name}@{self._site.domains[0]}" for name in REPORTS],
            site_domains=list(self._site.domains),
            changes=[plain(it) for it in changes],
            dry=dry,
            want=want,
        )
        answer = self._run(self._store, _directory(), request)
        if answer["errors"]:
            raise RefusedError([Refusal(**it) for it in answer["errors"]])
        return answer

    def _push(self, answer: dict[str, Any]) -> Outcome:
        notes = tuple(answer["notes"])
        updated: set[str] = set()
        late: dict[str, str] = {}
        for _ in range(_ROUNDS):
            request = {"folder": RECIPIENTS, **{name: answer[name] for name in recipients.MAPS}}
            with ThreadPoolExecutor() as pool:
                results = list(pool.map(self._give, self._gateways, repeat(request)))
            late = {}
            for name, result in zip(self._gateways, results, strict=True):
                if isinstance(result, MastioError):
                    late[name] = result.message
                elif result:
                    updated.add(name)
            # Somebody else may have changed and pushed meanwhile, and ours came after theirs.
            if self._ask()["generation"] == answer["generation"]:
                break
            answer = self._ask(want="recipients")
        return Outcome(notes, tuple(sorted(updated)), tuple(late.items()))

    def _give(self, gateway: str, request: dict[str, Any]) -> bool | MastioError:
        try:
            return bool(self._run(gateway, _source(recipients), request)["changed"])
        except MastioError as error:
            return error

    def _run(self, machine: str, program: str, request: object) -> dict[str, Any]:
        done = self._transport.run_python(machine, program, json.dumps(request).encode(), _TIMEOUT)
        if done.code:
            words = last_line(done.stderr) or ended(done.code)
            raise MastioError(f"{machine}: {words}", hint="is the machine built? `mastio apply`")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def _wrong(judged: Sequence[tuple[Change, tuple[str, ...]]]) -> list[Refusal]:
    return [
        Refusal(index, what if subject(change) in what else f"{subject(change)}: {what}")
        for index, (change, wrong) in enumerate(judged)
        for what in wrong
    ]


_LOADER = """\
import sys, types
ways = sys.modules["mastio.accounts.ways"] = types.ModuleType("mastio.accounts.ways")
exec({ways!r}, ways.__dict__)
exec({directory!r}, globals())
"""


def _directory() -> str:
    """`directory` and the module that it imports, as one program."""
    return _LOADER.format(ways=_source(ways), directory=_source(directory))


def _source(module: ModuleType) -> str:
    return Path(str(module.__file__)).read_text("utf-8")
