"""Which alerts ring, once, and when it is over."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mastio.intrusion import MARK
from mastio.site.model import Intrusion
from mastio.watch.intrusion import QUIET, look
from tests import sites
from tests.unit.digest.lines import line
from tests.unit.digest.test_intrusion import INSIDE, STRANGER, eve, suricata

SITE = sites.demo_site()
NOW = time.time()


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "firewall").mkdir()
    return tmp_path


def write(logs: Path, *lines: bytes, machine: str = "firewall") -> None:
    (logs / machine).mkdir(exist_ok=True)
    with (logs / machine / "2026-11-24.log").open("ab") as file:
        file.write(b"".join(lines))


def test_strangers_ring_no_bell(logs: Path) -> None:
    write(
        logs,
        suricata(eve(STRANGER, 3, "203.0.113.9", "10.77.1.10")),
        suricata(eve("ET EXPLOIT something", 1, "203.0.113.9", "10.77.1.10")),
        suricata(eve("ET POLICY something", 3, "10.77.1.10", "203.0.113.9")),
        suricata("<Notice> rule reload complete"),
        line("firewall", "ulogd[1]", "mastio forward: suricata[1]: " + eve(INSIDE)),
    )
    assert look(logs, {}, SITE, NOW) == []


def test_what_a_machine_of_ours_does_rings(logs: Path) -> None:
    malware = eve("ET MALWARE something", 1, "10.77.1.10", "203.0.113.9")
    write(logs, suricata(eve(INSIDE)), suricata(eve(INSIDE)), suricata(malware))
    ours, theirs = look(logs, {}, SITE, NOW)
    assert ours.about == "intrusion gateway > watch syslog: not tls (http)"
    assert ours.subject == "[demo] intrusion detection: gateway > watch syslog: not tls (http)"
    assert ours.text.count("10.77.1.10 > 10.77.4.10") == 2 and not ours.well
    assert theirs.about == "intrusion gateway > internet: ET MALWARE something"


@pytest.mark.parametrize("severity", ["1e999", "-1e999", "9" * 5000, "[" * 8000, '"x"'])
def test_an_alert_that_is_none_hides_none_after_it(logs: Path, severity: str) -> None:
    forged = eve(INSIDE).replace('"severity":1', f'"severity":{severity}')
    write(logs, suricata(forged), suricata(eve(INSIDE)))
    (ours,) = look(logs, {}, SITE, NOW)
    assert ours.text.count("10.77.1.10 > 10.77.4.10") == 1


def test_it_is_told_of_what_is_new_and_well_again_after_a_day(logs: Path) -> None:
    state: dict[str, Any] = {}
    write(logs, suricata(eve(INSIDE)))
    assert len(look(logs, state, SITE, NOW)) == 1
    assert look(logs, state, SITE, NOW + 120) == []
    write(logs, suricata(eve(INSIDE)))
    assert len(look(logs, state, SITE, NOW + QUIET - 1)) == 1  # the book tells it once
    assert look(logs, state, SITE, NOW + QUIET + 60) == []
    (over,) = look(logs, state, SITE, NOW + 2 * QUIET)
    assert over.well and over.about == "intrusion gateway > watch syslog: not tls (http)"
    assert look(logs, state, SITE, NOW + 3 * QUIET) == []


def test_a_rule_of_several_lines_is_one_line_of_an_alarm(logs: Path) -> None:
    state: dict[str, Any] = {}
    write(logs, suricata(eve(f"{MARK}gateway > watch syslog: x\nAll is well \ud800", seen="")))
    (told,) = look(logs, state, SITE, NOW)
    assert told.about == r"intrusion gateway > watch syslog: x\nAll is well \ud800"
    assert "\nAll is well" not in told.text and "\n" not in told.subject
    (over,) = look(logs, state, SITE, NOW + 2 * QUIET)
    assert over.well and over.about == told.about


def test_only_the_firewall_is_believed(logs: Path) -> None:
    write(logs, suricata(eve(INSIDE)).replace(b"firewall", b"gateway"), machine="gateway")
    assert look(logs, {}, SITE, NOW) == []


def test_switched_off_nothing_is_read(logs: Path) -> None:
    write(logs, suricata(eve(INSIDE)))
    state: dict[str, Any] = {}
    assert look(logs, state, replace(SITE, ids=Intrusion(enabled=False)), NOW) == []
    assert state == {}
