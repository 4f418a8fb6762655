"""`mastio status` on the real site: quiet when it is well, and it says what is not."""

import json
import os
import shlex
import subprocess
import sys
from typing import Any

import pytest

from mastio.context import ALARMS
from mastio.instances import of_store
from mastio.roles import digest
from mastio.roles.inspection import FOLDER, METRICS
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.arrivals import talk
from tests.lab.browser import RESULTS
from tests.lab.conftest import REPOSITORY, mastio
from tests.lab.conftest import TheLab as Lab
from tests.lab.patience import at_last

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", autouse=True)
def nothing_open(lab: Lab) -> None:
    """No alarms of other tests, and nothing that watch by itself saw of what they broke."""
    lab.run(mail.the(lab, Role.WATCH).name, ["sh", "-c", f"rm -rf {ALARMS}/* {FOLDER}/*"])


def status(lab: Lab) -> tuple[int, dict[str, Any]]:
    """Exit code, and what it says."""
    done = mastio(lab.folder, "status", "--json")
    return done.returncode, json.loads(done.stdout)


def metric(lab: Lab, name: str, **labels: str) -> float:
    """What node-exporter would tell of the site now."""
    watch = mail.the(lab, Role.WATCH).name
    show = ["sh", "-ec", f"systemctl start mastio-verify@metrics.service; cat {METRICS}/*.prom"]
    done = lab.transport.run(watch, show, timeout=mail.LIMIT)
    assert done.code == 0, done.stderr
    inner = "".join(f',{key}="{it}"' for key, it in labels.items())
    row = f'mastio_{name}{{site="{lab.site.name}"{inner}}} '
    (found,) = (it for it in done.stdout.decode().splitlines() if it.startswith(row))
    return float(found.removeprefix(row))


RED = "\x1b[31m"


def on_a_terminal(lab: Lab, name: str) -> str:
    """What a person sees, colours and all; kept by that name, to be shown by cat(1)."""
    command = shlex.join([sys.executable, "-m", "mastio", "--site", str(lab.folder), "status"])
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}", "TERM": "xterm"},
    )  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.txt").write_text(done.stdout)
    assert "\x1b[" in done.stdout, done.stdout
    return done.stdout


def test_every_machine_answers_and_none_is_bad(lab: Lab) -> None:
    code, said = status(lab)
    assert code == 0, said["notes"]
    assert set(said["machines"]) == {it.name for it in lab.site.machines}
    for machine in lab.site.machines:
        facts = said["machines"][machine.name]
        assert facts["uptime"] > 0 and facts["disks"] and not facts["failed"]
        handles_mail = machine.has(Role.GATEWAY_IN, Role.GATEWAY_OUT, Role.STORE)
        assert (facts["queue"] is not None) == handles_mail
    text = on_a_terminal(lab, "status")
    assert all(it.name in text for it in lab.site.machines)
    assert RED not in text, text


