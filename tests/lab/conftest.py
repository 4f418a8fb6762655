"""The machines that lab tests run on.

- `lab`: the whole demonstration site, brought up by `mastio lab up` as a user would; one that ran before
  the tests (or with MASTIO_KEEP_LAB set) is left running when they end.
  Under pytest-xdist each further worker has a lab of its own; most tests wait more than they work.
- `scratch`: one fresh Debian 13 machine on a segment of its own, to be broken freely.

All need root. Images come from the usual cache, so a second run is quick.
"""

import atexit
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_interface
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mastio.hearing import Result
from mastio.lab import demo, forward, host, up
from mastio.lab.model import LabMachine, Link
from mastio.lab.provider import Lab as Provider
from mastio.lab.transport import NspawnTransport
from mastio.site.model import Role, Site
from mastio.transport import Transport
from tests.lab.patience import eventually
from tests.lab.ready import Ready

REPOSITORY = Path(__file__).parent.parent.parent
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
LIMIT = 600
"""After so many seconds a command on a machine is given up: a busy box may be ten times slower than an idle one."""


def pytest_configure(config: pytest.Config) -> None:
    """What the lab needs of a fresh box is installed once, before workers begin side by side."""
    if os.geteuid() == 0 and not hasattr(config, "workerinput") and (needed := host.missing()):
        host.install(needed)


@pytest.fixture(scope="session", autouse=True)
def as_root() -> None:
    """Without root there are no machines."""
    if os.geteuid() != 0:
        pytest.skip("lab tests need root")


_LONG = (
    "test_verify.py",
    "test_over_ssh.py",
    "test_learning.py",
    "test_bans.py",
    "test_second_copy.py",
    "test_server.py",
    "test_patches.py",
    "test_growing.py",
    "test_joined.py",
    "test_topologies.py",
    "test_guides.py",
)
"""The longest first."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that no worker is left alone with it at the end."""
    places = {name: place for place, name in enumerate(_LONG)}
    items.sort(key=lambda it: places.get(it.path.name, len(_LONG)))


