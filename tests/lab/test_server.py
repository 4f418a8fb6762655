"""One physical server that carries the whole site: plain Debian 13 with sshd, reached over OpenSSH only.

The server is a machine of the lab, in which the site's machines run as machines; its internet is one neighbour, who
has the administrator's address beside his own. There is no DNS and no other mail server on that internet: what needs
them is proven in the lab proper.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from mastio.errors import MastioError
from mastio.lab import network
from mastio.lab.model import LabMachine, Link
from mastio.lab.provider import Lab as Provider
from mastio.lab.transport import NspawnTransport
from tests.lab import archive
from tests.lab.conftest import Quiet, mastio_apart

pytestmark = pytest.mark.lab

PUBLIC, PUBLIC6 = "203.0.113.1", "2001:db8:113::1"
CLIENT, ADMIN = "203.0.113.9", "203.0.113.200"
TOOLS = (
    "debian-archive-keyring",
    "mmdebstrap",
    "nftables",
    "systemd-container",
    "unattended-upgrades",
)
PROVEN = "N1,N2,N4,N5,R2,R4,R6,T1,T3,T9,T10,H1,A4,A6,C4,L1,W4,W5"
"""What needs no internet beside the neighbour: who reaches what above all."""


@dataclass(frozen=True)
class Place:
    """The server and its neighbour, and the folder of the site."""

    folder: Path
    provider: Provider
    machines: NspawnTransport

    def run(self, machine: str, script: str, stdin: bytes = b"") -> str:
        done = self.machines.run(machine, ["sh", "-euc", script], stdin, timeout=120)
        assert done.code == 0, done.stderr.decode()
        return done.stdout.decode()

    def mastio(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return mastio_apart(self.folder, *argv, timeout=600)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.mastio("machines", "status", "--json").stdout)
        return found

    def findings(self) -> list[str]:
        done = self.mastio("machines", "check", "--json")
        assert done.stdout, done.stderr
        found: list[str] = json.loads(done.stdout)["findings"]
        assert done.returncode == bool(found)
        return found

    def verify(self, checks: str) -> dict[str, Any]:
        done = self.mastio("verify", "--only", checks, "--json")
        assert done.stdout, done.stderr
        return {f"{it['check']}@{it['vantage']}": it for it in json.loads(done.stdout)["findings"]}


@pytest.fixture(scope="module")
def place(as_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("site")
    provider = Provider(f"srv{os.getpid()}")
    machines = [
        _neighbour("server", TOOLS, PUBLIC, PUBLIC6),
        _neighbour("client", ("nmap", "swaks"), CLIENT, ADMIN, "2001:db8:113::9"),
    ]
    try:
        provider.up(machines, Quiet())
        provider.settle(Quiet())
        there = Place(folder, provider, NspawnTransport(provider.site))
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "admin")]
        subprocess.run(argv, check=True)
        key = (folder / "admin.pub").read_bytes()
        for machine in ("server", "client"):
            there.run(machine, "mkdir -p -m 700 /root/.ssh; cat >/root/.ssh/authorized_keys", key)
        there.run(
            "server",
            "rm -f /etc/apt/sources.list.d/*; cat >/etc/apt/sources.list",
            archive.SOURCES.encode(),
        )
        write(there)
        shelf = archive.shelf(tmp_path_factory.mktemp("archive"))
        with archive.served(shelf, network.namespace(provider.site, "server")):
            yield there
    finally:
        with suppress(MastioError):
            provider.cut(
                "server"
            )  # five machines in good order take longer than they are worth here
        provider.down(purge=True)


def _neighbour(name: str, packages: tuple[str, ...], *addresses: str) -> LabMachine:
    its = tuple(ip_interface(f"{it}/{64 if ':' in it else 24}") for it in addresses)
    return LabMachine(name, name, packages, (), (Link("internet", its),))


def write(place: Place, public: str = PUBLIC, admins: str = ADMIN) -> None:
    """The site file, and the administrator's ssh_config."""
    folder, lab = place.folder, place.provider.site
    key = (folder / "admin.pub").read_text().strip()
    (folder / "site.toml").write_text(
        'schema = 1\nname = "carried"\norganisation = "Fortress Ltd"\ndomains = ["fortress.test"]\n'
        f'admin = "alice@fortress.test"\npublic = ["{public}", "{PUBLIC6}"]\nreach = "server"\n\n'
        f'[server]\nssh = "box"\n\n[admins]\nnetworks = ["{admins}/32"]\nkeys = ["{key}"]\n\n'
        '[verify]\noutside = "neighbour"\n\n[ssh]\nconfig = "ssh_config"\n'
    )
    way = f"nsenter --net=/run/netns/{network.namespace(lab, 'client')} socat - TCP:"
    lines = [
        f"Host box\n  ProxyCommand {way}{PUBLIC}:22,bind={ADMIN}",
        f"Host neighbour\n  ProxyCommand {way}127.0.0.1:22",
        f"Host *\n  User root\n  IdentitiesOnly yes\n  IdentityFile {folder}/admin",
        f"  StrictHostKeyChecking accept-new\n  UserKnownHostsFile {folder}/own_known_hosts",
    ]
    (folder / "ssh_config").write_text("\n".join(lines) + "\n")


