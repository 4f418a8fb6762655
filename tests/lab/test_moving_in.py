"""The guide for moving in, followed to the letter: from mailcow and Mail-in-a-Box, as they are, to the lab's site.

The old server is Debian's Dovecot with a master user, and beside it a tree of Maildirs and a table of people as
Mail-in-a-Box keeps them. What is typed on the administrator's machine is typed on this box, in a home of its own. The
lab's internet has all of the site's names all the time: what `mastio verify` says before they have moved, and `mastio
dns --check` while two servers stand there, is not shown here.
"""

import csv
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from mastio import services
from mastio.lab import host, outside
from mastio.site.model import MtaSts
from mastio.site.parse import parse
from mastio.transport import OUTSIDE
from mastio.vault import identity_path
from tests.lab import elsewhere, guides, mail
from tests.lab.conftest import REPOSITORY
from tests.lab.conftest import TheLab as Lab
from tests.lab.guides import blocks, filled
from tests.lab.sabotage import on
from tests.lab.test_import import PROBE, facts, plain

pytestmark = pytest.mark.lab

GUIDE = "moving-in.md"
IMAP_HOST, BOX, LOOPBACK = "imap.old.example", "box.old.example", "127.0.0.77"
DOMAIN = "fortress.test"
MIA, MO, MAX, IDA = (f"{it}@{DOMAIN}" for it in ("mia", "mo", "max", "ida"))
PASSWORD, MASTER = "a horse, a battery, a staple", "m-aster 'of' all"
TREE = f"/home/user-data/mail/mailboxes/{DOMAIN}/max"
NOT_HERE = {
    "[dns]": "a week would wait for it: the parser reads it below, tests/lab/test_authenticity.py has policies served",
    "cd /opt/mailcow": "it asks mailcow's database in its container; what it prints is what Mail-in-a-Box's prints",
}
"""How blocks begin that are not typed, and why."""
IMPORT = f"mastio import imap bob@example.org --host {IMAP_HOST}"
TYPED = (
    "export PATH", "cd /home/user-data", "mastio user import", IMPORT,
    "tail -n +2", "rsync -a", "swaks", "mastio dns --check", "mastio backup",
)  # fmt: skip
DOVECOT = f"""{elsewhere.DOVECOT}
auth_master_user_separator = *
passdb master {{
  driver = passwd-file
  passwd_file_path = /etc/dovecot/dovecot-master.passwd
  master = yes
  skip = authenticated
}}
passdb people {{
  driver = passwd-file
  passwd_file_path = /etc/dovecot/people
}}
userdb people {{
  driver = passwd-file
  passwd_file_path = /etc/dovecot/people
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Gesendet {{
    special_use = \\Sent
  }}
}}
"""
FILL = """
import json, os, random, sqlite3
random.seed(11)
order = json.loads(PAYLOAD)
for top, folders in order["trees"].items():
    for folder, count in folders.items():
        here = f"{top}/{folder}".rstrip("/")
        for it in ("cur", "new", "tmp"):
            os.makedirs(f"{here}/{it}")
        with open(f"{here}/dovecot-keywords", "w") as file:
            file.write("0 $Label1\\n1 later\\n")
        for number in range(count):
            # The newest have not been seen yet, nor has anybody looked that they are there.
            flags = "".join(it for it in "FRSTab" if random.random() < 0.3)
            name = f"{1700000000 + number}.M{number}.old"
            path = f"{here}/new/{name}" if number > count - 5 else f"{here}/cur/{name}:2,{flags}"
            with open(path, "w") as file:
                file.write(f"From: x@y.test\\nMessage-ID: <{folder}{number}@old.test>\\n")
                file.write(f"Subject: {folder} {number}\\n\\n")
                file.write(f"{number} \\u00fc\\n" * (number % 50))
            os.utime(path, (1600000000 + number * 7919,) * 2)
people = sqlite3.connect("/home/user-data/mail/users.sqlite")
people.execute("CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT NOT NULL UNIQUE, "
               "password TEXT NOT NULL, extra, privileges TEXT NOT NULL DEFAULT '')")
people.execute("CREATE TABLE aliases (id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL UNIQUE, "
               "destination TEXT NOT NULL, permitted_senders TEXT)")
people.executemany("INSERT INTO users (email, password) VALUES (?, ?)", order["people"])
people.execute("INSERT INTO aliases (source, destination) VALUES (?, ?)", order["alias"])
people.commit()
"""
MAILBOX = {"": 200, ".Work": 20, ".Work.Gr&APYA3w-e": 60, ".Gesendet": 40, ".Empty": 0}
BOX_MAILBOX = {"": 120, ".Work.2026": 30, ".Sent": 20, ".Spam": 15}
COUNT, BOX_COUNT = sum(MAILBOX.values()), sum(BOX_MAILBOX.values())


