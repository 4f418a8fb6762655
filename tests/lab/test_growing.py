"""A lone machine with 10,000 messages becomes five, while mail arrives and somebody looks at the webmail all the time.

The old machine has another public address than the new firewall: DNS leads to the one or the other, as it would.
What is done is what docs/guides/growing.md says, in its order.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from threading import Event, Thread
from typing import Any

import pytest

from mastio import services
from mastio.cli.common import App
from mastio.instances import BESIDE
from mastio.lab import outside
from mastio.lab.machine import Machine
from mastio.lab.model import machines
from mastio.lab.provider import Lab as Provider
from mastio.roles.store import VMAIL
from mastio.roles.webmail import STATE
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.conftest import Quiet, mastio
from tests.lab.conftest import TheLab as Lab
from tests.lab.guides import blocks
from tests.lab.mail import CAROL, message, the, token
from tests.lab.own import own_lab_of
from tests.lab.patience import PATIENCE, at_last, eventually
from tests.lab.sabotage import on
from tests.lab.test_verify import NOT_HERE, having

pytestmark = pytest.mark.lab

OLD = "mail"
INSIDE = 10_000
NEW_PUBLIC = '"203.0.113.2",\n    "2001:db8:113::2"'
ROUNDCUBE = f"{STATE}/roundcube.sqlite"
SOCKET = "/run/valkey/valkey.sock"
VISITS = "/var/tmp/visits"
GUIDE = "growing.md"
ADOPT = "mastio adopt"
"""The one line of it that is not followed: the lab has made these machines. tests/lab/test_over_ssh.py adopts."""
_followed: list[str] = []

FILL = """
import os, pwd, random
from pathlib import Path
chance = random.Random(1)
owner = pwd.getpwnam("vmail")
for number in range(INSIDE):
    folder = BOX / ("" if number % 4 else ".Archive") / "cur"
    if not folder.is_dir():
        for part in ("cur", "new", "tmp"):
            (folder.parent / part).mkdir(parents=True, exist_ok=True)
    text = (f"From: old@outside.test\\nTo: alice@fortress.test\\nSubject: kept {number}\\n"
            f"Message-ID: <{number}@outside.test>\\n\\nMessage {number}.\\n" + "x" * 2000 + "\\n")
    # Named as Dovecot names them: with its size, and what it is with CRLF; else each delivery would ask all 10,000.
    size = f"S={len(text)},W={len(text) + text.count(chr(10))}"
    # Dovecot's hash of a name sees its end: with nothing but a long host name there, all would be one.
    unique = f"{1700000000 + number}.M{chance.randrange(10**6)}P{chance.randrange(10**5)}.box"
    path = folder / f"{unique},{size}:2,{'S' if number % 3 else ''}"
    path.write_text(text)
for top, folders, files in os.walk(BOX.parent):
    for name in (top, *(f"{top}/{it}" for it in files)):
        os.chown(name, owner.pw_uid, owner.pw_gid)
"""
LOOK = """
import socket, ssl, time
context = ssl._create_unverified_context()
def visit(address):
    try:
        with socket.create_connection((address, PORT), timeout=2) as plain:
            with context.wrap_socket(plain, server_hostname=NAME) as line:
                line.settimeout(3)
                line.sendall(f"GET / HTTP/1.1\\r\\nHost: {NAME}\\r\\nConnection: close\\r\\n\\r\\n".encode())
                text = b""
                while chunk := line.recv(65536):
                    text += chunk
        return b" 200 " in text[:20] and b"_pass" in text
    except OSError:
        return False
while True:
    began = time.time()
    good = visit(ADDRESS)
    print(f"{began:.2f} {int(good)}", file=open(WHERE, "a"))
    time.sleep(0.5)
