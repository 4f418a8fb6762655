"""A machine that answers without end: it is named, all others are told of as ever, and who asked goes on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mastio.context import ALARMS
from mastio.roles.inspection import _LOOK as LOOK
from mastio.roles.inspection import FOLDER
from mastio.roles.integrity import MEASURE
from mastio.site.model import Role
from tests.lab.arrivals import talk
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import the
from tests.lab.sabotage import on
from tests.lab.test_integrity import begun, check
from tests.lab.test_status import metric
from tests.lab.test_watch_verifies import let_watch, scheduled

pytestmark = pytest.mark.lab
__all__ = ["begun"]
"""References of all machines, and no alarms."""

_FLOOD = "/run/flood"
_ENDED = "for i in $(seq 100); do pgrep -x flood >/dev/null || exit 0; sleep 0.2; done; exit 1"


@contextmanager
def flooding(lab: Lab, machine: str, program: str) -> Iterator[None]:
    """`program` there says zeros for ever, on both of its ways out."""
    script = f"#!/bin/sh\n{_FLOOD} /dev/zero >&2 &\nexec {_FLOOD} /dev/zero\n"
    there = on(lab, machine, f"cp /bin/cat {_FLOOD}; test ! -e {program} || echo there").strip()
    on(lab, machine, f"cp -p {program} /run/honest" if there else f"touch {program}")
    try:
        on(
            lab,
            machine,
            f"cat >{program}.new; chmod 755 {program}.new; mv {program}.new {program}",
            script.encode(),
        )
        yield
        on(lab, machine, _ENDED)
    finally:
        on(lab, machine, f"cp -p /run/honest {program}.new; mv {program}.new {program}; rm /run/honest"
           if there else f"rm -f {program}")  # fmt: skip


def verdicts(lab: Lab) -> dict[str, set[str]]:
    """By machine, what watch's last hourly look says."""
    found: dict[str, set[str]] = {}
    for it in scheduled(lab)[1]["fast"]["report"]["findings"]:
        found.setdefault(it["vantage"], set()).add(it["verdict"])
    return found


def test_watch_names_who_floods_and_tells_of_all_others(lab: Lab) -> None:
    watch, webmail = the(lab, Role.WATCH).name, the(lab, Role.WEBMAIL).name
    on(lab, watch, f"rm -rf {FOLDER}/* {ALARMS}/*")
    talk(lab)
    with flooding(lab, webmail, LOOK):
        code, said = let_watch(lab, "fast")
        assert code == 0, said
        found = verdicts(lab)
        assert found.pop(webmail) == {"could not check"}
        found.pop("outside", None)
        assert {*found} == {it.name for it in lab.site.machines} - {webmail}
        assert all("passed" in it for it in found.values()), found
        report = json.dumps(scheduled(lab)[1])
        assert f"{webmail} answers with more than" in report and "it was cut off" in report
        assert metric(lab, "machine_up", machine=webmail) == 0
        assert metric(lab, "machine_up", machine=watch) == 1
    code, said = let_watch(lab, "fast")
    assert code == 0, said
    assert all(not it & {"failed", "could not check"} for it in verdicts(lab).values())
    assert metric(lab, "machine_up", machine=webmail) == 1


def test_who_asks_for_the_status_is_told_who_floods(lab: Lab) -> None:
    webmail = the(lab, Role.WEBMAIL).name

    def seen() -> tuple[int, Any]:
        done = mastio(lab.folder, "status", "--json")
        return done.returncode, json.loads(done.stdout)["machines"]

    with flooding(lab, webmail, "/usr/local/bin/python3"):
        code, machines = seen()
        assert code and f"{webmail} answers with more than" in machines.pop(webmail)["error"]
        assert machines and not any("error" in it for it in machines.values())
        done = mastio(lab.folder, "plan", webmail)
        assert done.returncode == 69 and f"{webmail} answers with more than" in done.stderr
    assert not any("error" in it for it in seen()[1].values())


def test_a_measurement_without_end_is_an_alarm_and_hides_nothing_of_others(lab: Lab) -> None:
    webmail = the(lab, Role.WEBMAIL).name
    with flooding(lab, webmail, MEASURE):
        code, found = check(lab)
        assert code and f"{webmail} answers with more than" in found[webmail]["why"], found
        assert found.pop(webmail)["tampered"]
        assert {it["verdict"] for it in found.values()} == {"clean"}
    code, found = check(lab)
    assert code == 0, found