@dataclass(frozen=True)
class Move:
    """The old server, the new site, and who moves from one to the other."""

    lab: Lab
    old: elsewhere.Elsewhere
    desk: guides.Here

    def type(self, beginning: str, code: int = 0, table: Mapping[str, str] | None = None) -> str:
        """The guide's block that begins so, typed on the administrator's machine."""
        done = self.desk.type(filled(block(beginning), table or {}), {"Password of": PASSWORD})
        assert done.code == code, done.said
        return done.said

    def facts(self, user: str, *options: str) -> list[str]:
        """All that the old server knows of somebody's messages, by the names that the new one has for folders."""
        argv = ["doveadm", *options, "-f", "json", "fetch", "-u", user, PROBE, "ALL"]
        return plain(json.loads(self.old.run(shlex.join(argv))))

    def of_max(self) -> list[str]:
        rows = self.facts(MAX, "-o", f"mail_path={TREE}")
        return sorted(it.replace('"mailbox": "Spam"', '"mailbox": "Junk"') for it in rows)


def block(beginning: str) -> str:
    """The first block of the guide that begins so."""
    return next(
        text for it in blocks(GUIDE) if (text := it.partition("\n")[2]).startswith(beginning)
    )


@pytest.fixture(scope="module")
def move(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Move]:
    if not shutil.which("rsync"):
        host.install(("rsync",))
    home = tmp_path_factory.mktemp("administrator")
    names = tuple(f"DNS:{it}" for it in (IMAP_HOST, BOX))
    with (
        elsewhere.server(home, f"moving{os.getpid()}", DOVECOT, names) as old,
        old.reached(LOOPBACK, services.IMAPS.port),
    ):
        hashed = old.run(f"doveadm pw -s SHA512-CRYPT -p {shlex.quote(PASSWORD)}").strip()
        order = json.dumps({
            "trees": {f"/var/vmail/{DOMAIN}/{it}/Maildir": MAILBOX for it in ("mia", "mo")} | {TREE: BOX_MAILBOX},
            "people": [(it, hashed) for it in (MIA, MO, MAX)], "alias": (f"sales@{DOMAIN}", MIA),
        })  # fmt: skip
        old.run(
            "mkdir -p /home/user-data/mail; python3 -I -", f"PAYLOAD = {order!r}\n{FILL}".encode()
        )
        old.run("mkdir -p /var/vmail; chown -R mail:mail /var/vmail /home/user-data/mail/mailboxes")
        people = (
            f"{it}@{DOMAIN}:{hashed}:8:8::/var/vmail/{DOMAIN}/{it}\n" for it in ("mia", "mo", "max")
        )
        old.run("cat >/etc/dovecot/people", "".join(people).encode())
        secret = old.run(f"doveadm pw -s SHA1 -p {shlex.quote(MASTER)}").strip()
        old.run(
            "cat >/etc/dovecot/dovecot-master.passwd",
            f"moving@mailcow.local:{secret}::::::\n".encode(),
        )
        # As a clone is, and as ssh gets to the old server.
        for name, script in (
            ("mastio", f'PYTHONPATH={REPOSITORY / "src"} exec {sys.executable} -m mastio "$@"'),
            ("ssh", f'while [ "$1" != {BOX} ]; do shift; done; shift\n'
                    f'exec {shlex.join(old.transport.argv(OUTSIDE, ["sh", "-c"]))} "$*"'),
        ):  # fmt: skip
            (home / name).write_text(f"#!/bin/sh\n{script}\n")
            (home / name).chmod(0o755)
        (home / "mysite").symlink_to(lab.folder)
        (home / ".where").write_text(str(home))
        environment = {
            "MASTIO_IDENTITY": str(identity_path()),
            "RSYNC_RSH": str(home / "ssh"),
            "SSL_CERT_FILE": str(old.certificate),
        }
        desk = guides.Here(home, {IMAP_HOST: LOOPBACK, BOX: LOOPBACK}, environment)
        try:
            yield Move(lab, old, desk)
        finally:
            lab.mastio("alias", "delete", f"sales@{DOMAIN}")
            lab.mastio("user", "delete", MIA, MO, MAX, IDA, "--purge")


def test_every_block_of_the_guide_is_typed_or_says_why_not() -> None:
    for it in blocks(GUIDE):
        line = it.splitlines()[1]
        assert any(line.startswith(one) for one in (*TYPED, *NOT_HERE)), line
    for one in (*TYPED, *NOT_HERE):
        assert block(one)


def test_the_policy_that_binds_nobody_is_one(lab: Lab) -> None:
    text = (lab.folder / "site.toml").read_text() + block("[dns]")
    assert parse(text, "site.toml").dns.mta_sts is MtaSts.TESTING


def test_people_come_with_their_passwords_and_aliases(move: Move) -> None:
    assert "_mta-sts." in move.type("export PATH")
    listed = move.old.run(block("cd /home/user-data"))
    assert listed == f"sales@{DOMAIN} {MIA}\n"
    table = move.old.run("cat /root/people.csv")
    (move.desk.home / "people.csv").write_text(f"{table}{IDA},\n")
    move.type("mastio user import", table={"example.org": DOMAIN, "bob@": "mia@"})
    made = list(csv.reader((move.desk.home / "new-passwords.csv").read_text().splitlines()))
    assert [it[0] for it in made[1:]] == [IDA], "only who brought no hash gets a new one"
    assert move.lab.mastio("alias", "list").split() == [f"sales@{DOMAIN}", "→", MIA]
    assert all(mail.lets_in(move.lab, *it) for it in ((MIA, PASSWORD), (IDA, made[1][1])))


