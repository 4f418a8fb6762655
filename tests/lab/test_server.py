"""The guide for one physical server, followed by a new user to the letter: plain Debian 13, reached over OpenSSH only.

The server is a machine of the lab, in which the site's machines run as machines. Beside it stand the administrator's
desk, at which the guide is typed, and the lab's internet: names, carol, and the machine that looks from outside.
"""

import json
import os
from collections.abc import Callable, Iterator
from ipaddress import ip_interface

import pytest

from mastio.errors import Exit
from mastio.lab import network, outside
from mastio.lab.internet import SEGMENT
from mastio.lab.model import LabMachine, Link
from mastio.lab.provider import Lab as Provider
from mastio.lab.transport import NspawnTransport
from tests.lab import archive, carried, guides, mail
from tests.lab.carried import ADMIN, CLIENT, GUIDE, PUBLIC, PUBLIC6, SITE, Place
from tests.lab.conftest import Quiet
from tests.lab.guides import blocks
from tests.lab.patience import PATIENCE, eventually

pytestmark = pytest.mark.lab

TYPED = ("git clone", "mastio init", "cat >>~/.ssh", "mastio dns", "mastio machines up", "mastio plan", "cat >>mysite",
         "mastio backup now", "mastio verify", "ssh box.example.org")  # fmt: skip
SOON = 120
"""Seconds for what takes a moment where nothing else runs."""
CLOCKS = 300
"""Seconds in which clocks follow watch once it is up: three answers, 8 s apart at most; `mastio verify` has its own."""
BOOT = 900
"""Seconds in which the server and all that it carries are up: on a busy box, six systems side by side."""
NEW = "test -e /run/systemd/container; find /etc /var/lib -newer /run/systemd/container -type f | sort"
"""What was written since it booted. That file is of the boot; one in /proc the kernel may make anew at any time."""
ALICE = "alice@fortress.example"
NOT_HERE = {"[acme]": "no authority: tests/lab/test_certificates.py has one"}
"""How blocks begin that are not typed, and why."""
WHY = "this internet has no mirror of ClamAV"
ACCEPTED = f'\n[verify.accepted.C5]\nreason = "{WHY}"\nuntil = "2099-12-31"\n'
LACKING = {
    "accepted": {"C5": WHY},
    "not run": {
        "N9": "there are no tunnels",
        "N10": "people's devices have no tunnel",
        "P3": "no kernel is installed there",
    },
}
"""What is not passed, and what is said of it: all else is."""


