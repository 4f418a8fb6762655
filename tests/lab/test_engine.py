"""Plan and apply on a real machine: create, change, remove, refuse, go back, survive every death.

The fixture `scratch` is a running Debian 13 machine that may be broken freely: `scratch.transport`
reaches it as `scratch.name`. Each test starts from, and leaves, an empty desired state.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mastio.agent.apply import STEPS
from mastio.agent.wire import Event, Order
from mastio.apply import Outcome, Planned, apply_all, carry_out, plan_all, site_lock
from mastio.errors import Exit, MastioError
from mastio.order import order
from mastio.plan import Verb
from mastio.state import Check, Command, Directory, File, HostState, Link, Unit, User
from tests.lab.patience import eventually

pytestmark = pytest.mark.lab

FOLDER = "/etc/engine-probe"
CONF = f"{FOLDER}/conf"
DERIVED = f"{FOLDER}/derived"
SECRET = "correct-horse-battery-staple"
UNIT = "engine-probe.service"
UNIT_FILE = File(
    f"/etc/systemd/system/{UNIT}",
    "[Service]\nExecStart=/bin/sh -c 'grep -q good /etc/engine-probe/conf && exec sleep infinity'\n"
    "[Install]\nWantedBy=multi-user.target\n",
)
RULES = """\
table inet probe {
	set seen { type ipv4_addr; flags dynamic,timeout; timeout 1m; }
	chain input {
		type filter hook input priority 0; policy accept;
		tcp dport %d counter drop
	}
}
"""
GOOD = HostState(
    files=(
        File(CONF, "good 1\n", mode=0o640),
        File(f"{FOLDER}/key", SECRET, mode=0o600, secret=True),
        UNIT_FILE,
    ),
    directories=(Directory(FOLDER, mode=0o750), Directory(f"{FOLDER}/empty")),
    links=(Link(f"{FOLDER}/link", "conf"),),
    units=(Unit(UNIT, reads=(FOLDER,)),),
    checks=(Check("probe check", ("grep", "good", CONF, f"{FOLDER}/key"), (FOLDER,)),),
    commands=(Command("derive", ("cp", CONF, DERIVED), (CONF,), DERIVED),),
    firewall=RULES % 1001,
)


def with_conf(content: str, state: HostState = GOOD) -> HostState:
    """`state` with another main file."""
    files = (File(CONF, content, mode=0o640), *state.files[1:])
    return replace(state, files=files)


class Probe:
    """The scratch machine, as the tests speak to it."""

    def __init__(self, scratch: object) -> None:
        self.transport = scratch.transport
        self.name = scratch.name
        self.events: list[Event] = []

    def plan(self, state: HostState) -> Planned:
        found = plan_all(self.transport, {self.name: state})[self.name]
        assert isinstance(found, Planned), found
        return found

    def order(self, state: HostState, **changes: object) -> Order:
        found = self.plan(state)
        return {**order(found.state, found.seen, found.plan, health=8), **changes}

    def carry_out(self, work: Order) -> Outcome:
        return carry_out(
            self.transport, self.name, work, lambda _, event: self.events.append(event)
        )

    def apply(self, state: HostState) -> Outcome:
        planned = {self.name: self.plan(state)}
        outcome = apply_all(self.transport, planned, lambda _, event: self.events.append(event))
        return outcome[self.name]

    def settle(self, state: HostState) -> None:
        outcome = self.apply(state)
        assert outcome.ok, outcome.words
        assert self.plan(state).plan.empty, self.plan(state).plan

    def ask(self, *command: str) -> str:
        result = self.transport.run(self.name, command)
        return (result.stdout + result.stderr).decode().strip()


@pytest.fixture
def probe(scratch: object) -> Iterator[Probe]:
    machine = Probe(scratch)
    yield machine
    machine.ask("rm", "-f", DERIVED)
    machine.settle(HostState())
    machine.ask("nft", "flush", "ruleset")


def test_a_state_is_made_kept_changed_and_removed(probe: Probe) -> None:
    probe.settle(GOOD)
    assert probe.ask("stat", "-c", "%a %U", CONF, FOLDER) == "640 root\n750 root"
    assert probe.ask("cat", f"{FOLDER}/link", DERIVED) == "good 1\ngood 1"
    assert probe.ask("systemctl", "is-active", UNIT) == "active"
    assert probe.ask("systemctl", "is-enabled", UNIT) == "enabled"
    assert "1001" in probe.ask("cat", "/etc/nftables.conf")
    before = probe.ask("systemctl", "show", "-p", "MainPID", UNIT)
    probe.settle(GOOD)
    assert probe.ask("systemctl", "show", "-p", "MainPID", UNIT) == before

    changed = with_conf("good 2\n")
    diff = probe.plan(changed).plan.paths[0].diff
    assert "-good 1\n+good 2\n" in diff
    probe.settle(changed)
    assert probe.ask("systemctl", "show", "-p", "MainPID", UNIT) != before
    assert probe.ask("cat", DERIVED) == "good 2"

    probe.ask("rm", "-f", DERIVED)
    probe.settle(HostState())
    assert "No such file" in probe.ask("ls", FOLDER)
    assert probe.ask("systemctl", "is-active", UNIT) == "inactive"
    assert "not-found" in probe.ask("systemctl", "show", "-p", "LoadState", UNIT)


def test_what_was_changed_by_hand_is_seen_and_put_right(probe: Probe) -> None:
    probe.settle(GOOD)
    probe.ask("sh", "-c", f"echo by hand >> {CONF}; chmod 644 {FOLDER}/key; nft flush ruleset")
    plan = probe.plan(GOOD).plan
    assert [change.path for change in plan.paths if change.drift] == [CONF, f"{FOLDER}/key"]
    assert plan.firewall and plan.firewall.drift
    assert [action.verb for action in plan.units] == [Verb.RESTART]
    probe.settle(GOOD)


def test_the_firewall_s_own_movement_is_no_drift(probe: Probe) -> None:
    probe.settle(GOOD)
    probe.ask("nft", "add", "element", "inet", "probe", "seen", "{ 192.0.2.1 }")
    assert probe.plan(GOOD).plan.empty


def test_a_checker_s_no_stops_everything_and_tells_no_secret(probe: Probe) -> None:
    probe.settle(GOOD)
    bad = replace(
        with_conf("good 2\n"),
        checks=(Check("probe check", ("sh", "-c", f"cat {CONF} {FOLDER}/key; exit 1"), (FOLDER,)),),
    )
    bad = replace(
        bad, files=(*bad.files[:1], replace(GOOD.files[1], content=f"{SECRET}-2"), UNIT_FILE)
    )
    outcome = probe.apply(bad)
    assert not outcome.ok
    assert "probe check: good 2" in outcome.words
    assert SECRET not in outcome.words
    assert probe.ask("cat", CONF) == "good 1"
    assert probe.plan(GOOD).plan.empty


def test_an_unhealthy_unit_goes_back_to_what_ran(probe: Probe) -> None:
    probe.settle(GOOD)
    bad = replace(with_conf("bad\n"), checks=(), firewall=RULES % 1002)
    outcome = probe.carry_out(probe.order(bad))
    assert not outcome.ok
    assert UNIT in outcome.words
    assert "The former state is back." in outcome.words
    assert probe.ask("cat", CONF, DERIVED) == "good 1\ngood 1"
    assert probe.ask("systemctl", "is-active", UNIT) == "active"
    assert "1001" in probe.ask("nft", "list", "ruleset")
    assert probe.plan(GOOD).plan.empty


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_the_next_run_converges(probe: Probe, step: str) -> None:
    probe.settle(GOOD)
    target = replace(with_conf("good 2\n"), links=(), firewall=RULES % 1002)
    outcome = probe.carry_out(probe.order(target, die_at=step, window=3))
    assert not outcome.ok
    assert not probe.plan(target).plan.empty
    probe.settle(target)
    assert probe.ask("cat", CONF, DERIVED) == "good 2\ngood 2"
    started = probe.ask("systemctl", "show", "-p", "ActiveEnterTimestampMonotonic", "--value", UNIT)
    # Both are asked at one moment.
    ages = f"cut -d ' ' -f1 /proc/uptime; echo $(( $(date +%s) - $(stat -c %Z {CONF}) ))"
    uptime, written = probe.ask("sh", "-c", ages).split()
    age = float(uptime) - int(started) / 1e6
    assert age <= int(written) + 2, "the unit runs with the file from before"
    time.sleep(3)
    assert probe.plan(target).plan.empty, "the killed apply's way back has come late"


def test_after_a_death_a_failure_goes_back_to_the_last_healthy_state(probe: Probe) -> None:
    probe.settle(GOOD)
    assert not probe.carry_out(probe.order(with_conf("good 2\n"), die_at="units")).ok
    bad = replace(with_conf("bad\n"), checks=())
    outcome = probe.carry_out(probe.order(bad))
    assert "The former state is back." in outcome.words
    assert probe.ask("cat", CONF, DERIVED) == "good 1\ngood 1"
    assert probe.plan(GOOD).plan.empty


def test_a_firewall_that_nobody_confirms_goes_back(probe: Probe) -> None:
    probe.settle(GOOD)
    target = replace(GOOD, firewall=RULES % 1002)
    work = probe.order(target, window=15)
    transport, probe.transport = probe.transport, Unconfirming(probe.transport)
    outcome = probe.carry_out(work)
    probe.transport = transport
    assert not outcome.ok
    assert "not confirmed" in outcome.words
    assert "1002" in probe.ask("nft", "list", "ruleset")
    eventually(lambda: "1001" in probe.ask("nft", "list", "ruleset"), "it does not go back", 120)
    assert "1001" in probe.ask("cat", "/etc/nftables.conf")
    assert probe.plan(target).plan.firewall
    probe.settle(target)


class Unconfirming:
    """A transport over which no new connection comes through."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def fresh(self) -> "Unconfirming":
        return self

    def run_python(self, machine: str, *_: object) -> None:
        raise MastioError(f"{machine} cannot be reached: no route", code=Exit.UNAVAILABLE)


