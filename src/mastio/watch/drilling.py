"""A drill: a store for some minutes from the newest archive, read over IMAP, compared with the live one.

    drill = Drill(store, ssh, say)
    record = drill.run(by, sample=10, oldest=86_400)

Nothing is written anywhere but in the scratch store's own /tmp, and nothing of the live store changes.
"""

import json
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from mastio.errors import Exit, MastioError
from mastio.hearing import MIB, hear
from mastio.restoring.compare import Found, compare
from mastio.roles.restore import SOCKET
from mastio.roles.store import DIRECTORY, VMAIL
from mastio.transport import last_line
from mastio.watch.archives import Archives, choose, reading

_CHUNK = 1 << 20
_ANSWER = 4 * 3600.0
_DOOR = 3600.0
_SAID = 256 * MIB
"""Octets that the live store tells: some hundred for each message, of two million."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a drill found."""

    at: float
    by: str
    good: bool = False
    bad: tuple[str, ...] = ()
    """What is wrong, a sentence each."""
    archive: str = ""
    of: float = 0.0
    """When the archive was begun."""
    mailboxes: int = 0
    """How many were read, of `accounts`."""
    accounts: int = 0
    messages: int = 0
    """Of the archive, in these mailboxes."""
    same: int = 0
    """Of them in the live store, octet by octet."""
    came: int = 0
    gone: int = 0
    """Messages that came to, and went from, the live store since."""
    seconds: float = 0.0
    steps: Mapping[str, float] = field(default_factory=dict)
    """Seconds of its parts."""


def day(at: float) -> str:
    """A time for people."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


class Drill:
    """One site's drills. `say` hears each step."""

    def __init__(self, store: str, ssh: Sequence[str], say: Callable[[str], None]) -> None:
        self._store, self._ssh, self._say = store, ssh, say

    def run(self, by: str, sample: int, oldest: float) -> Record:
        """A whole drill with `sample` mailboxes (0: all); an archive older than `oldest` seconds is too old."""
        at, begin = time.time(), time.monotonic()
        steps: dict[str, float] = {}
        bad: list[str] = []
        try:
            with reading(self._store) as archives:
                record = self._run(archives, at, by, sample, oldest, steps, bad)
        except (MastioError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            words = (
                error.message
                if isinstance(error, MastioError)
                else f"{type(error).__name__}: {error}"
            )
            record = Record(at, by, bad=(*bad, words))
        data = asdict(record) | {"seconds": round(time.monotonic() - begin, 1), "steps": steps}
        return Record(**data)

    def _run(
        self,
        archives: Archives,
        at: float,
        by: str,
        sample: int,
        oldest: float,
        steps: dict[str, float],
        bad: list[str],
    ) -> Record:
        step = self._step(steps, "choosing")
        archive = choose(archives.all(), None, self._store)
        if at - archive.at > oldest:
            bad.append(
                f"the newest archive is of {day(archive.at)}, older than {oldest / 3600:g} hours"
            )
        counts: dict[str, int] = json.loads(self._ask("census"))
        everybody = sorted(counts)
        users = sorted(
            random.sample(everybody, min(sample, len(everybody))) if sample else everybody
        )
        step = self._step(steps, "unpacking and reading", step)
        self._say(f"the archive of {day(archive.at)}, {len(users)} of {len(everybody)} mailboxes")
        scratch = self._scratch(archives, archive.name, users, full=not sample)
        step = self._step(steps, "the live store", step)
        self._say("the live store's digests")
        live = self._live(users)
        self._step(steps, "", step)
        found = [self._compared(it, scratch, live, archive.at) for it in users]
        bad += [words for it in found for words in it.bad]
        messages, came = sum(it.archived for it in found), sum(it.came for it in found)
        if came and not messages:
            bad.append("the archive has no message of these mailboxes")
        return Record(
            at, by, not bad, tuple(bad), archive.name, archive.at, len(users), len(everybody), messages,
            sum(it.same for it in found), came, sum(it.gone for it in found),
        )  # fmt: skip

    @staticmethod
    def _step(
        steps: dict[str, float], name: str, last: tuple[str, float] | None = None
    ) -> tuple[str, float]:
        now = time.monotonic()
        if last:
            steps[last[0]] = round(now - last[1], 2)
        return name, now

    @staticmethod
    def _compared(
        user: str, scratch: Mapping[str, Any], live: Mapping[str, Any], begun: float
    ) -> Found:
        seen = scratch.get(user, {"error": "the scratch store said nothing of it", "files": {}})
        error = seen["error"] or "; ".join(seen.get("differ", ()))
        return compare(user, seen["files"], live.get(user, {}), begun, error, seen.get("login"))

    def _ask(self, word: str, order: object = None) -> str:
        """What the live store says."""
        argv, sent = [*self._ssh, word], json.dumps(order).encode()
        done = hear(argv, sent, who=self._store, seconds=_DOOR, most=_SAID)
        if done.code:
            raise MastioError(
                f"{self._store} does not tell {word}: {last_line(done.stderr) or done.code}",
                code=Exit.UNAVAILABLE,
            )
        return done.stdout.decode()

    def _live(self, users: list[str]) -> dict[str, Any]:
        rows = (json.loads(line) for line in self._ask("hashes", {"users": users}).splitlines())
        return {it["user"]: it["folders"] for it in rows}

    def _scratch(
        self, archives: Archives, archive: str, users: list[str], *, full: bool
    ) -> dict[str, Any]:
        """What the scratch store says of each user."""
        vmail, directory = VMAIL.lstrip("/"), DIRECTORY.lstrip("/")
        homes = [f"{vmail}/{it.rpartition('@')[2]}/{it.rpartition('@')[0]}" for it in users]
        paths = [directory, *([vmail] if full else homes)]
        order = {"users": users, "vmail": vmail, "directory": directory}
        found: dict[str, Any] = {}
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_ANSWER)
            line.connect(SOCKET)
            line.sendall(json.dumps(order).encode() + b"\n")
            broken = False
            with archives.tar(archive, paths) as stream:
                # One that gives up while we still send says why below.
                try:
                    shutil.copyfileobj(stream, _Sending(line), _CHUNK)
                except BrokenPipeError:
                    broken = True
            if not broken:
                line.shutdown(socket.SHUT_WR)
            for event in self._said(line):
                if "error" in event and "user" not in event:
                    raise MastioError(f"the scratch store: {event['error']}")
                if "user" in event:
                    found[event["user"]] = event
                    count = sum(map(len, event["files"].values()))
                    self._say(f"{event['user']}: {event['error'] or f'{count} messages'}")
                if "done" in event:
                    return found
        raise MastioError("the scratch store ended in the middle of its work")

    @staticmethod
    def _said(line: socket.socket) -> Iterator[dict[str, Any]]:
        with suppress(ConnectionResetError), line.makefile("rb") as answers:
            for row in answers:
                yield json.loads(row)


class _Sending:
    """A socket as a file to copy to."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def write(self, data: bytes) -> int:
        """All of it."""
        self._line.sendall(data)
        return len(data)
