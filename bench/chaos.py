"""Is mail lost while everything goes wrong?

Numbered messages at a steady rate: from another organisation's mail server over IPv4 and IPv6, and from users who
submit on the webmail's machine as Roundcube does, to colleagues and to the outside. Whoever was not told 250 tries
again. Meanwhile each machine of the site loses its power, each daemon is killed, each zone is cut off, late and lossy
(`faults.py`), in an order and for times that follow from `--seed`. In the end the mailboxes are read: what got a 250
must be in the mailbox where it belongs; what is there twice must have a reason (`ledger.py`); and by itself everything
must run again.

The box itself keeps running, so what a killed machine had written is there when it boots, also what it had not synced.
With `--disk` what was not synced is lost as well: spools and mailboxes lie on file systems of their own then, and what
their disks hold at the moment of the cut is all that is there afterwards (`disk.py`).
"""

import json
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import click
from bench.common import fail, maildir, must, remote, running, say, table
from bench.disk import Disks
from bench.faults import Done, Fault, Hands, Power, daemons, plan
from bench.gateway import GATEWAY, STORE, no_limits
from bench.ledger import Copy, Result, hops, judge
from bench.stream import MARK, PATIENCE, Mail, Stream

from mastio import services
from mastio.accounts import passwords
from mastio.accounts.client import Accounts
from mastio.accounts.model import AddUser, DeleteUser
from mastio.cli.common import App
from mastio.context import PKI
from mastio.errors import MastioError
from mastio.lab import internet, outside

WEBMAIL = "webmail"
CAROL = f"{outside.USER}@{outside.DOMAIN}"
HANDED_OVER = {STORE: GATEWAY, GATEWAY: STORE, outside.MACHINE: GATEWAY}
"""Who hands mail over to whom inside."""
FOLDERS = {GATEWAY: ["/var/spool/postfix"], STORE: ["/var/spool/postfix", "/var/vmail"]}
"""Where mail lies."""


def copies(folder: str, mark: str, pattern: str) -> list[Any]:
    """All messages in Maildirs below `folder`: path, line with `mark`, subject, Received fields, when."""
    import pathlib
    import re
    import time

    shift = time.time() - time.monotonic()
    found = []
    for path in pathlib.Path(folder).glob(pattern):
        for part in ("new", "cur"):
            for file in path.glob(f"**/{part}/*"):
                head = file.read_bytes().partition(b"\n\n")[0].decode(errors="replace")
                unfolded = re.sub(r"\n[ \t]+", " ", head)
                lines = unfolded.splitlines()
                marked = [it for it in lines if it.startswith(f"{mark}: ")]
                subject = [it for it in lines if it.lower().startswith("subject: ")]
                received = [it for it in lines if it.startswith("Received: ")]
                at = file.stat().st_mtime - shift
                found.append([str(file), (marked or [""])[0], (subject or [""])[0], received, at])
    return found


def numbers(mark: str) -> list[int]:
    """The numbers behind `mark` in the messages of this machine's Postfix queues."""
    import pathlib
    import re

    found = []
    for folder in ("incoming", "active", "deferred", "hold"):
        for file in pathlib.Path("/var/spool/postfix", folder).glob("**/*"):
            try:
                text = file.read_bytes() if file.is_file() else b""
            except OSError:
                continue  # it has just gone on
            found += [int(it) for it in re.findall(re.escape(mark).encode() + rb"(\d+)", text)]
    return found


def queued() -> int:
    """How many messages wait in this machine's Postfix, held ones apart."""
    import subprocess

    done = subprocess.run(["postqueue", "-j"], capture_output=True, text=True, check=False)
    if done.returncode:
        return -1
    return sum(json.loads(it)["queue_name"] != "hold" for it in done.stdout.splitlines())