def test_a_plan_that_was_overtaken_is_refused(probe: Probe) -> None:
    stale = probe.order(GOOD)
    probe.settle(GOOD)
    outcome = probe.carry_out(stale)
    assert not outcome.ok
    assert "plan again" in outcome.words


def test_the_second_of_two_applies_is_refused(probe: Probe, tmp_path: Path) -> None:
    work = probe.order(GOOD)
    probe.ask("mkdir", "-p", "/run/mastio")
    probe.ask("touch", "/run/engine-held")
    hold = "echo held; while [ -e /run/engine-held ]; do sleep 0.1; done"
    holder = probe.transport.stream(probe.name, ["flock", "/run/mastio/lock", "sh", "-c", hold])
    try:
        assert next(holder).strip() == b"held"
        outcome = probe.carry_out(work)
    finally:
        probe.ask("rm", "/run/engine-held")
    assert "another apply is at work" in outcome.words
    assert list(holder) == []
    with site_lock(tmp_path), pytest.raises(MastioError) as refusal, site_lock(tmp_path):
        pass
    assert refusal.value.code is Exit.LOCKED


def test_masked_units_and_units_that_do_not_exist(probe: Probe) -> None:
    probe.settle(GOOD)
    masked = replace(GOOD, files=GOOD.files[:2], units=(Unit(UNIT, masked=True),), checks=())
    probe.settle(masked)
    assert probe.ask("systemctl", "is-enabled", UNIT) == "masked"
    probe.settle(GOOD)
    nowhere = replace(GOOD, units=(*GOOD.units, Unit("nowhere.service")))
    outcome = probe.apply(nowhere)
    assert "no such unit: nowhere.service" in outcome.words
    assert probe.plan(GOOD).plan.empty


