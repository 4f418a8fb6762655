"""`mastio status` on the real site: quiet when it is well, and it says what is not."""

import json
from typing import Any

import pytest

from mastio.context import ALARMS
from mastio.roles.inspection import FOLDER, METRICS
from mastio.site.model import Role
from tests.lab import mail
from tests.lab.browser import RESULTS
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio

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
    done = lab.run(watch, show)
    assert done.code == 0, done.stderr
    inner = "".join(f',{key}="{it}"' for key, it in labels.items())
    row = f'mastio_{name}{{site="{lab.site.name}"{inner}}} '
    (found,) = (it for it in done.stdout.decode().splitlines() if it.startswith(row))
    return float(found.removeprefix(row))


def test_every_machine_answers_and_none_is_bad(lab: Lab) -> None:
    code, said = status(lab)
    assert code == 0, said["notes"]
    assert set(said["machines"]) == {it.name for it in lab.site.machines}
    for machine in lab.site.machines:
        facts = said["machines"][machine.name]
        assert facts["uptime"] > 0 and facts["disks"] and not facts["failed"]
        handles_mail = machine.has(Role.GATEWAY_IN, Role.GATEWAY_OUT, Role.STORE)
        assert (facts["queue"] is not None) == handles_mail
    text = lab.mastio("status")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "status.txt").write_text(text)
    assert all(it.name in text for it in lab.site.machines)


def test_a_failed_unit_and_a_machine_that_is_away_are_bad(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    webmail = mail.the(lab, Role.WEBMAIL).name
    run = ["systemd-run", "--quiet", "--unit=sabotage", "false"]
    lab.run(webmail, run)
    lab.run(webmail, ["systemctl", "is-active", "--wait", "sabotage.service"])
    try:
        code, said = status(lab)
        assert code == 1 and said["level"] == "bad"
        assert any("sabotage.service has failed" in it["words"] for it in said["notes"])
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


def test_watch_writes_the_same_for_prometheus(lab: Lab) -> None:
    watch = mail.the(lab, Role.WATCH).name
    done = lab.run(watch, ["systemctl", "start", "mastio-verify@metrics.service"])
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