@pytest.fixture(scope="session", autouse=True)
def own_lab(as_root: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A worker beside the first has a site of its own, on another loopback port."""
    if WORKER == "gw0":
        return
    folder = tmp_path_factory.mktemp("site")
    name = f"demo-{WORKER}"
    # What a killed run left is of no use: its keys are gone with its folder.
    Provider(name).down(purge=True)
    demo.found(folder / "site.toml", name)
    with socket.create_server((host.LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    os.environ["MASTIO_SITE"] = str(folder)
    os.environ["MASTIO_PORT"] = str(port)
    os.environ["MASTIO_IDENTITY"] = str(folder / "identity")


class Quiet:
    """Progress that only remembers what was noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        self.notes.append(title)
        yield

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass(frozen=True)
class Scratch:
    """A machine to be broken."""

    transport: Transport
    name: str


def tiny(name: str = "probe", packages: tuple[str, ...] = ()) -> LabMachine:
    """A machine with both address families on a segment of its own."""
    addresses = (ip_interface("10.9.1.10/24"), ip_interface("fd00:9:1::10/64"))
    return LabMachine(name, name, packages, (), (Link("alone", addresses),))


@pytest.fixture(scope="session")
def scratch(as_root: None) -> Iterator[Scratch]:
    provider = Provider(f"scratch{os.getpid()}")
    try:
        provider.up([tiny("scratch")], Quiet())
        provider.settle(Quiet())
        yield Scratch(NspawnTransport(provider.site), "scratch")
    finally:
        provider.down(purge=True)


@dataclass(frozen=True)
class TheLab:
    """The demonstration site, up."""

    folder: Path
    site: Site
    accounts: Mapping[str, str]
    webmail_url: str
    transport: Transport

    def run(self, machine: str, argv: Sequence[str], stdin: bytes = b"") -> Result:
        """Run a command on a machine."""
        return self.transport.run(machine, argv, stdin, LIMIT)

    def mastio(self, *argv: str, stdin: str = "") -> str:
        """Run mastio on the lab's site; what it printed. A failure fails the test."""
        done = mastio(self.folder, *argv, stdin=stdin)
        assert done.returncode == 0, f"mastio {' '.join(argv)}: {done.stdout}{done.stderr}"
        return done.stdout

    def reboot(self, machine: str) -> None:
        """Reboot a machine and wait until the site is as it should be again."""
        self.run(machine, ["systemd-run", "--on-active=1", "systemctl", "reboot"])
        eventually(
            lambda: '"stopped"' in self.mastio("lab", "status", "--json"),
            f"{machine} does not go down",
        )
        # A lab of a module's own is not where the worker's is.
        self.mastio("lab", "up", "--port", str(urlsplit(self.webmail_url).port))


def mastio(
    folder: Path, *argv: str, stdin: str = "", timeout: float | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run mastio on the site in `folder`, as from the command line."""
    return _ready().run(_argv(folder, argv), {**_environment(), **environment}, stdin, timeout)


@cache
def _ready() -> Ready:
    ready = Ready(REPOSITORY, _environment())
    atexit.register(ready.close)
    return ready


def mastio_begun(folder: Path, *argv: str) -> subprocess.Popen[str]:
    """The same, while it runs."""
    return subprocess.Popen(
        [sys.executable, "-m", "mastio", *_argv(folder, argv)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, env=_environment(),
    )  # fmt: skip


def _argv(folder: Path, argv: Sequence[str]) -> list[str]:
    return ["--site", str(folder), *argv]


def _environment() -> dict[str, str]:
    path = f"{REPOSITORY / 'src'}:{os.environ.get('PYTHONPATH', '')}"
    return {**os.environ, "PYTHONPATH": path}


def mastio_apart(folder: Path, *argv: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """The same on a site of its own, whose vault another identity opens than the lab's."""
    return mastio(folder, *argv, timeout=timeout, MASTIO_IDENTITY=str(folder / "identity"))


@pytest.fixture(scope="session")
def lab(own_lab: None) -> Iterator[TheLab]:
    from mastio.cli.common import App

    folder = Path(os.environ.get("MASTIO_SITE", REPOSITORY / "demo"))
    demo.found(folder / "site.toml")
    app = App(str(folder))
    site = app.site()
    provider = Provider(site.name)
    was_up = any(it.state != "stopped" for it in provider.status())
    done = mastio(folder, "lab", "up")
    assert done.returncode == 0, done.stdout + done.stderr
    accounts = json.loads(up.accounts_path(site.name).read_text())
    (way,) = forward.forwards(site.name)
    url = f"https://{host.LOOPBACK}:{way.port}/"
    yield TheLab(folder, site, accounts, url, NspawnTransport(site.name))
    if WORKER != "gw0":
        provider.down(purge=True)
    elif not (was_up or os.environ.get("MASTIO_KEEP_LAB")):
        provider.down()


@pytest.fixture(scope="module")
def alice(lab: TheLab) -> tuple[str, str]:
    """The first user; address and password."""
    return next(iter(lab.accounts.items()))


@pytest.fixture(scope="module")
def bob(lab: TheLab) -> tuple[str, str]:
    """The second."""
    return list(lab.accounts.items())[1]


@pytest.fixture
def somebody(lab: TheLab) -> Iterator[tuple[str, str]]:
    """A user of this test alone, whose password and filters may be changed; address and password."""
    address = f"t{secrets.token_hex(6)}@{lab.site.domains[0]}"
    password = f"t{secrets.token_hex(12)}"
    lab.mastio("user", "add", address, "--password-stdin", stdin=password + "\n")
    yield address, password
    lab.mastio("user", "delete", address, "--purge")


@pytest.fixture(scope="module", autouse=True)
def clean_slate(request: pytest.FixtureRequest) -> Iterator[None]:
    """No module pays for the offences of another: bans are lifted, counting begins anew, and everybody may send.

    A module after which one of the site's own people is paused (docs/decisions/0019) fails: what they send later is
    held, and the test that misses it would be another's.
    """
    here = [it for it in request.session.items if getattr(it, "module", None) is request.module]
    if not any("lab" in getattr(it, "fixturenames", ()) for it in here):
        yield
        return
    lab: TheLab = request.getfixturevalue("lab")
    for machine in lab.site.carrying(Role.WATCH):
        lab.run(machine.name, ["systemctl", "restart", "mastio-offences.service"])
    for ban in json.loads(lab.mastio("ban", "list", "--json")):
        mastio(lab.folder, "ban", "lift", ban["client"])  # one that ends just now is no failure
    yield
    paused = json.loads(lab.mastio("outbound", "show", "--json"))["paused"]
    if left := [it for it in paused if it["user"] in lab.accounts]:
        for it in left:
            lab.mastio("outbound", "release", it["user"])
        pytest.fail(f"this module left people who may not send: {left}")
