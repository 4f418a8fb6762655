"""Moving what a machine holds to those that do its work from now on.

    moving = Moving(site, transport, machine, way, tell)
    moving.look()            # refuses what would be lost
    moving.copy()            # as often as one likes: nothing stands still
    moving.over()            # the short time in which nothing works: the rest, then the others open

Until the others open, the machine that is left has everything, and is opened again whatever goes wrong. Afterwards it
gives nothing any more: it hands browsers on, and refuses mail, which senders bring again (RFC 5321, 4.5.4.1).
"""

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mastio.context import LOGS
from mastio.dns.zone import addresses
from mastio.errors import Exit, MastioError
from mastio.hearing import BULK
from mastio.instances import ONLY, Instance, of_store
from mastio.leaving.look import MOVED
from mastio.moving import hand
from mastio.moving.duties import duties
from mastio.moving.requeue import taken_up
from mastio.moving.shut import do, forward, reopened, shut
from mastio.restoring import put
from mastio.restoring.client import Restoring
from mastio.restoring.whole import UNITS
from mastio.roles.backup import FOLDER as BACKUP
from mastio.roles.backup import KEYS
from mastio.site.model import Machine, Role, Site
from mastio.transport import Transport

_HAND, _PUT = (Path(str(it.__file__)).read_text() for it in (hand, put))
HERE = "/var/lib/mastio/moved-here.json"
"""On who takes: whence what is here came, and whether that is over."""
_QUEUES = ("incoming", "active", "deferred", "hold")
_DRAIN = 30.0
"""Seconds that mail on its way into mailboxes gets before everything stops; what waits longer moves as it is."""
_OFTEN = 2.0
"""Seconds from one word about how far it is to the next."""
Renamed = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """What came of it."""

    files: int
    """That are now on the other side, of mail, what is held back, logs and archives."""
    waiting: int
    """Messages that were still in a queue and moved with it."""
    webmail_away: float
    """Seconds for which browsers found nothing; 0 when the webmail did not move."""


