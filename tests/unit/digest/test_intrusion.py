"""Suricata's lines in the digest."""

import json

import pytest

from mastio.digest.intrusion import alert
from tests.unit.digest.lines import line, read


def eve(rule: str, severity: int = 1, source: str = "10.77.1.10", target: str = "10.77.4.10", seen: str = "http",
        direction: str = "to_server", kind: str = "alert") -> str:  # fmt: skip
    """As Suricata 7 writes it to syslog."""
    return json.dumps({
        "timestamp": "2026-11-24T21:05:06.379341+0000", "flow_id": 329511078032274, "in_iface": "mail",
        "event_type": kind, "src_ip": source, "src_port": 40010, "dest_ip": target, "dest_port": 25, "proto": "TCP",
        "alert": {"action": "allowed", "gid": 1, "signature_id": 1000004, "rev": 1, "signature": rule, "category": "",
                  "severity": severity},
        "app_proto": seen, "direction": direction,
    }, separators=(",", ":"))  # fmt: skip


def suricata(text: str) -> bytes:
    return line("firewall", "suricata[193]", text, level="local5.notice")


INSIDE = "mastio: gateway > watch syslog: not tls"
STRANGER = "mastio: internet > gateway smtp: not smtp"


def test_alerts_count_by_rule_and_by_their_ends() -> None:
    found = read(
        suricata(eve(INSIDE)),
        suricata(eve(INSIDE, source="10.77.4.10", target="10.77.1.10", direction="to_client")),
        suricata(eve(STRANGER, 3, "203.0.113.9", "10.77.1.10", "ssh")),
        suricata(eve("ET SCAN something", 2, "2001:0db8:0113:0000:0000:0000:0000:0200", "10.77.2.10")),
    )  # fmt: skip
    assert (found.count("intrusion.inside"), found.count("intrusion.others")) == (2, 2)
    assert found.top("intrusion") == [
        ("gateway > watch syslog: not tls (http)", 2),
        ("ET SCAN something", 1),
        ("internet > gateway smtp: not smtp (ssh)", 1),
    ]
    assert dict(found.top("intrusion between")) == {
        "gateway > watch": 2, "internet > gateway": 1, "2001:db8:113::200 > 10.77.2.10": 1,
    }  # fmt: skip
    # Who began, whichever side the packet came from.
    assert found.top("intrusion sources")[0] == ("10.77.1.10", 2)


def test_a_kind_is_news_once() -> None:
    found = read(*(suricata(eve(STRANGER, 3, f"203.0.113.{it}")) for it in range(1, 9)))
    assert list(found.news["alerts"]) == ["internet > gateway smtp: not smtp (http)"]


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "7", "null", '{"timestamp":1}', eve(INSIDE, source="nowhere"), eve(INSIDE, kind="flow"),
     eve(INSIDE).replace('"severity":1', '"severity":"x"')],
)  # fmt: skip
def test_what_is_no_alert_is_none(text: str) -> None:
    assert alert(text.encode()) is None


def test_a_forged_line_is_unreadable_and_other_lines_are_odd() -> None:
    found = read(suricata('{"timestamp": nonsense'), suricata("<Notice> rule reload complete"))
    assert found.count("reading.unreadable") == 1 and found.count("intrusion.inside") == 0
    assert list(found.news["shapes"]) == ["suricata: * rule reload complete"]


def test_a_protocol_that_nobody_knows_has_no_name() -> None:
    found = alert(eve(INSIDE, seen="failed").encode())
    assert found and found.words == "gateway > watch syslog: not tls" and found.inside
