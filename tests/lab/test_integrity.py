"""Integrity on the real site: what an intruder changes is named, wherever it is; what apply changes is not."""

import base64
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import pytest

from mastio.context import ALARMS
from mastio.integrity.client import LEDGER
from mastio.integrity.place import SEALED
from mastio.roles.integrity import CONFIG, FOLDER, MEASURE, SETTINGS, TOOLS
from mastio.site.model import Role
from tests.lab.arrivals import arrived
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import inbox, the
from tests.lab.sabotage import on
from tests.lab.test_status import metric
from tests.lab.test_verify import verify

pytestmark = pytest.mark.lab


def forget(lab: Lab) -> None:
    """As if nobody had ever measured."""
    on(lab, the(lab, Role.WATCH).name, f"rm -rf {FOLDER}/* {ALARMS}/*")
    for machine in lab.site.machines:
        on(lab, machine.name, f"rm -f {TOOLS}")
    (lab.folder / LEDGER).unlink(missing_ok=True)


@pytest.fixture(scope="module", autouse=True)
def begun(lab: Lab) -> Iterator[None]:
    """References of all machines, and no alarms of former runs."""
    forget(lab)
    words = shlex.join(("mailbox", "INBOX", "subject", f"[{lab.site.name}]"))
    on(lab, the(lab, Role.STORE).name, f"doveadm expunge -u {lab.site.admin_mail} {words}")
    found = json.loads(lab.mastio("integrity", "begin", "--json"))
    assert {it["verdict"] for it in found.values()} == {"clean"}, found
    assert {*found} == {it.name for it in lab.site.machines}
    yield
    forget(lab)


@pytest.fixture
def store(lab: Lab) -> str:
    return the(lab, Role.STORE).name


@pytest.fixture
def watch(lab: Lab) -> str:
    return the(lab, Role.WATCH).name


def check(lab: Lab, *machines: str) -> tuple[int, dict[str, Any]]:
    """Measures now: the exit code, and what was found of each machine."""
    done = mastio(lab.folder, "integrity", "check", "--json", *machines)
    return done.returncode, json.loads(done.stdout)


def by_itself(lab: Lab, what: str) -> None:
    """What its timer would start."""
    unit = f"mastio-integrity@{what}.service"
    start = f"systemctl start {unit} || {{ journalctl -u {unit} -n 12 -o cat >&2; exit 1; }}"
    done = lab.transport.run(the(lab, Role.WATCH).name, ["sh", "-c", start], timeout=900)
    assert done.code == 0, done.stderr


def told(lab: Lab, words: str, count: int = 1) -> list[str]:
    admin = lab.site.admin_mail
    mails = inbox(lab, admin, lab.accounts[admin], f"[{lab.site.name}] {words}", count=count)
    return [it.get_payload(decode=True).decode() for it in mails]


def status(lab: Lab) -> dict[str, Any]:
    """What watch knows, by machine."""
    rows = json.loads(mastio(lab.folder, "integrity", "status", "--json").stdout)
    assert rows[-1] == {"broken": [], "edited": False}
    return {it["machine"]: it for it in rows[:-1]}