"""


@dataclass
class Grown:
    """What the move has shown."""

    lab: Lab
    moved: dict[str, Any]
    sent: list[str]
    visits: list[tuple[float, bool]]


def follow(lab: Lab, line: str, *more: str) -> str:
    """Does a line of the guide, with what is said at a terminal as options; what it printed."""
    _followed.append(line)
    return lab.mastio(*line.split()[1:], *more)


def kill_while_it_shuts(lab: Lab) -> None:
    """A run that loses its power: the old machine is left half shut."""
    argv = [sys.executable, "-m", "mastio", "--site", str(lab.folder), "move", OLD, "--yes"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if "closing its doors" in line:
                time.sleep(3)
                break
        process.kill()


def test_what_would_be_lost_is_refused_and_a_move_that_fails_opens_the_old_machine_again(
    standing: Lab,
) -> None:
    """Both before anything has moved."""
    store = the(standing, Role.STORE).name
    stray = f"{VMAIL}/fortress.test/zoe/Maildir/cur"
    on(standing, store, f"mkdir -p {stray}; echo x >{stray}/1.M1P1.here:2,")
    done = mastio(standing.folder, "move", OLD, "--yes")
    assert done.returncode == 65 and "holds mail of its own" in done.stderr
    on(standing, store, f"rm -r {VMAIL}/fortress.test")
    webmail = the(standing, Role.WEBMAIL).name
    stage = "/var/lib/mastio/restore"  # where its users' settings would wait
    on(standing, webmail, f"test ! -e {stage}; touch {stage}")
    kill_while_it_shuts(standing)
    done = mastio(standing.folder, "move", OLD, "--yes")
    assert done.returncode == 1 and "opening its doors again" in done.stderr
    on(standing, webmail, f"rm {stage}")
    word = token()
    mail.from_carol(standing, message(CAROL, "alice@fortress.test", word))
    find = ["doveadm", "search", "-u", "alice@fortress.test", "mailbox", "INBOX", "subject", word]
    eventually(lambda: standing.run(OLD, find).stdout, "it takes no mail any more")
    ports = "ss -Hltn '( sport = :25 or sport = :443 )' | wc -l"
    assert int(on(standing, OLD, ports)) >= 2


@pytest.fixture(scope="module")
def standing(own_lab: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lone machine at work with mail inside, and five empty machines beside it."""
    with own_lab_of("single", tmp_path_factory.mktemp("growing")) as lab:
        box = f"{VMAIL}/fortress.test/alice/Maildir"
        program = f"INSIDE = {INSIDE}\nfrom pathlib import Path\nBOX = Path('{box}')\n{FILL}"
        on(lab, OLD, "python3 -I -", program.encode())
        on(lab, OLD, "doveadm mailbox subscribe -u alice@fortress.test Archive; "
                     "doveadm index -u alice@fortress.test '*'")  # fmt: skip
        record = Machine(lab.site.name, OLD).record()
        assert record
        file = lab.folder / "site.toml"
        words = file.read_text().replace('topology = "single"', 'topology = "separated"')
        file.write_text(words.replace('"203.0.113.1",\n    "2001:db8:113::1"', NEW_PUBLIC))
        follow(lab, "mastio check")
        follow(lab, "mastio flows")
        app = App(str(lab.folder))
        grown = app.site()
        provider = Provider(grown.name)
        provider.up((record.machine, *machines(grown, app.states())), Quiet())
        follow(lab, "mastio apply", "--yes", *(it.name for it in grown.machines))
        provider.settle(Quiet())
        yield replace(lab, site=grown)


@pytest.fixture(scope="module")
def grown(standing: Lab) -> Iterator[Grown]:
    """Moved, with mail arriving and a browser looking all the while; then DNS says so."""
    lab, sent = standing, list[str]()
    cf = BESIDE.config
    on(lab, OLD, f"postconf -c {cf} -e defer_transports=smtp,relay; postfix -c {cf} reload; "
                 f"printf 'Subject: held\\n\\nx\\n' | MAIL_CONFIG={cf} sendmail -f alice@fortress.test {CAROL}; "
                 f"until postqueue -c {cf} -j | grep -q deferred; do sleep 0.2; done; postsuper -c {cf} -h ALL; "
                 f"postconf -c {cf} -X defer_transports; postfix -c {cf} reload")  # fmt: skip
    on(
        lab,
        OLD,
        f"sqlite3 {ROUNDCUBE} \"INSERT INTO users (username, mail_host, created) VALUES ('carried', 'x', 1)\"",
    )
    on(lab, OLD, f"valkey-cli -s {SOCKET} set carried yes")
    # On the internet a machine's log never stands still.
    chatter = "while sleep 0.1; do logger somebody knocks; done"
    on(lab, OLD, f"systemd-run -q --unit=chatter sh -c '{chatter}'")
    name = lab.site.webmail_host
    look = f"PORT, NAME, ADDRESS, WHERE = {services.HTTPS.port}, '{name}', '203.0.113.1', '{VISITS}'\n{LOOK}"
    on(lab, outside.MACHINE, f"cat >/var/tmp/look.py; rm -f {VISITS}", look.encode())
    on(lab, outside.MACHINE, "systemd-run -q --unit=look python3 /var/tmp/look.py")

    def write() -> None:
        sent.append(token())
        mail.from_carol(lab, message(CAROL, "alice@fortress.test", sent[-1]))

    try:
        over = Event()

        def on_and_on() -> None:
            while not over.wait(1):
                write()

        writer = Thread(target=on_and_on, daemon=True)
        writer.start()
        follow(lab, f"mastio move {OLD} --copy-only")
        moved = json.loads(follow(lab, f"mastio move {OLD}", "--yes", "--json"))
        follow(lab, "mastio dns")
        lab.mastio("apply", "--yes", outside.MACHINE)  # who runs the zone publishes the records
        time.sleep(3)
        over.set()
        writer.join()
        write()
        # To the first visit that succeeds after all this: on a busy box a single one may take too long.
        seen = f"for i in $(seq 300); do tail -n 1 {VISITS} | grep -q ' 1$' && break; sleep 1; done; cat {VISITS}"
        visits = [
            (float(when), good == "1")
            for when, good in (it.split() for it in on(lab, outside.MACHINE, seen).splitlines())
        ]
    finally:
        lab.run(outside.MACHINE, ["systemctl", "stop", "look.service"])
    yield Grown(lab, moved, sent, visits)


