"""One physical server that carries a site, its administrator's desk, and all others on the lab's internet.

The desk is furnished as `guides` says, and docs/guides/one-server.md is typed there; what tests ask of mastio
afterwards, they ask at that desk. Its internet has names and people only once the site has said what it publishes.
"""

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from mastio.cli.common import INTERNET, App
from mastio.lab import house, outside
from mastio.lab.model import LabMachine, machines
from mastio.lab.provider import Lab as Provider
from mastio.lab.transport import NspawnTransport
from mastio.report.verify import SIGNS
from mastio.state import HostState
from mastio.verify.model import Verdict
from tests.lab import guides
from tests.lab.conftest import LIMIT, Quiet
from tests.lab.guides import GIT, PERSON, Desk, blocks, filled

GUIDE = "one-server.md"
PUBLIC, PUBLIC6 = "203.0.113.1", "2001:db8:113::1"
CLIENT, ADMIN = "203.0.113.100", "203.0.113.7"
"""A stranger, as he is called in `mastio.lab.internet`; and the desk."""
TABLE = {"git clone …": GIT, "198.51.100.0/28": f"{ADMIN}/32"}
"""What a person fills in; the public addresses are the guide's."""
NAMES = f"{PUBLIC} box.example.org\n{CLIENT} elsewhere.example.net\n"
"""For hosts(5) of the desk."""
PASSWORD = "a horse, a battery, a staple"
ANSWERS = {
    "Apply? [y/N]": "y", "Password": PASSWORD, "Repeat": PASSWORD, "(yes/no": "yes",
}  # fmt: skip
SITE = "mysite/site.toml"
_WORLD = "/srv/internet.json"


@dataclass(frozen=True)
class Place:
    """The three machines."""

    provider: Provider
    machines: NspawnTransport
    desk: Desk

    def run(self, machine: str, script: str, stdin: bytes = b"") -> str:
        done = self.machines.run(machine, ["sh", "-euc", script], stdin, LIMIT)
        assert done.code == 0, done.stderr.decode()
        return done.stdout.decode()

    def inside(self, machine: str, *argv: str) -> str:
        """A command in a machine that the server carries."""
        unit = f"systemd-run --quiet --pipe --wait --machine={machine} {shlex.join(argv)}"
        return self.run("server", unit)

    def block(self, beginning: str) -> str:
        """The guide's block that begins so, as it is typed."""
        (block,) = (it for it in blocks(GUIDE) if begin(it).startswith(beginning))
        return filled(block, TABLE)

    def type(self, beginning: str) -> str:
        """That block typed; what the terminal showed."""
        done = self.desk.type(self.block(beginning), ANSWERS)
        assert done.code == 0, done.said
        return done.said

    def mastio(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """mastio at the desk, where the guide was left, without a terminal."""
        shell = f'cd "$(cat ~/.where)"; . ~/.exported; exec mastio {shlex.join(argv)}'
        su = ["su", "-", PERSON, "-s", "/bin/bash", "-c", shell]
        done = self.machines.run("desk", su, timeout=guides.TYPED_LIMIT)
        return subprocess.CompletedProcess(
            argv, done.code, done.stdout.decode(), done.stderr.decode()
        )

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.mastio("machines", "status", "--json").stdout)
        return found

    def findings(self) -> list[str]:
        done = self.mastio("machines", "check", "--json")
        assert done.stdout, done.stderr
        found: list[str] = json.loads(done.stdout)["findings"]
        assert done.returncode == bool(found)
        return found


def surround(place: Place, others: Sequence[LabMachine], folder: Path) -> None:
    """The lab's internet comes up beside `others`, with the names that the site at the desk publishes.

    A copy of its vault is in `folder`, which is empty, meanwhile. That internet has a root of names and an authority
    of its own: every machine on the real one knows those, here the desk is told.
    """
    pack = (
        f"cd ~{PERSON}/mastio; exec tar -c {SITE} mysite/secrets.age -C ~/.config mastio/identity"
    )
    done = place.machines.run("desk", ["su", "-", PERSON, "-c", pack])
    assert done.code == 0, done.stderr.decode()
    subprocess.run(["tar", "-C", str(folder), "-x"], input=done.stdout, check=True)
    with pytest.MonkeyPatch.context() as here:
        here.setenv("MASTIO_IDENTITY", str(folder / "mastio" / "identity"))
        app = App(str(folder / "mysite"))
        site, known = app.site(), {**app.vault}
    known |= outside.ensure(known)
    world, state = asdict(outside.internet(site, known)), outside.build(site, known)
    tell = f"cat >{_WORLD}; echo export {INTERNET}={_WORLD} >>~{PERSON}/.profile"
    place.run("desk", tell, json.dumps(world).encode())
    bare = {it.name: HostState() for it in site.machines}
    made = machines(site, {**bare, outside.MACHINE: state})
    own = next(it for it in made if it.name == outside.MACHINE)
    place.provider.up([*others, own], Quiet())
    house.configure(place.machines, {outside.MACHINE: state}, Quiet().note)
    place.provider.settle(Quiet())


def begin(block: str) -> str:
    """How a block begins: its first line, without the language of the fence."""
    return block.splitlines()[1]


def reported(said: str) -> dict[str, dict[str, list[str]]]:
    """What `mastio verify` shows at its end: verdict → check → what was seen, each with where."""
    found: dict[str, dict[str, list[str]]] = {}
    seen: list[str] = []
    for line in said.splitlines():
        if line in (Verdict.FAILED, Verdict.UNKNOWN, Verdict.ACCEPTED, Verdict.NOT_RUN):
            found[line] = {}
        elif found and line[:2] == "  " and line[2:3] in SIGNS.values():
            seen = found[[*found][-1]].setdefault(line.split()[1], [])
        elif line.startswith("      "):
            seen.append(line.strip())
    return found
