"""What an administrator's machine asks of watch about integrity; and what the site folder remembers of it.

    integrity = Integrity(site, transport, folder)
    for event in integrity.check(["store"]): …

The site folder's `integrity.json` holds the seal that the last apply or accept left on watch: whoever edits a
reference and its seal there is found out from here.
"""

import getpass
import json
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from mastio import onwatch
from mastio.errors import Exit, MastioError
from mastio.files import put
from mastio.integrity.expected import of_apply
from mastio.plan import MachinePlan
from mastio.roles.integrity import TOOLS
from mastio.site.model import Role, Site
from mastio.state import HostState
from mastio.transport import Transport, last_line

LEDGER = "integrity.json"
_NAME = """
import json, os
order = json.loads(PAYLOAD)
path = order["path"]
try:
    with open(path) as file:
        known = file.read().strip()
except FileNotFoundError:
    known = ""
if order["anew"] or not known:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with open(path + ".new", "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(order["digest"] + "\\n")
    os.rename(path + ".new", path)
"""
"""Runs on a machine: names the tools that watch may have run there, unless some are named already."""


class Integrity:
    """The watch's part in integrity, as seen from here."""

    def __init__(self, site: Site, transport: Transport, folder: Path) -> None:
        self._site, self._transport, self._folder = site, transport, folder
        watches = site.carrying(Role.WATCH)
        if not watches:
            raise MastioError("this site has no watch: nobody measures", code=Exit.USAGE)
        self._watch = watches[0].name

    @property
    def ledger(self) -> dict[str, Any]:
        """What the site folder remembers: `seal`, and the `machines` that have a reference."""
        with suppress(FileNotFoundError, ValueError):
            found = json.loads((self._folder / LEDGER).read_text())
            if isinstance(found, dict):
                return found
        return {}

    @property
    def kept(self) -> frozenset[str]:
        """Machines that have a reference, as far as is known here."""
        return frozenset(self.ledger.get("machines", ()))

    def check(
        self, machines: Sequence[str] = (), *, deep: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Measures now; events as they come."""
        return self._ask(["deep" if deep else "check", *machines])

    def status(self) -> list[dict[str, Any]]:
        """What watch knows of each machine; the last has `broken`, and `edited`: the seal is not ours."""
        rows = list(self._ask(["status"]))
        seal = rows.pop()["seal"]
        rows[-1]["edited"] = bool(self.ledger) and seal != self.ledger.get("seal")
        return rows

    def follow(self, seals: Sequence[Sequence[str]]) -> int:
        """Remembers the seal to which updates on watch have led, when they begin at the one known here; how many.

        `seals` are `[before, after]`, the oldest first. They are watch's own word: whoever looks at what was updated
        is who can tell (docs/decisions/0029).
        """
        ledger, count = self.ledger, 0
        for before, after in seals:
            if before and before != after and before == ledger.get("seal"):
                ledger["seal"], count = after, count + 1
        if count:
            self._remember(ledger)
        return count

    def begin(self, machines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Takes the first reference of those that have none."""
        self._name(machines)
        order = {"by": who(), "machines": dict.fromkeys(machines, _NOTHING)}
        return self._kept(self._ask(["settle"], order))

    def settle(
        self, done: Mapping[str, tuple[HostState, MachinePlan]]
    ) -> Iterator[dict[str, Any]]:  # fmt: skip
        """After an apply: what it changed is as it should be, and what has no reference gets one."""
        # Whatever goes wrong from here on, the next apply knows that something is due.
        self._remember(self.ledger)
        self._name(done)
        order = {"by": who(), "machines": {it: of_apply(*both) for it, both in done.items()}}
        return self._kept(self._ask(["settle"], order))

    def renew(self, machines: Iterable[str], why: str, *, tools: bool) -> Iterator[dict[str, Any]]:
        """Takes machines as they are, whole; with `tools`, AIDE as watch's packages have it now."""
        every = [it.name for it in self._site.machines]
        self._name(every if tools else machines, why, anew=tools)
        order = {"by": who(), "why": why, "machines": [*machines]}
        return self._kept(self._ask(["renew"], order))

    def accept(self, machine: str, what: Sequence[str], why: str) -> dict[str, Any]:
        """Takes over differences of a machine: those named, or all."""
        order = {"by": who(), "why": why, "machine": machine, "what": [*what]}
        return next(it for it in [*self._kept(self._ask(["accept"], order))] if "accepted" in it)

    def _name(
        self, machines: Iterable[str], why: str = "first apply", *, anew: bool = False
    ) -> None:
        """Has watch gather AIDE if it has none, and tells machines what may be run there."""
        order = {"by": who(), "why": why, "anew": anew}
        digest = [*self._ask(["tools"], order)][-1]["tools"]
        payload = json.dumps({"path": TOOLS, "digest": digest, "anew": anew}).encode()

        def tell(machine: str) -> None:
            done = self._transport.run_python(machine, _NAME, payload)
            if done.code:
                raise MastioError(f"{machine}: naming the tools failed: {last_line(done.stderr)}")

        machines = list(machines)
        with ThreadPoolExecutor(max(1, len(machines))) as pool:
            list(pool.map(tell, machines))

    def _ask(self, words: Sequence[str], order: object = None) -> Iterator[dict[str, Any]]:
        return onwatch.events(self._transport, self._watch, "integrity", words, order)

    def _kept(self, events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Passes on, and remembers the seal at the end."""
        machines = {*self.kept}
        for event in events:
            if "last" in event:
                if event["last"]["measured"]:
                    machines.add(event["machine"])
            elif "seal" in event:
                self._remember({"seal": event["seal"], "machines": sorted(machines)})
            yield event

    def _remember(self, data: Mapping[str, Any]) -> None:
        put(self._folder / LEDGER, json.dumps(data, indent=1) + "\n", 0o644)


_NOTHING: dict[str, Any] = of_apply(HostState(), MachinePlan())


def who() -> str:
    """Who asks: a name for the log, no proof."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