def different(last: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {it["what"]: (it["kind"], it["words"]) for it in last["differences"]}


@contextmanager
def changed(lab: Lab, machine: str, script: str, undo: str) -> Iterator[None]:
    try:
        on(lab, machine, script)
        yield
    finally:
        on(lab, machine, undo)


def test_a_site_that_nobody_touched_is_clean_also_after_work(lab: Lab, store: str) -> None:
    code, found = check(lab)
    assert code == 0, found
    assert all(0 < it["cpu"] < 20 for it in found.values())
    assert all(it["reference"]["files"] > 3000 for it in status(lab).values())
    assert "clean" in lab.mastio("integrity", "status")
    report = verify(lab, "--only", "I1,I2")
    assert {it["verdict"] for it in report["findings"]} == {"passed"}, report
    # Nothing stays on the machine.
    assert on(lab, store, "ls /run/mastio/measure; command -v aide || true").split() == []


_PLANTED = "/usr/local/bin/planted"
_TAKEN = "/etc/deluser.conf"
"""What nothing misses for a while."""
_KEY = f"/var/mail/.ssh/authorized_keys {sha256(b'ssh-ed25519 AAAA evil').hexdigest()[:16]}"
_CAPABLE = (
    'import os, struct, sys; all = struct.pack("<5I", 0x02000001, 1 << 7, 0, 0, 0); '
    '[os.setxattr(it, "security.capability", all) for it in sys.argv[1:]]'
)
"""What setcap(8) does, with CAP_SETUID (linux/capability.h, struct vfs_cap_data)."""
_INTRUSION = f"""
printf '#!/bin/sh\\nexit 0\\n' >/usr/bin/aide; chmod 755 /usr/bin/aide
mkdir -p /etc/aide /var/lib/aide; echo '/usr R' >/etc/aide/aide.conf; echo fake >/var/lib/aide/aide.db
echo evil >{_PLANTED}
cp -p /etc/issue /root/issue.before; echo evil >>/etc/issue
chmod 666 /etc/debian_version
chown nobody /etc/issue.net
mv {_TAKEN} /run/taken
cp /bin/true /usr/bin/lends; chmod 4755 /usr/bin/lends
cp /bin/true /var/tmp/lends; chmod 4755 /var/tmp/lends
cp /bin/true /usr/bin/can; cp /bin/true /var/tmp/can; python3 -c '{_CAPABLE}' /usr/bin/can /var/tmp/can
mkdir -p /root/.ssh /var/mail/.ssh
echo ssh-ed25519 AAAA evil | tee /root/.ssh/authorized_keys >/var/mail/.ssh/authorized_keys
printf '[Service]\\nExecStart=/bin/true\\n' >/etc/systemd/system/evil.service
mkdir -p /run/systemd/system; cp /etc/systemd/system/evil.service /run/systemd/system/evil2.service
cat >/run/ear.py <<'X'
import socket, time
open("/proc/self/comm", "w").write("unbound")
ear = socket.create_server(("0.0.0.0", 4444))
low, high = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
low.bind(("0.0.0.0", 5555)); high.bind(("0.0.0.0", 44444))
time.sleep(3600)
X
setsid python3 /run/ear.py >/dev/null 2>&1 & echo $! >/run/ear.pid
cp /bin/sleep /run/ghost; setsid /run/ghost 3600 >/dev/null 2>&1 & echo $! >/run/ghost.pid
until [ "$(readlink /proc/$(cat /run/ghost.pid)/exe)" = /run/ghost ]; do sleep 0.1; done; rm /run/ghost
until grep -q ':AD9C 00000000:0000 07' /proc/net/udp; do sleep 0.1; done
"""
_UNDONE = f"""
kill $(cat /run/ear.pid) $(cat /run/ghost.pid) || true
rm -rf /var/mail/.ssh /usr/bin/aide /etc/aide /var/lib/aide {_PLANTED} /usr/bin/lends /var/tmp/lends \
  /usr/bin/can /var/tmp/can \
  /root/.ssh/authorized_keys \
  /etc/systemd/system/evil.service /run/systemd/system/evil2.service /run/ear.py /run/ear.pid /run/ghost.pid
[ ! -e /root/issue.before ] || mv /root/issue.before /etc/issue
chmod 644 /etc/debian_version
chown root /etc/issue.net
[ ! -e /run/taken ] || mv /run/taken {_TAKEN}
rmdir /root/.ssh 2>/dev/null || true
"""


def test_all_that_an_intruder_does_is_named_whatever_aide_is_on_the_machine(
    lab: Lab, store: str
) -> None:
    had = on(lab, store, "ls -d /root/.ssh 2>/dev/null || true").strip()
    with changed(lab, store, _INTRUSION, _UNDONE + (f"\nmkdir -p -m 700 {had}" if had else "")):
        by_itself(lab, "check")
        (mail,) = told(lab, f"{store}: changed, and nobody accepted it")
        known = status(lab)
        found = different(known.pop(store)["last"])
        assert found.pop("/etc/issue") == ("changed", "content")
        assert found.pop("/etc/debian_version") == ("changed", "mode 0644 → 0666")
        assert found.pop("/etc/issue.net") == ("changed", "owner 0:0 → 65534:0")
        kinds = {what: kind for what, (kind, _) in found.items() if what != "/root/.ssh"}
        assert kinds == {
            _TAKEN: "gone", "/usr/bin/aide": "new file", "/etc/aide": "new file", "/etc/aide/aide.conf": "new file",
            _PLANTED: "new file", "/root/issue.before": "new file", "/usr/bin/lends": "new SUID",
            "/var/tmp/lends 4755": "new SUID", "/usr/bin/can": "new SUID",
            "/var/tmp/can with capabilities": "new SUID", _KEY: "new log-in key",
            "/root/.ssh/authorized_keys": "new log-in key",
            "/etc/systemd/system/evil.service": "new unit", "/run/systemd/system/evil2.service": "new unit",
            "tcp 0.0.0.0 port 4444 (unbound)": "new listener", "udp 0.0.0.0 port 5555 (unbound)": "new listener",
            "udp 0.0.0.0 port 44444 (unbound)": "new listener", "ghost: its program": "deleted but running",
        }  # fmt: skip
        assert all(what in mail for what in kinds)
        shown = mastio(lab.folder, "integrity", "status").stdout
        assert (
            "  /etc/issue: changed: content\n" in shown and "more: `mastio integrity check" in shown
        )
        assert {it["last"]["verdict"] for it in known.values()} == {"clean"}
        report = verify(lab, "--only", "I1,I2")
        assert {it["check"]: it["verdict"] for it in report["findings"]} == {
            "I1": "failed",
            "I2": "passed",
        }
        assert check(lab, store)[0] == 1
        assert len(told(lab, f"{store}: changed")) == 1, "no news is no mail"
        assert metric(lab, "integrity_differences", machine=store) == len(kinds) + 3
    code, again = check(lab, store)
    assert code == 0, again
    assert told(lab, f"{store}: well again")


def test_apply_takes_over_its_own_changes_and_not_what_was_planted_meanwhile(
    lab: Lab, store: str
) -> None:
    path = lab.folder / "site.toml"
    before = path.read_text()
    plan = ["plan", "--json", store]
    other = "/etc/systemd/system/planted.service"
    script = f"echo evil >{_PLANTED}; ln -s /var/tmp/dovecot.service {other}"
    with changed(lab, store, script, f"rm -f {_PLANTED} {other}"):
        path.write_text(f"{before}\n[policy]\nmessage_size = 23\n")
        try:
            planned = json.loads(mastio(lab.folder, *plan).stdout)[store]["paths"]
            assert "/etc/postfix/main.cf" in {it["path"] for it in planned}
            done = mastio(lab.folder, "apply", "--yes", store)
            assert done.returncode == 0, done.stderr
            assert f"integrity: {store}: 2 differences that this apply did not make" in done.stderr
            last = status(lab)[store]["last"]
            assert different(last) == {
                _PLANTED: ("new file", "a file of 0:0, mode 0644"),
                other: ("new unit", "a link to /var/tmp/dovecot.service"),
            }
            assert told(lab, f"{store}: changed", count=2)
        finally:
            path.write_text(before)
            on(lab, store, f"rm -f {_PLANTED} {other}")
            done = mastio(lab.folder, "apply", "--yes", store)
    assert done.returncode == 0 and "integrity" not in done.stderr, done.stderr
    assert status(lab)[store]["last"]["verdict"] == "clean"


def test_an_edit_on_watch_is_told_and_nothing_is_compared_with_it(
    lab: Lab, store: str, watch: str
) -> None:
    for path, words in (
        (CONFIG, "not a configuration that apply has named"),
        (f"{FOLDER}/{store}/reference.json", "the reference was edited on watch"),
        (f"{FOLDER}/tools/aide.gz", "AIDE was edited on watch"),
    ):
        edit = f"cp -p {path} /root/before; echo '# evil' >>{path}"
        with changed(lab, watch, edit, f"cp -p /root/before {path}; rm /root/before"):
            code, found = check(lab, store)
            assert code == 69 and words in found[store]["why"], found
    report = verify(lab, "--only", "I2")
    assert {it["verdict"] for it in report["findings"]} == {"failed"}
    assert told(lab, f"{store}: integrity cannot be measured any more")
    code, found = check(lab, store)
    assert code == 0, found


def test_whoever_edits_the_seal_too_is_found_out_by_the_site_folder(lab: Lab, watch: str) -> None:
    seal = f"{FOLDER}/seal.json"
    digest = on(lab, watch, f"sha256sum {seal}").split()[0]
    assert [*arrived(lab, f"{SEALED} {digest}", 1)] == [watch], "logs, which are signed, have it"
    with changed(
        lab, watch, f"cp -p {seal} /root/before; echo >>{seal}", f"mv /root/before {seal}"
    ):
        done = mastio(lab.folder, "integrity", "status")
        assert done.returncode == 1 and "not the one that apply or accept left" in done.stdout
        # Without the site folder watch's own nightly proof tells, by what its log was told.
        proof = "systemctl start mastio-logbook@proof.service"
        on(lab, watch, proof)
        seen = verify(lab, "--only", "L2")["findings"][0]
        assert seen["verdict"] == "failed", seen
        assert any("integrity's references" in it for it in seen["seen"]), seen
    on(lab, watch, proof)
    assert "integrity's references" not in json.dumps(verify(lab, "--only", "L2"))
    assert mastio(lab.folder, "integrity", "status").returncode == 0


def test_a_measuring_program_that_repeats_what_was_once_true_is_found(lab: Lab, store: str) -> None:
    """The first time it has the real one work and keeps the answer; then it gives that one for ever."""
    liar = (
        f"#!/bin/sh\n[ -s /run/answer ] || {{ cp /run/real {MEASURE}; {MEASURE} >/run/answer; "
        f"cp /run/liar {MEASURE}; }}\ncat /run/answer\n"
    )
    plant = (
        f"cp -p {MEASURE} /run/real; cat >/run/liar; chmod 755 /run/liar; cp -p /run/liar {MEASURE}"
    )
    try:
        on(lab, store, plant, liar.encode())
        check(lab, store)
        on(lab, store, "test -s /run/answer; echo evil >/etc/evil")
        code, found = check(lab, store)
        assert code and f"{MEASURE} is not what it says it is" in found[store]["why"], found
        assert found[store]["tampered"]
    finally:
        on(
            lab,
            store,
            f"cp -p /run/real {MEASURE}; rm -f /run/real /run/liar /run/answer /etc/evil",
        )
    code, found = check(lab, store)
    assert code == 0, found
    assert told(lab, f"{store}: well again")


def test_nonsense_from_one_machine_hides_nothing_of_another(
    lab: Lab, store: str, watch: str
) -> None:
    liar = the(lab, Role.WEBMAIL).name
    lie = f"""cp -p {MEASURE} /run/real; cat >{MEASURE} <<'X'
#!/bin/sh
cat >/dev/null; echo '{{"code": 0, "words": ""}}'
X"""

    def book() -> dict[str, str]:
        known = json.loads(on(lab, watch, f"cat {ALARMS}/book.json"))
        return {about: it["alarm"]["text"] for about, it in known.items()}

    with (
        changed(lab, liar, lie, f"cp -p /run/real {MEASURE}; rm /run/real"),
        changed(lab, store, f"echo evil >{_PLANTED}", f"rm -f {_PLANTED}"),
    ):
        by_itself(lab, "check")
        assert "the answer is no measurement" in book()[f"integrity {liar}"]
        assert _PLANTED in book()[f"integrity {store}"]
        done = mastio(lab.folder, "integrity", "accept", liar, "--why", "the alarm said so")
        assert done.returncode == 69 and "could not be measured" in done.stderr, done
        known = status(lab)
        assert known[liar]["last"]["tampered"] and [*different(known[store]["last"])] == [_PLANTED]
    code, found = check(lab)
    assert code == 0, found
    assert not {f"integrity {liar}", f"integrity {store}"} & book().keys()


def test_its_key_runs_nothing_but_what_apply_has_named(lab: Lab, store: str, watch: str) -> None:
    ssh = json.loads(on(lab, watch, f"cat {SETTINGS}"))["ssh"][store]
    config = base64.b64decode(on(lab, watch, f"base64 {CONFIG}"))
    aide = base64.b64decode(on(lab, watch, f"zcat {FOLDER}/tools/aide.gz | base64"))

    def parcel(config: bytes, **tools: bytes) -> bytes:
        head = {"config": len(config), "tools": [[name, len(it)] for name, it in tools.items()]}
        return json.dumps(head).encode() + b"\n" + config + b"".join(tools.values())

    for stdin, words in (
        (b"", b"not a measurement"),
        (parcel(config + b"@@x_include /tmp ^evil$\n", aide=aide), b"not a configuration"),
        (parcel(config, aide=aide), b"not the tools"),
        (parcel(config, aide=b"#!/bin/sh\nid\n"), b"not the tools"),
    ):
        refused = lab.run(watch, [*ssh, "id"], stdin)
        assert refused.code == 77 and words in refused.stderr and not refused.stdout
    tricks = lab.run(watch, ["sh", "-c", f"{shlex.join(ssh)} -- 'x; id' </dev/null"])
    assert tricks.code == 77 and not tricks.stdout
    script = (
        f"until grep -rhq 'mastio-measure.*refused' /var/log/remote/{store}/; do sleep 0.3; done"
    )
    on(lab, watch, f"timeout 200 sh -c {shlex.quote(script)}")


def test_silence_is_told(lab: Lab, store: str, watch: str) -> None:
    old = """import json, sys
path = sys.argv[1]
last = json.load(open(path))
last["measured"] -= 5 * 3600
json.dump(last, open(path, "w"))"""
    on(lab, watch, f"python3 -c {shlex.quote(old)} {FOLDER}/{store}/last.json")
    by_itself(lab, "late")
    (mail,) = told(lab, f"{store}: integrity has not been measured")
    assert "not since" in mail
    old = f"""import json
path = "{FOLDER}/status.json"
told = json.load(open(path))
told["machines"]["{store}"]["measured"] -= 5 * 3600
json.dump(told, open(path, "w"))"""
    on(lab, watch, f"python3 -c {shlex.quote(old)}")
    report = verify(lab, "--only", "I1,I2,I3")
    assert [it["check"] for it in report["findings"] if it["verdict"] == "failed"] == ["I3"]
    by_itself(lab, "late")
    assert len(told(lab, f"{store}: integrity has not been measured")) == 1, "once is enough"
    assert check(lab, store)[0] == 0
    by_itself(lab, "late")
    assert told(lab, f"{store}: integrity is measured again")


def test_what_is_accepted_is_so_with_a_reason_and_nothing_else_is(
    lab: Lab, store: str, watch: str
) -> None:
    other = f"{_PLANTED}2"
    script, undo = f"echo x >{_PLANTED}; echo x >{other}", f"rm -f {_PLANTED} {other}"
    with changed(lab, store, script, undo):
        assert check(lab, store)[0] == 1
        assert mastio(lab.folder, "integrity", "accept", store, _PLANTED).returncode == 64
        wrong = mastio(lab.folder, "integrity", "accept", store, "/etc/hosts", "--why", "x")
        assert wrong.returncode == 64 and "nothing differs at /etc/hosts" in wrong.stderr
        done = mastio(lab.folder, "integrity", "accept", store, _PLANTED, "--why", "ticket 12")
        assert done.returncode == 1 and other in done.stdout
        assert [*different(check(lab, store)[1][store])] == [other]
        assert "accepted 1" in lab.mastio("integrity", "accept", store, "--why", "ticket 13")
        last = json.loads(on(lab, watch, f"tail -1 {FOLDER}/log.jsonl"))
        assert last["why"] == "ticket 13" and "@" in last["by"] and last["what"] == [other]