@pytest.fixture(scope="module")
def place(as_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    provider = Provider(f"srv{os.getpid()}")
    plain = [
        _machine("server", (), PUBLIC, PUBLIC6),
        _machine("desk", guides.DESK_PACKAGES, ADMIN),
    ]
    try:
        provider.up(plain, Quiet())
        provider.settle(Quiet())
        transport = NspawnTransport(provider.site)
        there = Place(provider, transport, guides.Desk(transport))
        key = there.desk.furnish().encode()
        admit = "mkdir -p -m 700 /root/.ssh; cat >/root/.ssh/authorized_keys"
        there.run("server", admit, key)
        there.run("desk", "cat >>/etc/hosts", carried.NAMES.encode())
        there.run(
            "server",
            "rm -f /etc/apt/sources.list.d/*; cat >/etc/apt/sources.list",
            archive.SOURCES.encode(),
        )
        say(there)
        carried.surround(there, plain, tmp_path_factory.mktemp("site"))
        there.run(outside.MACHINE, admit, key)
        assert there.type("cat >>mysite").strip().endswith(outside.MACHINE)
        assert there.desk.type(f"cat >>{SITE} <<'END'\n{ACCEPTED}END").code == 0
        shelf = archive.shelf(tmp_path_factory.mktemp("archive"))
        with archive.served(shelf, network.namespace(provider.site, "server")):
            yield there
    finally:
        for name in (it.name for it in provider.machines()):
            provider.cut(name)  # nothing on them is worth a shutdown in good order
        provider.down(purge=True)


def _machine(name: str, packages: tuple[str, ...], *addresses: str) -> LabMachine:
    its = tuple(ip_interface(f"{it}/{64 if ':' in it else 24}") for it in addresses)
    return LabMachine(name, name, packages, (), (Link(SEGMENT, its),))


def say(place: Place) -> None:
    """The guide's first three steps: the site is said, and nothing but ssh has touched the server."""
    assert "Try it:" in place.type("git clone")
    assert f"topology separated, reached by server, public {PUBLIC}" in place.type("mastio init")
    assert place.type("cat >>~/.ssh").strip().endswith("server")
    assert "mx.fortress.example" in place.type("mastio dns")


def until(true: Callable[[], object], seconds: float) -> None:
    eventually(true, "it never came", seconds, 0.3)


def test_every_block_of_the_guide_is_typed_or_says_why_not() -> None:
    known = [*TYPED, *NOT_HERE]
    met = [[it for it in known if carried.begin(block).startswith(it)] for block in blocks(GUIDE)]
    assert sorted(met) == sorted([it] for it in known), (
        "one for each block, and the other way round"
    )


def test_a_server_that_is_not_fit_is_refused_and_left_alone(place: Place) -> None:
    before = place.run("server", NEW)
    said = place.desk.type(f"cp {SITE} {SITE}.good")
    assert said.code == 0, said

    def refused(was: str, instead: str) -> str:
        place.desk.type(f"sed 's|{was}|{instead}|' {SITE}.good >{SITE}")
        done = place.mastio("machines", "up")
        assert done.returncode == 1
        return done.stderr

    try:
        assert "public address 203.0.113.2 is not on the server" in refused(
            f'"{PUBLIC}"', '"203.0.113.2"'
        )
        assert f"you come from {ADMIN}" in refused(ADMIN, "192.0.2.1")
        place.run("server", "systemd-run --unit=foreign python3 -m http.server 8080")
        until(lambda: "python3" in place.run("server", "ss -ltnp"), SOON)
        said = refused("nothing", "nothing")
        assert "serves others: python3 (tcp 8080)" in said and "--anyway" in said
    finally:
        place.desk.type(f"mv {SITE}.good {SITE}")
        place.run("server", "systemctl stop foreign || true")
    assert place.run("server", NEW) == before
    (finding,) = place.findings()
    assert "carries nothing yet" in finding


def test_the_site_is_made_there_and_configured(place: Place) -> None:
    said = place.type("mastio machines up")
    assert "installing" in said and "The server is as it should be." in said
    again = place.mastio("machines", "up")
    assert again.returncode == 0 and "made" not in again.stderr and "wrote" not in again.stderr
    assert (
        "active"
        not in place.run("server", "systemctl is-active mastio-server-undo.timer || true").split()
    )
    place.type("mastio plan")
    assert place.mastio("plan").returncode == 0
    assert {it["private"] for it in place.status().values()} == {True}
    way = "ssh -t box.example.org machinectl shell store"
    assert f"`{way}`" in (guides.GUIDES / GUIDE).read_text()
    assert "\nstore\n" in place.desk.type(f"{way} /bin/hostname").said


def test_mail_comes_and_is_archived_and_a_drill_brings_it_back(place: Place) -> None:
    word = mail.token()
    letter = mail.message(mail.CAROL, ALICE, word).as_bytes()
    send = ["/usr/sbin/sendmail", "-f", mail.CAROL, ALICE]
    assert place.machines.run(outside.MACHINE, send, letter).code == 0
    find = f"until doveadm search -u {ALICE} subject {word} | grep -q .; do sleep 0.3; done"
    place.inside("store", "timeout", str(PATIENCE), "sh", "-c", find)
    place.type("mastio backup now")


def test_verify_is_green(place: Place) -> None:
    _verified(place)


def _verified(place: Place) -> None:
    # Clocks follow, and watch's own timers have been at work once: some minutes, in which else something is not known.
    until(lambda: place.mastio("verify", "--only", "H6,L2,L4,L5").returncode == Exit.OK, CLOCKS)
    done = place.desk.type(place.block("mastio verify"))
    report = carried.reported(done.said)
    assert {*report} == {*LACKING}, done.said
    for verdict, why in LACKING.items():
        assert {*report[verdict]} == {*why}, done.said
        for check, words in why.items():
            assert any(words in it for it in report[verdict][check]), report[verdict][check]
    assert done.code == Exit.OK


def test_the_clients_address_arrives_as_it_is(place: Place) -> None:
    place.run(
        outside.MACHINE,
        f"swaks --server {PUBLIC} --quit-after HELO --local-interface {CLIENT} >/dev/null || true",
    )
    seen = lambda: place.mastio("logs", "--machine", "gateway", "--grep", CLIENT).stdout  # noqa: E731
    until(lambda: CLIENT in seen(), SOON)


def test_strangers_find_no_door_of_the_servers_own(place: Place) -> None:
    ports = place.run(
        outside.MACHINE,
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
        "systemd-run --quiet --unit=foreign python3 -m http.server 8080; "
        "echo PasswordAuthentication yes >/etc/ssh/sshd_config.d/05-other.conf",
    )
    until(lambda: "python3" in place.run("server", "ss -ltnp"), SOON)
    found = "\n".join(place.findings())
    for said in (
        "store would not start with the server",
        "firewall has been changed by hand",
        "webmail.nspawn is not as mastio wrote it",
        "does not get to the firewall machine",
        "serves others: python3 (tcp 8080)",
        "passwordauthentication is yes, not no",
    ):
        assert said in found
    seen = json.loads(place.mastio("status", "--json").stdout)["notes"]
    assert {it["words"] for it in seen if it["about"] == "server"} == {*found.splitlines()}
    place.run("server", "systemctl stop foreign; rm /etc/ssh/sshd_config.d/05-other.conf")
    assert place.mastio("machines", "up").returncode == 0
    assert place.findings() == []


def test_ssh_to_the_public_address_can_be_the_sites(place: Place) -> None:
    assert place.type("ssh box.example.org").strip().endswith("watch")
    assert place.findings() == []


def test_after_its_power_was_cut_all_comes_back_by_itself(place: Place) -> None:
    place.provider.cut("server")
    place.provider.boot("server")
    # Who asks before its sshd is up gets no answer at all.
    until(lambda: place.mastio("machines", "check").returncode == Exit.OK, BOOT)
    assert place.findings() == []
    until(lambda: {it["system"] for it in place.status().values()} == {"running"}, BOOT)
    _verified(place)
    assert place.mastio("plan").returncode == 0
