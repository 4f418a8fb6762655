"""Each topology from plain Debian machines, over OpenSSH only, to a verification that is green.

The machines have sshd, the administrator's key and Debian's archive; all else comes by `mastio adopt`, `mastio apply`
and `mastio user add`, with the administrator's own ssh_config. Beside them stands the lab's internet, whose machine
`outside` is the one that looks (`verify.outside`), the administrator's workstation, and carol.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from mastio.cli.common import INTERNET, App
from mastio.hearing import Result
from mastio.lab import house, internet, model, network, outside
from mastio.lab.model import LabMachine
from mastio.lab.provider import Lab as Provider
from mastio.lab.transport import NspawnTransport
from mastio.site.model import Role, Site
from mastio.state import HostState
from tests.lab import archive, mail
from tests.lab.conftest import REPOSITORY, Quiet, TheLab, mastio
from tests.lab.mail import CAROL, message, token
from tests.lab.patience import at_last, eventually
from tests.lab.test_filter import PILLS, send, somebody
from tests.lab.test_verify import having

pytestmark = pytest.mark.lab

TOPOLOGIES = ("single", "webmail", "separated", "split")
_SOURCES = "/etc/apt/sources.list"
_CLOCKS = 300
"""Seconds in which clocks follow watch once it is up: three answers, 8 s apart at most, and a look takes its time."""
ADMIN = "203.0.113.200"
KEEPERS = {"webmail": ("webmail",)}
"""Topology → machines into which nobody comes as root at first, but somebody who may do all by sudo."""
ALICE, PASSWORD = "alice@fortress.test", "correct horse battery staple"
ALWAYS = {
    "P3": "no kernel is installed there, as in a container",
    "N10": "people's devices have no tunnel",
}
ALONE = {
    "N5": "no perimeter stands between it and the internet",
    "I4": "there is no perimeter firewall to listen on",
}
"""Without a firewall machine nothing holds back who has root, and nothing listens on the wires."""
BESIDE = {"L3": "watch keeps the logs itself"}
"""Where other roles share its machine."""
WALLED = {"N9": "there are no tunnels"}
"""A firewall machine joins the others, or there are none."""
NOT_RUN = {
    "single": ALWAYS | ALONE | BESIDE | WALLED | {"N2": "there is no other machine of the site"},
    "webmail": ALWAYS | ALONE | BESIDE,
    "separated": ALWAYS | WALLED,
    "split": ALWAYS | WALLED,
}
"""What cannot be looked at, and why; all else of the fast set is."""


@dataclass(frozen=True)
class Place:
    """Machines of one topology, and the administrator's folder of their site."""

    topology: str
    lab: TheLab
    console: NspawnTransport
    """As the provider's page has it: for what an administrator does before mastio comes."""

    @property
    def adopted(self) -> TheLab:
        """As its machines are reached since they were adopted: as root."""
        return replace(self.lab, transport=App(str(self.lab.folder)).transport())

    def run(self, machine: str, script: str, stdin: bytes = b"") -> str:
        done: Result = self.console.run(machine, ["sh", "-euc", script], stdin)
        assert done.code == 0, done.stderr.decode()
        return done.stdout.decode()

    def mastio(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return mastio(self.lab.folder, *argv, stdin=stdin, timeout=3600)

    def adopt(self, *argv: str) -> tuple[int, dict[str, Any]]:
        done = self.mastio("adopt", "--json", *argv)
        assert done.stdout, done.stderr
        return done.returncode, {it["machine"]: it for it in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive.shelf(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module", params=TOPOLOGIES)
def place(
    request: pytest.FixtureRequest, shelf: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    topology = request.param
    folder = tmp_path_factory.mktemp(topology)
    with pytest.MonkeyPatch.context() as here, ExitStack() as served:
        here.setenv("MASTIO_IDENTITY", str(folder / "identity"))
        here.setenv(INTERNET, str(folder / "internet.json"))
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "admin")]
        subprocess.run(argv, check=True)
        provider = Provider(f"over{topology}{os.getpid()}")
        write(folder, topology, provider.site)
        app = App(str(folder))
        site = app.site()
        state = around(folder, app)
        try:
            provider.up(plain(site, state), Quiet())
            console = NspawnTransport(provider.site)
            house.configure(console, {outside.MACHINE: state}, Quiet().note)
            provider.settle(Quiet())
            there = Place(topology, TheLab(folder, site, {}, "", app.transport()), console)
            for machine in site.machines:
                served.enter_context(
                    archive.served(shelf, network.namespace(provider.site, machine.name))
                )
            prepare(there)
            yield there
        finally:
            for name in (it.name for it in provider.machines()):
                provider.cut(name)  # nothing on them is worth a shutdown in good order
            provider.down(purge=True)


def around(folder: Path, app: App) -> HostState:
    """The state of `outside`; what the site must know of that internet stands in the folder then."""
    known = {**app.vault}
    known |= outside.ensure(known)
    world = asdict(outside.internet(app.site(), known))
    (folder / "internet.json").write_text(json.dumps(world))
    return outside.build(app.site(), known)


def plain(site: Site, state: HostState) -> list[LabMachine]:
    """The site's machines with nothing on them, wired as theirs are, and `outside` with all that it needs."""
    bare = {it.name: HostState() for it in site.machines}
    return list(model.machines(site, {**bare, outside.MACHINE: state}))


def write(folder: Path, topology: str, lab: str) -> None:
    """The site file, and the administrator's ssh_config: watch is the way in, as docs/guides say."""
    count = 2 if topology == "webmail" else 1
    public = [it for n in range(1, count + 1) for it in (f"203.0.113.{n}", f"2001:db8:113::{n}")]
    key = (folder / "admin.pub").read_text().strip()
    (folder / "site.toml").write_text(
        f'schema = 1\nname = "{topology}"\norganisation = "Fortress Ltd"\ndomains = ["fortress.test"]\n'
        f'admin = "{ALICE}"\npublic = {json.dumps(public)}\ntopology = "{topology}"\nreach = "ssh"\n\n'
        f'[admins]\nnetworks = ["{ADMIN}/32"]\nkeys = ["{key}"]\n\n[ssh]\nconfig = "ssh_config"\n\n'
        '[verify]\noutside = "desk"\n\n'
        '[verify.accepted.C5]\nreason = "no way to a mirror of ClamAV"\nuntil = "2099-12-31"\n'
    )
    (folder / "ssh_config").touch()
    (watch,) = App(str(folder)).site().carrying(Role.WATCH)
    kept = [App(str(folder)).site().machine(it).addresses[0] for it in KEEPERS.get(topology, ())]
    enter = f"nsenter --net=/run/netns/{network.namespace(lab, outside.MACHINE)} socat - TCP:"
    lines = [
        f"Host desk\n  ProxyCommand {enter}127.0.0.1:22",
        f"Host {watch.addresses[0]}\n  ProxyCommand {enter}{public[0]}:22,bind={ADMIN}",
        f"Host 10.77.* 203.0.113.*\n  ProxyJump {watch.addresses[0]}",
        *(f"Host {it}\n  User keeper" for it in kept),
        f"Host *\n  User root\n  IdentitiesOnly yes\n  IdentityFile {folder}/admin",
        f"  StrictHostKeyChecking accept-new\n  UserKnownHostsFile {folder}/own_known_hosts",
    ]
    (folder / "ssh_config").write_text("\n".join(lines) + "\n")


def prepare(place: Place) -> None:
    """What an administrator has: his key in the machines, Debian's archive, and a way to them."""
    key = (place.lab.folder / "admin.pub").read_bytes()
    script = f"mkdir -p -m 700 /root/.ssh; cat >/root/.ssh/authorized_keys; echo '{archive.SOURCES}' >{_SOURCES}"
    with ThreadPoolExecutor() as pool:
        names = (*(it.name for it in place.lab.site.machines), outside.MACHINE)
        list(pool.map(lambda it: place.run(it, script, key), names))
    for name in KEEPERS.get(place.topology, ()):
        place.run(
            name,
            "apt-get -qq update; apt-get -qq install sudo >/dev/null; useradd -m -s /bin/sh keeper; "
            "echo 'keeper ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/keeper; "
            "mv /root/.ssh ~keeper/; chown -R keeper: ~keeper/.ssh; rm -rf /var/lib/apt/lists/*",
        )
    (watch,) = place.lab.site.carrying(Role.WATCH)
    guide = (REPOSITORY / "docs/guides/two-vps.md").read_text()
    way = guide[guide.index("sysctl -w") :].partition("```")[0].replace("eth0", internet.SEGMENT)
    assert f"dnat to {watch.addresses[0]}" in way or not place.lab.site.carrying(Role.FIREWALL)
    for it in place.lab.site.carrying(Role.FIREWALL):
        place.run(it.name, way)


def test_plain_machines_are_adopted(place: Place) -> None:
    prints = {
        it.name: place.run(it.name, "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
        for it in place.lab.site.machines
    }
    given = [word for name, it in prints.items() for word in ("--fingerprint", f"{name}={it}")]
    code, found = place.adopt(*given)
    walls = {it.name for it in place.lab.site.carrying(Role.FIREWALL)}
    refused = {name for name, it in found.items() if it["verdict"] == "refused"}
    assert refused == walls, found
    for name in walls:
        assert "it has a firewall of its own, 1 rules" in found[name]["words"]
        code, more = place.adopt(name, "--anyway", "--fingerprint", f"{name}={prints[name]}")
        found |= more
    assert code == 0
    (watch,) = place.lab.site.carrying(Role.WATCH)
    assert {it["verdict"] for it in found.values()} == {"adopted"}
    by_sudo = {name for name, it in found.items() if it["login"] == "sudo"}
    assert by_sudo == {*KEEPERS.get(place.topology, ())}
    assert {name for name, it in found.items() if not it["through_watch"]} == {watch.name}


def test_a_firewall_machine_is_built_and_what_goes_through_it_goes_on(place: Place) -> None:
    """All others are reached through it, and are being built meanwhile as a rule."""
    walls = [it.name for it in place.lab.site.carrying(Role.FIREWALL)]
    if not walls:
        return
    (inner, *_) = (it.name for it in place.lab.site.carrying(Role.GATEWAY_IN))
    argv = place.lab.transport.fresh().argv(inner, ["cat"])
    over, cut = Event(), list[str]()

    def talk() -> None:
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as there:
            assert there.stdin and there.stdout
            try:
                while not over.wait(0.05):
                    there.stdin.write(b"still here\n")
                    there.stdin.flush()
                    if there.stdout.readline() != b"still here\n":
                        raise BrokenPipeError("it ended")
            except BrokenPipeError as error:
                cut.append(str(error))

    talking = Thread(target=talk)
    talking.start()
    try:
        done = place.mastio("apply", "--yes", *walls)
        time.sleep(1)
    finally:
        over.set()
        talking.join()
    assert done.returncode == 0, done.stdout + done.stderr
    assert not cut, cut


def test_they_are_built(place: Place) -> None:
    done = place.mastio("apply", "--yes")
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    done = place.mastio("user", "add", ALICE, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    assert place.mastio("plan").returncode == 0
    clocks = ("verify", "--only", "H6")
    eventually(lambda: place.mastio(*clocks).returncode == 0, "a clock follows nobody", _CLOCKS, 0)


def test_mail_comes_in_and_leaves(place: Place) -> None:
    lab, coming, leaving = place.adopted, token(), token()
    mail.from_carol(lab, message(CAROL, ALICE, coming))
    assert mail.submit(lab, ALICE, PASSWORD, message(ALICE, CAROL, leaving))[0] == 250
    (got,) = mail.inbox(lab, ALICE, PASSWORD, coming)
    assert lab.site.mx_host in mail.headers(got)
    (left,) = mail.at_carols(lab, leaving)
    assert "dkim=pass" in mail.headers(left).replace("\n", "")
    assert not [name for name in mail.inside_names(lab) if name in mail.headers(left)]


def test_whom_a_user_has_written_to_is_not_delayed(place: Place) -> None:
    """Also where the gateway that receives is not the one that sends."""
    lab, friend, stranger = place.adopted, somebody(), somebody()
    assert mail.submit(lab, ALICE, PASSWORD, message(ALICE, friend, token()))[0] == 250
    mail.await_known(lab, friend)
    assert send(lab, message(friend, ALICE, token(), PILLS), friend, ALICE)[0] == 250
    code, words = send(lab, message(stranger, ALICE, token(), PILLS), stranger, ALICE)
    assert code == 451 and "greylisted" in words


def test_it_is_green_by_its_own_matrix(place: Place) -> None:
    # What watch does by itself within the day, now (docs/guides/two-vps.md, 6).
    # Its own timers may be at work on the same archive at this moment.
    done = at_last(
        lambda: place.mastio("backup", "now"), lambda it: "at work" not in it.stdout + it.stderr
    )
    assert done.returncode == 0, done.stdout + done.stderr
    done = place.mastio("drill", "restore")
    assert done.returncode == 0, done.stdout + done.stderr
    # What watch's own timers do some minutes after the first apply.
    logs = ("verify", "--only", "L2,L4,L5")
    eventually(lambda: place.mastio(*logs).returncode == 0, "watch does nothing by itself")
    done = place.mastio("verify", "--json")
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert not having(report, "failed") and not having(report, "could not check")
    assert done.returncode == 0
    left, argued = having(report, "not run"), NOT_RUN[place.topology]
    assert {*left} == {*argued}, left
    for check, why in argued.items():
        assert all(why in it for it in left[check]), left[check]
    assert {*having(report, "accepted")} == {"C5"}


def test_nobody_takes_away_the_key_by_which_he_comes(place: Place) -> None:
    file, folder = place.lab.folder / "site.toml", place.lab.folder
    before, mine = file.read_text(), (folder / "admin.pub").read_text().strip()
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "other")]
    subprocess.run(argv, check=True)
    file.write_text(before.replace(mine, (folder / "other.pub").read_text().strip()))
    try:
        done = place.mastio("apply", "--yes")
        assert done.returncode == 65 and "you would lock yourself out" in done.stderr, done.stderr
    finally:
        file.write_text(before)
    assert place.mastio("plan").returncode == 0, "nothing was changed"
