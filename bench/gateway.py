"""Messages per second from the internet into the store: mastio's gateway against two others.

In one run, in turn, on the same box, with the same sender and the same messages:

| | what stands between the sender and the mailbox |
|---|---|
| bare | Postfix → Dovecot, nothing else: what the box can do at most |
| mastio | the lab as it is: firewall, postscreen, Postfix, Rspamd with ClamAV, mutual TLS, Postfix, Dovecot |
| spamassassin | Postfix with MIMEDefang and SpamAssassin as milter → Dovecot |

Each message has a text of its own and a connection of its own. Two rates are taken: until all were
accepted (250), and until all are in the mailbox. In these rounds five machines share what two have
elsewhere; so all is done again with the same share of a core for each machine. One thing is lifted in the
lab for the time of the benchmark: the gateway's limits per client (anvil(8)), since one client plays all
the internet.
"""

import os
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import click
from bench import peers, shares
from bench.common import (
    arrivals,
    fail,
    mailbox,
    maildir,
    median,
    must,
    remote,
    running,
    say,
    table,
    usage,
)  # fmt: skip
from bench.sender import send

from mastio import services
from mastio.cli.common import App
from mastio.lab import internet, outside
from mastio.transport import Transport

_TEXT = """account agree answer archive arrive autumn balance bridge budget calendar centre change choir
committee concert contract copper corner council delivery description early engine evening example field
figure finish garden glass harbour history index island kitchen lamp language ledger letter library
lunch machine market meeting minute model morning museum notice office order paper partner plan poem
printer project question quiet rain reading reason repair report review river salary school season
section shelf signal spring station stone summary summer supplier table teacher telephone theatre ticket
train travel tree update valley version village violin visit water weather window winter wooden"""
WORDS = _TEXT.split()
GATEWAY, STORE = "gateway", "store"
MACHINES = ("firewall", GATEWAY, STORE, "watch")
"""What works for a message."""
OURS = ("rspamd", "clamav-daemon", "valkey-server", "unbound")
THEIRS = ("mimedefang", "mimedefang-multiplexor")
"""The units that are the filter alone, here and there."""
PATIENCE = 60
EXCEPTIONS = "smtpd_client_event_limit_exceptions"


Spent = dict[str, dict[str, float]]
"""CPU of machines and of their units, in milliseconds a message."""


@dataclass
class Figures:
    """What was measured of one way, a number for each round."""

    accepted: list[float] = field(default_factory=list)
    stored: list[float] = field(default_factory=list)
    limited: list[float] = field(default_factory=list)
    """Stored, while each machine had a share of its own."""
    memory: int = 0
    """Of the machines between the sender and the mailbox, in MiB."""


@dataclass(frozen=True)
class Way:
    """One way from a sender to a mailbox."""

    transport: Transport
    client: str
    address: str
    source: str
    name: str
    sender: str
    recipient: str
    box: str
    folder: str
    between: tuple[str, ...]
    """The machines whose memory counts, besides the box."""
    machines: tuple[str, ...]
    """The machines that work for a message."""
    site: str
    """The lab that they are in."""

    def run(self, count: int, sessions: int, size: int) -> tuple[float, float]:
        """Send `count` messages; messages per second accepted, and stored."""
        before = remote(self.transport, self.box, arrivals, folder=self.folder, count=0, patience=0)
        mails = [
            [self.sender, self.recipient, letter(self.sender, self.recipient, size)]
            for _ in range(count)
        ]
        sent = remote(
            self.transport, self.client, send, address=self.address, port=services.SMTP.port,
            source=self.source, name=self.name, mails=mails, sessions=sessions, waits=[],
        )  # fmt: skip
        refused = [it for it in sent["outcomes"] if it[0] != 250]
        if refused:
            fail(f"{len(refused)} of {count} messages were not accepted, such as: {refused[0]}")
        total = before["count"] + count
        there = remote(
            self.transport, self.box, arrivals, folder=self.folder, count=total, patience=PATIENCE
        )
        if there["count"] != total:
            fail(f"{there['count']} messages are in the mailbox, expected are {total}")
        return count / (sent["ended"] - sent["began"]), count / (there["time"] - sent["began"])

    def memory(self) -> int:
        """Memory of the machines between, in MiB."""
        return (
            sum(remote(self.transport, it, usage)["memory"] for it in (*self.between, self.box))
            // 1024
        )


