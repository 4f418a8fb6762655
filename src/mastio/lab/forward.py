"""A way from the box's loopback into the lab: `forward` makes it, `forwards` lists them.

A browser on the box opens 127.0.0.1:PORT; each connection continues from `outside`, as a client on the
internet, and so meets the site's firewall like everybody else.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from mastio.context import bracketed
from mastio.errors import Exit, MastioError
from mastio.lab import host, network, paths
from mastio.lab.cage import Cage, cages
from mastio.services import Service
from mastio.site.model import Address
from mastio.transport import OUTSIDE

PORT = 8443
"""The loopback port that leads to the webmail unless told otherwise."""
_NAME = "forward."
"""Cages of forwards: no machine's name has a dot."""


@dataclass(frozen=True, slots=True)
class Forward:
    """From a loopback port to an address and port in the lab's internet."""

    port: int
    target: str

    def cage(self, site: str) -> Cage:
        """Where its processes live."""
        return Cage(site, f"{_NAME}{self.port}")


def forward(site: str, port: int, address: Address, service: Service) -> Forward:
    """Makes 127.0.0.1:`port` lead to `service` at `address`; MastioError when the port is taken."""
    wanted = Forward(port, f"{bracketed(address)}:{service.port}")
    if wanted in forwards(site):
        return wanted
    close(site, port)
    host.require_port(port)
    folder = paths.runtime(site)
    folder.mkdir(parents=True, exist_ok=True)
    space = f"/run/netns/{network.namespace(site, OUTSIDE)}"
    inner = f"nsenter --net={space} socat - TCP:{wanted.target}"
    for (
        sign
    ) in r"\:[]":  # they mean something to the outer socat (socat(1), ADDRESS SPECIFICATIONS)
        inner = inner.replace(sign, f"\\{sign}")
    log = folder / f"{_NAME}{port}.log"
    (folder / f"{_NAME}{port}").write_text(json.dumps(wanted.target))
    wanted.cage(site).start(
        ["socat", f"TCP-LISTEN:{port},bind={host.LOOPBACK},reuseaddr,fork", f"EXEC:{inner}"], log
    )
    deadline = time.monotonic() + 5
    while not _listens(port):
        if time.monotonic() > deadline:
            raise MastioError(
                f"the forward on port {port} does not listen: {log.read_text().strip()}",
                hint="choose another port with --port",
                code=Exit.CANT_CREATE,
            )
        time.sleep(0.02)
    return wanted


def forwards(site: str) -> tuple[Forward, ...]:
    """The forwards of the lab `site` that run."""
    found = []
    for cage in cages(site):
        record = paths.runtime(site) / cage.name
        if is_forward(cage) and cage.occupied() and record.exists():
            found.append(
                Forward(int(cage.name.removeprefix(_NAME)), json.loads(record.read_text()))
            )
    return tuple(found)


def is_forward(cage: Cage) -> bool:
    """Whether the cage is a forward's, not a machine's."""
    return cage.name.startswith(_NAME)


def close(site: str, port: int) -> None:
    """Ends the forward on `port`, with the connections that go through it."""
    cage = Forward(port, "").cage(site)
    cage.kill()
    cage.remove()
    for path in (cage.name, f"{cage.name}.log"):
        (paths.runtime(site) / path).unlink(missing_ok=True)


def _listens(port: int) -> bool:
    """Whether somebody listens on the loopback port (proc_net(5); state 0A is LISTEN)."""
    number = int.from_bytes(bytes(map(int, host.LOOPBACK.split("."))), "little")
    wanted = f"{number:08X}:{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1] == wanted and row[3] == "0A" for row in rows)
