"""First contact over ssh: by the administrator's own ssh_config, agent and jump hosts.

    contact = Contact(site, pins.read(folder), pins.through(folder))
    key = contact.host_key("gateway")               before anybody has logged in
    met = contact.meet("gateway", key, admins)      who we are there, and what is there; nothing is changed
    contact.open_root("gateway", key, sudo=True)    root's door, for the administrators' keys

Each raises MastioError for a machine that cannot be reached, or whose key is another than the one given.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mastio.adopt import judge
from mastio.adopt.judge import Objection, Seen
from mastio.errors import Exit, MastioError
from mastio.site.model import Site
from mastio.transport import (
    PYTHON,
    Pins,
    SshTransport,
    Transport,
    accepted_key,
    call,
    last_line,
    parcel,
    unavailable,
)

_KINDS = "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512,rsa-sha2-256"
_ASK = 'id -u; echo "${SSH_CONNECTION%% *}"; sudo -n id -u 2>/dev/null || echo none'
_OPEN = """
import os
folder, path = "/root/.ssh", "/root/.ssh/authorized_keys"
os.makedirs(folder, mode=0o700, exist_ok=True)
there = open(path).read() if os.path.exists(path) else ""
lines = [it for it in PAYLOAD.decode().splitlines() if it not in there.splitlines()]
if there and not there.endswith("\\n"):
    there += "\\n"
fresh = path + ".new"
with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
    file.write(there + "".join(it + "\\n" for it in lines))
