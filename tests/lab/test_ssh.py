"""The production path: OpenSSH from an administrator's address to watch, and through it to the rest.

The lab's short cut into the machines (`NspawnTransport`) only looks on, and makes the drift.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mastio.lab import internet, network, ssh
from tests.lab import mail
from tests.lab.conftest import REPOSITORY
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import token

pytestmark = pytest.mark.lab

MACHINES = ("firewall", "gateway", "store", "webmail", "watch")


def over_ssh(lab: Lab, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run mastio on the lab's site as on any site of real machines."""
    path = f"{REPOSITORY / 'src'}:{os.environ.get('PYTHONPATH', '')}"
    return subprocess.run(
        [sys.executable, "-m", "mastio", "--site", str(lab.folder), *argv],
        input=stdin, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=1800,
        env={**os.environ, "PYTHONPATH": path, "MASTIO_OVER_SSH": "1"},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def settled(lab: Lab) -> None:
    """Each test begins with nothing to do."""
    lab.mastio("apply", "--yes")


def test_plan_reaches_every_machine(lab: Lab) -> None:
    done = over_ssh(lab, "plan")
    assert (done.returncode, done.stdout) == (0, "Nothing to do on 5 machines.\n"), done.stderr


def test_drift_on_each_machine_is_shown_and_mended(lab: Lab) -> None:
    for machine in MACHINES:
        edit = ["sed", "-i", "1i # by hand", "/etc/hosts"]
        assert lab.run(machine, edit).code == 0
        rule = ["nft", "add", "rule", "inet", "mastio", "input", "counter"]
        assert lab.run(machine, rule).code == 0
    planned = over_ssh(lab, "plan")
    assert planned.returncode == 2, planned.stderr
    for machine in MACHINES:
        assert f"\n{machine} · " in f"\n{planned.stdout}"
    assert planned.stdout.count("-# by hand") == len(MACHINES)
    assert planned.stdout.count("the running rules are not the confirmed ones") == len(MACHINES)

    applied = over_ssh(lab, "apply", "--yes")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert over_ssh(lab, "plan").returncode == 0
    for machine in MACHINES:
        assert b"by hand" not in lab.run(machine, ["cat", "/etc/hosts"]).stdout
        timer = lab.run(machine, ["systemctl", "is-active", "mastio-revert.timer"]).stdout
        assert timer.strip() == b"inactive", f"{machine}: the firewall was not confirmed"


def test_a_changed_policy_reaches_its_machine(lab: Lab) -> None:
    """There and back."""
    original = lab.folder / "site.toml"
    text = original.read_text()
    try:
        original.write_text(f"{text}\n[policy]\nmessage_size = 33\n")
        planned = over_ssh(lab, "plan")
        assert planned.returncode == 2, planned.stderr
        assert f"{33 * 1024 * 1024}" in planned.stdout
        assert over_ssh(lab, "apply", "--yes").returncode == 0
        limit = lab.run("gateway", ["postconf", "-h", "message_size_limit"]).stdout
        assert int(limit) >= 33 * 1024 * 1024
    finally:
        original.write_text(text)
        assert over_ssh(lab, "apply", "--yes").returncode == 0
    assert over_ssh(lab, "plan").returncode == 0


def test_an_account_is_made(lab: Lab) -> None:
    address = f"{token()}@{lab.site.domains[0]}"
    done = over_ssh(lab, "user", "add", address, "--generate")
    try:
        assert done.returncode == 0, done.stderr
        password = done.stdout.partition("password: ")[2].strip()
        assert mail.lets_in(lab, address, password)
        assert mail.recipient(lab, address)[0] == 250
    finally:
        assert over_ssh(lab, "user", "delete", address, "--purge").returncode == 0
    assert mail.recipient(lab, address)[0] == 550


# --- who does not come in


def knock(lab: Lab, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """ssh from an address of `outside` to what the site publishes, as the lab's administrator."""
    state = ssh.config_path(lab.site.name)
    way = f"nsenter --net=/run/netns/{network.namespace(lab.site.name, 'outside')} "
    way += f"socat - TCP:{lab.site.public[0]}:22,bind={source},connect-timeout=3"
    argv = ["ssh", "-F", str(state), "-o", f"ProxyCommand {way}", *options, "watch", "hostname"]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)


def test_neither_strangers_nor_passwords_come_in(lab: Lab) -> None:
    admin, stranger = (str(it(lab.site)[0]) for it in (internet.admin, internet.stranger))
    assert knock(lab, admin).stdout == "watch\n", "the key from the right address comes in"
    assert knock(lab, stranger).returncode == 255, "the right key from another address"
    no_key = ("-o", "PubkeyAuthentication=no", "-o", "BatchMode=yes")
    refused = knock(lab, admin, *no_key)
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr, "sshd must offer keys alone"
    assert knock(lab, admin, "-o", "IdentityFile=none", "-l", "daemon").returncode == 255


@contextmanager
def another_host_key(lab: Lab, machine: str) -> Iterator[None]:
    known = ssh.config_path(lab.site.name).parent / "known_hosts"
    text = known.read_text()
    lines = dict(line.split(" ", 1) for line in text.splitlines())
    other = next(name for name in lines if name != machine)
    lines[machine] = lines[other]
    try:
        known.write_text("".join(f"{name} {key}\n" for name, key in lines.items()))
        yield
    finally:
        known.write_text(text)


def test_a_machine_with_another_host_key_is_not_talked_to(lab: Lab) -> None:
    with another_host_key(lab, "store"):
        done = over_ssh(lab, "plan")
        assert done.returncode == 69, done.stdout
        assert "store cannot be reached: Host key verification failed." in done.stdout + done.stderr
        assert "gateway cannot be reached" not in done.stdout + done.stderr
    assert over_ssh(lab, "plan").returncode == 0


def test_no_shared_connection_is_left_behind(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert over_ssh(lab, "plan", "watch").returncode == 0
    assert list(tmp_path.iterdir()) == []