def test_nothing_is_lost_and_nothing_comes_twice(grown: Grown) -> None:
    lab, alice = grown.lab, "alice@fortress.test"
    store = the(lab, Role.STORE).name

    def inside() -> list[str]:
        lab.run(outside.MACHINE, ["exim4", "-qff"])
        subjects = on(lab, store, f"doveadm fetch -u {alice} hdr.subject all").splitlines()
        return [it.removeprefix("hdr.subject: ") for it in subjects if it.startswith("hdr.")]

    there = at_last(inside, lambda it: {*grown.sent} <= {*it}, 2 * PATIENCE, 1)
    assert not {*grown.sent} - {*there}, "these were promised to carol"
    assert {f"kept {it}" for it in range(INSIDE)} <= {*there}
    assert len(there) == len({*there}), "twice"
    kept = f"doveadm search -u {alice} mailbox %s header message-id outside.test%s | wc -l"
    assert int(on(lab, store, kept % ("Archive", ""))) == INSIDE // 4
    unseen = int(on(lab, store, f"doveadm search -u {alice} unseen subject kept | wc -l"))
    assert unseen == len([it for it in range(INSIDE) if it % 3 == 0])


def test_the_webmail_was_away_for_less_than_a_minute(grown: Grown) -> None:
    """For a browser that still believes the old address."""
    good = [when for when, well in grown.visits if well]
    bad = [when for when, well in grown.visits if not well]
    assert bad, "it cannot have been away for no time at all"
    longest = max(after - before for before, after in pairwise(good))
    print(f"away for {longest:.1f} s as a browser sees it; {grown.moved}")
    assert longest <= 60 and grown.moved["webmail_away"] <= 60
    assert good[-1] > bad[-1], "browsers are handed on"


def test_all_else_that_no_site_file_says_came_along(grown: Grown) -> None:
    lab = grown.lab
    gateway, store = the(lab, Role.GATEWAY_IN).name, the(lab, Role.STORE).name
    assert on(lab, gateway, f"valkey-cli -s {SOCKET} get carried").strip() == "yes"
    row = f"sqlite3 {ROUNDCUBE} \"SELECT count(*) FROM users WHERE username = 'carried'\""
    assert on(lab, the(lab, Role.WEBMAIL).name, row).strip() == "1"
    assert '"queue_name": "hold"' in on(lab, store, "postqueue -j")
    on(lab, store, "postsuper -H ALL && postqueue -f")
    assert mail.at_carols(lab, "held")
    user, password = next(iter(lab.accounts.items()))
    assert mail.lets_in(lab, user, password)
    assert on(lab, the(lab, Role.WATCH).name, f"ls /var/log/remote/{OLD}").strip()


def test_the_old_machine_takes_nothing_any_more_not_even_after_a_reboot(grown: Grown) -> None:
    lab = grown.lab
    done = mastio(lab.folder, "move", OLD, "--yes")
    assert done.returncode == 0 and "has moved" in done.stderr
    assert not on(lab, OLD, "ss -Hltn sport = :25").strip()
    for unit in ("postfix.service", BESIDE.unit, "dovecot.service", "nginx.service"):
        assert lab.run(OLD, ["systemctl", "is-enabled", unit]).stdout.decode().strip() != "enabled"


def test_the_five_are_green_and_the_old_one_may_go(grown: Grown) -> None:
    lab = grown.lab
    # Names were asked for before DNS said so, and are remembered for a while.
    eventually(lambda: mastio(lab.folder, "dns", "--check").returncode == 0, "DNS does not say so")
    follow(lab, "mastio dns --check")
    report = json.loads(follow(lab, "mastio verify", "--json"))
    assert not having(report, "failed") and not having(report, "could not check")
    assert {*having(report, "not run")} <= NOT_HERE
    follow(lab, f"mastio decommission {OLD}", "--yes")
    assert "mastio" not in on(lab, OLD, "nft list ruleset")


def test_the_guide_is_followed_to_its_end(grown: Grown) -> None:
    follow(grown.lab, "mastio backup now")
    follow(grown.lab, "mastio drill restore")
    lines = [line for block in blocks(GUIDE) for line in block.splitlines()[1:]]
    assert _followed == [it for it in lines if it != ADOPT]
