"""What intrusion detection costs: the same traffic through the firewall with Suricata and without, in turn.

| | what goes through |
|---|---|
| mail | messages from the internet into the store: many short conversations, the dear part |
| stream | one long conversation from the gateway to the internet, as fast as it goes |

Of Suricata are told its CPU time for each message and each gigabyte, and its memory. It only listens: what it does not
keep up with passes unheard, so how many packets it lost is told as well.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
from bench.common import fail, mailbox, median, must, remote, running, say, table, usage
from bench.gateway import Way, no_limits, ours

from mastio import services
from mastio.cli.common import App
from mastio.lab import internet, outside
from mastio.roles.ids import RUN, UNIT
from mastio.transport import Transport

FIREWALL, GATEWAY = "firewall", "gateway"
_NAME = UNIT.removesuffix(".service")


@dataclass
class Figures:
    """What was measured, a number for each round."""

    mail: list[float] = field(default_factory=list)
    """Messages a second into the store."""
    stream: list[float] = field(default_factory=list)
    """Megabytes a second."""


@dataclass
class Cost:
    """What Suricata took."""

    message: list[float] = field(default_factory=list)
    """Milliseconds of CPU."""
    gigabyte: list[float] = field(default_factory=list)
    """Seconds of CPU."""
    memory: int = 0
    """MiB, resident."""


def sink(address: str, port: int) -> int:
    """Takes one conversation and throws it away; its octets."""
    import socket

    total = 0
    with socket.create_server((address, port)) as server:
        server.settimeout(30)
        one, _ = server.accept()
        with one:
            one.settimeout(60)
            while data := one.recv(1 << 20):
                total += len(data)
    return total


def pour(address: str, port: int, megabytes: int) -> float:
    """Sends so much; the seconds until all was taken."""
    import contextlib
    import socket
    import time

    end = time.monotonic() + 20
    while True:
        try:
            one = socket.create_connection((address, port), timeout=60)
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
    block = b"x" * (1 << 20)
    with one:
        began = time.monotonic()
        for _ in range(megabytes):
            one.sendall(block)
        one.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            one.recv(1)
        return time.monotonic() - began


def resident(pid_file: str) -> int:
    """Memory of the process, in KiB."""
    from pathlib import Path

    text = Path(f"/proc/{int(Path(pid_file).read_text())}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0])


def stream(app: App, megabytes: int) -> float:
    """Megabytes a second from the gateway to a server on the internet that takes everything."""
    transport = app.transport()
    address = str(next(it for it in internet.stranger(app.site()) if it.version == 4))
    where: dict[str, Any] = {"address": address, "port": services.SMTP.port}
    taken: list[int] = []
    server = threading.Thread(
        target=lambda: taken.append(remote(transport, outside.MACHINE, sink, **where))
    )
    server.start()
    seconds = float(remote(transport, GATEWAY, pour, **where, megabytes=megabytes))
    server.join()
    if taken != [megabytes << 20]:
        fail(f"of {megabytes} MiB came {taken}")
    return megabytes * 1.048576 / seconds


def spent(transport: Transport) -> float:
    """CPU time of Suricata so far, in seconds."""
    return float(remote(transport, FIREWALL, usage)["cpu"].get(_NAME, 0)) / 1e6


@contextmanager
def switched(transport: Transport, on: bool) -> Iterator[None]:
    """With Suricata or without; afterwards with it."""
    must(transport, FIREWALL, "systemctl", "start" if on else "stop", UNIT)
    if on:
        wait = "for i in $(seq 150); do [ $(wc -l < /proc/net/packet) -gt 4 ] && exit; sleep 0.2; done; exit 1"
        must(transport, FIREWALL, "sh", "-c", wait)
    try:
        yield
    finally:
        must(transport, FIREWALL, "systemctl", "start", UNIT)


def lost(transport: Transport) -> list[str]:
    """What Suricata says of its packets when it ends."""
    must(transport, FIREWALL, "systemctl", "restart", UNIT)
    said = must(transport, FIREWALL, "journalctl", "-t", "suricata", "-n", "40", "-o", "cat").stdout
    return re.findall(r"> (\S+: packets: .*?%\))", said.decode())[-4:]


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Rounds of both, in turn.")
@click.option("--messages", default=300, show_default=True, help="Messages a round.")
@click.option("--megabytes", default=2000, show_default=True, help="Length of the stream.")
@click.option("--sessions", default=20, show_default=True, help="Connections at a time.")
@click.option("--size", default=4096, show_default=True, help="Size of a message, in bytes.")
@click.option("--site", default="", help="The site's folder; its lab must be up.")
def main(rounds: int, messages: int, megabytes: int, sessions: int, size: int, site: str) -> None:
    """Print what goes through the firewall with intrusion detection and without, and what it takes."""
    app = running(site)
    transport = app.transport()
    figures = {"without": Figures(), "with": Figures()}
    cost, packets = Cost(), list[str]()
    with mailbox(app) as recipient:
        way: Way = ours(app, recipient)
        with no_limits(app, way.source):
            for number in range(rounds):
                # Whoever is first finds the machines cold: they change places.
                names = ("without", "with") if number % 2 else ("with", "without")
                for name in names:
                    on = name == "with"
                    with switched(transport, on):
                        way.run(max(20, messages // 10), sessions, size)  # warm
                        before = spent(transport)
                        _, stored = way.run(messages, sessions, size)
                        between = spent(transport)
                        rate = stream(app, megabytes)
                        after = spent(transport)
                        if on:
                            cost.message.append(1000 * (between - before) / messages)
                            cost.gigabyte.append((after - between) / (megabytes * 1.048576e-3))
                            memory = remote(
                                transport, FIREWALL, resident, pid_file=f"{RUN}/suricata.pid"
                            )
                            cost.memory = max(cost.memory, memory // 1024)
                            packets = lost(transport)
                    say(f"{name}: {stored:.1f} messages/s, {rate:.0f} MB/s")
                    figures[name].mail.append(stored)
                    figures[name].stream.append(rate)
    base = figures["without"]
    rows = [
        (
            name, f"{median(it.mail):.1f}", f"{min(it.mail):.1f}–{max(it.mail):.1f}",
            f"{median(it.mail) / median(base.mail):.2f}", f"{median(it.stream):.0f}",
            f"{min(it.stream):.0f}–{max(it.stream):.0f}", f"{median(it.stream) / median(base.stream):.2f}",
        )
        for name, it in figures.items()
    ]  # fmt: skip
    click.echo(f"Through the firewall, median of {rounds} rounds.")
    click.echo(table(("", "messages/s", "range", "ratio", "MB/s", "range", "ratio"), rows))
    click.echo(
        f"\nSuricata: {median(cost.message):.2f} ms of CPU a message, {median(cost.gigabyte):.2f} s a gigabyte, "
        f"{cost.memory} MiB of memory."
    )
    click.echo("\n".join(f"  {line}" for line in packets))


if __name__ == "__main__":
    main()
