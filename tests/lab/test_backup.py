"""Backups on the real site: what is archived, what a broken-in machine can do to archives, and who is told."""

import json
import shlex
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mastio.context import ALARMS
from mastio.roles.backup import FOLDER, KEYS
from mastio.roles.store import DIRECTORY, VMAIL
from mastio.site.model import Role
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import the
from tests.lab.sabotage import on
from tests.lab.test_integrity import told
from tests.lab.test_status import metric
from tests.lab.test_verify import verify

pytestmark = pytest.mark.lab


@pytest.fixture
def store(lab: Lab) -> str:
    return the(lab, Role.STORE).name


@pytest.fixture
def watch(lab: Lab) -> str:
    return the(lab, Role.WATCH).name


@pytest.fixture(scope="module", autouse=True)
def begun(lab: Lab) -> Iterator[None]:
    """Archives from nothing, and no alarms of former runs."""
    watch = the(lab, Role.WATCH).name
    clean = f"rm -rf {FOLDER}/* {ALARMS}/*"
    on(lab, watch, clean)
    words = shlex.join(("mailbox", "INBOX", "subject", f"[{lab.site.name}]"))
    on(lab, the(lab, Role.STORE).name, f"doveadm expunge -u {lab.site.admin_mail} {words}")
    yield
    on(lab, watch, clean)


def borg(lab: Lab, machine: str, words: str) -> str:
    """borg on watch, as an administrator would use it."""
    script = f"export BORG_PASSCOMMAND='cat {KEYS}/{machine}' BORG_BASE_DIR={FOLDER}/base/{machine}; borg {words}"
    return on(lab, the(lab, Role.WATCH).name, script)


def back_up(lab: Lab, *machines: str) -> tuple[int, dict[str, Any]]:
    """Archives now: the exit code, and what is said of each machine."""
    done = mastio(lab.folder, "backup", "now", "--json", *machines)
    return done.returncode, json.loads(done.stdout)


def names(lab: Lab, machine: str) -> list[str]:
    (row,) = json.loads(mastio(lab.folder, "backup", "list", machine, "--json").stdout)
    return [it["name"] for it in row["archives"]]


def failing(lab: Lab) -> list[str]:
    """The checks of backups that fail now."""
    report = verify(lab, "--only", "B1,B3,B4")
    return [it["check"] for it in report["findings"] if it["verdict"] == "failed"]


DELIVER = """
for i in $(seq 40); do
  printf 'From: a@x.test\\nTo: b@x.test\\nSubject: {word} %s\\nDate: Sat, 28 Nov 2026 08:00:00 +0000\\n\\nx\\n' $i |
    doveadm save -u {user} -m {folder}
done
"""


def test_all_that_no_site_file_brings_back_is_archived_while_mail_goes_on(
    lab: Lab, store: str
) -> None:
    user = lab.site.admin_mail
    on(lab, store, f"doveadm mailbox create -u {user} Kept Moved 2>/dev/null || true")
    on(lab, store, DELIVER.format(word="kept", user=user, folder="Kept"))
    # Flags change and messages move while borg reads.
    churn = (
        f"for i in $(seq 12); do doveadm flags add -u {user} '\\Seen' mailbox Kept all; "
        f"doveadm move -u {user} Moved mailbox Kept all; doveadm flags remove -u {user} '\\Seen' mailbox Moved all; "
        f"doveadm move -u {user} Kept mailbox Moved all; done"
    )
    on(lab, store, f"setsid sh -c {shlex.quote(churn)} >/dev/null 2>&1 & echo $! >/run/churn")
    code, found = back_up(lab)
    on(lab, store, "kill -- -$(cat /run/churn) 2>/dev/null || true; rm -f /run/churn")
    assert code == 0, found
    assert {*found} == {
        it.name for it in lab.site.machines if not it.has(Role.WATCH, Role.FIREWALL)
    }
    name = found[store]["archive"]
    paths = borg(lab, store, f"list --format '{{path}}{{NL}}' {FOLDER}/{store}::{name}").split()
    domain, _, local = user.partition("@")[::-1]
    here = f"{VMAIL[1:]}/{domain}/{local}/Maildir/"
    bases = on(
        lab, store,
        f"cd /{here}; find .Kept .Moved -path '*/tmp' -prune -o -type f -path '*/[cn][ue][rw]/*' -printf '%f\\n'",
    ).split()  # fmt: skip
    archived = {it.rpartition("/")[2].partition(":")[0] for it in paths if it.startswith(here)}
    assert len(bases) >= 40
    # A message that moves gets another name: it is there under the old or the new one.
    texts = borg(
        lab,
        store,
        f"extract --stdout {FOLDER}/{store}::{name} 're:Maildir/.(Kept|Moved)/(cur|new)/'",
    )
    assert {f"Subject: kept {i}" for i in range(1, 41)} <= {*texts.splitlines()}
    assert archived
    assert DIRECTORY[1:] in paths and "var/lib/mastio/backup-here/dumps/queue.json" in paths
    assert not [it for it in paths if "dovecot.index" in it or "/tmp/" in it]
    assert "mailbox" in lab.mastio("backup", "show", name) or "vmail" in lab.mastio(
        "backup", "show", name
    )