class Chaos:
    """One run in the lab of `app`."""

    def __init__(self, app: App, boxes: int = 12) -> None:
        self.app, self.site, self.transport = app, app.site(), app.transport()
        self.run, self.password = secrets.token_hex(4), passwords.generate()
        domain = self.site.domains[0]
        self.boxes = [f"chaos-{self.run}-{number}@{domain}" for number in range(boxes)]
        self.machines = [it.name for it in self.site.machines]
        self.zones = [internet.SEGMENT, *sorted(it.name for it in self.site.zones)]
        self.seconds = 0.0
        """How long it took from the end of the last fault until every message had arrived."""

    def __enter__(self) -> "Chaos":
        self.daemons = daemons(self.transport, self.machines)
        accounts, hashed = Accounts(self.site, self.transport), passwords.hashed(self.password)
        accounts.change([AddUser(it, hashed) for it in self.boxes])
        return self

    def __exit__(self, *_: object) -> None:
        Accounts(self.site, self.transport).change([DeleteUser(it) for it in self.boxes])
        for box in self.boxes:
            must(self.transport, STORE, "rm", "-rf", maildir(box))

    def streams(
        self, messages: int, rate: float, seed: int, submitted: int, patience: float = PATIENCE
    ) -> list[Stream]:
        """What is sent: one in `submitted` messages by a user, the others from outside, over each family in turn.

        `patience` is how long a sender waits for an answer, in seconds.
        """
        chance = random.Random(seed)
        rows: dict[str, list[Mail]] = {"4": [], "6": [], "users": []}
        for number in range(messages):
            due, to = number / rate, chance.choice(self.boxes)
            if number % submitted == submitted - 1:
                sender = chance.choice(self.boxes)
                away = chance.random() < 0.25
                rows["users"].append(Mail(number, sender, CAROL if away else to, due))
            else:
                rows["46"[number % 2]].append(Mail(number, CAROL, to, due))
        made, more = [], {"run": self.run, "patience": patience}
        for version in (4, 6):
            mx, own = (
                str(next(it for it in addresses if it.version == version))
                for addresses in (self.site.public, internet.mta(self.site))
            )
            way = {"address": mx, "port": services.SMTP.port, "source": own, "name": outside.MX}
            mails = rows[str(version)]
            made.append(Stream(self.transport, outside.MACHINE, GATEWAY, way, mails, **more))
        store = self.site.internal_name(STORE)
        way = {
            "address": store, "port": services.SUBMISSIONS.port, "source": "",
            "name": self.site.internal_name(WEBMAIL), "tls": [f"{PKI}/ca.pem", store],
        }  # fmt: skip
        user = {"password": self.password, **more}
        made.append(Stream(self.transport, WEBMAIL, STORE, way, rows["users"], **user))
        return made

    def go(
        self,
        streams: Sequence[Stream],
        faults: Sequence[Fault],
        seed: int,
        patience: float,
        power: Power | None = None,
    ) -> tuple[Result, list[Done], list[str]]:
        """Runs it; how it ended, the faults as they were, and what is not as it was before, in words."""
        began = time.monotonic() + 2
        lasts = max(it.due for one in streams for it in one.mails)
        deadline = began + lasts + patience
        clients = ", ".join(
            str(it) if it.version == 4 else f"[{it}]" for it in internet.mta(self.site)
        )
        with no_limits(self.app, clients), ThreadPoolExecutor() as pool:
            sending = [pool.submit(it.go, began, deadline) for it in streams]
            hands = Hands(self.site.name, self.transport, say, power)
            done = hands.all(faults, began, seed)
            ended = time.monotonic()
            say(f"{ended - began:7.1f} s  the last fault is over")
            promises = [it for one in sending for it in one.result()]
            say(f"{time.monotonic() - began:7.1f} s  every message has its verdict")
            self._settle(deadline)
            self.seconds = time.monotonic() - ended
        wrong = [f"{it.fault.words}: {it.error}" for it in done if it.error]
        wrong += self._amiss(deadline)
        # First the queues: what goes on in between is found in a mailbox.
        waits = frozenset(
            number for it in (GATEWAY, STORE)
            for number in remote(self.transport, it, numbers, mark=f"{MARK}: {self.run} ")
        )  # fmt: skip
        there, notices = self.there()
        wrong += [f"somebody was told that mail is lost: {it}" for it in notices]
        names = {self.site.mx_host: GATEWAY}
        return judge(promises, there, done, HANDED_OVER, waits, names), done, wrong

    def _settle(self, deadline: float) -> None:
        """Returns when nothing waits any more."""
        quiet = 0
        while quiet < 2 and time.monotonic() < deadline:
            try:
                left = [remote(self.transport, it, queued) for it in (GATEWAY, STORE)]
            except (MastioError, SystemExit):
                left = [-1]
            quiet = quiet + 1 if not any(left) else 0
            time.sleep(1)

    def _amiss(self, deadline: float) -> list[str]:
        """Daemons that ran before and do not now, units that failed."""
        end = max(deadline, time.monotonic() + 30)
        argv = ["systemctl", "list-units", "--failed", "--plain", "--no-legend"]
        while True:
            gone = [
                f"{m}: {u} does not run"
                for m, u in sorted({*self.daemons} - {*daemons(self.transport, self.machines)})
            ]
            failed = [
                f"{it}: {line.split()[0]} has failed"
                for it in self.machines
                for line in self.transport.run(it, argv).stdout.decode().splitlines()
            ]
            if not gone + failed or time.monotonic() > end:
                return gone + failed
            time.sleep(1)

    def there(self) -> tuple[list[Copy], list[str]]:
        """All numbered messages in all mailboxes; the subjects of others in mailboxes that nobody else writes to."""
        domain = self.site.domains[0]
        pattern = f"chaos-{self.run}-*/Maildir"
        own = remote(
            self.transport, STORE, copies, folder=f"/var/vmail/{domain}", mark=MARK, pattern=pattern
        )
        away = remote(
            self.transport, outside.MACHINE, copies, folder=outside.HOME, mark=MARK, pattern="Maildir"
        )  # fmt: skip
        found, notices = [], []
        for path, mark, subject, received, at in (*own, *away):
            words = mark.split()
            if words[1:2] == [self.run]:
                copy = Copy(
                    int(words[2]), *_place(path, domain), hops("\n".join(received)), float(at)
                )
                found.append(copy)
            elif path.startswith("/var/vmail"):
                notices.append(f"{subject} ({path})")
        return found, notices


