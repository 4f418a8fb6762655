"""Plan and apply on the whole site: drift is shown and mended, what is broken is refused or taken back.

`test_engine` does the same on a machine of its own, step by step; here the parts are the real ones.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
from bench.sender import send

from mastio import services
from mastio.apply import Outcome, Planned, apply_all, plan_all
from mastio.cli.common import App
from mastio.lab import internet, outside
from mastio.state import HostState
from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import CAROL, message, token
from tests.lab.patience import at_last

pytestmark = pytest.mark.lab

_FLOWING = 40
"""Messages that come in meanwhile, for eight seconds."""
FAKE = "correct-horse-battery-staple"
MAIN_CF = "/etc/postfix/main.cf"
DOVECOT = "/etc/dovecot/dovecot.conf"


@pytest.fixture(scope="module", autouse=True)
def begun(lab: Lab) -> None:
    """What others left undone is done."""
    lab.mastio("apply", "--yes")


@pytest.fixture(autouse=True)
def settled(lab: Lab, begun: None) -> Iterator[None]:
    """Each test begins, and ends, with nothing to do."""
    yield
    done = mastio(lab.folder, "plan")
    if done.returncode:
        lab.mastio("apply", "--yes")  # the next test is not to suffer for it
    assert done.returncode == 0, done.stdout + done.stderr


def by_hand(lab: Lab, machine: str, *argv: str, stdin: bytes = b"") -> None:
    result = lab.run(machine, argv, stdin)
    assert result.code == 0, result.stderr.decode()


def plan(lab: Lab, machine: str) -> str:
    """What plan shows of a machine with something to do."""
    done = mastio(lab.folder, "plan", machine)
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stdout


def row(text: str, name: str) -> str:
    """The lines of a plan that begin with a sign and have `name` in them."""
    found = [line for line in text.splitlines() if name in line and line[:4].strip() in {*"+-~↻"}]
    assert found, text
    return "\n".join(found)


def active(lab: Lab, machine: str, unit: str) -> str:
    return lab.run(machine, ["systemctl", "is-active", unit]).stdout.decode().strip()


# --- drift


def test_a_changed_file_is_shown_line_by_line_and_mended(lab: Lab) -> None:
    path = "/etc/nginx/nginx.conf"
    by_hand(lab, "webmail", "sed", "-i", "1i # by hand", path)
    shown = plan(lab, "webmail")
    assert row(shown, path).startswith("  ~ file")
    assert "      -# by hand" in shown.splitlines()
    assert "changed on the machine since mastio put it there" in shown
    assert "↻ re" in row(shown, "nginx.service")
    lab.mastio("apply", "--yes", "webmail")
    assert b"by hand" not in lab.run("webmail", ["cat", path]).stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("chmod", "0666", MAIN_CF), "mode 0666 -> 0644"),
        (("chown", "nobody:daemon", MAIN_CF), "owner nobody:daemon -> root:root"),
    ],
    ids=["mode", "owner"],
)
def test_a_changed_mode_or_owner_is_named(lab: Lab, change: tuple[str, ...], words: str) -> None:
    before = lab.run("store", ["stat", "-c", "%U %G %a", MAIN_CF]).stdout
    by_hand(lab, "store", *change)
    assert words in row(plan(lab, "store"), MAIN_CF)
    lab.mastio("apply", "--yes", "store")
    assert lab.run("store", ["stat", "-c", "%U %G %a", MAIN_CF]).stdout == before


def test_a_deleted_file_comes_back(lab: Lab) -> None:
    before = lab.run("gateway", ["cat", MAIN_CF]).stdout
    by_hand(lab, "gateway", "rm", MAIN_CF)
    assert row(plan(lab, "gateway"), MAIN_CF).startswith("  + file")
    lab.mastio("apply", "--yes", "gateway")
    assert lab.run("gateway", ["cat", MAIN_CF]).stdout == before


def test_a_stopped_unit_starts(lab: Lab) -> None:
    by_hand(lab, "store", "systemctl", "stop", "dovecot.service", "dovecot.socket")
    assert "start" in row(plan(lab, "store"), "dovecot.service — is inactive")
    lab.mastio("apply", "--yes", "store")
    assert active(lab, "store", "dovecot.service") == "active"


def test_a_masked_unit_is_unmasked_and_starts(lab: Lab) -> None:
    by_hand(
        lab, "gateway", "systemctl", "stop", "rspamd.service"
    )  # a masked unit stops without our limits
    by_hand(lab, "gateway", "systemctl", "mask", "rspamd.service")
    shown = plan(lab, "gateway")
    assert "+ unmask    rspamd.service — is masked" in shown
    assert "start     rspamd.service" in shown
    lab.mastio("apply", "--yes", "gateway")
    assert active(lab, "gateway", "rspamd.service") == "active"
    enabled = lab.run("gateway", ["systemctl", "is-enabled", "rspamd.service"]).stdout
    assert enabled.strip() == b"enabled"


def test_a_changed_key_is_told_without_a_word_of_it(lab: Lab) -> None:
    key = "/etc/mastio/pki/host.key"
    real = lab.run("store", ["cat", key]).stdout.decode().splitlines()[1]
    by_hand(lab, "store", "tee", key, stdin=f"{FAKE}\n".encode())
    for arguments in (("plan", "store"), ("plan", "--json", "store")):
        done = mastio(lab.folder, *arguments)
        assert done.returncode == 2
        assert "secret content differs" in done.stdout
        for secret in (FAKE, real):
            assert secret not in done.stdout + done.stderr
    done = mastio(lab.folder, "apply", "--yes", "store")
    assert done.returncode == 0
    assert FAKE not in done.stdout + done.stderr
    assert real in lab.run("store", ["cat", key]).stdout.decode()


def test_plan_as_json_says_the_same(lab: Lab) -> None:
    by_hand(lab, "watch", "chmod", "0600", "/etc/hosts")
    done = mastio(lab.folder, "plan", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 2
    assert {name for name, one in found.items() if one["changes"]} == {"watch"}
    (change,) = found["watch"]["paths"]
    assert (change["path"], change["kind"]) == ("/etc/hosts", "change")
    assert change["notes"] == ["mode 0600 -> 0644"]
    assert change["drift"] is True
    applied = json.loads(lab.mastio("apply", "--yes", "--json", "watch"))
    assert applied["watch"]["ok"] is True


# --- two at once


def test_a_second_apply_is_refused_while_one_works(lab: Lab) -> None:
    by_hand(lab, "store", "sed", "-i", "1i # by hand", "/etc/hosts")
    argv = [sys.executable, "-m", "mastio", "--site", str(lab.folder), "apply", "--yes", "store"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr
        first.stderr.readline()  # its first step: it holds the lock
        first.send_signal(signal.SIGSTOP)  # or it may be over before the second has begun
        second = mastio(lab.folder, "apply", "--yes", "store")
        first.send_signal(signal.SIGCONT)
        first.communicate()
    assert first.returncode == 0
    assert second.returncode == 75
    assert f"(pid {first.pid}) is at work" in second.stderr
    assert "Traceback" not in second.stderr


# --- what must not come through


def changed(lab: Lab, machine: str, path: str, old: str, new: str) -> Mapping[str, HostState]:
    """The machine's state with another text in one file."""
    state = App(str(lab.folder)).states()[machine]
    (file,) = [it for it in state.files if it.path == path]
    assert old in file.content
    broken = replace(file, content=file.content.replace(old, new, 1))
    files = tuple(broken if it.path == path else it for it in state.files)
    return {machine: replace(state, files=files)}