def letter(sender: str, recipient: str, size: int) -> str:
    """A well-formed message of about `size` bytes, unlike all others."""
    domain = sender.rpartition("@")[2]
    lines = []
    while sum(map(len, lines)) < size - 300:
        lines.append(" ".join(random.choices(WORDS, k=9)).capitalize() + ".")
    return (
        f"From: Carol <{sender}>\nTo: {recipient}\nSubject: {' '.join(random.choices(WORDS, k=4))}\n"
        f"Date: {formatdate()}\nMessage-ID: <{secrets.token_hex(10)}@{domain}>\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=us-ascii\n\n" + "\n".join(lines) + "\n"
    )


@contextmanager
def no_limits(app: App, client: str) -> Iterator[None]:
    """The gateway lets one client do what else many do."""
    transport = app.transport()
    must(transport, GATEWAY, "postconf", "-e", f"{EXCEPTIONS}={client}")
    must(transport, GATEWAY, "postfix", "reload")
    try:
        yield
    finally:
        must(transport, GATEWAY, "postconf", "-X", EXCEPTIONS)
        must(transport, GATEWAY, "postfix", "reload")


def ours(app: App, recipient: str) -> Way:
    """From the lab's internet into the site's store."""
    site = app.site()
    mx, mta = (
        str(next(it for it in addresses if it.version == 4))
        for addresses in (site.public, internet.mta(site))
    )
    return Way(
        app.transport(), outside.MACHINE, mx, mta, outside.MX,
        f"{outside.USER}@{outside.DOMAIN}", recipient, STORE, f"{maildir(recipient)}/Maildir",
        ("firewall", GATEWAY), MACHINES, site.name,
    )  # fmt: skip


def theirs(house: peers.Peers) -> Way:
    """From the peers' client into the peers' box."""
    return Way(
        house.transport, peers.CLIENT, peers.ADDRESSES[peers.MX], peers.ADDRESSES[peers.CLIENT],
        f"client.{peers.DOMAIN}", f"carol@client.{peers.DOMAIN}", peers.RECIPIENT, peers.BOX,
        f"{peers.FOLDER}/Maildir", (peers.MX,), (peers.MX, peers.BOX), peers.LAB,
    )  # fmt: skip