def test_a_plan_takes_one_quick_look(probe: Probe) -> None:
    probe.settle(GOOD)

    def quick() -> bool:
        begin = time.monotonic()
        probe.plan(GOOD)
        return time.monotonic() - begin < 1.5

    # Others may be at work on the box now, but not all the time.
    eventually(quick, "each look takes long", 120)


REPOSITORY = """\
set -e; cd "$(mktemp -d)"; mkdir -p p/DEBIAN p/etc/engine-dummy /srv/engine-repo
printf 'default\\n' > p/etc/engine-dummy/site
printf '%s\\n' 'Package: engine-dummy' 'Version: 1' 'Architecture: all' \\
    'Maintainer: nobody <nobody@invalid>' 'Description: a test' > p/DEBIAN/control
printf '%s\\n' '#!/bin/sh' '/usr/sbin/policy-rc.d engine-dummy start' 'echo $? > /root/policy' \\
    > p/DEBIAN/postinst
chmod 755 p/DEBIAN/postinst
dpkg-deb -b p /srv/engine-repo/engine-dummy.deb
cd /srv/engine-repo
{ dpkg-deb -f engine-dummy.deb; echo Filename: ./engine-dummy.deb
  echo Size: $(stat -c %s engine-dummy.deb); echo SHA256: $(sha256sum engine-dummy.deb | cut -c-64)
  } > Packages
mv /etc/apt/sources.list.d /etc/apt/away; mkdir /etc/apt/sources.list.d
echo 'deb [trusted=yes] file:/srv/engine-repo ./' > /etc/apt/sources.list.d/engine.list
"""
NO_REPOSITORY = """\
apt-get -qq -y purge engine-dummy; rm -rf /srv/engine-repo /etc/apt/sources.list.d
mv /etc/apt/away /etc/apt/sources.list.d; rm -rf /var/lib/apt/lists/* /etc/engine-dummy
"""