def attempt(lab: Lab, states: Mapping[str, HostState]) -> Outcome:
    found = plan_all(lab.transport, states)
    ready = {name: one for name, one in found.items() if isinstance(one, Planned)}
    assert ready.keys() == states.keys(), found
    (outcome,) = apply_all(lab.transport, ready, lambda *_: None).values()
    return outcome


@contextmanager
def untouched(lab: Lab, machine: str, path: str, unit: str, *, restarts: bool) -> Iterator[None]:
    """File and unit are afterwards what they were; `restarts`: the unit was started again."""
    show = ["systemctl", "show", "-P", "ExecMainStartTimestampMonotonic", unit]
    before = lab.run(machine, ["cat", path]).stdout
    since = lab.run(machine, show).stdout
    yield
    assert lab.run(machine, ["cat", path]).stdout == before
    assert active(lab, machine, unit) == "active"
    assert (lab.run(machine, show).stdout != since) == restarts


@pytest.mark.parametrize(
    ("machine", "path", "unit", "checker"),
    [
        ("store", DOVECOT, "dovecot.service", "dovecot"),
        ("store", "/etc/postfix/master.cf", "postfix.service", "postfix"),
        ("webmail", "/etc/nginx/nginx.conf", "nginx.service", "nginx"),
        ("watch", "/etc/rsyslog.conf", "rsyslog.service", "rsyslog"),
        ("gateway", "/etc/ssh/sshd_config.d/10-mastio.conf", "ssh.service", "sshd"),
    ],
    ids=["dovecot", "postfix", "nginx", "rsyslog", "sshd"],
)
def test_a_part_refuses_its_own_broken_configuration(
    lab: Lab, machine: str, path: str, unit: str, checker: str
) -> None:
    states = changed(lab, machine, path, "\n", "\nthis is { no setting of any part\n")
    with untouched(lab, machine, path, unit, restarts=False):
        outcome = attempt(lab, states)
    assert not outcome.ok
    assert checker in outcome.words.lower()


