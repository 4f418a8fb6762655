"""The lab comes, goes and leaves nothing, whatever is done to it on the way.

Each test has a lab of its own name and its own state.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

import pytest

from mastio import services
from mastio.errors import Exit, MastioError
from mastio.lab import forward, host, mirror, paths
from mastio.lab.cage import Cage, cages
from mastio.lab.images import Images, Recipe
from mastio.lab.machine import Machine
from mastio.lab.model import OUTSIDE, LabMachine
from mastio.lab.provider import Lab
from mastio.lab.transport import NspawnTransport
from tests.lab.conftest import REPOSITORY, Quiet, tiny
from tests.lab.patience import eventually
from tests.lab.traces import Traces, output, processes

pytestmark = pytest.mark.lab

UP = """
import sys
from mastio.lab.provider import Lab
from tests.lab.conftest import Quiet, tiny
Lab(sys.argv[1]).up([tiny(name, tuple(sys.argv[3:])) for name in sys.argv[2].split()], Quiet())
"""

ALONE = """
import sys, time
from mastio.errors import Exit, MastioError
from mastio.lab.provider import Lab
done = 0
while done < int(sys.argv[2]):
    try:
        with Lab(sys.argv[1])._lock():
            began = time.monotonic()
            time.sleep(0.005)
            ended = time.monotonic()
    except MastioError as error:
        assert error.code == Exit.LOCKED, error
        continue
    print(began, ended)
    done += 1
"""
"""Holds a lab's lock so many times, and says from when to when."""

INSTANT = 0.02
"""Seconds between two looks for what is to be caught while it lasts."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a lab of the test's own, which is gone after it."""
    monkeypatch.setenv("MASTIO_STATE", str(tmp_path / "state"))
    name = f"t{os.getpid()}"
    yield name
    Lab(name).down(purge=True)


def start_up(site: str, names: str, *packages: str) -> subprocess.Popen[bytes]:
    """A `lab up` of its own process, to be killed."""
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"}
    argv = [sys.executable, "-c", UP, site, names, *packages]
    return subprocess.Popen(argv, cwd=REPOSITORY, env=environment)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


# --- up and down


