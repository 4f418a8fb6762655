"""A bad wire in the lab: frames are late, and some of them lost, by chance from a seed.

The kernel's own tool for that (tc-netem(8)) is not in every kernel. So a port of the switch is taken off its
bridge, and this program hands its frames on, with PACKET_VNET_HDR (packet(7)): what the sender left to the
hardware, checksums and cutting, is handed on as well.

    with bad("demo", "core", "firewall", delay=0.2, loss=0.1, seed=7): …
"""

import contextlib
import queue
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mastio.lab import command, network

_PACKET, _VNET_HDR = 263, 15
"""SOL_PACKET and PACKET_VNET_HDR of linux/if_packet.h."""
_ALL = 3
"""ETH_P_ALL."""
_LONGEST = 1 << 17
_INNER, _OUTER = "bad-inner", "bad-outer"


@contextmanager
def bad(
    site: str, segment: str, machine: str, *, delay: float, loss: float, seed: int
) -> Iterator[None]:
    """What passes a machine's wire is `delay` seconds late each way; a share of `loss` never arrives."""
    port, bridge = network.port(machine, segment), network.interface(segment)

    def ip(*words: str) -> list[str]:
        return ["ip", "-n", network.switch(site), *words]

    command.run(ip("link", "add", _INNER, "type", "veth", "peer", "name", _OUTER))
    relay: subprocess.Popen[bytes] | None = None
    try:
        for name in (_INNER, _OUTER):
            command.run(ip("link", "set", "dev", name, "up"))
        argv = ["ip", "netns", "exec", network.switch(site), sys.executable, __file__]
        argv += [port, _INNER, str(delay), str(loss), str(seed)]
        relay = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert relay.stdout
        relay.stdout.readline()
        command.run(ip("link", "set", "dev", port, "nomaster"))
        command.run(ip("link", "set", "dev", _OUTER, "master", bridge))
        yield
    finally:
        if relay:
            relay.communicate()
        command.run(ip("link", "del", "dev", _INNER))
        command.run(ip("link", "set", "dev", port, "master", bridge))


def _tap(name: str) -> socket.socket:
    one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    one.setsockopt(_PACKET, _VNET_HDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    one.bind((name, _ALL))
    return one


def _carry(here: socket.socket, there: socket.socket, delay: float, loss: float, seed: int) -> None:
    chance, late = random.Random(seed), queue.Queue[tuple[float, bytes]]()

    def put_down() -> None:
        while True:
            due, frame = late.get()
            time.sleep(max(0.0, due - time.monotonic()))
            with contextlib.suppress(OSError):
                there.send(frame)

    threading.Thread(target=put_down, daemon=True).start()
    while True:
        with contextlib.suppress(OSError):
            frame, whence = here.recvfrom(_LONGEST)
            if whence[2] != socket.PACKET_OUTGOING and chance.random() >= loss:
                late.put((time.monotonic() + delay, frame))


def main(near: str, far: str, delay: float, loss: float, seed: int) -> None:
    """Carries frames between two interfaces until stdin ends."""
    ends = _tap(near), _tap(far)
    for number, (here, there) in enumerate((ends, ends[::-1])):
        job = (here, there, delay, loss, seed + number)
        threading.Thread(target=_carry, args=job, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(float, sys.argv[3:5]), int(sys.argv[5]))
