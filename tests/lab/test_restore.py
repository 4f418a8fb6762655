"""Mail comes back from archives, drills tell when it would not, and a store that is gone is rebuilt."""

import json
import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mastio.context import ON_WATCH
from mastio.roles.backup import FOLDER, KEYS, SETTINGS
from mastio.site.model import Role
from tests.lab.conftest import REPOSITORY, mastio
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, deliver, inbox, message, queue, the, token
from tests.lab.sabotage import on

pytestmark = pytest.mark.lab

USER = "rita@fortress.test"
HOME = "/var/vmail/fortress.test/rita"
PASSWORD = secrets.token_hex(8)
FILL = """
import subprocess, sys
user = sys.argv[1]
def run(*argv, content=""):
    subprocess.run(argv, input=content.encode(), check=True)
for number in range(12):
    folder = ("INBOX", "Work", "Work/Größe")[number % 3]
    if number in (1, 2):
        run("doveadm", "mailbox", "create", "-s", "-u", user, folder)
    text = f"From: x@y.test\\nMessage-ID: <m{number}@y.test>\\nSubject: {number}\\n\\n" + f"{number} " * number * 99
    run("doveadm", "save", "-u", user, "-m", folder, "-r", f"2026-01-0{number % 9 + 1}", content=text + "\\n")
run("doveadm", "flags", "add", "-u", user, "\\\\Seen $Label1", "MAILBOX", "INBOX", "1:2")
run("doveadm", "flags", "add", "-u", user, "\\\\Flagged $Label2", "MAILBOX", "Work", "1")
"""


def back_up(lab: Lab) -> None:
    on(lab, the(lab, Role.WATCH).name, f"{ON_WATCH} backup now store")


def facts(lab: Lab, user: str = USER, *query: str) -> list[str]:
    """All that IMAP says of each message, and the digest of its octets."""
    fields = "mailbox uid guid flags date.received size.physical hdr.message-id text"
    said = on(
        lab,
        "store",
        shlex.join(["doveadm", "-f", "json", "fetch", "-u", user, fields, *(query or ["ALL"])]),
    )
    rows = json.loads(said)
    for it in rows:
        it["flags"] = " ".join(sorted(it["flags"].replace("\\Recent", "").split()))
    return sorted(json.dumps(it, sort_keys=True) for it in rows)


def without(rows: list[str], *names: str) -> list[str]:
    """The same without some of what is said."""
    return sorted(
        json.dumps(
            {key: it for key, it in json.loads(row).items() if key not in names}, sort_keys=True
        )
        for row in rows
    )


def digests(lab: Lab) -> list[str]:
    """Of the files of all messages on the store, whatever their flags."""
    script = "cd /var/vmail; find . -type f -path '*/[cn][ue][rw]/*' | xargs -r sha256sum"
    script += " | sed 's/:2,.*//;s,/new/,/cur/,'"
    return sorted(on(lab, "store", script).splitlines())


def restore(lab: Lab, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.mastio("restore", *words, "--json"))
    return found


@pytest.fixture(scope="module")
def filled(lab: Lab) -> Iterator[list[str]]:
    """A mailbox with some of everything, in an archive; what IMAP says of it."""
    # All: a site with one archived machine is not well, and other tests look at it.
    lab.mastio("backup", "now")
    lab.mastio("user", "add", USER, "--password-stdin", stdin=f"{PASSWORD}\n")
    try:
        done = lab.run("store", ["python3", "-I", "-", USER], FILL.encode())
        assert done.code == 0, done.stderr.decode()
        before = facts(lab)
        back_up(lab)
        yield before
    finally:
        lab.mastio("user", "delete", USER, "--purge")


def test_copies_come_once_and_as_they_were(lab: Lab, filled: list[str]) -> None:
    would = restore(lab, "mailbox", USER, "--into", "Restored", "--dry-run")
    assert would["plan"]["messages"] == 12 and facts(lab) == filled
    assert restore(lab, "mailbox", USER, "--into", "Restored")["done"][0]["put"] == 12
    assert restore(lab, "mailbox", USER, "--into", "Restored")["plan"]["messages"] == 0
    copies = facts(lab, USER, "MAILBOX", "Restored/*")
    own = [row.replace('"mailbox": "', '"mailbox": "Restored/') for row in filled]
    # Another message by name and UID; the same octets, flags, keywords and date.
    assert without(copies, "guid", "uid") == without(own, "guid", "uid")
    one = restore(lab, "message", USER, "<m4@y.test>", "--into", "Found")
    assert one["done"][0]["put"] == 1
    (found,) = facts(lab, USER, "MAILBOX", "Found")
    assert json.loads(found)["hdr.message-id"] == "<m4@y.test>"
    on(
        lab,
        "store",
        f"doveadm mailbox delete -s -u {USER} Restored/INBOX Restored/Work/Größe Restored/Work Found",
    )


