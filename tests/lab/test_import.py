"""Mail is brought over: from a real IMAP server that is not ours, from Maildirs and from mbox files.

The other server is a Dovecot on a machine of its own: the box reaches it by a loopback port, and the store not at all.
"""

import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from mastio.importing import remote
from mastio.lab import forward, host
from mastio.lab.transport import NspawnTransport
from mastio.services import IMAPS
from mastio.transport import OUTSIDE
from tests.lab import elsewhere
from tests.lab.conftest import LIMIT, REPOSITORY, mastio
from tests.lab.conftest import TheLab as Lab
from tests.lab.elsewhere import server
from tests.lab.sabotage import on

pytestmark = pytest.mark.lab

PASSWORD = "correct horse, battery: 'ü'"
DOVECOT = f"""{elsewhere.DOVECOT}
passdb static {{
  password = {{PLAIN}}{PASSWORD}
}}
userdb static {{
  fields {{
    home = /srv/mail/%{{user}}
  }}
}}
namespace inbox {{
  inbox = yes
  prefix = INBOX.
  separator = .
  mailbox Gesendet {{
    special_use = \\Sent
  }}
  mailbox Everything {{
    special_use = \\All
  }}
}}
"""
FILL = """
import os, random, shutil
random.seed(7)
top = "/srv/mail/mia/Maildir"
for folder, count in (("", 1000), (".Work", 20), (".Work.Gr&APYA3w-e &- mehr", 100), (".Gesendet", 80), (".Empty", 0)):
    here = f"{top}/{folder}" if folder else top
    for it in ("cur", "new", "tmp"):
        os.makedirs(f"{here}/{it}")
    with open(f"{here}/dovecot-keywords", "w") as file:
        file.write("0 $Label1\\n1 later\\n")
    for number in range(count):
        name = "".join(it for it in "FRSTab" if random.random() < 0.3)
        path = f"{here}/cur/{1700000000 + number}.M{number}.old:2,{name}"
        eol = "\\r\\n" if number % 7 == 0 else "\\n"
        text = f"From: x@y.test\\nMessage-ID: <{folder}{number}@old.test>\\nSubject: {number}\\n\\n"
        with open(path, "w", newline="") as file:
            file.write((text + f"{number} \\u00fc\\n" * (number % 50)).replace("\\n", eol))
        os.utime(path, (1600000000 + number * 7919,) * 2)
# The same octets twice in a folder are two messages.
with open(f"{top}/.Work/cur/0.M0.old:2,", "w") as one, open(f"{top}/.Work/cur/1.M1.old:2,S", "w") as two:
    one.write("Subject: twin\\n\\nsame\\n")
    two.write("Subject: twin\\n\\nsame\\n")
# As Gmail's: what is in other folders, and something that is in none.
for it in ("cur", "new", "tmp"):
    os.makedirs(f"{top}/.Everything/{it}")
for name in sorted(os.listdir(f"{top}/cur"))[:30]:
    shutil.copy2(f"{top}/cur/{name}", f"{top}/.Everything/cur/")
with open(f"{top}/.Everything/cur/0.M0.old:2,S", "w") as file:
    file.write("Subject: archived\\n\\nin no folder\\n")
"""
SHOWN = 30
"""Messages that a folder of the other server merely shows."""
COUNT = 1203
PROBE = "mailbox flags date.received.unixtime text"


@dataclass(frozen=True)
class Old:
    """The other server."""

    transport: NspawnTransport
    port: int
    starttls: int
    certificate: Path

    def facts(self) -> list[str]:
        argv = ["doveadm", "-f", "json", "fetch", "-u", "mia", PROBE, "ALL"]
        done = self.transport.run(OUTSIDE, argv, timeout=LIMIT)
        assert done.code == 0, done.stderr.decode()
        rows = json.loads(done.stdout)
        kept = [it for it in rows if "Everything" not in it["mailbox"] or "archived" in it["text"]]
        assert len(rows) - len(kept) == SHOWN
        return plain(kept)

    @property
    def words(self) -> tuple[str, ...]:
        return (
            "--host",
            host.LOOPBACK,
            "--port",
            str(self.port),
            "--login",
            "mia",
            "--ca",
            str(self.certificate),
        )


def plain(rows: list[dict[str, Any]]) -> list[str]:
    """All that IMAP says of each message, with folders as they are called here."""
    for it in rows:
        it["flags"] = " ".join(sorted(it["flags"].replace("\\Recent", "").split()))
        it["mailbox"] = (
            it["mailbox"].removeprefix("INBOX.").replace(".", "/").replace("Gesendet", "Sent")
        )
        it["text"] = it["text"].replace("\r\n", "\n")
    return sorted(json.dumps(it, sort_keys=True) for it in rows)


def facts(lab: Lab, user: str) -> list[str]:
    said = on(lab, "store", f"doveadm -f json fetch -u {user} '{PROBE}' ALL")
    return plain(json.loads(said))


