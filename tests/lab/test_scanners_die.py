"""Scanners die and starve while a thousand messages come in, and some go out: none is lost, none passes unseen.

A stream of small messages, over IPv4 and IPv6 at once, one in ten with the antivirus test string, from
a sender that tries again as any MTA does. Meanwhile each helper of the gateway is killed, then is stopped for a while,
and then gets no more memory. Whoever sent a message must know in the end: it was accepted and is in the mailbox
with the filter's marks, or it was refused. Beside it a user submits messages: each arrives signed, or comes back.

Of the faults that cannot go unnoticed, each must have been felt while it lasted.
"""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bench.sender import send

from mastio import services
from mastio.lab import internet, outside
from mastio.lab.cage import Cage
from mastio.roles.gateway.files import VALKEY
from mastio.site.model import Role
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, inbox, message, remote, the, token
from tests.lab.outbound import User, carols, numbers
from tests.lab.patience import at_last, eventually
from tests.lab.sabotage import on

pytestmark = pytest.mark.lab

COUNT = 1000
PACE = 0.34
"""Seconds between two messages of one address family: the stream lasts as long as the faults."""
OUT, OUT_PACE = 50, 3.4
"""So many are submitted meanwhile, and the seconds between two of them."""
EVERY = 10
"""One in so many has the test virus."""
WAITS = [1, 1, 2, 2, 3, 3, 5, 5, 5, 10, 10, 10, 10, 10, 10, 10]
"""Seconds between the tries of the sender: impatient, since a test waits."""
HELPERS = {"clamav-daemon": 34, "rspamd": 42, "valkey-server": 5, "unbound": 5}
"""The gateway's helpers, and for how many seconds each is stopped. ClamAV: longer than both tries of Rspamd take
(antivirus.conf), Rspamd: longer than Postfix waits (milter_command_timeout); else what waits just goes on."""
FELT = {
    ("KILL", "rspamd"),
    ("KILL", "valkey-server"),
    ("STOP", "clamav-daemon"),
    ("STOP", "rspamd"),
    ("STOP", "valkey-server"),
}
"""The others may go unnoticed: ClamAV's socket waits for its next daemon, and names are remembered."""
ANSWERS = {
    "clamav-daemon": "milter-reject: .*scanner",
    "rspamd": "milter-reject: .*Service unavailable",
    "valkey-server": "milter-reject: .*taught",
}
"""What the gateway says to whom a stopped helper holds up."""
SETTLED = 200
NO_MEMORY = 65536
"""Octets that a helper still gets: less than any of them takes for a message."""
TELL = "systemctl kill --kill-whom=main --signal={} {}.service"
ASK_MORE = {
    "clamav-daemon": TELL.format("USR2", "clamav-daemon"),  # reads its signatures anew: clamd(8)
    "unbound": TELL.format("HUP", "unbound"),  # and its settings: unbound(8)
    "valkey-server": f"timeout 20 valkey-cli -s {VALKEY} SETRANGE mastio:poor {8 << 20} x || true",
}
"""What makes those ask for new memory who may have had enough already for all that the stream brings."""
EICAR = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


@dataclass(frozen=True)
class Outcome:
    """What the sender was told of one message in the end."""

    word: str
    virus: bool
    code: int
    text: str
    tries: int


@dataclass(frozen=True)
class Fault:
    """What was done to a helper, and from when to when (CLOCK_MONOTONIC, the same on all machines)."""

    signal: str
    unit: str
    began: float
    ended: float


def stream(lab: Lab, recipient: str, version: int, count: int) -> tuple[list[Outcome], list[Any]]:
    """Send `count` messages over one address family, until each is accepted, refused or given up.

    What became of each, and when and why tries were in vain.
    """
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
    outcomes = [
        Outcome(word, has_virus(number), code, text, tries)
        for number, (word, (code, text, tries, _)) in enumerate(
            zip(words, sent["outcomes"], strict=True)
        )
    ]
    return outcomes, sent["vain"]