os.rename(fresh, path)
"""


@dataclass(frozen=True, slots=True)
class Met:
    """What a first log-in told."""

    machine: str
    login: str
    """`root`, or `sudo` when it is somebody who may do all."""
    seen: Seen
    objections: tuple[Objection, ...]


class Contact:
    """The machines of `site`: `known` are the pinned keys, `through` the machines that are reached through watch."""

    def __init__(self, site: Site, known: Mapping[str, str], through: frozenset[str]) -> None:
        self._site, self._known, self._through = site, dict(known), through

    @contextmanager
    def _way(
        self, machine: str, key: str = "", *, root: bool = False, through: bool = False
    ) -> Iterator[SshTransport]:
        """How a machine is called: by `key` alone, or by nothing yet; as root, or as ssh_config says."""
        known = {name: it for name, it in self._known.items() if name != machine}
        if key:
            known[machine] = key
        with TemporaryDirectory() as place:
            file = Path(place) / "known"
            file.write_text("".join(f"{name} {it}\n" for name, it in known.items()))
            by_watch = frozenset([machine] if through else self._through & {machine})
            guests = frozenset([] if root else [machine])
            pins = Pins(str(file), frozenset(known), by_watch, guests)
            yield SshTransport(self._site, pins, share=False)

    def host_key(self, machine: str) -> str:
        """The key that a machine shows, `TYPE BASE64`; nobody has logged in."""
        with TemporaryDirectory() as place, self._way(machine) as way:
            file = Path(place) / "shown"
            done = call(
                way.argv(machine, ["true"]),
                (
                    f"UserKnownHostsFile={file}", "GlobalKnownHostsFile=none",
                    "StrictHostKeyChecking=accept-new", f"HostKeyAlias={machine}",
                    f"HostKeyAlgorithms={_KINDS}", "PreferredAuthentications=none", "HashKnownHosts=no",
                ),
                machine,
            )  # fmt: skip
            lines = file.read_text().splitlines() if file.exists() else []
        if not lines:
            raise unavailable(machine, last_line(done.stderr))
        return " ".join(lines[0].split()[1:3])

    def is_known(self, machine: str) -> bool:
        """Whether the administrator's own ssh knows the key that the machine shows."""
        options = ("StrictHostKeyChecking=yes", "PreferredAuthentications=none")
        with self._way(machine) as way:
            done = call(way.argv(machine, ["true"]), options, machine)
        return b"Permission denied" in done.stderr

    def meet(self, machine: str, key: str, admins: Mapping[str, str]) -> Met:
        """Logs in and looks around. `admins`: fingerprint → name of each administrators' key."""
        with self._way(machine, key) as way:
            done = call(way.argv(machine, ["sh", "-c", _ASK]), ("LogLevel=DEBUG1",), machine)
            if done.code == 255 and b"Permission denied" in done.stderr:
                raise MastioError(
                    f"{machine} lets nobody in: {last_line(_plain(done.stderr))}",
                    hint="root or somebody with sudo must log in there by your key: `User root` in ssh_config",
                    code=Exit.NOPERM,
                )
            if done.code == 255:
                raise unavailable(machine, last_line(_plain(done.stderr)))
            uid, client, raised = (*done.stdout.decode().splitlines(), "", "", "")[:3]
            if uid != "0" and raised != "0":
                raise MastioError(
                    f"{machine}: neither root nor somebody with sudo logs in there",
                    hint="in ssh_config say `User root`, or let that user do all by sudo without a password",
                    code=Exit.NOPERM,
                )
            login = "root" if uid == "0" else "sudo"
            words = ["sudo", "-n", *PYTHON] if login == "sudo" else [*PYTHON]
            source = Path(__file__).with_name("look.py").read_text()
            found = way.run(machine, words, parcel(source, b""), 60)
        if found.code:
            raise MastioError(
                f"{machine}: looking around failed: {last_line(found.stderr) or found.code}",
                hint="it needs python3, as Debian 13 has it",
            )
        seen: Seen = json.loads(found.stdout)
        its = self._site.machine(machine)
        personal = (
            judge.comes_from(self._site, its, client),
            judge.comes_with(self._site, accepted_key(done.stderr), dict(admins)),
        )
        objections = (*judge.judge(seen, self._site, its), *filter(None, personal))
        return Met(machine, login, seen, objections)

    def open_root(self, machine: str, key: str, *, sudo: bool) -> None:
        """Sees that the administrators' keys open root's door, which is how the site is run from then on."""
        if sudo:
            keys = "".join(f"{it}\n" for it in self._site.admin_keys).encode()
            words = ["sudo", "-n", *PYTHON]
            with self._way(machine, key) as way:
                done = way.run(machine, words, parcel(_OPEN, keys))
            if done.code:
                raise MastioError(
                    f"{machine}: root's door could not be opened: {last_line(done.stderr)}"
                )
        with self._way(machine, key, root=True) as way:
            said = way.run(machine, ["id", "-u"])
        if said.stdout.strip() != b"0":
            raise MastioError(f"{machine}: root does not log in: {last_line(said.stderr)}")

    def through_watch(self, machine: str, key: str) -> bool:
        """Whether it is reached through watch, as it will be when the rules are in force."""
        with self._way(machine, key, root=True, through=True) as way:
            try:
                return way.run(machine, ["true"], timeout=30).code == 0
            except MastioError:
                return False


def close_old_door(
    transport: Transport, machine: str, keys: Iterable[str]
) -> tuple[list[str], str]:
    """Takes away the keys that opened doors before; what was removed, and why nothing was. `keys`: administrators'.

    Over a new connection, which comes in by the door that the site's own rules and settings make.
    """
    source = Path(__file__).with_name("old_keys.py").read_text()
    done = transport.fresh().run_python(machine, source, json.dumps({"keys": [*keys]}).encode())
    if done.code:
        raise MastioError(f"{machine}: the old keys: {last_line(done.stderr)}")
    found = json.loads(done.stdout)
    return found["removed"], found["kept"]


def _plain(stderr: bytes) -> bytes:
    """Without what ssh says to those who look for faults."""
    return b"\n".join(
        it
        for it in stderr.splitlines()
        if not it.startswith(
            (b"debug", b"OpenSSH_", b"Authenticated", b"Transferred", b"Bytes per")
        )
    )
