"""Looking at the network as an attacker does, from any machine of the lab.

`nmap` lives on `outside` alone. From the machines of the site `scan` is a connect scanner that is sent
there as source (see `tests.lab.mail.remote`): all connections at once, so it costs one patience.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from mastio.lab import outside
from mastio.site.model import Address
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import remote

PATIENCE = 1.5
"""How long a connection may take, in seconds; in the lab it takes a millisecond."""
_LISTENER = """\
import os, socket, sys, threading
def serve(server):
    while True:
        server.accept()[0].close()
for port in map(int, sys.argv[1:]):
    try:
        server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except OSError:
        continue
    threading.Thread(target=serve, args=(server,)).start()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
    manager.connect(os.environ["NOTIFY_SOCKET"])
    manager.send(b"READY=1")
"""


def connect_all(targets: list[Any], sources: list[str], patience: float) -> list[Any]:
    """Which of the [address, port] pairs take a TCP connection (from an address of `sources`)."""
    import selectors
    import socket
    import time

    found, waiting = [], selectors.DefaultSelector()
    for address, port in targets:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setblocking(False)
        for source in sources:
            if (":" in source) == (":" in address):
                one.bind((source, 0))
        if one.connect_ex((address, port)) in (0, 115):  # EINPROGRESS
            waiting.register(one, selectors.EVENT_WRITE, [address, port])
    end = time.monotonic() + patience
    # What has come counts, also when nobody had time to look before the end.
    while waiting.get_map() and (ready := waiting.select(max(0, end - time.monotonic()))):
        for key, _ in ready:
            waiting.unregister(key.fileobj)
            if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                found.append(key.data)
            key.fileobj.close()
    return found


def hold(address: str, port: int, source: str, count: int, patience: float) -> list[int]:
    """How many of `count` connections from `source` stand at once, the last after `patience`."""
    import selectors
    import socket
    import time

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    waiting, sockets = selectors.DefaultSelector(), []
    for _ in range(count):
        one = socket.socket(family, socket.SOCK_STREAM)
        one.bind((source, 0))
        one.setblocking(False)
        one.connect_ex((address, port))
        waiting.register(one, selectors.EVENT_WRITE)
        sockets.append(one)
    standing, end = 0, time.monotonic() + patience
    while (left := end - time.monotonic()) > 0:
        for key, _ in waiting.select(left):
            waiting.unregister(key.fileobj)
            standing += key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    # Another client, while this one holds all that it may.
    other = socket.socket(family, socket.SOCK_STREAM)
    other.settimeout(2)
    served = other.connect_ex((address, port)) == 0
    for one in (other, *sockets):
        one.close()
    return [standing, served]


def ask_time(servers: list[str], patience: float) -> list[str]:
    """Which of the servers answer an NTP client's question (RFC 5905)."""
    import select
    import socket
    import time

    sockets = {}
    for server in servers:
        one = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            one.connect((server, 123))
            one.send(b"\x23" + bytes(47))  # version 4, mode 3: client
        except OSError:
            continue
        sockets[one] = server
    answered, end = [], time.monotonic() + patience
    while sockets and (
        ready := select.select([*sockets], [], [], max(0, end - time.monotonic()))[0]
    ):
        for one in ready:
            server = sockets.pop(one)
            try:
                if one.recv(100)[0] & 7 == 4:  # mode 4: server
                    answered.append(server)
            except OSError:
                pass
    return answered


def ask_name(servers: list[str], question: str, tcp: bool, patience: float) -> list[str]:
    """Which of the servers answer a question for an SOA record (RFC 1035)."""
    import socket
    import struct

    labels = b"".join(bytes([len(it)]) + it.encode() for it in question.strip(".").split("."))
    query = struct.pack(">6H", 0x4D41, 0, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, 6, 1)
    answered = []
    for server in servers:
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, kind) as one:
            one.settimeout(patience)
            try:
                one.connect((server, 53))
                one.send((struct.pack(">H", len(query)) if tcp else b"") + query)
                reply = one.recv(600)[2 if tcp else 0 :]
            except OSError:
                continue
            if reply[:2] == query[:2]:
                answered.append(server)
    return answered


def scan(
    lab: Lab, machine: str, targets: Iterable[tuple[Address, int]], sources: Iterable[Address] = ()
) -> set[tuple[str, int]]:
    """The targets to which `machine` can open a TCP connection."""
    pairs = [[str(address), port] for address, port in targets]
    own = [str(it) for it in sources]
    found = remote(lab, machine, connect_all, targets=pairs, sources=own, patience=PATIENCE)
    return {(address, port) for address, port in found}


@dataclass(frozen=True)
class Port:
    """A port as nmap sees it: its state, and what it takes to be behind it."""

    state: str
    service: Mapping[str, str]


@dataclass(frozen=True)
class View:
    """What nmap tells about one address."""

    ports: Mapping[int, Port]
    others: Mapping[str, int]
    """How many ports of each state are not listed one by one."""
    systems: Sequence[tuple[str, int]]
    """Operating systems that it names, with its confidence in percent."""

    def in_state(self, state: str) -> set[int]:
        """The listed ports that are in `state`."""
        return {number for number, port in self.ports.items() if port.state == state}


def nmap(lab: Lab, target: Address, source: Address | None, *options: str) -> View:
    """Runs nmap on `outside`, from one of its addresses (None: whichever leads to the target)."""
    family = ("-6",) if target.version == 6 else ()
    own = ("-S", str(source), "-e", "internet") if source else ()
    argv = ["nmap", *family, "-Pn", "-n", "-oX", "-", *own, *options, str(target)]
    result = lab.transport.run(outside.MACHINE, argv, timeout=900)
    assert result.code == 0, result.stderr.decode()
    host = ElementTree.fromstring(result.stdout).find("host")
    assert host is not None, result.stdout.decode()
    ports, others = {}, {}
    for port in host.iter("port"):
        state, service = port.find("state"), port.find("service")
        assert state is not None
        words = dict(service.attrib) if service is not None else {}
        ports[int(port.attrib["portid"])] = Port(state.attrib["state"], words)
    for group in host.iter("extraports"):
        others[group.attrib["state"]] = int(group.attrib["count"])
    systems = [
        (it.attrib.get("name", ""), int(it.attrib["accuracy"])) for it in host.iter("osmatch")
    ]
    return View(ports, others, systems)


@contextmanager
def listening(lab: Lab, machine: str, *ports: int) -> Iterator[None]:
    """Has something listen on the ports of a machine, on all its addresses."""
    unit = "mastio-test-listener"
    # A service that tells when it is ready: systemd-run returns when all ports are open.
    start = ["systemd-run", "--quiet", "--collect", "--service-type=notify", f"--unit={unit}"]
    result = lab.run(machine, [*start, "python3", "-I", "-c", _LISTENER, *map(str, ports)])
    assert result.code == 0, result.stderr.decode()
    try:
        yield
    finally:
        # Returns when it is gone: the next one has the same name.
        lab.run(machine, ["systemctl", "stop", unit])