def _place(path: str, domain: str) -> tuple[str, str]:
    """The mailbox and the folder of a Maildir's file."""
    if path.startswith(outside.HOME):
        return CAROL, "INBOX"
    parts = path.split("/")
    folder = parts[5:-2]
    return f"{parts[parts.index(domain) + 1]}@{domain}", folder[-1].strip(".") if folder[
        1:
    ] else "INBOX"


def report(result: Result, done: Sequence[Done], wrong: Sequence[str]) -> Iterator[str]:
    """What came of it."""
    kinds = sorted({it.fault.kind for it in done})
    words = ", ".join(f"{sum(it.fault.kind == kind for it in done)} {kind}" for kind in kinds)
    tries = sum(count for times, count in result.tries.items() if times > 1)
    yield f"Faults: {words}."
    rows = [
        ("promised (250)", result.promised), ("tried more than once", tries), ("lost", len(result.lost)),
        ("in a queue still", len(result.waiting)),
        ("in the wrong place", len(result.astray)), ("refused or given up", len(result.refused)),
        ("there twice", len(result.twins)), ("of these unexplained", len(result.unexplained)),
    ]  # fmt: skip
    yield table(("messages", ""), rows)
    if result.twins:
        yield "\nThere twice: given twice to … while"
        for it in result.twins[:40]:
            yield f"  {it.number}: {it.hop or 'nobody'}; {it.why or 'no fault explains it'}"
    for title, them in (
        ("Lost", result.lost), ("In the wrong place", result.astray),
        ("Refused or given up", result.refused), ("Not well again", wrong),
    ):  # fmt: skip
        for one in them[:20]:
            yield f"{title}: {one}"


@click.command()
@click.option("--messages", default=10_000, show_default=True, help="How many.")
@click.option("--rate", default=8.0, show_default=True, help="Messages a second.")
@click.option(
    "--submitted", default=5, show_default=True, help="One in so many is submitted by a user."
)
@click.option(
    "--rounds", default=1, show_default=True, help="How often all that can go wrong does."
)
@click.option(
    "--seed", default=0, help="The same seed, the same plan; 0: a new one, which is told."
)
@click.option(
    "--patience", default=600.0, show_default=True, help="Seconds for what waits in the end."
)
@click.option("--disk", is_flag=True, help="What was not synced is lost with the power.")
@click.option("--plan", "only", is_flag=True, help="Print the plan and do nothing.")
@click.option("--site", default="", help="The site's folder; its lab must be up.")
def main(
    messages: int, rate: float, submitted: int, rounds: int, seed: int, patience: float, disk: bool,
    only: bool, site: str,
) -> None:  # fmt: skip
    """Send numbered messages while machines lose power, daemons die and wires go bad; tell what was lost."""
    app = running(site)
    seed = seed or secrets.randbelow(10**6)
    with ExitStack() as stack:
        chaos = stack.enter_context(Chaos(app))
        faults = plan(seed, messages / rate, chaos.machines, chaos.daemons, chaos.zones, rounds)
        click.echo(f"Seed {seed}: {messages} messages at {rate:g} a second, {len(faults)} faults")
        for it in faults:
            click.echo(f"{it.at:7.1f} s  {it.words}")
        if only:
            return
        streams = chaos.streams(messages, rate, seed, submitted)
        power = stack.enter_context(Disks(app.site().name, FOLDERS).installed()) if disk else None
        result, done, wrong = chaos.go(streams, faults, seed, patience, power)
        click.echo("")
        for line in report(result, done, wrong):
            click.echo(line)
        click.echo(f"{chaos.seconds:.0f} s after the last fault everything had arrived.")
    if not result.good or wrong:
        fail("not everything is as it should be")


if __name__ == "__main__":
    main()
