"""Security updates on the real site, from a small archive of our own: installed, restarted, taken over; or stopped."""

import json
import shlex
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from mastio.integrity.client import LEDGER
from mastio.roles.integrity import FOLDER as INTEGRITY
from mastio.roles.integrity import TOOLS
from mastio.roles.patching import FOLDER, SETTINGS
from mastio.site.model import Role
from tests.lab.arrivals import talk
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio, mastio_begun
from tests.lab.mail import CAROL, LIMIT, deliver, inbox, message, the, token
from tests.lab.packages import GONE, MAKE, VULNERABLE
from tests.lab.patience import eventually
from tests.lab.sabotage import on

pytestmark = pytest.mark.lab

_LONGEST = 900
"""Seconds until a machine is looked at, updated, measured and perhaps down."""


def python(lab: Lab, machine: str, source: str, *words: str) -> None:
    argv = ["python3", "-I", "-", *words]
    done = lab.transport.run(machine, argv, source.encode(), LIMIT)
    assert done.code == 0, done.stderr.decode()


def forget(lab: Lab) -> None:
    on(lab, the(lab, Role.WATCH).name, f"rm -rf {FOLDER}/* {INTEGRITY}/*")
    for machine in lab.site.machines:
        on(lab, machine.name, f"rm -f {TOOLS}")
    (lab.folder / LEDGER).unlink(missing_ok=True)


@pytest.fixture
def webmail(lab: Lab) -> str:
    """The first in the order."""
    return the(lab, Role.WEBMAIL).name


@pytest.fixture
def store(lab: Lab) -> str:
    return the(lab, Role.STORE).name


@pytest.fixture
def watch(lab: Lab) -> str:
    return the(lab, Role.WATCH).name


@pytest.fixture(scope="module", autouse=True)
def archive(lab: Lab) -> Iterator[None]:
    """Two machines with old packages and an archive that has newer ones; and references of all machines."""
    names = [the(lab, Role.WEBMAIL).name, the(lab, Role.STORE).name]
    try:
        forget(lab)
        for name in names:
            python(lab, name, MAKE, "first")
        lab.mastio("integrity", "begin", "--json")
        yield
    finally:
        for name in names:
            on(lab, name, GONE)
        on(lab, names[0], "systemctl start nginx.service")
        forget(lab)


def versions(lab: Lab, machine: str) -> list[str]:
    said = on(lab, machine, "dpkg-query -W -f '${Package} ${Version}\\n' tick other")
    return said.splitlines()