@contextmanager
def account(lab: Lab, name: str) -> Iterator[str]:
    user = f"{name}@fortress.test"
    lab.mastio("user", "add", user, "--password-stdin", stdin=f"{secrets.token_hex(9)}\n")
    try:
        yield user
    finally:
        lab.mastio("user", "delete", user, "--purge")


@pytest.fixture(scope="module")
def old(as_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Old]:
    folder = tmp_path_factory.mktemp("old")
    with server(folder, f"old{os.getpid()}", DOVECOT, (f"IP:{host.LOOPBACK}",)) as other:
        other.run("python3 -I -; chown -R mail:mail /srv/mail", FILL.encode())
        ports = [_free(), _free()]
        for it, service in zip(
            ports, (IMAPS, replace(IMAPS, port=remote.PORTS["starttls"])), strict=True
        ):
            forward.forward(other.site, it, ip_address(elsewhere.ADDRESS), service)
        yield Old(other.transport, ports[0], ports[1], other.certificate)
        for it in ports:
            forward.close(other.site, it)


def _free() -> int:
    with socket.create_server((host.LOOPBACK, 0)) as free:
        port: int = free.getsockname()[1]
        return port


def bring(lab: Lab, *words: str, code: int = 0, stdin: str = f"{PASSWORD}\n") -> dict[str, Any]:
    done = mastio(lab.folder, "import", *words, "--json", stdin=stdin)
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def cut_short(lab: Lab, at: str, *words: str) -> None:
    """A run that is killed without warning when it has said `at`."""
    argv = [sys.executable, "-m", "mastio", "--site", str(lab.folder), "import", *words]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                          cwd=REPOSITORY, env=env) as running:  # fmt: skip
        assert running.stdin and running.stderr
        running.stdin.write(f"{PASSWORD}\n")
        running.stdin.close()
        seen = ""
        for line in running.stderr:
            seen += line
            if at in line:
                running.send_signal(signal.SIGKILL)
                break
        assert at in seen, seen