def test_a_missing_package_is_installed_and_starts_nothing(probe: Probe) -> None:
    state = HostState(packages=("engine-dummy",), removed=("/etc/engine-dummy/site",))
    outcome = probe.apply(state)
    assert not outcome.ok
    assert "engine-dummy" in outcome.words
    probe.ask("sh", "-c", REPOSITORY)
    try:
        probe.settle(state)
        assert probe.ask("cat", "/root/policy") == "101"
        assert "No such file" in probe.ask("ls", "/usr/sbin/policy-rc.d")
        assert "No such file" in probe.ask("ls", "/etc/engine-dummy/site")
    finally:
        probe.ask("sh", "-c", NO_REPOSITORY)


def test_a_missing_user_is_made_and_owns_its_files(probe: Probe) -> None:
    state = HostState(
        users=(User("engine-reader", groups=("engine-data",)), User("engine-data")),
        directories=(Directory(FOLDER, "engine-data", "engine-data", 0o750),),
        files=(File(CONF, "good\n", "engine-reader", "engine-data", 0o640),),
        checks=(Check("as the reader", ("runuser", "-u", "engine-reader", "cat", CONF), (CONF,)),),
    )
    try:
        probe.settle(state)
        assert probe.ask("stat", "-c", "%U:%G", CONF) == "engine-reader:engine-data"
    finally:
        probe.settle(HostState())
        probe.ask("userdel", "engine-reader")
        probe.ask("userdel", "engine-data")


def test_staged_files_may_stand_anywhere_and_mounts_below_stay_in_sight(probe: Probe) -> None:
    probe.ask("sh", "-c", "mkdir -p /var/lib/engine-mount; mount -t tmpfs t /var/lib/engine-mount")
    probe.ask("touch", "/var/lib/engine-mount/inside")
    try:
        paths = ("/var/lib/engine-probe/a", "/usr/local/engine-probe", "/etc/engine-probe.conf")
        state = HostState(
            files=tuple(File(path, "x\n") for path in paths),
            checks=(Check("seen", ("ls", *paths, "/var/lib/engine-mount/inside"), paths),),
        )
        probe.settle(state)
    finally:
        probe.ask("sh", "-c", "umount /var/lib/engine-mount; rmdir /var/lib/engine-mount")