def submit_all(
    host: str, port: int, user: str, password: str, recipient: str, mails: list[str], pace: float
) -> list[Any]:
    """Submit messages as a user, one after the other; who of them did not hear 250."""
    import smtplib
    import ssl
    import time

    context, refused = ssl.create_default_context(cafile="/etc/mastio/pki/ca.pem"), []
    with smtplib.SMTP_SSL(host, port, timeout=120, context=context) as client:
        client.login(user, password)
        for number, mail in enumerate(mails):
            try:
                client.sendmail(user, recipient, mail)
            except smtplib.SMTPResponseException as why:
                refused.append([number, why.smtp_code])
            time.sleep(pace)
    return refused


def outgoing(lab: Lab, user: User, word: str) -> list[Any]:
    """The stream that goes out, each with its number in the subject."""
    mails = [message(user[0], CAROL, f"{word} {it}", text_of(it)).as_string() for it in range(OUT)]
    return list(
        remote(
            lab, the(lab, Role.WEBMAIL).name, submit_all,
            host=lab.site.internal_name(the(lab, Role.STORE).name), port=services.SUBMISSIONS.port,
            user=user[0], password=user[1], recipient=CAROL, mails=mails, pace=OUT_PACE,
        )
    )  # fmt: skip


def left_signed_or_came_back(lab: Lab, user: User, word: str, since: int) -> None:
    """What the faults held up was put off, and in the end nothing of it is lost, unsigned or unseen."""
    store = the(lab, Role.STORE).name
    for machine in (store, the(lab, Role.GATEWAY_OUT).name):
        on(lab, machine, "postqueue -f")
    viruses = {str(it) for it in range(OUT) if has_virus(it)}
    arrived = carols(lab, word, OUT - len(viruses), SETTLED)
    assert {*numbers(arrived)} == {str(it) for it in range(OUT)} - viruses
    unsigned = [
        it["Subject"] for it in arrived if "dkim=pass" not in str(it["Authentication-Results"])
    ]
    assert not unsigned, f"not signed: {unsigned}"
    notices = inbox(lab, *user, "Undelivered Mail", count=len(viruses), patience=SETTLED)
    back = {
        it for it in viruses for mail in notices if f"Subject: {word} {it}\n" in mail.as_string()
    }
    assert back == viruses, f"viruses that did not come back: {viruses - back}"
    put_off = f"journalctl --quiet --since=@{since} --grep='status=deferred' | wc -l"
    done = lab.run(store, ["sh", "-c", put_off])
    assert int(done.stdout), "no fault was felt on the way out, so that the test does not test it"
    print(f"{len(arrived)} left signed, {len(back)} came back, put off {int(done.stdout)} times")


def has_virus(number: int) -> bool:
    """Whether message `number` of a stream has the test string."""
    return number % EVERY == EVERY - 1


def text_of(number: int) -> str:
    """Its text."""
    return EICAR if has_virus(number) else "See you on Thursday."


def out_of_memory(lab: Lab, machine: str, unit: str) -> None:
    """Lets a unit have no more memory, until the kernel has ended one of its processes for that (cgroups(7))."""
    cage = Cage(lab.site.name, machine)
    old = Path("/sys/fs/cgroup/memory/mastio", lab.site.name, machine)
    top, limit, most, events = (
        (old, "memory.limit_in_bytes", "-1", "memory.oom_control")
        if old.exists()
        else (cage.path / "payload", "memory.max", "max", "memory.events")
    )
    poor = top / f"poor-{unit}"
    poor.mkdir(exist_ok=True)  # goes with the machine

    def ended() -> str:
        return next(it for it in (poor / events).read_text().splitlines() if "oom_kill " in it)

    before = ended()
    try:
        (poor / limit).write_text(str(NO_MEMORY))
        for pid in cage.pids(f"payload/system.slice/{unit}.service"):
            (poor / "cgroup.procs").write_text(str(pid))
        if unit in ASK_MORE:
            on(lab, machine, ASK_MORE[unit])
        needless = f"{unit} needs no memory, so that the test does not test it"
        eventually(lambda: ended() != before, needless, 60, 0.1)
    finally:
        (poor / limit).write_text(most)