def patches(lab: Lab, *words: str) -> tuple[int, dict[str, Any]]:
    done = mastio(lab.folder, "patches", *words, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def by_itself(lab: Lab, what: str) -> None:
    """What its timer would start."""
    unit = f"mastio-patches@{what}.service"
    command = f"systemctl start {unit} || {{ journalctl -u {unit} -n 12 -o cat >&2; exit 1; }}"
    done = lab.transport.run(the(lab, Role.WATCH).name, ["sh", "-c", command], timeout=1800)
    assert done.code == 0, done.stderr


def told(lab: Lab, words: str) -> str:
    admin = lab.site.admin_mail
    (mail, *_) = inbox(lab, admin, lab.accounts[admin], f"[{lab.site.name}] {words}", count=1)
    text: str = mail.get_payload(decode=True).decode()
    return text


def test_a_fix_is_installed_its_service_restarted_and_nothing_else_touched(
    lab: Lab, webmail: str, store: str
) -> None:
    pid = on(lab, webmail, "systemctl show -P MainPID tick.service")
    # What a package that comes might have written, a moment before it comes: its configuration, and what scripts write.
    on(lab, webmail, "echo evil >>/etc/tick.conf; cp -p /etc/shells /run/; echo evil >>/etc/shells")
    code, found = patches(lab, "run", webmail)
    assert code == 0, found
    (record,) = found["machines"]
    assert record["updated"] == [["tick", "1.0", "1.1"]]
    assert record["restarted"] == ["tick.service"] and not record["left"]
    assert not record["due"] and not record["rebooted"]
    assert on(lab, webmail, "systemctl show -P MainPID tick.service") != pid
    assert versions(lab, webmail) == ["other 1.0", "tick 1.1"]
    assert versions(lab, store) == ["other 1.0", "tick 1.0"]
    # Integrity has taken over the package, a file that it no longer has among its files, and nothing else.
    done = mastio(lab.folder, "integrity", "check", "--json", webmail)
    last = json.loads(done.stdout)[webmail]
    assert {it["what"] for it in last["differences"]} == {"/etc/tick.conf", "/etc/shells"}
    on(lab, webmail, "echo fast = no >/etc/tick.conf; cp -p /run/shells /etc/")
    done = mastio(lab.folder, "integrity", "check", webmail)
    assert done.returncode == 0, done.stdout
    rows = json.loads(lab.mastio("integrity", "status", "--json"))
    assert rows[-1] == {"broken": [], "edited": False}


def test_what_is_vulnerable_is_told_with_its_urgency_and_whether_there_is_a_fix(
    lab: Lab, webmail: str, store: str, watch: str
) -> None:
    python(lab, watch, VULNERABLE)
    _, found = patches(lab, "status")
    machines = {it["machine"]: it for it in found["machines"]}
    mended = {
        "name": "CVE-2030-0001", "package": "tick", "urgency": "high", "remote": True, "fixed": True,
    }  # fmt: skip
    other = {
        "name": "CVE-2030-0002",
        "package": "tick",
        "urgency": "low",
        "remote": False,
        "fixed": False,
    }
    for machine, expected in ((webmail, [other]), (store, [mended, other]), (watch, [])):
        assert machines[machine]["vulnerabilities"] == expected, machines[machine]
    assert machines[webmail]["support"]["security"] > "2027" and not machines[webmail]["why"]
    assert machines[webmail]["waiting"] == [] and machines[webmail]["last"]["good"]
    on(lab, store, "apt-get -q update")
    text = mastio(lab.folder, "patches").stdout
    assert "1 high (1 with a fix), 1 low (0 with a fix)" in text
    assert (
        "fixes wait: tick" in text and "CVE-2030-0001 tick: high, from afar; a fix is there" in text
    )
    assert "too old" not in text
    on(lab, watch, f"touch -d '5 days ago' {FOLDER}/tracker/trixie")
    text = mastio(lab.folder, "patches").stdout
    assert (
        "the tracker's data on trixie are 5d old: too old" in text
        and f"to {FOLDER}/tracker/trixie" in text
    )


def test_its_key_has_updates_installed_and_reboots_that_are_due_no_more(
    lab: Lab, store: str, watch: str
) -> None:
    ssh = json.loads(on(lab, watch, f"cat {SETTINGS}"))["ssh"][store]
    for words in ([], ["id"], ["update x"], ["update; id"], ["update\nid"]):
        refused = lab.run(watch, [*ssh, *words])
        assert (
            refused.code == 77
            and b"not update, upgrade or reboot" in refused.stderr
            and not refused.stdout
        )
    refused = lab.run(watch, [*ssh, "reboot"])
    assert refused.code == 77 and b"no reboot is due" in refused.stderr
    assert versions(lab, store) == ["other 1.0", "tick 1.0"]
    script = f"until grep -rhq 'mastio-patch.*refused' /var/log/remote/{store}/; do sleep 0.3; done"
    on(lab, watch, f"timeout 200 sh -c {shlex.quote(script)}")


def test_a_reboot_that_is_due_happens_once(lab: Lab, webmail: str) -> None:
    boot = on(lab, webmail, "cat /proc/sys/kernel/random/boot_id")
    on(lab, webmail, "touch /run/reboot-required")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(patches, lab, "run", webmail)
        # Machines of the lab do not come back by themselves.
        down(lab, running)
        lab.mastio("lab", "up")
        code, found = running.result()
    assert code == 0, found
    (record,) = found["machines"]
    assert record["rebooted"] and not record["due"] and not record["updated"]
    assert on(lab, webmail, "cat /proc/sys/kernel/random/boot_id") != boot
    on(lab, webmail, "test ! -e /run/reboot-required")


def test_an_update_that_breaks_a_machine_ends_the_round(
    lab: Lab, webmail: str, store: str, watch: str
) -> None:
    python(lab, webmail, MAKE, "broken")
    by_itself(lab, "window")
    text = told(lab, f"worse after updates: {webmail}")
    assert f"H1@{webmail}" in text and "tick 1.1 → 1.2" in text
    others = [it.name for it in lab.site.machines if it.name != webmail]
    assert all(it in text.partition("Left alone:")[2] for it in others)
    assert versions(lab, store) == ["other 1.0", "tick 1.0"]
    code, found = patches(lab, "status")
    assert code == 1
    last = next(it["last"] for it in found["machines"] if it["machine"] == webmail)
    assert any("nobody listens" in it for it in last["worse"])
    on(lab, webmail, "systemctl start nginx.service")
    code, found = patches(lab, "run", store)
    assert code == 0, found
    assert found["machines"][0]["updated"] == [["tick", "1.0", "1.1"]]


def test_an_upgrade_brings_all_packages_and_stops_at_the_first_that_is_worse(
    lab: Lab, webmail: str, store: str
) -> None:
    both = ("--only", webmail, "--only", store)
    python(lab, webmail, MAKE, "other", "3.0", "systemctl stop nginx.service")
    on(lab, webmail, "apt-get -q update")
    # A file that is not as this version has it stands for what an older one brought.
    on(lab, store, "apt-get -q update; echo '# older' >>/usr/local/lib/mastio/mastio-patch")
    done = mastio(lab.folder, "upgrade", "--plan", "--json", *both)
    rows = json.loads(done.stdout)["machines"]
    assert done.returncode == 2 and [it["machine"] for it in rows] == [webmail, store]
    assert ["other", "1.0", "3.0"] in rows[0]["packages"]
    assert ["other", "1.0", "2.0"] in rows[1]["packages"] and rows[1]["mastio"]["changes"]
    assert mastio(lab.folder, "upgrade", *both).returncode == 64, "nobody was there to be asked"

    done = mastio(lab.folder, "upgrade", "--yes", "--json", *both)
    told = json.loads(done.stdout)
    assert done.returncode == 1, told
    assert told["mastio"] == [store], "mastio itself is on all before any package is"
    assert told["stopped"]["machine"] == webmail and "nobody listens" in told["stopped"]["words"]
    assert [it["machine"] for it in told["packages"]] == [webmail]
    assert versions(lab, store)[0] == "other 1.0", "who comes after it is left alone"

    on(lab, webmail, "systemctl start nginx.service")
    done = mastio(lab.folder, "upgrade", "--yes", *both)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "other 1.0 → 2.0" in done.stdout and f"{store}: looking" in done.stderr
    assert versions(lab, webmail)[0] == "other 3.0" and versions(lab, store)[0] == "other 2.0"
    done = mastio(lab.folder, "integrity", "check", store)
    assert done.returncode == 0, done.stdout
    done = mastio(lab.folder, "upgrade", "--plan", *both)
    assert (done.returncode, done.stdout.count("nothing that is known")) == (0, 2), done.stdout


def test_ctrl_c_lets_one_machine_end_and_the_same_command_goes_on(
    lab: Lab, webmail: str, store: str
) -> None:
    words = ("upgrade", "--yes", "--only", webmail, "--only", store)
    waits = "touch /run/at-work; until [ -e /run/go-on ]; do sleep 0.2; done; rm /run/at-work /run/go-on"
    for name in (webmail, store):
        python(lab, name, MAKE, "other", "4.0", waits)
        on(lab, name, "echo '# older' >>/usr/local/lib/mastio/mastio-patch")

    def cut(machine: str, times: int = 1) -> str:
        """What is said by one that is interrupted while a package's script stands still on the machine."""
        with mastio_begun(lab.folder, *words) as running:
            at_work(lab, machine)
            assert running.stderr
            heard = ""
            for _ in range(times):
                running.send_signal(signal.SIGINT)
                # Two at once are one (signal(7)).
                while "waiting for" not in heard:
                    heard += running.stderr.readline()
                    assert running.poll() is None, heard
            if times == 1:
                on(lab, machine, "touch /run/go-on")
            said, complaints = running.communicate(timeout=_LONGEST)
        assert running.returncode == 130, said + heard + complaints
        return said + heard + complaints

    # While mastio itself comes to a machine.
    with mastio_begun(lab.folder, *words) as running:
        assert running.stderr
        while not running.stderr.readline().startswith(f"{webmail}: mastio "):
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        said, complaints = running.communicate(timeout=_LONGEST)
    assert running.returncode == 130, said + complaints
    assert f"waiting for {webmail} to end" in complaints
    assert f"stopped at {store}: interrupted before it was touched" in said
    assert mastio(lab.folder, "plan", webmail).returncode == 0, "ended"
    assert mastio(lab.folder, "plan", store).returncode == 2, "not begun"

    # While packages come.
    said = cut(webmail)
    assert f"waiting for {webmail} to end" in said and "→ 4.0" in said
    assert f"stopped at {store}: interrupted before it was touched" in said
    assert mastio(lab.folder, "plan", store).returncode == 0, "the first part went on where it was"
    assert versions(lab, webmail)[0] == "other 4.0" != versions(lab, store)[0]

    # Twice: nobody waits any more.
    said = cut(store, 2)
    assert f"left while {store} is still at work" in said
    done = mastio(lab.folder, *words)
    assert done.returncode == 75 and "another round of updates is at work" in done.stderr
    on(lab, store, "touch /run/go-on")
    on(lab, the(lab, Role.WATCH).name, f"flock -w 280 {FOLDER}/lock true")
    done = mastio(lab.folder, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("nothing to update") == 2, "what was left has ended by itself"
    assert versions(lab, store)[0] == "other 4.0"
    done = mastio(lab.folder, "integrity", "check", store)
    assert done.returncode == 0, done.stdout
    # What a test before has left on the webmail still differs: its exit code is no matter here.
    rows = json.loads(mastio(lab.folder, "integrity", "status", "--json").stdout)
    assert rows[-1] == {"broken": [], "edited": False}


def at_work(lab: Lab, machine: str) -> None:
    script = "until [ -e /run/at-work ]; do sleep 0.2; done"
    on(lab, machine, f"timeout 280 sh -c {shlex.quote(script)}")


def test_machines_that_need_it_reboot_one_after_the_other_and_mail_waits(
    lab: Lab, webmail: str, store: str
) -> None:
    python(lab, store, MAKE, "other", "5.0", "touch /run/reboot-required")
    on(lab, webmail, "touch /run/reboot-required")
    boots = {it: boot(lab, it) for it in (webmail, store)}
    alice, word = next(iter(lab.accounts.items())), token()
    words = ("upgrade", "--yes", "--json", "--only", webmail, "--only", store)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(mastio, lab.folder, *words)
        # Machines of the lab do not come back by themselves.
        assert down(lab, running) == [webmail]
        lab.mastio("lab", "up")
        assert down(lab, running) == [store]
        assert deliver(lab, message(CAROL, alice[0], word))[0] == 250, "the gateway keeps it"
        lab.mastio("lab", "up")
        done = running.result()
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = json.loads(done.stdout)["packages"]
    assert first["rebooted"] and second["rebooted"] and not second["due"]
    assert ["other", "5.0"] in [[it[0], it[2]] for it in second["updated"]]
    assert all(boot(lab, it) != former for it, former in boots.items())
    assert inbox(lab, *alice, word)
    assert mastio(lab.folder, "upgrade", "--plan", *words[3:]).returncode == 0


def test_watch_reboots_last_and_tells_when_it_is_back(lab: Lab, watch: str) -> None:
    sources = "/etc/apt/sources.list.d"
    on(lab, watch, f"mv {sources} {sources}.away; mkdir {sources}; touch /run/reboot-required")
    former = boot(lab, watch)
    try:
        done = mastio(lab.folder, "upgrade", "--yes", "--only", watch)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{watch} reboots now" in done.stdout
        assert down(lab) == [watch]
    finally:
        lab.mastio("lab", "up")
        on(lab, watch, f"rmdir {sources}; mv {sources}.away {sources}")
    assert boot(lab, watch) != former
    talk(lab)  # who comes after counts on lines that are there at once
    by_itself(lab, "late")
    _, found = patches(lab, "status")
    last = next(it["last"] for it in found["machines"] if it["machine"] == watch)
    assert last["rebooted"] and not last["rebooting"] and not last["worse"], last


def boot(lab: Lab, machine: str) -> str:
    return on(lab, machine, "cat /proc/sys/kernel/random/boot_id")


def down(lab: Lab, running: Future[Any] | None = None) -> list[str]:
    """The machines that are down, once there are some; what takes them down is `running` until then."""

    def stopped() -> list[str]:
        rows = json.loads(lab.mastio("lab", "status", "--json"))["machines"]
        found = [it["name"] for it in rows if it["state"] == "stopped"]
        assert found or not (running and running.done()), running and running.result()
        return found

    return eventually(stopped, lambda: f"none goes down: {running}", _LONGEST)


def test_a_week_without_updates_is_told(lab: Lab, store: str, watch: str) -> None:
    old = """import json, sys
data = json.load(open(sys.argv[1]))
data["good"] -= 8 * 86400
json.dump(data, open(sys.argv[1], "w"))"""
    python(lab, watch, old, f"{FOLDER}/{store}.json")
    by_itself(lab, "late")
    assert "has not got its security updates since" in told(lab, f"no updates for a week: {store}")