def test_a_failed_unit_and_a_machine_that_is_away_are_bad(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    webmail = mail.the(lab, Role.WEBMAIL).name
    run = "systemd-run --quiet --unit=sabotage false; until systemctl is-failed -q sabotage; do sleep 0.1; done"
    lab.run(webmail, ["sh", "-c", run])
    try:
        code, said = status(lab)
        assert code == 1 and said["level"] == "bad"
        assert any("sabotage.service has failed" in it["words"] for it in said["notes"])
        bad = f"{RED}✗ {webmail}: sabotage.service has failed"
        assert bad in on_a_terminal(lab, "status-sick")
    finally:
        lab.run(webmail, ["systemctl", "reset-failed", "sabotage.service"])
    monkeypatch.setenv("MASTIO_OVER_SSH", "1")
    lab.run(webmail, ["systemctl", "stop", "ssh.service"])
    try:
        code, said = status(lab)
        assert code == 1 and "error" in said["machines"][webmail]
        assert sum("error" in it for it in said["machines"].values()) == 1
    finally:
        lab.run(webmail, ["systemctl", "start", "ssh.service"])
    assert status(lab)[0] == 0


def test_a_machine_that_answers_oddly_hides_no_other(lab: Lab) -> None:
    webmail, store = mail.the(lab, Role.WEBMAIL).name, mail.the(lab, Role.STORE).name
    first = "/usr/local/sbin/systemctl"
    odd = b"#!/bin/sh\nprintf 'x\\033[2J.service loaded failed\\n'\n"
    lab.run(webmail, ["sh", "-c", f"cat >{first}; chmod 755 {first}"], odd)
    run = "systemd-run --quiet --unit=sabotage false; until systemctl is-failed -q sabotage; do sleep 0.1; done"
    lab.run(store, ["sh", "-c", run])
    try:
        code, said = status(lab)
        assert code == 1 and said["machines"][webmail] == {"error": "its answer makes no sense"}
        assert "\x1b[2J" not in on_a_terminal(lab, "status-odd")
        # What may mend itself is told at the second look.
        assert metric(lab, "machine_up", machine=webmail) == 0
        assert metric(lab, "machine_up", machine=store) == 1
        told = json.loads(mastio(lab.folder, "alarms", "--json").stdout)["open"][f"units {store}"]
        assert "sabotage.service has failed" in told["alarm"]["text"] and told["told"]
    finally:
        lab.run(webmail, ["rm", first])
        lab.run(store, ["systemctl", "reset-failed", "sabotage.service"])
    assert metric(lab, "machine_up", machine=webmail) == 1
    assert status(lab)[0] == 0


def test_watch_writes_the_same_for_prometheus(lab: Lab) -> None:
    watch = mail.the(lab, Role.WATCH).name
    start = ["systemctl", "start", "mastio-verify@metrics.service"]
    done = lab.transport.run(watch, start, timeout=mail.LIMIT)
    assert done.code == 0, lab.run(
        watch, ["journalctl", "-n20", "-u", "mastio-verify@metrics"]
    ).stdout
    text = lab.run(watch, ["cat", f"{METRICS}/mastio.prom"]).stdout.decode()
    for machine in lab.site.machines:
        assert f'mastio_machine_up{{site="{lab.site.name}",machine="{machine.name}"}} 1\n' in text
    mode = lab.run(watch, ["stat", "-c", "%a", f"{METRICS}/mastio.prom"]).stdout
    assert mode == b"644\n", "node-exporter is not root"
    parts = lab.run(watch, ["cat", f"{METRICS}/mastio-watch.prom"]).stdout.decode()
    assert f'mastio_alarms_open{{site="{lab.site.name}",severity="critical"}}' in parts
    by_hand = lab.mastio("status", "--metrics")
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert names <= {line.split()[2] for line in by_hand.splitlines() if line.startswith("# TYPE")}
    assert "mastio_bans" in by_hand


def test_a_queue_that_cannot_empty_and_what_the_filter_said_are_counted(lab: Lab) -> None:
    alice, password = next(iter(lab.accounts.items()))
    gateway, store = (mail.the(lab, it).name for it in (Role.GATEWAY_IN, Role.STORE))
    word = mail.token()

    def letter() -> tuple[int, str]:
        return mail.deliver(lab, mail.message(mail.CAROL, alice, f"{word} {mail.token()}"))

    def waiting() -> float:
        return metric(lab, "queue_messages", machine=gateway, queue="deferred")

    def passed() -> float:
        watch, read = mail.the(lab, Role.WATCH).name, digest.UNIT.format("read")
        start = ["systemctl", "start", read]
        assert lab.transport.run(watch, start, timeout=mail.LIMIT).code == 0
        return metric(lab, "filter_verdicts_total", verdict="no action")

    assert letter()[0] == 250 and mail.inbox(lab, alice, password, word)
    talk(lab)  # what was said of this letter is on watch, too
    before, queued = at_last(passed, rest=1), waiting()
    unit = of_store(mail.the(lab, Role.STORE)).unit
    assert lab.run(store, ["systemctl", "stop", unit]).code == 0
    try:
        assert letter()[0] == 250
        assert at_last(waiting, lambda it: it == queued + 1, rest=1) == queued + 1
        assert metric(lab, "queue_oldest_seconds", machine=gateway) > 0
    finally:
        assert lab.run(store, ["systemctl", "start", unit]).code == 0
    assert lab.run(gateway, ["postqueue", "-f"]).code == 0
    assert len(mail.inbox(lab, alice, password, word, count=2)) == 2
    assert at_last(waiting, lambda it: it == queued, rest=1) == queued
    assert at_last(passed, lambda it: it > before, rest=1) == before + 1