def faults(lab: Lab) -> list[Fault]:
    """Kill each helper, then stop each for a while, and let each run out of memory; nobody starts one again."""
    done: list[Fault] = []
    gateway = the(lab, Role.GATEWAY_IN).name

    def during(name: str, unit: str, seconds: float) -> None:
        began, since = time.monotonic(), int(time.time())
        on(lab, gateway, f"systemctl kill --signal={name} {unit}.service")
        time.sleep(seconds)
        if name == "STOP" and unit in ANSWERS:
            # On a busy box it takes longer until somebody is held up, and has his answer.
            find = f"journalctl --quiet --since=@{since} --lines=1 --grep='{ANSWERS[unit]}' | grep -q ."
            on(lab, gateway, f"for i in $(seq 120); do {find} && break; sleep 0.5; done; sleep 1")
        done.append(Fault(name, unit, began, time.monotonic()))

    time.sleep(4)
    for unit in HELPERS:
        during("KILL", unit, 4)
    recovered(lab)  # or a fault is not felt, since another still lasts
    for unit, seconds in HELPERS.items():
        try:
            during("STOP", unit, seconds)
        finally:
            # Whom it held up is answered before the next one stops, or nobody comes whom that one could hold up.
            during("CONT", unit, seconds / 5)
    for unit in HELPERS:
        began = time.monotonic()
        out_of_memory(lab, gateway, unit)
        done.append(Fault("MEMORY", unit, began, time.monotonic()))
        recovered(lab)
    return done


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


def test_no_message_is_lost_or_unseen_while_scanners_die_and_starve(
    lab: Lab, somebody: User
) -> None:
    user, word, since = f"{token()}@{lab.site.domains[0]}", token(), int(time.time())
    lab.mastio("user", "add", user, "--generate")
    try:
        with ThreadPoolExecutor() as pool:
            out = pool.submit(outgoing, lab, somebody, word)
            streams = [pool.submit(stream, lab, user, version, COUNT // 2) for version in (4, 6)]
            suffered = faults(lab)
            outcomes = [it for one in streams for it in one.result()[0]]
            vain = [it for one in streams for it in one.result()[1]]
        codes = Counter((it.virus, it.code) for it in outcomes)
        felt = {
            (it.signal, it.unit): Counter(why for when, why in vain if it.began < when < it.ended)
            for it in suffered
        }
        print(
            f"\n{len(outcomes)} sent, {len(vain)} tries in vain; (virus, last answer): {dict(codes)}"
        )
        print("\n".join(f"{' '.join(fault)}: {dict(why)}" for fault, why in felt.items()))

        unknown = [it for it in outcomes if it.code != 250 and not 500 <= it.code < 600]
        assert not unknown, f"{len(unknown)} without a verdict: {unknown[:3]}"
        passed = [it for it in outcomes if it.virus and it.code == 250]
        assert not passed, f"{len(passed)} viruses were accepted: {passed[:3]}"
        refused = [it for it in outcomes if not it.virus and it.code != 250]
        assert not refused, f"{len(refused)} good messages were refused: {refused[:3]}"
        unfelt = {it for it in FELT if not felt[it]}
        assert not unfelt, f"these were not felt, so that the test does not test them: {unfelt}"
        said = felt["STOP", "clamav-daemon"]
        assert any("scanner" in it for it in said), said

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
        assert out.result() == [], "the store takes what users submit"
        left_signed_or_came_back(lab, somebody, word, since)
    finally:
        lab.mastio("user", "delete", "--purge", user)


def recovered(lab: Lab) -> None:
    """All helpers run again, and nobody has lifted a hand."""
    gateway, well = the(lab, Role.GATEWAY_IN).name, [b"active"] * len(HELPERS)
    states = at_last(
        lambda: lab.run(gateway, ["systemctl", "is-active", *HELPERS]).stdout.split(),
        lambda it: it == well,
        SETTLED,
    )
    assert states == well, dict(zip(HELPERS, states, strict=True))