def imap(move: Move, beginning: str = IMPORT, code: int = 0) -> str:
    return move.type(beginning, code, {"bob@example.org": MIA})


def files(move: Move) -> str:
    table = {"bob@example.org": MAX, "example.org/bob": f"{DOMAIN}/max"}
    return move.type("rsync", table=table)


def test_mail_comes_by_imap_with_the_own_password_and_the_masters(move: Move) -> None:
    before = move.facts(MIA)
    assert len(before) == COUNT
    assert f"compared by content: all {COUNT} are there" in imap(move)
    (move.desk.home / "master.password").write_text(f"{MASTER}\n")
    said = move.type("tail -n +2")
    assert said.count("compared by content") == 3, said
    assert (move.desk.home / "again").read_text() == f"{IDA}\n", "she was not there"
    assert facts(move.lab, MIA) == before == move.facts(MIA), "nothing was changed there either"
    assert len(facts(move.lab, MO)) == COUNT and facts(move.lab, MO) == move.facts(MO)
    folders = on(move.lab, "store", f"doveadm mailbox list -u {MIA}").splitlines()
    assert {"Empty", "Work/Größe", "Sent"} <= {*folders} and "Gesendet" not in folders


def test_mail_comes_by_files(move: Move) -> None:
    assert f"compared by content: all {BOX_COUNT} are there" in files(move)
    assert len(facts(move.lab, MAX)) == BOX_COUNT and facts(move.lab, MAX) == move.of_max()


def test_the_evening_begins_with_a_message_straight_to_the_mx(move: Move) -> None:
    table = {"bob@example.org": MIA, BOX: outside.PLAIN, "mx.example.org": move.lab.site.mx_host}
    typed = filled(block("swaks"), table)
    sent = move.lab.run(OUTSIDE, ["bash", "-c", typed])
    assert sent.code == 0, sent.stdout.decode()
    (letter,) = mail.inbox(move.lab, MIA, PASSWORD, "test ")
    assert "This is a test mailing" in str(letter.get_payload())
    assert re.match(r"(\d+) of \1 as they should be", move.type("mastio dns --check"))


def test_once_more_brings_what_came_since_and_nothing_twice(move: Move) -> None:
    lab, old = move.lab, move.old
    # At the new place one is moved and one deleted; at the old one some come, one is read, one moved, by all ways.
    on(
        lab,
        "store",
        f"doveadm move -u {MIA} Archive MAILBOX INBOX HEADER Message-ID '<7@old.test>'",
    )
    on(lab, "store", f"doveadm expunge -u {MIA} MAILBOX INBOX HEADER Message-ID '<8@old.test>'")
    for user, options in ((MIA, ""), (MAX, f"-o mail_path={TREE}")):
        do = f"doveadm {options}"
        for number in range(3):
            letter = f"From: x@y.test\nMessage-ID: <late{number}@old.test>\nSubject: late {number}\n\nx\n"
            old.run(f"{do} save -u {user} -m INBOX", letter.encode())
        old.run(
            f"{do} flags add -u {user} '\\Answered' MAILBOX INBOX HEADER Message-ID '<9@old.test>'"
        )
        old.run(f"{do} move -u {user} Work/Done MAILBOX INBOX HEADER Message-ID '<10@old.test>' || "
                f"{do} mailbox create -u {user} Work/Done && "
                f"{do} move -u {user} Work/Done MAILBOX INBOX HEADER Message-ID '<10@old.test>'")  # fmt: skip
    lacks = imap(move, f"{IMPORT} --verify-only", code=1)
    assert "missing: INBOX: <late2@old.test>" in lacks and "missing: INBOX: <8@old.test>" in lacks
    brought = imap(move)
    assert "INBOX: 4 came" in brought and f"all {COUNT + 3} are there" in brought, brought
    assert "INBOX: 3 came" in files(move)
    assert " came" not in imap(move) + files(move)
    now = [json.loads(it) for it in facts(lab, MIA)]
    # The one that swaks sent is the new server's alone.
    assert len(now) == COUNT + 3 + 1 and len(facts(lab, MAX)) == BOX_COUNT + 3
    where = {it["text"].partition("Message-ID: <")[2].partition("@")[0]: it for it in now}
    assert where["7"]["mailbox"] == "Archive" and where["10"]["mailbox"] == "INBOX"
    assert where["8"]["mailbox"] == "INBOX" and "\\Answered" not in where["9"]["flags"]


def test_a_week_later_it_is_archived_and_a_drill_brings_it_back(move: Move) -> None:
    said = move.type("mastio backup")
    assert "good in" in said and f"{COUNT + 4}" in said, said
    left = {it.name for it in move.desk.home.iterdir()}
    assert not left & {"people.csv", "new-passwords.csv", "master.password", "mailboxes"}
    assert not [*(move.desk.home / ".cache" / "mastio" / "import").rglob("*.*")]
    move.lab.mastio(
        "backup", "now"
    )  # the others too: whoever verifies this site next misses their archives