def test_what_is_lost_comes_back_and_what_was_removed_only_if_asked(
    lab: Lab, filled: list[str]
) -> None:
    on(lab, "store", f"doveadm mailbox delete -s -u {USER} Work/Größe; doveadm move -u {USER} Work MAILBOX INBOX 1; "
       f"doveadm expunge -u {USER} MAILBOX INBOX 1:2")  # fmt: skip
    done = restore(lab, "mailbox", USER, "--in-place")
    assert done["plan"]["folders"] == {"Work/Größe": 4} and done["plan"]["removed"] == 2
    now, mine = facts(lab), '"mailbox": "Work/Größe"'.encode("ascii", "backslashreplace").decode()
    # The folder is the same, UIDs and all.
    assert [it for it in now if "Gr" in it] == [it for it in filled if "Gr" in it], mine
    assert restore(lab, "folder", USER, "INBOX", "--in-place", "--deleted")["done"][0]["put"] == 2
    assert without(facts(lab), "uid", "mailbox") == without(filled, "uid", "mailbox")
    assert restore(lab, "mailbox", USER, "--in-place", "--deleted")["plan"]["messages"] == 0


def test_a_whole_mailbox_comes_back_with_its_uids(lab: Lab, filled: list[str]) -> None:
    back_up(lab)
    before = facts(lab)
    on(lab, "store", f"rm -rf {HOME}")
    assert restore(lab, "mailbox", USER, "--in-place")["done"][0]["put"] == 12
    assert facts(lab) == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["mailbox", "nobody@fortress.test", "--in-place"],
            65,
            "there is no account nobody@fortress.test",
        ),
        (["folder", USER, "Wrok", "--in-place"], 65, "it has: INBOX, Work"),
        (["message", USER, "<no@where>", "--into", "x"], 65, "has no message <no@where>"),
        (
            ["mailbox", USER, "--in-place", "--at", "2020-01-01"],
            65,
            "no archive of store is that old",
        ),
        (["mailbox", USER, "--in-place", "--at", "monday"], 64, "not a time"),
        (["mailbox", USER], 64, "--into FOLDER, or --in-place"),
        (["accounts", "elsewhere.test"], 1, "the archive knows no domain elsewhere.test"),
    ],
)
def test_refusals(lab: Lab, filled: list[str], words: list[str], code: int, said: str) -> None:
    done = mastio(lab.folder, "restore", *words)
    assert done.returncode == code and said in done.stderr, done.stderr


def test_a_full_mailbox_is_not_overfilled(lab: Lab, filled: list[str]) -> None:
    padding = "x" * 1_100_000
    text = f"Subject: big\n\n{padding}\n".encode()
    on(lab, "store", f"doveadm save -u {USER} -m INBOX", text)
    back_up(lab)
    lab.mastio("user", "change", USER, "--quota", "1")
    try:
        done = mastio(lab.folder, "restore", "mailbox", USER, "--into", "Twice")
        assert done.returncode == 65 and "0.0 MiB are free" in done.stderr, done.stderr
    finally:
        lab.mastio("user", "change", USER, "--quota", "0")


def test_accounts_of_a_domain_come_back(lab: Lab, filled: list[str]) -> None:
    hashed = "SELECT * FROM account WHERE address = "
    ask = f"sqlite3 /var/lib/mastio/directory/directory.sqlite \"{hashed}'{USER}'\""
    before = on(lab, "store", ask)
    lab.mastio("user", "delete", USER)
    would = restore(lab, "accounts", "fortress.test", "--dry-run")["rows"]
    assert {"table": "account", "row": USER, "what": "missing"} in would and not on(
        lab, "store", ask
    )
    restore(lab, "accounts", "fortress.test")
    assert on(lab, "store", ask) == before


# --- the drill ---


def drill(lab: Lab) -> tuple[int, dict[str, Any]]:
    done = mastio(lab.folder, "drill", "restore", "--all", "--json")
    return done.returncode, json.loads(done.stdout)


def rings(lab: Lab) -> bool:
    book = json.loads(mastio(lab.folder, "alarms", "--json").stdout)["open"]
    return "drill restore" in str(book)


@contextmanager
def put_back(lab: Lab, machine: str, path: str) -> Iterator[None]:
    """What stands there stands there again afterwards."""
    on(lab, machine, f"cp -a {path} {path}.whole")
    try:
        yield
    finally:
        on(lab, machine, f"rm -rf {path}; mv {path}.whole {path}")


def test_a_drill_is_green(lab: Lab, filled: list[str]) -> None:
    back_up(lab)
    code, found = drill(lab)
    assert code == 0 and found["bad"] == [], found
    assert found["messages"] == found["same"] >= 12 and found["mailboxes"] == found["accounts"]
    assert not rings(lab)
    watch = the(lab, Role.WATCH).name
    # Nothing of it is left, and nothing listens.
    left = "find / -xdev -path '*/cur/*store,S=*' 2>/dev/null; ss -Hltn '( sport = 143 or sport = 1143 )'"
    assert on(lab, watch, f"{left}; ls -A {FOLDER} | grep reading || true") == ""
    done = mastio(lab.folder, "verify", "--only", "B2")
    assert done.returncode == 0, done.stdout