def spent(before: dict[str, Any], after: dict[str, Any], count: int) -> dict[str, float]:
    """CPU of each unit, in milliseconds a message, the most first."""
    used = {
        unit: (after["cpu"][unit] - before["cpu"].get(unit, 0)) / count / 1000
        for unit in after["cpu"]
    }
    return dict(sorted(used.items(), key=lambda it: -it[1]))


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Rounds of all three, in turn.")
@click.option("--messages", default=600, show_default=True, help="Messages a round (bare, mastio).")
@click.option("--slow", default=60, show_default=True, help="Messages a round (spamassassin).")
@click.option("--sessions", default=20, show_default=True, help="Connections at a time.")
@click.option("--size", default=4096, show_default=True, help="Size of a message, in bytes.")
@click.option(
    "--share", default=40, show_default=True,
    help="Then again, with so many percent of a core for each machine; 0: not.",
)  # fmt: skip
@click.option("--site", default="", help="The site's folder; its lab must be up.")
def main(
    rounds: int, messages: int, slow: int, sessions: int, size: int, share: int, site: str
) -> None:
    """Print medians of messages per second into the store, memory, and where the time goes."""
    app = running(site)
    if share:
        shares.check(app.site().name, MACHINES, share)
    workers = 2 * (os.cpu_count() or 1)
    figures = {name: Figures() for name in ("bare", "mastio", "spamassassin")}
    spending: dict[str, Spent] = {}
    with mailbox(app) as recipient, peers.peers(workers) as house:
        own, other = ours(app, recipient), theirs(house)
        with no_limits(app, own.source):

            def turn(name: str, way: Way, count: int, part: int = 0) -> tuple[float, float, Spent]:
                way.run(max(20, count // 10), sessions, size)  # warm
                before = {it: remote(way.transport, it, usage) for it in way.machines}
                with shares.limited(way.site, way.machines, part) if part else nullcontext():
                    accepted, stored = way.run(count, sessions, size)
                say(f"{name}: {accepted:.1f}/s accepted, {stored:.1f}/s stored")
                after = {it: remote(way.transport, it, usage) for it in way.machines}
                return accepted, stored, {it: spent(before[it], after[it], count) for it in after}

            def turns() -> Iterator[tuple[str, Way, int]]:
                for _ in range(rounds):
                    house.milter(on=False)
                    yield "bare", other, messages
                    yield "mastio", own, messages
                    house.milter(on=True)
                    yield "spamassassin", other, slow
                    house.empty()
                    # A delivery costs more the more a mailbox holds: all begin with the same.
                    must(own.transport, STORE, "rm", "-rf", own.folder)

            for name, way, count in turns():
                accepted, stored, spending[name] = turn(name, way, count)
                figures[name].accepted.append(accepted)
                figures[name].stored.append(stored)
                figures[name].memory = max(figures[name].memory, way.memory())
            if share:
                say(f"each machine has {share} % of a core")
                for name, way, count in turns():
                    figures[name].limited.append(turn(name, way, count, share)[1])
    report(figures, spending, rounds, share)


def report(
    figures: dict[str, Figures],
    spending: dict[str, Spent],
    rounds: int,
    share: int,
) -> None:
    """The tables."""
    middle: Callable[[list[float]], float] = median
    base = middle(figures["spamassassin"].stored)
    cost = {
        name: sum(sum(units.values()) for units in machines.values())
        for name, machines in spending.items()
    }
    rows = [
        (
            name, f"{middle(it.accepted):.1f}", f"{middle(it.stored):.1f}",
            f"{min(it.stored):.1f}–{max(it.stored):.1f}", f"{middle(it.stored) / base:.1f} ×", f"{it.memory} MiB",
            f"{cost[name]:.1f} ms", f"{cost['spamassassin'] / cost[name]:.1f} ×",
        )
        for name, it in figures.items()
    ]  # fmt: skip
    click.echo(
        f"Messages per second, median of {rounds} rounds; memory of gateway and store; CPU time a message,"
    )
    click.echo("of all machines between the sender and the mailbox and of watch (last round).")
    heads = ("", "accepted", "stored", "range", "ratio", "memory", "CPU", "ratio by CPU")
    click.echo(table(heads, rows))
    ours_alone, theirs_alone = (
        sum(units.get(it, 0) for it in filters for units in spending[name].values())
        for name, filters in (("mastio", OURS), ("spamassassin", THEIRS))
    )
    click.echo(
        f"\nThe filter alone: {ours_alone:.1f} ms of CPU a message (with a virus scanner), MIMEDefang with SpamAssassin"
        f" {theirs_alone:.1f} ms (without): {theirs_alone / ours_alone:.1f} ×"
    )
    if all(it.limited for it in figures.values()):
        base = middle(figures["spamassassin"].limited)
        click.echo(f"\nEach machine has {share} % of a core.")
        rows = [
            (
                name, f"{middle(it.limited):.1f}", f"{min(it.limited):.1f}–{max(it.limited):.1f}",
                f"{middle(it.limited) / base:.1f} ×",
            )
            for name, it in figures.items()
        ]  # fmt: skip
        click.echo(table(("", "stored", "range", "ratio"), rows))
    # The lab's machines share this box; on machines of their own, the one that has most to do sets the pace.
    busiest = {
        name: max((sum(units.values()), machine) for machine, units in machines.items())
        for name, machines in spending.items()
    }
    click.echo("\nThe machine that has most to do: what a core of its own would take.")
    rows = [
        (
            name, machine, f"{used:.1f} ms", f"{1000 / used:.0f}",
            f"{busiest['spamassassin'][0] / used:.1f} ×",
        )
        for name, (used, machine) in busiest.items()
    ]  # fmt: skip
    click.echo(table(("", "machine", "CPU", "messages a second", "ratio"), rows))
    click.echo("\nCPU time in milliseconds a message (last round).")
    parts = [
        (name, machine, unit, f"{used:.2f}")
        for name, machines in spending.items()
        for machine, units in machines.items()
        for unit, used in units.items()
        if used >= 0.05
    ]
    click.echo(table(("", "machine", "unit", "ms"), parts))


if __name__ == "__main__":
    main()