def test_an_archive_of_nothing_new_costs_nothing(lab: Lab, store: str) -> None:
    back_up(lab, store)  # what has moved while the last one was made is new
    begin = time.time()
    code, found = back_up(lab, store)
    assert code == 0 and found[store]["added"] < 20_000, found
    # Archives are of whole seconds.
    assert 0 <= metric(lab, "backup_age_seconds", machine=store) <= time.time() - begin + 1
    assert metric(lab, "backup_bad", machine=store) == 0


EVIL = {
    "delete an archive": "borg delete $R::{last}",
    "prune them all": "borg prune --keep-last 1 $R",
    "rename one": "borg rename $R::{first} gone",
    "recreate one": "borg recreate --exclude 're:.*' $R::{first}",
    "replace the key": "BORG_NEW_PASSPHRASE=evil borg key change-passphrase $R",
}
"""What root on a machine does when its backup runs: a session is one connection."""


@pytest.mark.parametrize("what", EVIL)
def test_a_machine_that_is_broken_into_destroys_nothing(
    lab: Lab, store: str, watch: str, what: str
) -> None:
    back_up(lab, store)
    before = names(lab, store)
    # borg as this machine has it runs what the intruder likes, over the connection that watch opens.
    wrapper = f"""#!/bin/sh
# BORG_RSH and all else are the door's
if [ "$1" = create ] && [ -z "$EVIL" ]; then
  export EVIL=1 R=$(python3 -c 'import json; print(json.load(open("/etc/mastio/backup.json"))["repository"])')
  {EVIL[what].format(first=before[0], last=before[-1])} </dev/null >/run/evil.log 2>&1
  exit 2
fi
exec /usr/bin/borg "$@"
"""
    path = "/usr/sbin/borg"
    on(lab, store, f"cat >{path}; chmod 755 {path}", wrapper.encode())
    try:
        code, found = back_up(lab, store)
    finally:
        on(lab, store, f"rm -f {path}")
    log = on(lab, store, "cat /run/evil.log; rm -f /run/evil.log")
    assert code == 1, (found, log)
    assert names(lab, store) == before, log
    assert found[store]["refused"], (found, log)
    mails = told(lab, f"{store}: its backup tried to do more than add")
    assert "take it as broken into" in mails[-1]
    assert mastio(lab.folder, "backup", "list", store).returncode == 1
    assert failing(lab) == ["B3"]
    assert mastio(lab.folder, "backup", "verify", store).returncode == 0
    lab.mastio("backup", "accept", store, "--why", "a test")
    code, found = back_up(lab, store)
    assert code == 0, found
    assert names(lab, store)[: len(before)] == before and len(names(lab, store)) == len(before) + 1


