"""The logs on watch, asked from the administrator's side: one round trip, answered as a stream.

logs = Logs(site, transport)
for line in logs.lines(Wanted(machines=("gateway",), since=time.time() - 3600), damaged := []): ...
found = logs.trace("alice@fortress.test", since)
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mastio import hearing
from mastio.context import LOGS
from mastio.errors import Exit, MastioError
from mastio.logs import chain, measure, reader
from mastio.logs.chain import Sealed
from mastio.roles.logbook import STATE
from mastio.site.model import Role, Site
from mastio.transport import PYTHON, Transport, ended, last_line, parcel, unavailable

MOST = 20
"""How many messages an address may name in a trace."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines."""

    since: float
    """Seconds since the epoch."""
    machines: tuple[str, ...] = ()
    """All, when none is named."""
    words: tuple[str, ...] = ()
    """Each must be in the line."""
    follow: bool = False
    """Whether to go on with what is added."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was said of some messages."""

    lines: tuple[str, ...]
    left_out: int
    """How many older messages of the same address are not in it."""


class Logs:
    """The logs of `site`, behind `transport`."""

    def __init__(self, site: Site, transport: Transport) -> None:
        watches = site.carrying(Role.WATCH)
        if not watches:
            raise MastioError("the site has no watch: nobody keeps its logs", code=Exit.DATA)
        self.watch = watches[0].name
        self._names = tuple(it.name for it in site.machines)
        self._own = [str(address) for it in site.machines for address in (*it.addresses, *it.inner)]
        self._transport = transport

    def lines(self, wanted: Wanted, damaged: list[str]) -> Iterator[str]:
        """The lines, in the order of their arrival; `damaged` has in the end the files that could not be read whole."""
        strange = set(wanted.machines) - set(self._names)
        if strange:
            raise MastioError(
                f"the site has no machine {', '.join(sorted(strange))}",
                hint=f"its machines are {', '.join(self._names)}",
                code=Exit.USAGE,
            )
        asked = {"machines": wanted.machines or self._names, "since": wanted.since,
                 "grep": wanted.words, "follow": wanted.follow}  # fmt: skip
        notes: list[str] = []
        yield from self._ask(reader.__file__, asked, notes, None)
        damaged += [it.removeprefix("damaged ") for it in notes if it.startswith("damaged ")]

    def trace(self, what: str, since: float, most: int = MOST) -> Found:
        """All lines of the messages that `what` names: an address, a message id or a queue id."""
        asked = {
            "machines": self._names,
            "since": since,
            "trace": what,
            "most": most,
            "own": self._own,
        }
        notes: list[str] = []
        lines = tuple(self._ask(reader.__file__, asked, notes))
        left = [it for it in notes if it.startswith("left out ")]
        return Found(lines, int(left[0].split()[2]) if left else 0)

    def sealed(self, since: str) -> Sealed:
        """The seals, and the files of days from `since` (YYYY-MM-DD) on as they are on disk."""
        asked = {"state": STATE, "since": since}
        return chain.gathered(self._ask(measure.__file__, asked, [], hearing.BULK))

    def _ask(
        self, program: str, asked: dict[str, Any], notes: list[str], most: int | None = hearing.MOST
    ) -> Iterator[str]:
        """What a program says there, line by line; `notes` gets what it says beside.

        Its input stays open: when this side goes away, by Ctrl-C too, it sees its end and stops.
        """
        source = Path(program).read_text("utf-8")
        given = parcel(source, json.dumps({"folder": LOGS, **asked}).encode())
        process = subprocess.Popen(
            self._transport.argv(self.watch, PYTHON), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        complaints = hearing.Complaints(process)
        assert process.stdin and process.stdout  # noqa: S101 — both are PIPE
        code: int | None = None
        try:
            process.stdin.write(given)
            process.stdin.flush()
            for line in hearing.lines(process, self.watch, most):
                yield line.decode(errors="replace")
            code = process.wait()
        except BrokenPipeError:
            code = process.wait()
        finally:
            if code is None:
                process.kill()
            process.stdout.close()
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
        words = complaints.end()
        if self._transport.lost(code):
            raise unavailable(self.watch, last_line(words))
        if code:
            raise MastioError(f"{self.watch}: {last_line(words) or ended(code)}")
        notes += words.decode(errors="replace").splitlines()
