"""Security updates on the real site, from a small archive of our own: installed, restarted, taken over; or stopped."""

import json
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mastio.integrity.client import LEDGER
from mastio.roles.integrity import FOLDER as INTEGRITY
from mastio.roles.integrity import TOOLS
from mastio.roles.patching import FOLDER, SETTINGS
from mastio.site.model import Role
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import inbox, the
from tests.lab.sabotage import on

pytestmark = pytest.mark.lab

_ARCHIVE = "/var/lib/patch-test"
_UNIT = "[Service]\\nExecStart=/usr/lib/tick/tickd infinity\\n"
_MAKE = f"""
import hashlib, os, shutil, subprocess, sys
top = {_ARCHIVE!r}
os.umask(0o022)

def quiet(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)

def deb(name, version, files, postinst=""):
    tree = f"{{top}}/tree"
    shutil.rmtree(tree, ignore_errors=True)
    control = f"Package: {{name}}\\nVersion: {{version}}\\nArchitecture: all\\n"
    control += "Maintainer: A <a@b.test>\\nDescription: x\\n"
    for path, data in {{"DEBIAN/control": control.encode(), **files}}.items():
        os.makedirs(os.path.dirname(f"{{tree}}/{{path}}"), exist_ok=True)
        with open(f"{{tree}}/{{path}}", "wb") as file:
            file.write(data)
        os.chmod(f"{{tree}}/{{path}}", 0o755 if path.endswith("d") and path.startswith("usr/lib/tick") else 0o644)
    if postinst:
        with open(f"{{tree}}/DEBIAN/postinst", "w") as file:
            file.write("#!/bin/sh\\n" + postinst + "\\n")
        os.chmod(f"{{tree}}/DEBIAN/postinst", 0o755)
    path = f"{{top}}/{{name}}_{{version}}.deb"
    quiet("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, path)
    return control, path

def archive(label, codename, control, path):
    place = f"{{top}}/{{label}}/dists/{{codename}}"
    os.makedirs(f"{{place}}/main/binary-amd64", exist_ok=True)
    data = open(path, "rb").read()
    shutil.copy(path, f"{{top}}/{{label}}")
    text = control + f"Filename: {{os.path.basename(path)}}\\nSize: {{len(data)}}\\n"
    text += f"SHA256: {{hashlib.sha256(data).hexdigest()}}\\n\\n"
    with open(f"{{place}}/main/binary-amd64/Packages", "w") as file:
        file.write(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    with open(f"{{place}}/Release", "w") as file:
        file.write(f"Origin: Debian\\nLabel: {{label}}\\nSuite: stable\\nCodename: {{codename}}\\n"
                   "Architectures: amd64\\nComponents: main\\nDate: Tue, 24 Nov 2026 00:00:00 UTC\\n"
                   f"SHA256:\\n {{digest}} {{len(text)}} main/binary-amd64/Packages\\n")

sleep, unit = open("/bin/sleep", "rb").read(), b"{_UNIT}"
tick = {{"usr/lib/tick/tickd": sleep, "usr/lib/systemd/system/tick.service": unit}}
os.makedirs(top, exist_ok=True)
os.chmod(top, 0o755)
if sys.argv[1] == "first":
    old = deb("tick", "1.0", {{**tick, "usr/share/tick/old": b"old"}})
    other = deb("other", "1.0", {{"usr/share/other/x": b"1"}})
    quiet("dpkg", "-i", old[1], other[1])
    new = deb("tick", "1.1", {{**tick, "usr/lib/tick/tickd": sleep + b"!"}})
    archive("Debian-Security", "trixie-security", *new)
    archive("Debian", "trixie", *deb("other", "2.0", {{"usr/share/other/x": b"2"}}))
    # The lab has no internet: the machine's own sources would only be waited for.
    os.mkdir(f"{{top}}/sources")
    for name in os.listdir("/etc/apt/sources.list.d"):
        shutil.move(f"/etc/apt/sources.list.d/{{name}}", f"{{top}}/sources")
    with open("/etc/apt/sources.list.d/patch-test.list", "w") as file:
        for label, name in (("Debian-Security", "trixie-security"), ("Debian", "trixie")):
            file.write(f"deb [trusted=yes] file:{{top}}/{{label}} {{name}} main\\n")
    quiet("systemctl", "daemon-reload")
    quiet("systemctl", "start", "tick.service")
elif sys.argv[1] == "worse":
    archive("Debian", "trixie", *deb("other", "3.0", {{"usr/share/other/x": b"3"}}, "systemctl stop nginx.service"))
else:
    archive("Debian-Security", "trixie-security", *deb("tick", "1.2", tick, "systemctl stop nginx.service"))
"""
_GONE = f"""
systemctl stop tick.service || true
dpkg --purge tick other >/dev/null 2>&1 || true
mv {_ARCHIVE}/sources/* /etc/apt/sources.list.d/ || true
rm -rf {_ARCHIVE} /etc/apt/sources.list.d/patch-test.list /run/reboot-required
find /var/lib/apt/lists -type f -delete
systemctl daemon-reload
"""
_VULNERABLE = """
import os, zlib
text = '''VERSION 1
CVE-2030-0001,,mended in 1.1
CVE-2030-0002,,not mended

tick,0,SHRF,1.1,
tick,1,SL? ,9.9,

tick,tick
'''
os.makedirs("FOLDER/tracker", exist_ok=True)
with open("FOLDER/tracker/trixie", "wb") as file:
    file.write(zlib.compress(text.encode()))
""".replace("FOLDER", FOLDER)


def python(lab: Lab, machine: str, source: str, *words: str) -> None:
    done = lab.run(machine, ["python3", "-I", "-", *words], source.encode())
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
            python(lab, name, _MAKE, "first")
        lab.mastio("integrity", "begin", "--json")
        yield
    finally:
        for name in names:
            on(lab, name, _GONE)
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
    done = lab.transport.run(the(lab, Role.WATCH).name, ["sh", "-c", command], timeout=300)
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
    done = mastio(lab.folder, "integrity", "check", webmail)
    assert done.returncode == 0, done.stdout
    rows = json.loads(lab.mastio("integrity", "status", "--json"))
    assert rows[-1] == {"broken": [], "edited": False}


def test_what_is_vulnerable_is_told_with_its_urgency_and_whether_there_is_a_fix(
    lab: Lab, webmail: str, store: str, watch: str
) -> None:
    python(lab, watch, _VULNERABLE)
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
    on(lab, watch, f"timeout 20 sh -c {shlex.quote(script)}")


def test_a_reboot_that_is_due_happens_once(lab: Lab, webmail: str) -> None:
    boot = on(lab, webmail, "cat /proc/sys/kernel/random/boot_id")
    on(lab, webmail, "touch /run/reboot-required")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(patches, lab, "run", webmail)
        # Machines of the lab do not come back by themselves.
        while '"stopped"' not in lab.mastio("lab", "status", "--json"):
            assert not running.done(), running.result()
            time.sleep(0.5)
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
    python(lab, webmail, _MAKE, "broken")
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
    python(lab, webmail, _MAKE, "worse")
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


def test_a_week_without_updates_is_told(lab: Lab, store: str, watch: str) -> None:
    old = """import json, sys
data = json.load(open(sys.argv[1]))
data["good"] -= 8 * 86400
json.dump(data, open(sys.argv[1], "w"))"""
    python(lab, watch, old, f"{FOLDER}/{store}.json")
    by_itself(lab, "late")
    assert "has not got its security updates since" in told(lab, f"no updates for a week: {store}")