def test_a_passphrase_can_be_rotated(lab: Lab, store: str, watch: str) -> None:
    code, found = back_up(lab, store)
    assert code == 0, found
    before, noted = names(lab, store), f"{FOLDER}/known/{store}.passphrase"
    on(lab, watch, f"cp {noted} /root/former")
    lab.mastio("secrets", "rotate", f"backup/{store}/passphrase")
    lab.mastio("apply", "--yes")
    code, found = back_up(lab, store)
    assert code == 0, found
    assert names(lab, store)[:-1] == before
    # As when watch went down before it could note that.
    on(lab, watch, f"! cmp -s /root/former {noted}; mv /root/former {noted}")
    code, found = back_up(lab, store)
    assert code == 0, found
    assert names(lab, store)[:-2] == before


def test_damage_is_told(lab: Lab, store: str, watch: str) -> None:
    segment = f"$(ls -S {FOLDER}/{store}/data/0/* | head -1)"
    on(lab, watch, f"s={segment}; cp -p $s /root/segment; echo $s >/root/where; "
                   "python3 -c 'import sys; f=open(sys.argv[1],\"r+b\"); f.seek(60); b=f.read(8); f.seek(60); "
                   "f.write(bytes(255-x for x in b))' $s")  # fmt: skip
    try:
        assert mastio(lab.folder, "backup", "verify", store).returncode == 1
        (mail,) = told(lab, f"{store}: archives are damaged")
        assert "backup verify" in mail
    finally:
        on(lab, watch, "mv /root/segment $(cat /root/where); rm /root/where")
    assert mastio(lab.folder, "backup", "verify", store).returncode == 0
    assert told(lab, f"{store}: archives can be read")


def test_an_unreachable_machine_and_old_archives_are_told(lab: Lab, store: str, watch: str) -> None:
    on(lab, store, "systemctl stop ssh.service ssh.socket 2>/dev/null || systemctl stop ssh")
    try:
        code, found = back_up(lab, store)
        assert code == 1 and "cannot be reached" in found[store]["why"], found
    finally:
        on(lab, store, "systemctl start ssh")
    old = f"""import json
path = "{FOLDER}/known/{store}.json"
known = json.load(open(path))
known["newest"] -= 7200
json.dump(known, open(path, "w"))"""
    on(lab, watch, f"python3 -c {shlex.quote(old)}; systemctl start mastio-backup@late.service")
    assert told(lab, f"{store}: no new backup since")
    assert failing(lab) == ["B4"]
    assert back_up(lab, store)[0] == 0
    on(lab, watch, "systemctl start mastio-backup@late.service")
    assert told(lab, f"{store}: the newest backup is young enough")


def test_what_somebody_writes_into_a_repository_is_seen(lab: Lab, store: str, watch: str) -> None:
    planted = f"{FOLDER}/{store}/data/0/9999"
    on(lab, watch, f"printf BORG_SEG >{planted}")
    try:
        assert failing(lab) == ["B1"]
    finally:
        on(lab, watch, f"rm -f {planted}")
    assert failing(lab) == []


def test_the_timers_program_works_and_prunes(lab: Lab, store: str, watch: str) -> None:
    on(lab, watch, "systemctl start mastio-backup@often.service mastio-backup@daily.service")
    time.sleep(1)
    on(lab, watch, "systemctl start mastio-backup@weekly.service")
    assert mastio(lab.folder, "backup", "list").returncode == 0
    assert "BORG PAPER KEY" in lab.mastio("backup", "key", store)


def test_the_door_does_nothing_else(lab: Lab, store: str, watch: str) -> None:
    own = json.loads(on(lab, watch, "cat /etc/mastio/backup-watch.json"))
    ssh = own["ssh"][store]
    for words in ("id", "create x; id", "relay", "create ../../x-2026-11-28T00:00:00", ""):
        done = lab.run(watch, [*ssh, *words.split(" ")] if words else ssh)
        assert done.code == 77 and b"refused" in done.stderr, done
