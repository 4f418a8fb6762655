"""Scanners die and starve while a thousand messages come in: none is lost, none passes unseen.

A stream of small messages, over IPv4 and IPv6 at once, one in ten with the antivirus test string, from
a sender that tries again as any MTA does. Meanwhile each helper of the gateway is killed, and then
stopped for a while. Whoever sent a message must know in the end: it was accepted and is in the mailbox
with the filter's marks, or it was refused.
"""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from bench.sender import send

from mastio import services
from mastio.lab import internet, outside
from mastio.site.model import Role
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, message, remote, the, token

pytestmark = pytest.mark.lab

COUNT = 1000
PACE = 0.11
"""Seconds between two messages of one address family: the stream lasts as long as the faults."""
EVERY = 10
"""One in so many has the test virus."""
WAITS = [1, 1, 2, 2, 3, 3, 5, 5, 5, 10, 10, 10, 10, 10, 10, 10]
"""Seconds between the tries of the sender: impatient, since a test waits."""
HELPERS = {"clamav-daemon": 14, "rspamd": 5, "valkey-server": 5, "unbound": 5}
"""The gateway's helpers, and for how many seconds each is stopped (ClamAV: longer than Rspamd waits)."""
SETTLED = 60
EICAR = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


@dataclass(frozen=True)
class Outcome:
    """What the sender was told of one message in the end."""

    word: str
    virus: bool
    code: int
    text: str
    tries: int


def stream(lab: Lab, recipient: str, version: int, count: int) -> list[Outcome]:
    """Send `count` messages over one address family, until each is accepted, refused or given up."""
    address, source = (
        str(next(it for it in addresses if it.version == version))
        for addresses in (lab.site.public, internet.mta(lab.site))
    )
    words = [token() for _ in range(count)]
    mails = [
        [CAROL, recipient, message(CAROL, recipient, word, text_of(number)).as_string()]
        for number, word in enumerate(words)
    ]
    sent = remote(
        lab, outside.MACHINE, send, address=address, port=services.SMTP.port, source=source,
        name=outside.MX, mails=mails, sessions=20, waits=WAITS, pace=PACE,
    )  # fmt: skip
    return [
        Outcome(word, has_virus(number), code, text, tries)
        for number, (word, (code, text, tries, _)) in enumerate(
            zip(words, sent["outcomes"], strict=True)
        )
    ]


def has_virus(number: int) -> bool:
    """Whether message `number` of a stream has the test string."""
    return number % EVERY == EVERY - 1


def text_of(number: int) -> str:
    """Its text."""
    return EICAR if has_virus(number) else "See you on Thursday."


def faults(lab: Lab) -> None:
    """Kill each helper, and then starve each; nobody starts one again."""
    gateway = the(lab, Role.GATEWAY_IN).name

    def signal(name: str, unit: str) -> None:
        done = lab.run(gateway, ["systemctl", "kill", f"--signal={name}", f"{unit}.service"])
        assert done.code == 0, done.stderr

    for unit in HELPERS:
        time.sleep(4)
        signal("KILL", unit)
    time.sleep(6)
    for unit, seconds in HELPERS.items():
        signal("STOP", unit)
        time.sleep(seconds)
        signal("CONT", unit)
        time.sleep(1)


def headers_of(folder: str, count: int, patience: float) -> list[Any]:
    """Subject, marks and whether there is a virus, of each message in a Maildir."""
    import pathlib
    import re
    import time

    def paths() -> list[Any]:
        found = pathlib.Path(folder).glob("**/*")
        return [it for it in found if it.parent.name in ("new", "cur") and it.is_file()]

    end = time.monotonic() + patience
    while len(paths()) < count and time.monotonic() < end:
        time.sleep(0.3)
    read = []
    for path in paths():
        text = path.read_text(errors="replace")
        head = text.partition("\n\n")[0]
        subject = re.search(r"^Subject: (\S+)", head, re.M)
        marks = [it for it in ("X-Spam-Status:", "Authentication-Results:") if f"\n{it}" in head]
        read.append([subject[1] if subject else "", marks, "EICAR-STANDARD" in text])
    return read


def test_no_message_is_lost_or_unseen_while_scanners_die_and_starve(lab: Lab) -> None:
    user = f"{token()}@{lab.site.domains[0]}"
    lab.mastio("user", "add", user, "--generate")
    try:
        with ThreadPoolExecutor() as pool:
            streams = [pool.submit(stream, lab, user, version, COUNT // 2) for version in (4, 6)]
            faults(lab)
            outcomes = [it for one in streams for it in one.result()]
        codes = Counter((it.virus, it.code) for it in outcomes)
        again = sum(it.tries > 1 for it in outcomes)
        print(f"\n{len(outcomes)} sent, {again} tried again; (virus, last answer): {dict(codes)}")

        unknown = [it for it in outcomes if it.code != 250 and not 500 <= it.code < 600]
        assert not unknown, f"{len(unknown)} without a verdict: {unknown[:3]}"
        passed = [it for it in outcomes if it.virus and it.code == 250]
        assert not passed, f"{len(passed)} viruses were accepted: {passed[:3]}"
        refused = [it for it in outcomes if not it.virus and it.code != 250]
        assert not refused, f"{len(refused)} good messages were refused: {refused[:3]}"
        assert again, "no fault was felt: the test tests nothing"

        accepted = {it.word for it in outcomes if it.code == 250}
        local, _, domain = user.partition("@")
        there = remote(
            lab, the(lab, Role.STORE).name, headers_of,
            folder=f"/var/vmail/{domain}/{local}", count=len(accepted), patience=SETTLED,
        )  # fmt: skip
        assert accepted <= {subject for subject, _, _ in there}, "accepted messages are lost"
        assert not [it for it in there if it[2]], "a virus is in the mailbox"
        unseen = [subject for subject, marks, _ in there if len(marks) < 2]
        assert not unseen, f"{len(unseen)} messages were not scanned"
        recovered(lab)
    finally:
        lab.mastio("user", "delete", "--purge", user)


def recovered(lab: Lab) -> None:
    """All helpers run again, and nobody has lifted a hand."""
    gateway = the(lab, Role.GATEWAY_IN).name
    end = time.monotonic() + SETTLED
    while True:
        states = lab.run(gateway, ["systemctl", "is-active", *HELPERS]).stdout.split()
        if states == [b"active"] * len(HELPERS):
            return
        assert time.monotonic() < end, dict(zip(HELPERS, states, strict=True))
        time.sleep(0.5)