def test_a_mailbox_comes_over_cut_short_and_once(lab: Lab, old: Old, tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    with account(lab, "mia") as user:
        words = ("imap", user, *old.words, "--password-stdin", "--stage", str(stage))
        # A wrong password, a certificate that nobody has signed: nothing is changed.
        wrong = mastio(lab.folder, "import", *words, stdin="wrong horse\n")
        assert wrong.returncode == 65 and "does not let mia in" in wrong.stderr, wrong.stderr
        assert "wrong horse" not in wrong.stderr + wrong.stdout
        unknown = mastio(lab.folder, "import", *(it for it in words if it not in ("--ca", str(old.certificate))),
                         stdin=f"{PASSWORD}\n")  # fmt: skip
        assert unknown.returncode == 69 and "is not believed" in unknown.stderr, unknown.stderr
        pin = hashlib.sha256(subprocess.run(["openssl", "x509", "-outform", "der", "-in", old.certificate], check=True,
                                            capture_output=True).stdout).hexdigest()  # fmt: skip
        other = mastio(lab.folder, "import", *words, "--pin", "0" * 64, stdin=f"{PASSWORD}\n")
        assert other.returncode == 65 and pin in other.stderr, other.stderr
        assert facts(lab, user) == [] and not stage.exists()

        # Killed while it fetches, and while Dovecot takes in; then a dry run, then all of it.
        cut_short(lab, "messages fetched", *words)
        assert 0 < len([it for it in stage.rglob("*") if it.is_file()]) < COUNT
        assert facts(lab, user) == []
        cut_short(lab, "messages in place", *words, "--pin", pin)
        would = bring(lab, *words, "--dry-run")
        assert would["there"] + sum(would["come"].values()) == COUNT == would["messages"]
        assert 0 < would["there"] < COUNT and not would["verified"]
        # What the run that was killed had still in hand was there before the dry run looked.
        done = bring(lab, *words, "--keep")
        assert done["put"] == sum(would["come"].values())
        assert done["put"] + done["there"] == COUNT and done["verified"] and done["put"] < COUNT
        assert {"there": "Gesendet", "here": "Sent"} in done["folders"]
        assert done["skipped"] == ["what Everything shows of other folders"]
        assert facts(lab, user) == old.facts() and len(old.facts()) == COUNT
        listed = on(lab, "store", f"doveadm mailbox list -s -u {user}").splitlines()
        assert {"Empty", "Work/Größe & mehr"} <= {*listed}

        # Again, when somebody has moved a message: nothing comes twice.
        on(lab, "store", f"doveadm move -u {user} Archive MAILBOX Work 1")
        again = bring(lab, *words)
        assert (again["put"], again["there"], again["elsewhere"]) == (0, COUNT - 1, 1)
        assert again["verified"] and again["in_mailbox"] == COUNT and not [*stage.iterdir()]

        # One altered by an octet, one gone: seen, named, and brought again.
        spoil = "cd /var/vmail/fortress.test/mia/Maildir; set -- cur/*; grep -h ^Message-ID: $1 $2; echo >> $1; rm $2"
        spoilt = {it.split()[1] for it in on(lab, "store", spoil).splitlines()}
        found = bring(lab, *words, "--verify-only", "--keep", code=1)
        assert {it["message_id"] for it in found["missing"]} == spoilt and not found["verified"]
        assert bring(lab, *words)["put"] == 2
        # The other way of TLS, a certificate that is pinned, the password in a file.
        (tmp_path / "password").write_text(f"{PASSWORD}\n")
        said = mastio(
            lab.folder, "import", "imap", user, "--host", host.LOOPBACK, "--port", str(old.starttls), "--tls",
            "starttls", "--login", "mia", "--pin", pin, "--password-file", str(tmp_path / "password"),
            "--stage", str(stage), "--verify-only",
        )  # fmt: skip
        assert said.returncode == 0 and f"all {COUNT} are there" in said.stdout, said.stderr
        assert not [*stage.iterdir()]


def fill(folder: Path, name: str, text: str) -> None:
    for it in ("cur", "new", "tmp"):
        (folder / it).mkdir(parents=True, exist_ok=True)
    path = folder / "cur" / name
    path.write_text(text)
    os.utime(path, (1_700_000_000, 1_700_000_000))


def test_maildirs_and_mbox_files_come_over(lab: Lab, tmp_path: Path) -> None:
    top = tmp_path / "Maildir"
    for number in range(40):
        words = "".join(chr(ord("a") + it) for it in (number % 26, (number + 7) % 26))
        fill(top / ".Work", f"{number}.x:2,S{''.join(sorted(words))}", f"Subject: {number}\n\nx\n")
    rows = "".join(f"{it} word{it}\n" for it in range(26))
    (top / ".Work" / "dovecot-keywords").write_text(rows)
    fill(top, "1.x:2,F", "Subject: one\n\nx\n")
    first = "From x@y.test Sat Jan  3 14:05:06 2026\n"
    mbox = "".join(
        f"{first}Status: RO\nX-Keywords: k{it}\nSubject: mbox {it}\n\nFrom: me\n\n"
        for it in range(60)
    )
    (tmp_path / "mbox").write_text(mbox)
    with account(lab, "max") as user:
        done = bring(lab, "maildir", user, str(top), "--into", "Old place")
        assert done["put"] == 41 and done["verified"]
        done = bring(lab, "mbox", user, str(tmp_path / "mbox"))
        assert done["put"] == 60 and done["verified"]
        assert bring(lab, "maildir", user, str(top), "--into", "Old place")["put"] == 0
        assert bring(lab, "mbox", user, str(tmp_path / "mbox"))["put"] == 0
        now = [json.loads(it) for it in facts(lab, user)]
        assert len(now) == 101
        assert {it["mailbox"] for it in now} == {"INBOX", "Old place", "Old place/Work"}
        one = next(it for it in now if "Subject: 3\n" in it["text"])
        assert (
            one["flags"] == "\\Seen word10 word3" and one["date.received.unixtime"] == "1700000000"
        )
        # More keywords than a folder of a Maildir has letters.
        assert {it["flags"] for it in now if it["mailbox"] == "INBOX"} == {
            f"\\Seen k{it}" for it in range(60)
        }
        one = next(it for it in now if "mbox 7" in it["text"])
        assert one["date.received.unixtime"] == "1767449106" and "Status" not in one["text"]


def test_refusals(lab: Lab, tmp_path: Path) -> None:
    fill(tmp_path / "Maildir", "1.x:2,", "Subject: big\n\n" + "x" * 1_100_000)
    there = str(tmp_path / "Maildir")
    imap = ("--host", host.LOOPBACK, "--port", "1", "--password-stdin")
    with account(lab, "mo") as user:
        lab.mastio("user", "change", user, "--quota", "1")
        for words, code, said in (
            (("maildir", "nobody@fortress.test", there), 65, "there is no account nobody@fortress.test"),
            (("maildir", user, str(tmp_path)), 65, "1.0 MiB would come"),
            (("maildir", user, "/etc"), 65, "is not a Maildir"),
            (("mbox", user, "/etc/hostname"), 65, "does not begin as an mbox file does"),
            (("imap", user, *imap), 69, "nobody listens there"),
        ):  # fmt: skip
            done = mastio(lab.folder, "import", *words, stdin=f"{PASSWORD}\n")
            assert done.returncode == code and said in done.stderr, (words, done.stderr)
        assert facts(lab, user) == []
        # Two at once would bring everything twice.
        lab.mastio("user", "change", user, "--quota", "0")
        lock = f"/run/mastio-import/{hashlib.sha256(user.encode()).hexdigest()[:16]}"
        on(
            lab,
            "store",
            f"mkdir -p /run/mastio-import; systemd-run -q -u mo flock {lock} sleep 900",
        )
        try:
            on(lab, "store", f"while flock -n {lock} true; do sleep 0.1; done")
            done = mastio(lab.folder, "import", "maildir", user, there)
            assert done.returncode == 75 and "another import into" in done.stderr, done.stderr
        finally:
            on(lab, "store", "systemctl stop mo")
        assert bring(lab, "maildir", user, there)["put"] == 1