def test_a_mailbox_that_is_not_in_the_archive_alarms(lab: Lab, filled: list[str]) -> None:
    # The store says that it keeps all mail, and keeps one mailbox less.
    with put_back(lab, "store", SETTINGS):
        on(lab, "store", f'sed -i \'s,"/var/vmail","/var/vmail/fortress.test/alice",\' {SETTINGS}')
        back_up(lab)
        code, found = drill(lab)
    assert code == 1 and any(
        f"{USER}: 13 messages are not in the archive" in it for it in found["bad"]
    ), found
    assert rings(lab)
    back_up(lab)
    assert drill(lab)[0] == 0 and not rings(lab)


def test_a_mailbox_that_is_gone_from_the_store_alarms(lab: Lab, filled: list[str]) -> None:
    on(lab, "store", f"mv {HOME} {HOME}.away")
    try:
        code, found = drill(lab)
    finally:
        on(lab, "store", f"mv {HOME}.away {HOME}")
    assert code == 1 and "there is no mailbox any more" in str(found["bad"]) and rings(lab)


def test_a_damaged_archive_alarms(lab: Lab, filled: list[str]) -> None:
    watch = the(lab, Role.WATCH).name
    with put_back(lab, watch, f"{FOLDER}/store"):
        # Into the largest segment, where the data are.
        on(lab, watch, f"f=$(ls -S {FOLDER}/store/data/*/* | head -1); "
           "python3 -c 'import sys; f = open(sys.argv[1], \"r+b\"); n = f.seek(0, 2)\n"
           "for at in range(200, n, max(200, n // 50)): f.seek(at); f.write(b\"?\")' $f")  # fmt: skip
        code, found = drill(lab)
    assert code == 1 and found["bad"] and rings(lab), found


def test_a_wrong_key_alarms(lab: Lab, filled: list[str]) -> None:
    watch = the(lab, Role.WATCH).name
    with put_back(lab, watch, f"{KEYS}/store"):
        on(lab, watch, f"echo another > {KEYS}/store")
        code, found = drill(lab)
    assert code == 1 and "passphrase" in str(found["bad"]) and rings(lab), found


def test_an_archive_that_is_too_old_alarms(lab: Lab, filled: list[str]) -> None:
    watch = the(lab, Role.WATCH).name
    borg = f"BORG_PASSCOMMAND='cat {KEYS}/store' BORG_BASE_DIR=$(mktemp -d) borg"
    with put_back(lab, watch, f"{FOLDER}/store"):
        on(lab, watch, f"rm -rf {FOLDER}/store; {borg} init -e repokey-blake2 {FOLDER}/store 2>/dev/null; {borg} "
           f" create --timestamp 2026-01-01T00:00:00 {FOLDER}/store::store-old /etc/hostname 2>/dev/null")  # fmt: skip
        code, found = drill(lab)
        verified = mastio(lab.folder, "verify", "--only", "B2")
    assert code == 1 and "accounts directory" in str(found["bad"]), found
    assert any("older than 24 hours" in it for it in found["bad"]) and rings(lab)
    assert verified.returncode == 1 and "could not restore" in verified.stdout
    assert drill(lab)[0] == 0 and not rings(lab)


# --- the whole store ---


def waits(lab: Lab) -> bool:
    """Whether something for the user waits at the gateway; what others left in its queue is no matter here."""
    late = (it for it in queue(lab) if it["queue_name"] == "deferred")
    return any(to["address"] == USER for it in late for to in it["recipients"])


def test_a_store_that_is_gone_is_rebuilt(lab: Lab, filled: list[str]) -> None:
    # In this order: alarms of the drills before may still be on their way; what comes later nobody asks for.
    before, said = digests(lab), facts(lab)
    back_up(lab)
    word = token()
    argv = [
        sys.executable,
        "-m",
        "mastio",
        "--site",
        str(lab.folder),
        "rebuild",
        "store",
        "--yes",
        "--json",
    ]
    begin = time.monotonic()
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    with subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=env,
    ) as running:
        # It is taken, and waits, while there is no store.
        while on(lab, "gateway", "postconf -h defer_transports").strip() != "store":
            assert running.poll() is None
            time.sleep(0.2)
        # What comes before the gateway's queue manager knows of it goes to the store that is about to be gone.
        while not waits(lab):
            assert running.poll() is None
            word = token()
            code, reply = deliver(lab, message(CAROL, USER, word))
            assert code == 250, reply
            time.sleep(1)
        out, complaints = running.communicate(timeout=1800)
    assert running.returncode == 0, complaints
    found = json.loads(out)
    assert found["mailboxes"] >= 2 and found["recovery_seconds"] <= time.monotonic() - begin
    (came,) = inbox(lab, USER, PASSWORD, word)
    assert word in str(came["Subject"])
    after = digests(lab)
    assert len(after) >= len(before) + 1 and not {*before} - {*after}
    assert not {*said} - {*facts(lab)}
    assert drill(lab)[0] == 0
