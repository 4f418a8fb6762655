"""The restore drill by itself: its timers, the service that they start, and the alarm when none was good for too long.

In the lab nothing begins by itself, so the timers are started here.
"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from mastio.context import ON_WATCH
from mastio.roles.restore import FOLDER, TIMERS
from mastio.site.model import Role
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import the
from tests.lab.sabotage import on

pytestmark = pytest.mark.lab

STATUS, VERDICT = f"{FOLDER}/status.json", f"{FOLDER}/verdict.json"
DAY = 86_400
OLDER = f"""
import json, sys
seconds = float(sys.argv[1])
status, verdict = json.load(open("{STATUS}")), json.load(open("{VERDICT}"))
status["last"]["at"] -= seconds
status["good"] -= seconds
verdict["at"] -= seconds
verdict["last_good"] -= seconds
json.dump(status, open("{STATUS}", "w"))
json.dump(verdict, open("{VERDICT}", "w"))
"""
"""Sent to watch: what the last drill found was found so much earlier."""


@pytest.fixture(scope="module")
def watch(lab: Lab) -> str:
    """Its name; there is an archive of the store, and no drill was run yet."""
    name, user = the(lab, Role.WATCH).name, next(iter(lab.accounts))
    on(
        lab,
        the(lab, Role.STORE).name,
        f"printf 'Subject: kept\\n\\nkept\\n' | doveadm save -u {user}",
    )
    # All: a site with one archived machine is not well, and other tests look at it.
    lab.mastio("backup", "now")
    on(lab, name, f"rm -f {STATUS} {VERDICT}")
    return name


@pytest.fixture
def awake(lab: Lab, watch: str) -> Iterator[None]:
    """The drill's timers run, as at a site that is not a lab."""
    units = " ".join(f"mastio-drill-{it.name}.timer" for it in TIMERS)
    on(lab, watch, f"systemctl start {units}")
    try:
        yield
    finally:
        stamps = "/var/lib/systemd/timers/stamp-mastio-drill-*.timer"
        on(lab, watch, f"systemctl stop {units}; rm -f {stamps}")


def start(lab: Lab, watch: str, what: str) -> None:
    """What the timer does when its time has come."""
    on(lab, watch, f"systemctl start mastio-drill@{what}.service")


def drills(lab: Lab, watch: str) -> list[dict[str, Any]]:
    """The drills that were run, the oldest first."""
    said: dict[str, Any] = json.loads(on(lab, watch, f"{ON_WATCH} drill status"))
    return list(said["runs"])


def late(lab: Lab) -> str:
    """What is said, to whoever asks, of no good drill for too long."""
    book = json.loads(mastio(lab.folder, "alarms", "--json").stdout)["open"]
    return str(book["drills"]["alarm"]["subject"]) if "drills" in book else ""


def test_timers_start_the_drill_each_night_and_look_after_it(
    lab: Lab, watch: str, awake: None
) -> None:
    now = time.time()
    rows = json.loads(on(lab, watch, "systemctl list-timers --all --output=json 'mastio-drill-*'"))
    assert {it["unit"]: it["activates"] for it in rows} == {
        "mastio-drill-scheduled.timer": "mastio-drill@scheduled.service",
        "mastio-drill-late.timer": "mastio-drill@late.service",
    }
    assert on(lab, watch, "date +%Z").strip() == "UTC"
    following = {it["unit"]: datetime.fromtimestamp(it["next"] / 1e6, UTC) for it in rows}
    night = following["mastio-drill-scheduled.timer"]
    assert night.hour == 1 and 20 <= night.minute <= 25, night
    assert 0 < night.timestamp() - now <= DAY + 300
    look = following["mastio-drill-late.timer"]
    assert look.minute % 30 in range(15, 21), look
    assert 0 < look.timestamp() - now <= 1800 + 300


def test_a_drill_that_is_overdue_alarms_until_the_scheduled_one_is_good(
    lab: Lab, watch: str
) -> None:
    before = len(drills(lab, watch))
    start(lab, watch, "scheduled")
    runs = drills(lab, watch)
    assert runs[-1]["by"] == "the schedule" and runs[-1]["bad"] == [], runs[-1]
    assert runs[-1]["messages"] == runs[-1]["same"] >= 1, runs[-1]
    start(lab, watch, "late")
    assert not late(lab)

    days = lab.site.drill.overdue + 1
    on(lab, watch, f"python3 -c '{OLDER}' {days * DAY}")
    try:
        start(lab, watch, "late")
        assert late(lab) == f"[{lab.site.name}] no good drill for too long"
        verified = mastio(lab.folder, "verify", "--only", "B2")
        assert verified.returncode == 1
        assert f"the last good drill was {days} days ago" in verified.stdout
        glance = mastio(lab.folder, "status")
        assert "restore drill" in glance.stdout and "overdue" in glance.stdout, glance.stdout
        assert drills(lab, watch)[-1] == runs[-1], "looking is not drilling"
    finally:
        start(lab, watch, "scheduled")
    assert len(drills(lab, watch)) == min(before + 2, 10)
    assert not late(lab)
    assert mastio(lab.folder, "verify", "--only", "B2").returncode == 0
    assert "overdue" not in mastio(lab.folder, "status").stdout
    # Not due again: the night after does nothing.
    last = drills(lab, watch)[-1]
    start(lab, watch, "scheduled")
    assert drills(lab, watch)[-1] == last
