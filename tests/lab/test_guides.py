"""The guide for two VPSes, followed by a new user to the letter: from `git clone` to the first mail, on plain Debian.

The internet here is one wire with these three on it. What asks strangers on it (names, mirrors, an authority) stands in
`NOT_HERE` with the reason; `mastio.lab`'s own internet shows that elsewhere. Packages come from the lab's cache.
"""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mastio import services
from mastio.lab import host, network
from mastio.lab.provider import Lab as Provider
from mastio.lab.transport import NspawnTransport
from tests.lab import archive, browser, guides
from tests.lab.browser import Webmail
from tests.lab.conftest import LIMIT, Quiet
from tests.lab.elsewhere import await_listener
from tests.lab.guides import Desk, blocks, filled, on_internet
from tests.lab.patience import PATIENCE

pytestmark = pytest.mark.lab

DESK, MAIL, WEBMAIL = "203.0.113.7", "203.0.113.10", "203.0.113.20"
PASSWORD = "a horse, a battery, a staple"
ANSWERS = {
    "Apply? [y/N]": "y", "Password": PASSWORD, "Repeat": PASSWORD, "(yes/no": "yes",
}  # fmt: skip
NOT_HERE = {
    "[acme]": "no authority and no name server that takes updates: tests/lab/test_certificates.py has both",
    "sysctl -w net": "it is for a firewall machine, which these two do without: tests/lab/test_over_ssh.py has one",
    "./mastio backup now": "apt-get update asks Debian's own mirrors; the other two are typed by a test of their own",
}
"""How blocks begin that are not typed as they are, and why."""
AUTHORITY = (
    "PYTHONPATH=src .venv/bin/python -c 'from pathlib import Path; from mastio.vault import Vault; "
    'print(Vault.open(Path("mysite"))["public-ca/cert"])\''
)


@dataclass(frozen=True)
class Two:
    """The two machines and the desk before them."""

    provider: Provider
    machines: NspawnTransport
    desk: Desk
    table: dict[str, str]

    def type(self, beginning: str) -> str:
        """The guide's block that begins so, typed; what the terminal showed."""
        (block,) = (it for it in blocks("two-vps.md") if it.splitlines()[1].startswith(beginning))
        done = self.desk.type(filled(block, self.table), ANSWERS)
        assert done.code == 0, done.said
        return done.said


@pytest.fixture(scope="module")
def two(as_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    provider = Provider(f"guide{os.getpid()}")
    fresh = {"mail": MAIL, "webmail": WEBMAIL}
    try:
        bare = (on_internet(name, (), address) for name, address in fresh.items())
        provider.up([on_internet("desk", guides.DESK_PACKAGES, DESK), *bare], Quiet())
        provider.settle(Quiet())
        machines = NspawnTransport(provider.site)
        desk = Desk(machines)
        key = desk.furnish().encode()
        table = {
            "git clone …": guides.GIT, "198.51.100.20": WEBMAIL, "192.0.2.7": DESK, "203.0.113.10": MAIL,
        }  # fmt: skip
        for name in fresh:
            for script, stdin in (
                ("mkdir -p -m 700 /root/.ssh; cat >/root/.ssh/authorized_keys", key),
                (
                    "rm -f /etc/apt/sources.list.d/*; cat >/etc/apt/sources.list",
                    archive.SOURCES.encode(),
                ),
            ):
                assert machines.run(name, ["sh", "-euc", script], stdin).code == 0
            shown = machines.run(name, ["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"])
            table[f" {name}=SHA256:…"] = f" {name}={shown.stdout.decode().split()[1]}"
        shelf = archive.shelf(tmp_path_factory.mktemp("archive"))
        with ExitStack() as served:
            for name in fresh:
                served.enter_context(archive.served(shelf, network.namespace(provider.site, name)))
            yield Two(provider, machines, desk, table)
    finally:
        provider.down(purge=True)


TYPED = ("git clone", "./mastio init", "./mastio dns", "cat >>~/.ssh", "./mastio adopt", "./mastio plan", "ssh -J",
         "./mastio user add")  # fmt: skip


def test_every_block_of_the_guide_is_typed_or_says_why_not() -> None:
    begun = [it.splitlines()[1] for it in blocks("two-vps.md")]
    known = [*TYPED, *NOT_HERE]
    assert [[it for it in known if line.startswith(it)] for line in begun] == [
        [it]
        for it in sorted(
            known, key=lambda it: next(n for n, line in enumerate(begun) if line.startswith(it))
        )
    ]


def test_from_nothing_to_a_site_that_is_built(two: Two) -> None:
    assert "Try it:" in two.type("git clone")
    assert f"webmail  public  {WEBMAIL}" in two.type("./mastio init")
    assert "mx.fortress.example" in two.type("./mastio dns")
    two.type("cat >>~/.ssh")
    said = two.type("./mastio adopt")
    assert said.count("adopted") == 2 and "reached through watch from now on" in said
    said = two.type("./mastio plan")
    assert said.count("removed /root/.ssh/authorized_keys") == 2
    assert two.type("ssh -J").strip().endswith("webmail")


def test_people_come_and_verify_is_red_only_for_what_this_internet_lacks(two: Two) -> None:
    (block,) = (it for it in blocks("two-vps.md") if "./mastio user add" in it)
    people, _, look = filled(block, two.table).rpartition("\n")
    done = two.desk.type(people, ANSWERS)
    assert done.code == 0 and "alarms" not in done.said, done.said
    assert look == "./mastio verify"
    said = two.desk.type(look).said
    red = {line.split()[1] for line in said.partition("failed")[2].splitlines() if "  ✗ " in line}
    assert red <= {"C5", "H6", "T8"}, said


@contextmanager
def at_the_desk(site: str, address: str) -> Iterator[str]:
    """A URL at which this box's browser finds what the desk's would find at `address`."""
    with socket.create_server((host.LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    space, https = network.namespace(site, "desk"), services.HTTPS.port
    inner = f"EXEC:nsenter --net=/run/netns/{space} socat - TCP\\:{address}\\:{https}"
    outer = f"TCP-LISTEN:{port},bind={host.LOOPBACK},reuseaddr,fork"
    way = subprocess.Popen(["socat", outer, inner])
    try:
        await_listener(host.LOOPBACK, port)
        yield f"https://{host.LOOPBACK}:{port}/"
    finally:
        way.kill()
        way.wait()


def test_the_first_mail_is_written_and_read_in_the_webmail(two: Two, tmp_path: Path) -> None:
    site, name = two.provider.site, "mail.fortress.example"
    # The interim authority, which a browser of the organisation may be told to believe.
    authority = two.desk.type(AUTHORITY).said
    with (
        at_the_desk(site, WEBMAIL) as url,
        browser.browser(authority, tmp_path, name, url) as chromium,
    ):
        alice = Webmail(chromium, name, "guide")
        alice.login("alice@fortress.example", PASSWORD)
        alice.send("bob@fortress.example", "The first mail", "a.txt", b"hello")
        alice.close()
    find = (
        "until doveadm search -u bob@fortress.example subject first | grep -q .; do sleep 0.3; done"
    )
    argv = ["timeout", str(PATIENCE), "sh", "-c", find]
    assert two.machines.run("mail", argv, timeout=LIMIT).code == 0


def test_then_it_is_archived_and_a_drill_brings_it_back(two: Two) -> None:
    (block,) = (it for it in blocks("two-vps.md") if "./mastio backup now" in it)
    archived, _, rest = block.partition("./mastio patches run")
    assert not rest.strip()
    done = two.desk.type(archived)
    assert done.code == 0, done.said