def test_down_leaves_nothing_and_up_again_finds_what_was_there(site: str, tmp_path: Path) -> None:
    before = Traces.of(site, tmp_path)
    lab, machine = Lab(site), Machine(site, "probe")
    lab.up([tiny()], Quiet())
    transport = NspawnTransport(site)
    assert transport.run("probe", ["hostname"]).stdout == b"probe\n"
    assert transport.run("probe", ["sh", "-c", "echo kept >/root/kept"]).code == 0
    key = (machine.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
    assert Traces.of(site, tmp_path).links == before.links
    lab.down()
    assert Traces.of(site, tmp_path) == before

    lab.up([tiny()], Quiet())
    assert transport.run("probe", ["cat", "/root/kept"]).stdout == b"kept\n"
    assert (machine.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text() == key
    lab.down(purge=True)
    assert Traces.of(site, tmp_path) == before
    assert not paths.state(site).exists()


def test_up_on_a_running_lab_changes_nothing(site: str) -> None:
    lab, progress = Lab(site), Quiet()
    lab.up([tiny()], Quiet())
    leader = Cage(site, "probe").leader()
    lab.up([tiny()], progress)
    assert Cage(site, "probe").leader() == leader
    assert progress.notes == []


def test_a_new_machine_runs_nothing_of_debians_choice_before_it_settles(site: str) -> None:
    lab, machine = Lab(site), tiny(packages=("cron",))
    lab.up([machine], Quiet())

    def cron() -> bytes:
        return NspawnTransport(site).run("probe", ["systemctl", "is-active", "cron"]).stdout.strip()

    assert cron() == b"inactive"
    lab.settle(Quiet())
    eventually(lambda: cron() == b"active", "cron does not run", 120)
    lab.down()
    lab.up([machine], Quiet())
    eventually(lambda: cron() == b"active", "cron does not run", 120)


def test_more_packages_and_other_addresses_keep_what_the_machine_holds(site: str) -> None:
    lab, transport = Lab(site), NspawnTransport(site)
    lab.up([tiny()], Quiet())
    transport.run("probe", ["touch", "/root/kept"])
    moved = tiny(packages=("jq",))
    link = replace(moved.links[0], segment="elsewhere")
    lab.up([replace(moved, links=(link,))], Quiet())
    assert transport.run("probe", ["ls", "/root/kept", "/usr/bin/jq"]).code == 0
    assert (
        b"elsewhere" in transport.run("probe", ["ip", "address", "show", "dev", "elsewhere"]).stdout
    )


def test_reset_throws_away_one_machine_only(site: str) -> None:
    lab, transport = Lab(site), NspawnTransport(site)
    both = [tiny("one"), LabMachine("two", "two")]
    lab.up(both, Quiet())
    for name in ("one", "two"):
        transport.run(name, ["touch", "/root/kept"])
    lab.reset("one")
    lab.up(both, Quiet())
    assert transport.run("one", ["test", "-e", "/root/kept"]).code == 1
    assert transport.run("two", ["test", "-e", "/root/kept"]).code == 0


def test_a_machine_that_is_no_longer_wanted_stops(site: str) -> None:
    lab = Lab(site)
    lab.up([tiny("one"), tiny("two")], Quiet())
    lab.up([tiny("one")], Quiet())
    assert [it.name for it in cages(site)] == ["one"]


def test_status_and_memory(site: str) -> None:
    begin = time.monotonic()
    Lab(site).up([tiny()], Quiet())
    (status,) = Lab(site).status()
    assert status.name == "probe"
    assert status.state in ("running", "starting")
    assert status.addresses == ("10.9.1.10", "fd00:9:1::10")
    assert 0 < (status.seconds or 0) < time.monotonic() - begin + 1
    assert status.memory is None or status.memory > 1 << 20
    Lab(site).down()
    assert Lab(site).status()[0].state == "stopped"


def test_the_exit_code_of_a_command_comes_through(site: str) -> None:
    Lab(site).up([tiny()], Quiet())
    assert NspawnTransport(site).run("probe", ["sh", "-c", "exit 7"]).code == 7
    with pytest.raises(MastioError) as error:
        NspawnTransport(site).run("nobody", ["true"])
    assert error.value.code == Exit.UNAVAILABLE


def test_a_loopback_port_leads_to_a_service_in_the_lab(site: str, tmp_path: Path) -> None:
    before = Traces.of(site, tmp_path)
    Lab(site).up([tiny(OUTSIDE, ("socat",))], Quiet())
    service = replace(services.HTTPS, port=4430)
    greet = [
        "systemd-run",
        "socat",
        f"TCP6-LISTEN:{service.port},fork,reuseaddr",
        "SYSTEM:echo hello",
    ]
    assert NspawnTransport(site).run(OUTSIDE, greet).code == 0
    with socket.create_server((host.LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    listen = ("socat", "-T2", "-", f"TCP:127.0.0.1:{port}")
    for address in ("10.9.1.10", "fd00:9:1::10"):
        forward.forward(site, port, ip_address(address), service)
        eventually(lambda: "hello" in output(*listen), "nobody says hello", 120)
    assert [it.port for it in forward.forwards(site)] == [port]
    with pytest.raises(MastioError, match=str(port)):
        forward.forward(f"{site}x", port, ip_address("10.9.1.10"), service)
    Lab(site).down()
    assert Traces.of(site, tmp_path) == before


# --- killed


def test_killed_while_it_builds_an_image_it_leaves_nothing(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("MASTIO_CACHE", str(cache))
    before = Traces.of(site, tmp_path)
    process = start_up(site, "probe")

    def ours() -> frozenset[str]:
        return Traces.of(site, tmp_path).processes

    eventually(lambda: any("mmdebstrap" in it for it in ours()), "it builds nothing", 120, INSTANT)
    eventually(lambda: [*cache.glob("making.*/base/root/usr")], "it does not get far", rest=INSTANT)
    kill(process)
    eventually(lambda: not ours(), "somebody goes on", 120)
    # Its lock lies there, which nobody holds, until the next command.
    assert replace(Traces.of(site, tmp_path), runtime=before.runtime) == before
    Lab(site).down()
    assert Traces.of(site, tmp_path) == before
    assert not list((cache / "images").iterdir())
    with Images.held(Quiet().note):
        assert not list(cache.glob("making.*"))


def test_a_machine_whose_image_is_gone_is_told(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has deleted the cache, or named another."""
    Lab(site).up([tiny()], Quiet())
    Lab(site).down()
    with monkeypatch.context() as there:
        there.setenv("MASTIO_CACHE", str(tmp_path / "empty"))
        for wanted in (tiny(), tiny("probe", ("cowsay",))):
            with pytest.raises(MastioError, match="the image that it stands on is gone") as error:
                Lab(site).up([wanted], Quiet())
            assert "lab reset probe" in error.value.hint
    Lab(site).up([tiny()], Quiet())


def test_killed_while_it_builds_a_layer_the_next_one_builds_it(site: str, tmp_path: Path) -> None:
    before = Traces.of(site, tmp_path)
    Lab(site).up([tiny()], Quiet())
    Lab(site).down()
    with Images.held(Quiet().note) as images:
        (image,) = images.build([Recipe(("cowsay",))]).values()
        shutil.rmtree(image.path)
    process = start_up(site, "probe other", "cowsay")
    eventually(
        lambda: any("install cowsay" in it for it in processes()), "it builds nothing", 120, INSTANT
    )
    kill(process)
    Lab(site).up([tiny("other", ("cowsay",))], Quiet())
    assert NspawnTransport(site).run("other", ["/usr/games/cowsay", "moo"]).code == 0
    Lab(site).down()
    assert Traces.of(site, tmp_path) == before


@pytest.mark.parametrize("delay", [0, 0.1, 0.3, 0.6, 1.0])
def test_killed_while_it_boots_down_cleans_and_up_goes_on(
    site: str, tmp_path: Path, delay: float
) -> None:
    Lab(site).up([tiny("one")], Quiet())
    Lab(site).down(purge=True)
    before = Traces.of(site, tmp_path)
    for finish in (Lab(site).down, lambda: Lab(site).up([tiny("one"), tiny("two")], Quiet())):
        process = start_up(site, "one two")
        eventually(lambda: cages(site), "nothing boots", 120, INSTANT)
        time.sleep(delay)
        kill(process)
        finish()
    assert NspawnTransport(site).run("two", ["true"]).code == 0
    Lab(site).down()
    assert Traces.of(site, tmp_path) == before


def test_a_machine_that_ignores_its_end_is_ended(site: str, tmp_path: Path) -> None:
    before = Traces.of(site, tmp_path)
    Lab(site).up([tiny()], Quiet())
    machine = Machine(site, "probe")
    os.kill(machine.cage.leader() or 0, signal.SIGSTOP)
    machine.stop(timeout=0.5)
    Lab(site).down()
    assert Traces.of(site, tmp_path) == before


def test_who_has_a_command_run_there_ends_with_the_machine(site: str) -> None:
    Lab(site).up([tiny()], Quiet())
    machine = Machine(site, "probe")
    argv = machine.argv(["sh", "-c", "trap '' TERM; echo ready; sleep 300; sleep 300"])
    assert argv
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == b"ready\n"
            machine.stop()
            assert process.wait(10) != 0
        finally:
            process.kill()


def test_two_at_once_the_second_is_told(site: str) -> None:
    with Lab(site)._lock(), pytest.raises(MastioError) as error:
        Lab(site).down()
    assert error.value.code == Exit.LOCKED


def test_a_command_to_a_lab_that_is_not_there_leaves_nothing(site: str, tmp_path: Path) -> None:
    before = Traces.of(site, tmp_path)
    assert not before.runtime
    with pytest.raises(MastioError, match="no machine"):
        Lab(site).reset("probe")
    Lab(site).down(purge=True)
    assert Traces.of(site, tmp_path) == before


def test_whoever_waits_while_a_lab_goes_down_is_alone_afterwards(site: str) -> None:
    """Its lock goes with it: two that hold one each, of which one is deleted, would both be at work."""
    many, times = 6, 15
    running = [
        subprocess.Popen(
            [sys.executable, "-c", ALONE, site, str(times)],
            cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"},
        )
        for _ in range(many)
    ]  # fmt: skip
    try:
        spans = sorted(
            (float(began), float(ended))
            for it in running
            for began, ended in (
                line.split() for line in it.communicate(timeout=300)[0].splitlines()
            )
        )
    finally:
        for it in running:
            kill(it)
    assert [it.returncode for it in running] == [0] * many
    assert len(spans) == many * times
    assert all(one[1] <= two[0] for one, two in pairwise(spans))
    assert not list(paths.runtime(site).parent.glob(f"{site}*"))


# --- the mirror is away


def test_without_a_mirror_and_without_a_cache_there_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTIO_CACHE", str(tmp_path))
    monkeypatch.setenv(mirror.SETTING, "http://127.0.0.1:9/debian")
    with Images.held(Quiet().note) as images, pytest.raises(MastioError) as error:
        images.build([Recipe(())])
    assert "127.0.0.1:9" in error.value.message
    assert mirror.SETTING in error.value.hint
    assert error.value.code == Exit.UNAVAILABLE


def test_without_a_mirror_the_cache_will_do(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Lab(site).up([tiny()], Quiet())
    Lab(site).down(purge=True)

    def takes(progress: Quiet) -> float:
        begun = time.monotonic()
        Lab(site).up([tiny()], progress)
        return time.monotonic() - begun

    usual = takes(Quiet())
    Lab(site).down(purge=True)
    monkeypatch.setenv(mirror.SETTING, "http://127.0.0.1:9/debian")
    progress = Quiet()
    assert takes(progress) < usual + 15, "it waits for the mirror"
    assert [it for it in progress.notes if it.startswith("warning:")]


def test_a_package_that_does_not_exist_is_named(site: str) -> None:
    with pytest.raises(MastioError, match="no-such-package"):
        Lab(site).up([tiny(packages=("no-such-package",))], Quiet())