def until(true: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.3)


def test_a_server_that_is_not_fit_is_refused_and_left_alone(place: Place) -> None:
    before = place.run("server", "find /etc /var/lib -newer /proc/1/stat -type f | sort")
    try:
        write(place, public="203.0.113.2")
        done = place.mastio("machines", "up")
        assert (
            done.returncode == 1
            and "public address 203.0.113.2 is not on the server" in done.stderr
        )
        write(place, admins="192.0.2.1")
        done = place.mastio("machines", "up")
        assert done.returncode == 1 and f"you come from {ADMIN}" in done.stderr
        write(place)
        place.run("server", "systemd-run --unit=foreign python3 -m http.server 8080")
        until(lambda: "python3" in place.run("server", "ss -ltnp"), 5)
        done = place.mastio("machines", "up")
        assert done.returncode == 1 and "serves others: python3 (tcp 8080)" in done.stderr
        assert "--anyway" in done.stderr
    finally:
        write(place)
        place.run("server", "systemctl stop foreign || true")
    assert place.run("server", "find /etc /var/lib -newer /proc/1/stat -type f | sort") == before
    (finding,) = place.findings()
    assert "carries nothing yet" in finding


def test_the_site_is_made_there_and_configured(place: Place) -> None:
    done = place.mastio("machines", "up")
    assert done.returncode == 0, done.stderr
    assert place.findings() == []
    again = place.mastio("machines", "up")
    assert again.returncode == 0 and "made" not in again.stderr and "wrote" not in again.stderr
    assert (
        "active"
        not in place.run("server", "systemctl is-active mastio-server-undo.timer || true").split()
    )
    done = place.mastio("apply", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert place.mastio("user", "add", "alice@fortress.test", "--generate").returncode == 0
    assert place.mastio("plan").returncode == 0
    assert {it["private"] for it in place.status().values()} == {True}


def test_who_reaches_what_is_as_the_flow_matrix_says(place: Place) -> None:
    found = place.verify(PROVEN)
    bad = {name: it for name, it in found.items() if it["verdict"] not in ("passed", "not run")}
    assert not bad
    assert {
        "N1@outside",
        "N2@gateway",
        "N2@store",
        "N2@webmail",
        "N2@watch",
        "N4@outside",
    } <= found.keys()


def test_the_clients_address_arrives_as_it_is(place: Place) -> None:
    place.run(
        "client",
        f"swaks --server {PUBLIC} --quit-after HELO --local-interface {CLIENT} >/dev/null || true",
    )
    seen = lambda: place.mastio("logs", "--machine", "gateway", "--grep", CLIENT).stdout  # noqa: E731
    until(lambda: CLIENT in seen(), 30)


def test_strangers_find_no_door_of_the_servers_own(place: Place) -> None:
    ports = place.run(
        "client",
        f"nmap -Pn -n -p1-1024,2222,8080 --open -oG - -S {CLIENT} -e internet {PUBLIC} -T4 --min-rate 3000",
    )
    opened = sorted(
        int(it.partition("/")[0])
        for it in ports.partition("Ports: ")[2].split(", ")
        if "/open" in it
    )
    assert opened == [25, 80, 443]


def test_what_is_wrong_with_the_server_is_found_and_mended(place: Place) -> None:
    place.run(
        "server",
        "systemctl --quiet disable systemd-nspawn@store; nft add rule inet mastio_server input tcp dport 8080 accept; "
        "echo >>/etc/systemd/nspawn/webmail.nspawn; ip rule del pref 5; "
        "systemd-run --quiet --unit=foreign python3 -m http.server 8080",
    )
    until(lambda: "python3" in place.run("server", "ss -ltnp"), 5)
    found = "\n".join(place.findings())
    for said in (
        "store would not start with the server",
        "firewall has been changed by hand",
        "webmail.nspawn is not as mastio wrote it",
        "does not get to the firewall machine",
        "serves others: python3 (tcp 8080)",
    ):
        assert said in found
    place.run("server", "systemctl stop foreign")
    assert place.mastio("machines", "up").returncode == 0
    assert place.findings() == []


def test_after_its_power_was_cut_all_comes_back_by_itself(place: Place) -> None:
    place.provider.cut("server")
    place.provider.boot("server")
    until(lambda: not place.findings(), 120)
    until(lambda: {it["system"] for it in place.status().values()} == {"running"}, 120)
    bad = {
        name: it
        for name, it in place.verify("N1,N2,H1,L1").items()
        if it["verdict"] not in ("passed", "not run")
    }
    assert not bad
    assert place.mastio("plan").returncode == 0
