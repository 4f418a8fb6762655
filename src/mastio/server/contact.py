"""The server over ssh: looked at, made to carry the site's machines, told to stop them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mastio.adopt import judge as adoption
from mastio.adopt.judge import Objection, Seen
from mastio.errors import MastioError
from mastio.lab.images import BASE, SUITE
from mastio.server import carry, judge
from mastio.server.judge import Facts
from mastio.site.model import Site
from mastio.state import HostState
from mastio.transport import SERVER, ServerTransport, last_line

_HERE = Path(__file__)
_UNDO = "mastio-server-undo.timer"
_NAMES = {
    "unit": carry.UNIT,
    "table": carry.TABLE,
    "kernel": carry.KERNEL,
    "sshd": carry.SSHD,
    "loaded": carry.LOADED,
}
"""What both programs call things on the server."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was found on the server; nothing was changed."""

    facts: Facts
    seen: Seen


class Server:
    """The physical server of `site`; MastioError when it cannot be reached or something fails there."""

    def __init__(self, site: Site, transport: ServerTransport) -> None:
        self._site, self._way = site, transport

    def look(self) -> Look:
        """All that is asked of it, before and after."""
        site = self._site
        asked: dict[str, Any] = {
            "files": sorted(carry.files(site, ())), "machines": [it.name for it in site.machines],
            **_NAMES,
        }  # fmt: skip
        facts: Facts = json.loads(self._ask(_HERE.with_name("look.py"), json.dumps(asked).encode()))
        place = Path(adoption.__file__).with_name("look.py")
        seen: Seen = json.loads(self._ask(place, b""))
        return Look(facts, seen)

    def objections(self, look: Look) -> tuple[Objection, ...]:
        """What speaks against carrying the site; () when it is fit, or carries it already."""
        site = self._site
        found = [*judge.fit(site, look.facts)]
        if look.seen["uid"] != 0:
            found.append(
                Objection("not root logs in there: say `User root` in ssh_config", final=True)
            )
        general = adoption.judge(look.seen, site, site.machines[0])
        if look.facts["unit"][0] == "active":
            general = tuple(it for it in general if it.final)
        return (*found, *general)

    def up(self, states: Mapping[str, HostState], look: Look) -> Iterator[str]:
        """Makes what lacks and starts all; yields what is being done. Somebody must be able to come in afterwards:
        that is tried, and if not, the server's rules go away by themselves.
        """
        site = self._site
        asked: dict[str, Any] = {
            "files": carry.files(site, tuple(look.facts["ports"])),
            "machines": [asdict(it) for it in carry.carried(site, states)],
            "base": {"suite": SUITE, **BASE},
            **_NAMES,
        }
        source = _HERE.with_name("make.py").read_text()
        done = False
        for line in self._way.stream_python(SERVER, source, json.dumps(asked).encode()):
            told = json.loads(line)
            if note := told.get("note"):
                yield note
            if (
                "tightened" in told
            ):  # now, not in the end: machines may take longer to boot than it waits
                stop = f"systemctl stop {_UNDO} 2>/dev/null || true"
                self._way.fresh().run(SERVER, ["sh", "-c", stop])
            done = done or "done" in told
        if not done:
            raise MastioError(
                "the server did not get to the end",
                hint="run it again: it goes on where it stopped",
            )

    def stop(self) -> None:
        """Stops all machines in good order, and does not start them at boot any more. Their disks stay."""
        units = [f"systemd-nspawn@{it.name}.service" for it in self._site.machines]
        for verb in ("disable", "stop"):
            done = self._way.run(SERVER, ["systemctl", "--quiet", verb, *units], timeout=300)
            if done.code:
                raise MastioError(f"systemctl {verb}: {last_line(done.stderr)}")

    def findings(self, look: Look) -> tuple[str, ...]:
        """What is not as `up` left it."""
        return tuple(judge.findings(self._site, look.facts, look.seen))

    def _ask(self, program: Path, payload: bytes) -> bytes:
        done = self._way.run_python(SERVER, program.read_text(), payload, timeout=120)
        if done.code:
            raise MastioError(
                f"looking around on the server failed: {last_line(done.stderr) or done.code}",
                hint="it needs python3, as Debian 13 has it",
            )
        return done.stdout
