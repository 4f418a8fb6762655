"""First contact with machines that nobody prepared: plain Debian 13 with sshd, over OpenSSH only.

The administrator's `desk` stands beside them. One machine is empty, one has mail, one serves something, one lets only
somebody with sudo in, one does not exist.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from mastio.adopt import pins
from mastio.adopt.contact import close_old_door
from mastio.agent import firewall
from mastio.lab import network
from mastio.lab.model import LabMachine, Link
from mastio.lab.provider import Lab as Provider
from mastio.lab.transport import NspawnTransport
from mastio.site import parse
from mastio.transport import SshTransport
from tests.lab.conftest import Quiet, mastio_apart

pytestmark = pytest.mark.lab

HOSTS = {"desk": 5, "watch": 10, "gateway": 11, "store": 12, "webmail": 13}
MEET = ("watch", "gateway", "store", "webmail")


@dataclass(frozen=True)
class Place:
    """The machines, and the folder of the site that they shall be."""

    folder: Path
    machines: NspawnTransport

    def run(self, machine: str, script: str, stdin: bytes = b"") -> str:
        done = self.machines.run(machine, ["sh", "-euc", script], stdin)
        assert done.code == 0, done.stderr.decode()
        return done.stdout.decode()

    def mastio(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return mastio_apart(self.folder, *argv, timeout=1800)

    def adopt(self, *argv: str) -> tuple[int, dict[str, Any]]:
        done = self.mastio("adopt", "--json", *argv)
        assert done.stdout, done.stderr
        return done.returncode, {it["machine"]: it for it in json.loads(done.stdout)}

    def fingerprint(self, machine: str) -> str:
        """As the machine's own console tells it."""
        return self.run(machine, "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]


@pytest.fixture(scope="module")
def place(as_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("site")
    provider = Provider(f"adopt{os.getpid()}")
    machines = [
        LabMachine(
            name, name, ("sudo",) if name == "webmail" else (), (),
            (Link("alone", (ip_interface(f"10.9.1.{number}/24"),)),),
        )
        for name, number in HOSTS.items()
    ]  # fmt: skip
    try:
        provider.up(machines, Quiet())
        provider.settle(Quiet())
        there = Place(folder, NspawnTransport(provider.site))
        for key in ("admin", "other"):
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
            subprocess.run(argv, check=True)
        write(folder, provider.site)
        prepare(there)
        yield there
    finally:
        provider.down(purge=True)


def write(folder: Path, lab: str) -> None:
    """The site file and the administrator's ssh_config; his own known_hosts is empty."""
    public = (folder / "admin.pub").read_text().strip()
    (folder / "site.toml").write_text(
        'schema = 1\nname = "adopted"\norganisation = "Fortress Ltd"\ndomains = ["fortress.test"]\n'
        'admin = "alice@fortress.test"\npublic = ["203.0.113.1"]\nreach = "ssh"\n\n'
        f'[admins]\nnetworks = ["10.9.1.5/32"]\nkeys = ["{public}"]\n\n[ssh]\nconfig = "ssh_config"\n'
    )
    addresses = {
        "watch": "10.77.4.10",
        "gateway": "10.77.1.10",
        "store": "10.77.3.10",
        "webmail": "10.77.2.10",
    }
    lines = []
    for name, address in addresses.items():
        way = f"nsenter --net=/run/netns/{network.namespace(lab, 'desk')} socat - TCP:%h:22"
        lines += [f"Host {address}", f"  HostName 10.9.1.{HOSTS[name]}"]
        lines += [f"  ProxyCommand {way}", *(["  User keeper"] if name == "webmail" else [])]
    lines += [
        "Host 10.77.*",
        "  ProxyCommand false",
        "Host *",
        "  User root",
        "  IdentitiesOnly yes",
    ]
    lines += [f"  IdentityFile {folder}/admin", f"  UserKnownHostsFile {folder}/own_known_hosts"]
    (folder / "ssh_config").write_text("\n".join(lines) + "\n")


def prepare(place: Place) -> None:
    """What an administrator has who rents machines: his key in them."""
    public = (place.folder / "admin.pub").read_bytes()
    for machine in ("watch", "gateway", "store"):
        place.run(machine, "mkdir -p -m 700 /root/.ssh; cat >/root/.ssh/authorized_keys", public)
    place.run(
        "webmail",
        "useradd -m -s /bin/sh keeper; install -d -m 700 -o keeper ~keeper/.ssh; "
        "cat >~keeper/.ssh/authorized_keys; "
        "echo 'keeper ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/keeper",
        public,
    )
    place.run("gateway", "printf 'From alice\\n\\nhello\\n' >/var/mail/alice")
    place.run("store", "systemd-run --unit=foreign python3 -m http.server 8080")
    end = "for i in $(seq 400); do grep -q :1F90 /proc/net/tcp && exit 0; sleep 0.1; done; exit 1"
    place.run("store", end)


def test_nobody_is_believed_who_was_not_vouched_for(place: Place) -> None:
    code, found = place.adopt(*MEET)
    assert code == 1
    for machine in MEET:
        assert found[machine]["verdict"] == "refused"
        assert found[machine]["seen"] is None, "nobody has logged in"
        shown = place.fingerprint(machine)
        assert found[machine]["fingerprint"] == shown
        assert f"--fingerprint {machine}={shown}" in found[machine]["words"]
    assert pins.read(place.folder) == {}


def test_another_fingerprint_than_the_one_given_is_refused(place: Place) -> None:
    wrong = place.fingerprint("store")
    code, found = place.adopt("watch", "--fingerprint", f"watch={wrong}")
    assert (code, found["watch"]["verdict"]) == (1, "refused")
    assert f"not {wrong}" in found["watch"]["words"]


def test_one_that_lets_nobody_in_says_what_ssh_config_lacks(place: Place) -> None:
    config = place.folder / "ssh_config"
    text = config.read_text()
    try:
        config.write_text(text.replace("  User root\n", "  User stranger\n"))
        code, found = place.adopt("watch", "--fingerprint", f"watch={place.fingerprint('watch')}")
    finally:
        config.write_text(text)
    assert (code, found["watch"]["verdict"]) == (1, "refused")
    words = found["watch"]["words"]
    assert "stranger@" in words and "Permission denied" in words and "`User root`" in words


def everything(place: Place) -> list[str]:
    return [w for it in MEET for w in ("--fingerprint", f"{it}={place.fingerprint(it)}")]


def test_what_is_fit_is_adopted_and_the_rest_is_told(place: Place) -> None:
    # A file of our own to compare with: one of /proc is as old as the kernel's memory of it.
    young = "find /etc /root /var/lib -newer /run/then -type f | sort"
    then = "touch -d '1 hour ago' /run/then"
    before = {it: place.run(it, f"{then}; {young}") for it in ("gateway", "store")}
    code, found = place.adopt(*everything(place))
    assert {name: it["verdict"] for name, it in found.items()} == {
        "watch": "adopted", "webmail": "adopted", "gateway": "refused", "store": "refused",
        "firewall": "unreachable",
    }  # fmt: skip
    assert code == 69
    assert "there is mail: /var/mail/alice" in found["gateway"]["words"]
    assert "serves others: python3 (tcp 8080)" in found["store"]["words"]
    assert found["watch"]["seen"]["release"]["version"] == "13"
    assert {*pins.read(place.folder)} == {"watch", "webmail"}
    for machine, text in before.items():
        assert place.run(machine, young) == text, f"{machine}: looking changes nothing"


def test_who_comes_by_sudo_opens_roots_door_for_the_administrators_keys(place: Place) -> None:
    keys = place.run(
        "webmail", "cat /root/.ssh/authorized_keys; stat -c %a /root/.ssh/authorized_keys"
    )
    assert keys == f"{(place.folder / 'admin.pub').read_text()}600\n"
    code, found = place.adopt("webmail")
    assert (code, found["webmail"]["login"]) == (0, "sudo"), "a second time changes nothing"
    assert place.run("webmail", "wc -l </root/.ssh/authorized_keys").strip() == "1"


def test_the_way_leads_through_watch_from_then_on(place: Place) -> None:
    assert pins.through(place.folder) == {"webmail"}
    config = place.folder / "ssh_config"
    text = config.read_text()
    try:
        # The short way is shut; what is left leads over watch.
        config.write_text(text.replace("Host 10.77.2.10\n", "Host nobody\n"))
        (place.folder / "ssh_config").write_text(
            config.read_text().replace(
                "Host 10.77.*", "Host 10.77.2.10\n  HostName 10.9.1.13\nHost 10.77.*"
            )
        )
        done = place.mastio("plan", "webmail", "watch")
    finally:
        config.write_text(text)
    assert done.returncode == 2, done.stderr
    assert "webmail · " in done.stdout and "cannot be reached" not in done.stdout + done.stderr


def test_one_that_shows_another_key_later_is_not_believed(place: Place) -> None:
    known = pins.read(place.folder)
    pins.write(place.folder, {**known, "watch": known["webmail"]})
    try:
        code, found = place.adopt("watch")
        assert code == 1
        assert "somebody else answers" in found["watch"]["words"]
        done = place.mastio("plan", "watch")
        assert done.returncode == 69
        assert "Host key verification failed" in done.stdout + done.stderr
    finally:
        pins.write(place.folder, known)
    assert place.adopt("watch")[0] == 0


def test_somebody_who_knows_better_takes_one_anyway(place: Place) -> None:
    print_ = place.fingerprint("gateway")
    code, found = place.adopt("gateway", "--fingerprint", f"gateway={print_}", "--anyway")
    assert (code, found["gateway"]["verdict"]) == (0, "adopted")
    assert found["gateway"]["objections"]
    assert place.run("gateway", "cat /var/mail/alice").endswith("hello\n")


def test_who_would_lock_himself_out_is_told(place: Place) -> None:
    site, config = place.folder / "site.toml", place.folder / "ssh_config"
    text, ways = site.read_text(), config.read_text()
    other = (place.folder / "other.pub").read_text().strip()
    try:
        site.write_text(text.replace("10.9.1.5/32", "192.0.2.1/32"))
        code, found = place.adopt("watch")
        assert code == 1 and "you come from 10.9.1.5" in found["watch"]["words"]
        mine = (place.folder / "admin.pub").read_text().strip()
        site.write_text(text.replace(mine, other))
        code, found = place.adopt("watch")
        assert code == 1 and "is not in admins.keys" in found["watch"]["words"]
    finally:
        site.write_text(text)
        config.write_text(ways)
    assert place.adopt("watch")[0] == 0


def test_the_old_keys_of_root_go_once_sshd_reads_others(place: Place) -> None:
    site = parse.load(place.folder / "site.toml")
    way = SshTransport(site, pins.load(place.folder))
    removed, kept = close_old_door(way, "watch", site.admin_keys)
    assert not removed and "still reads" in kept
    place.run("watch", "test -s /root/.ssh/authorized_keys")
    ours = "AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u"
    place.run(
        "watch",
        "mkdir -p /etc/ssh/authorized_keys.d; cp /root/.ssh/authorized_keys /etc/ssh/authorized_keys.d/root; "
        f"echo '{ours}' >/etc/ssh/sshd_config.d/10-own.conf; "
        # Other than a reload it returns when sshd listens; conversations go on.
        "systemctl restart ssh",
    )
    try:
        assert close_old_door(way, "watch", site.admin_keys) == (["/root/.ssh/authorized_keys"], "")
        place.run("watch", "test ! -e /root/.ssh/authorized_keys")
        assert way.fresh().run("watch", ["true"]).code == 0, "nobody is locked out"
        assert close_old_door(way, "watch", site.admin_keys) == ([], "")
    finally:
        back = "mv /etc/ssh/authorized_keys.d/root /root/.ssh/authorized_keys; rm /etc/ssh/sshd_config.d/10-own.conf"
        place.run("watch", f"{back}; systemctl reload ssh")


STRICT = """flush ruleset
table inet strict {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        tcp flags & (syn | rst | ack) == syn tcp dport 22 accept
    }
    chain output { type filter hook output priority 0; policy drop; ct state established,related accept; }
}
"""


@pytest.mark.parametrize("tracked", [False, True], ids=["untracked", "tracked"])
def test_the_first_rules_do_not_cut_the_conversation_that_brings_them(
    place: Place, tracked: bool
) -> None:
    """On a machine without rules nobody follows conversations; the agent has them followed before a new one begins."""
    place.run("store", "nft flush ruleset")
    if tracked:
        place.run("store", "nft -f -", firewall.TRACKING.encode())
    argv = [
        "ssh",
        "-F",
        str(place.folder / "ssh_config"),
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
    ]
    load = "nft -f -; sleep 1; echo here"
    try:
        done = subprocess.run(
            [*argv, "10.77.3.10", load],
            input=STRICT,
            capture_output=True,
            text=True,
            timeout=120 if tracked else 12,
            check=False,
        )
        said = done.stdout
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode()
    finally:
        place.run("store", "nft flush ruleset")
    assert ("here" in said) is tracked, said