class Moving:
    """One machine's move. `way` reaches it, `transport` the site's machines; `former` are the machines as they were
    together; `tell` hears how far it is."""

    def __init__(
        self, site: Site, transport: Transport, machine: Machine, former: Sequence[Machine], way: Transport,
        tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._site, self._transport, self._way, self._tell = site, transport, way, tell
        self._machine = machine
        self.duties = duties(machine, site, former)
        self._watch = machine.has(Role.WATCH) and machine.name not in _watches(site)

    def look(self) -> bool:
        """Whether it has moved already. Raises MastioError when what is there would be lost, or nobody takes a role."""
        for duty in self.duties:
            if not duty.takers:
                raise MastioError(
                    f"nobody is {duty.role} in the site file, which {self._machine.name} was",
                    code=Exit.DATA,
                )
        over = []
        for taker in self._takers:
            known = self._marker(taker)
            if known and known["from"] != self._machine.name:
                raise MastioError(
                    f"{taker} has what it holds from {known['from']}", code=Exit.DATA,
                    hint=f"a second machine's mail comes by `mastio restore` or `mastio import`; {taker}: {HERE}",
                )  # fmt: skip
            over.append(bool(known and known["over"]))
            if (
                not known
                and (kept := self._trees(taker))
                and self._list(self._transport, taker, kept)
            ):
                raise MastioError(
                    f"{taker} holds mail of its own: it would be lost", code=Exit.DATA,
                    hint="where mail is already, bring more by `mastio restore` or `mastio import`",
                )  # fmt: skip
        return any(over)

    def copy(self) -> int:
        """Files that came or went: brings the other side to what this one is now, while all goes on.

        A watch's logs are copied and not counted: what is written about the move itself never stands still.
        """
        changed = 0
        for duty in self.duties:
            for taker in duty.takers:
                self._mark(taker, over=False)
                changed += self._alike(taker, duty.kept.trees)
        if self._watch:
            trees, renamed = self._books()
            self._alike(_watches(self._site)[0], trees, renamed)
        return changed

    def over(self) -> Moved:
        """All the rest. MastioError when it did not succeed: then everything is where it was, and open."""
        began, settled = time.monotonic(), False
        self._tell(f"{self._machine.name}: closing its doors")
        try:
            waiting = self._shut()
            self.copy()
            with self._held():
                # Nothing changes on either side any more.
                if left := self.copy():
                    raise MastioError(f"{self._machine.name} is not still: {left} files changed")
                self._state()
                self._queue()
                self._passphrase()
                # From here on the others have it, and this machine must not.
                settled = True
                for taker in self._takers:
                    self._mark(taker, over=True)
            files = sum(
                len(self._list(self._way, self._machine.name, it.kept.trees)) for it in self.duties
            )
        except BaseException:
            if not settled:
                self._tell(f"{self._machine.name}: opening its doors again")
                reopened(self._way, self._machine, self._roles)
            raise
        self.leave_behind()
        away = time.monotonic() - began if self._has(Role.WEBMAIL) else 0.0
        return Moved(files, waiting, round(away, 1))

    def leave_behind(self) -> None:
        """What is left on the machine: browsers are handed on, queues are empty. Harmless a second time."""
        if self._has(Role.WEBMAIL):
            forward(self._way, self._machine, addresses(self._site, Role.WEBMAIL))
        names = ",".join(f"{it.role}:{'+'.join(it.takers)}" for it in self.duties)
        note = json.dumps({"at": time.time(), "to": names, "watch": self._watch})
        do(
            self._way, self._machine.name,
            'for config do test ! -e "$config/main.cf" || postsuper -c "$config" -d ALL; done; '
            f"umask 077; cat >{MOVED}",
            *(it.config for _, it in self._queues()), stdin=note.encode(),
        )  # fmt: skip

    def open_others(self) -> None:
        """Should they not be, since a run was cut short when all was done."""
        if self._has(Role.STORE):
            list(self._put(self._takers_of(Role.STORE)[0], {"do": "release", "ticket": "0" * 16}))

    def _held(self) -> AbstractContextManager[None]:
        """Who takes the mail stands still; a store that keeps its own need not."""
        if not self._has(Role.STORE):
            return nullcontext()
        return Restoring(self._site, self._transport, self._tell).held()

    def _has(self, role: Role) -> bool:
        return bool(self._takers_of(role))

    def _takers_of(self, role: Role) -> tuple[str, ...]:
        return tuple(name for it in self.duties if it.role is role for name in it.takers)

    @property
    def _takers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(it for duty in self.duties for it in duty.takers))

    @property
    def _roles(self) -> tuple[Role, ...]:
        gone = [it.role for it in self.duties]
        return (*gone, *((Role.WATCH,) if self._watch else ()))

    def _shut(self) -> int:
        """How many messages are in its queues when it stands still."""

        queues = [it.config for _, it in self._queues()]

        def waiting() -> dict[str, int]:
            order = {"do": "queue", "configs": queues}
            (found,) = self._events(self._way, self._machine.name, order)
            return dict(found)

        return shut(self._way, self._machine, self._roles, queues, waiting, _DRAIN)

    def _trees(self, taker: str) -> tuple[str, ...]:
        return tuple(tree for it in self.duties if taker in it.takers for tree in it.kept.trees)

    def _books(self) -> tuple[tuple[str, ...], Renamed]:
        """What a watch has of itself: its logs; its archives, which are set aside."""
        name = self._machine.name
        archives = f"{BACKUP}/{name}"
        return (f"{LOGS}/{name}", archives), ((archives, f"{BACKUP}/former/{name}/repository"),)

    def _passphrase(self) -> None:
        """What opens its archives stands beside them."""
        name = self._machine.name
        if self._watch and self._list(self._way, name, [f"{BACKUP}/{name}"]):
            renamed = ((f"{KEYS}/{name}", f"{BACKUP}/former/{name}/passphrase"),)
            order = {"paths": [f"{KEYS}/{name}"], "trees": [KEYS]}
            self._give(_watches(self._site)[0], order, renamed=renamed)

    def _alike(self, taker: str, trees: Sequence[str], renamed: Renamed = ()) -> int:
        """Makes what `taker` has below the trees what the machine has; how many files came or went."""
        if not trees:
            return 0
        wanted = self._list(self._way, self._machine.name, trees)
        there = [*trees, *(new for _, new in renamed)]
        found = {
            _back(it, renamed): what
            for it, what in self._list(self._transport, taker, there).items()
        }
        coming = [path for path, what in wanted.items() if found.get(path) != what]
        going = [_ahead(path, renamed) for path in found if path not in wanted]
        if going:
            list(
                self._events(self._transport, taker, {"do": "drop", "paths": going, "trees": there})
            )
        if coming:
            self._give(taker, {"paths": coming, "trees": [*trees]}, renamed=renamed)
        return len(coming) + len(going)

    def _state(self) -> None:
        """Databases, and what the filter has learned, to where they belong."""
        for duty in self.duties:
            memory = [it for it in duty.kept.dumps if "{}" in it[1]]
            if not duty.kept.databases and not memory:
                continue
            for taker in duty.takers:
                self._tell(f"{taker}: what {duty.role} knows")
                with self._stage(taker) as (ticket, stage):
                    self._give(
                        taker, {"paths": [], "trees": [], "databases": duty.kept.databases, "dumps": memory},
                        root=stage,
                    )  # fmt: skip
                    units = [] if duty.role is Role.STORE else list(UNITS[duty.role])
                    list(self._put(taker, {"do": "state", "ticket": ticket, "units": units}))

    def _queue(self) -> None:
        """Messages that still wait, into the queue of who sends now; named anew there (postsuper(1), -s)."""
        for role, mine in self._queues():
            standing = role is Role.STORE  # held by who called
            taker = self._site.carrying(role if standing else Role.GATEWAY_OUT)[0]
            target = of_store(taker) if standing else ONLY
            trees = [f"{mine.queue}/{it}" for it in _QUEUES]
            if not (paths := list(self._list(self._way, self._machine.name, trees))):
                continue
            renamed = tuple((it, f"{target.queue}/{Path(it).name}") for it in trees)
            if not standing:
                do(self._transport, taker.name, f"systemctl stop {target.unit}")
            try:
                self._give(taker.name, {"paths": paths, "trees": trees}, renamed=renamed)
                taken_up(self._transport, taker.name, target, anew=standing)
            finally:
                if not standing:
                    do(self._transport, taker.name, f"systemctl start {target.unit}")

    def _queues(self) -> Iterator[tuple[Role, Instance]]:
        for it in self.duties:
            if it.role in (Role.GATEWAY_IN, Role.GATEWAY_OUT):
                yield it.role, ONLY
            elif it.role is Role.STORE:
                yield it.role, of_store(self._machine)

    @contextmanager
    def _stage(self, taker: str) -> Iterator[tuple[str, str]]:
        ticket = secrets.token_hex(8)
        (opened,) = self._put(taker, {"do": "open", "ticket": ticket})
        try:
            yield ticket, opened["stage"]
        finally:
            list(self._put(taker, {"do": "close", "ticket": ticket}))

    def _put(self, taker: str, order: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for line in self._transport.stream_python(taker, _PUT, json.dumps(order).encode()):
            yield json.loads(line)

    def _give(
        self, taker: str, order: dict[str, Any], root: str = "", renamed: Renamed = ()
    ) -> None:
        """From the machine through here to `taker`; nothing is written here."""
        asked = {"do": "give", "databases": [], "dumps": [], **order}
        files = [it.lstrip("/") for it in asked["databases"]] + [name for name, _ in asked["dumps"]]
        take = {
            "do": "take",
            "root": root,
            "trees": asked["trees"],
            "files": files,
            "renamed": renamed,
        }
        trouble: list[MastioError] = []
        giver, sent = self._machine.name, json.dumps(asked).encode()
        stream = self._way.stream_python(giver, _HAND, sent, most=None)
        rest = self._told(_remembering(stream, trouble))
        try:
            list(self._transport.stream_python(taker, _HAND, json.dumps(take).encode(), rest))
        except MastioError as error:
            raise (trouble or [error])[0] from None
        if trouble:
            raise trouble[0]

    def _told(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        octets, last = 0, time.monotonic()
        for chunk in chunks:
            octets += len(chunk)
            if time.monotonic() - last > _OFTEN:
                last = time.monotonic()
                self._tell(f"{octets / 2**20:.0f} MiB copied")
            yield chunk

    def _list(self, way: Transport, machine: str, trees: Sequence[str]) -> dict[str, str]:
        return dict(self._events(way, machine, {"do": "list", "trees": list(trees)}))

    @staticmethod
    def _events(way: Transport, machine: str, order: dict[str, Any]) -> Iterator[Any]:
        sent = json.dumps(order).encode()
        for line in way.stream_python(machine, _HAND, sent, most=BULK):
            yield json.loads(line)

    def _marker(self, taker: str) -> dict[str, Any] | None:
        done = self._transport.run(taker, ["cat", HERE])
        return None if done.code else dict(json.loads(done.stdout))

    def _mark(self, taker: str, *, over: bool) -> None:
        words = json.dumps({"from": self._machine.name, "over": over})
        do(self._transport, taker, f"umask 077; cat >{HERE}", stdin=words.encode())


def _watches(site: Site) -> list[str]:
    return [it.name for it in site.carrying(Role.WATCH)]


def _remembering(chunks: Iterable[bytes], trouble: list[MastioError]) -> Iterator[bytes]:
    """Who is fed would only say that the stream ended; why is told by who gave it."""
    try:
        yield from chunks
    except MastioError as error:
        trouble.append(error)


def _ahead(path: str, renamed: Renamed) -> str:
    for old, new in renamed:
        if path == old or path.startswith(f"{old}/"):
            return new + path.removeprefix(old)
    return path


def _back(path: str, renamed: Renamed) -> str:
    return _ahead(path, tuple((new, old) for old, new in renamed))