def test_a_broken_firewall_is_refused(lab: Lab) -> None:
    state = App(str(lab.folder)).states()["firewall"]
    rules = ["nft", "-s", "list", "ruleset"]
    before = lab.run("firewall", rules).stdout
    broken = replace(state, firewall=state.firewall.replace("policy drop", "policy shrug", 1))
    outcome = attempt(lab, {"firewall": broken})
    assert not outcome.ok
    assert "firewall" in outcome.words
    assert lab.run("firewall", rules).stdout == before


def test_what_passes_its_checker_and_dies_is_taken_back(lab: Lab) -> None:
    """No checker can know that a unit will not come up."""
    path = "/etc/systemd/system/dovecot.service.d/mastio.conf"
    states = changed(lab, "store", path, "[Service]", "[Service]\nExecStartPre=/bin/false")
    with untouched(lab, "store", path, "dovecot.service", restarts=True):
        outcome = attempt(lab, states)
    assert not outcome.ok
    assert "dovecot.service" in outcome.words
    assert "The former state is back." in outcome.words
    user, word = next(iter(lab.accounts.items())), token()
    assert mail.deliver(lab, message(CAROL, user[0], word))[0] == 250
    assert mail.inbox(lab, *user, word), "the store does not work after going back"


def test_a_site_file_change_that_breaks_a_service_is_taken_back_and_mail_flows(lab: Lab) -> None:
    """The machine has something that nobody knows of, and that does not bear the change; as happens."""
    hidden = "/run/systemd/system/dovecot.service.d/hidden.conf"
    refuses = f'! grep -q "quota_mib, 77)" {DOVECOT}'
    trap = f"[Service]\nExecStartPre=/bin/sh -c '{refuses}'\n"
    by_hand(lab, "store", "mkdir", "-p", hidden.rpartition("/")[0])
    by_hand(lab, "store", "tee", hidden, stdin=trap.encode())
    by_hand(lab, "store", "systemctl", "daemon-reload")
    path, user, word = lab.folder / "site.toml", next(iter(lab.accounts)), token()
    before = path.read_text()
    mails = [
        [CAROL, user, message(CAROL, user, f"{word} {it}").as_string()] for it in range(_FLOWING)
    ]
    address, source = (
        str(next(it for it in addresses if it.version == 4))
        for addresses in (lab.site.public, internet.mta(lab.site))
    )
    try:
        path.write_text(f"{before}\n[policy]\nquota = 77\n")
        with (
            untouched(lab, "store", DOVECOT, "dovecot.service", restarts=True),
            ThreadPoolExecutor() as pool,
        ):
            sending = pool.submit(
                mail.remote, lab, outside.MACHINE, send, address=address, port=services.SMTP.port,
                source=source, name=outside.MX, mails=mails, sessions=4, waits=[1] * 60, pace=0.2,
            )  # fmt: skip
            done = mastio(lab.folder, "apply", "--yes", "store")
            outcomes = sending.result()["outcomes"]
        assert done.returncode != 0, done.stdout
        said = done.stdout + done.stderr
        assert "dovecot.service" in said and "The former state is back." in said, said
    finally:
        path.write_text(before)
        by_hand(lab, "store", "rm", hidden)
        by_hand(lab, "store", "systemctl", "daemon-reload")
    assert {(code, tries) for code, _, tries, _ in outcomes} == {(250, 1)}, outcomes
    password = lab.accounts[user]

    def subjects() -> set[str]:
        return {str(it["Subject"]) for it in mail.inbox(lab, user, password, word, count=_FLOWING)}

    # At least once each: what was stored when the answer was cut off comes again, as with any SMTP (RFC 1047).
    there = at_last(subjects, lambda it: len(it) == _FLOWING, rest=1)
    assert there == {f"{word} {it}" for it in range(_FLOWING)}
