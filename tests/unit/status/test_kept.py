"""What watch's parts have found, for Prometheus, by its rules (`promtool check metrics`)."""

import re

import pytest

from mastio.digest.summary import Summary
from mastio.status import kept, metrics
from mastio.status.glance import Glance
from tests.unit.status.test_glance import FACTS, SETS

INTEGRITY = {
    "machines": {
        "store": {"verdict": "differs", "differences": 3, "tampered": False, "measured": 900.0, "why": ""},
        "webmail": {"verdict": "", "differences": 0, "tampered": True, "measured": 0.0, "why": "no key"},
        "gateway": None,
    },
    "broken": [],
}  # fmt: skip
UPDATES = {
    "machines": {
        "store": {"good": 500.0, "waiting": ["a", "b"], "reboot": True},
        "watch": {"good": 0.0},
    }
}
BACKUPS = {
    "machines": {
        "store": {
            "newest": 400.0,
            "octets": 5,
            "refused": [],
            "damaged": "",
            "last": {"error": "x"},
        },
        "gateway": {"newest": 0.0, "octets": 0, "refused": [], "damaged": "", "last": {}},
    }
}
TODAY = Summary(
    {"mail.in": 7, "mail.out": 2, "filter.no action": 6, "refused.in.spam": 4, "viruses": 1, "lines.store": 99}
)  # fmt: skip


def told() -> list[str]:
    return kept.exposition(
        "demo", INTEGRITY, UPDATES, BACKUPS, ["high", "high"], TODAY, 1000.0
    ).splitlines()


def test_each_part_is_told_of() -> None:
    rows = told()
    for row in (
        'mastio_integrity_age_seconds{site="demo",machine="store"} 100',
        'mastio_integrity_differences{site="demo",machine="store"} 3',
        'mastio_integrity_tampered{site="demo",machine="webmail"} 1',
        'mastio_updates_age_seconds{site="demo",machine="store"} 500',
        'mastio_updates_waiting{site="demo",machine="store"} 2',
        'mastio_reboot_required{site="demo",machine="store"} 1',
        'mastio_backup_age_seconds{site="demo",machine="store"} 600',
        'mastio_backup_octets{site="demo",machine="store"} 5',
        'mastio_backup_bad{site="demo",machine="store"} 1',
        'mastio_backup_bad{site="demo",machine="gateway"} 0',
        'mastio_alarms_open{site="demo",severity="high"} 2',
        'mastio_alarms_open{site="demo",severity="critical"} 0',
        'mastio_mail_messages_total{site="demo",way="in"} 7',
        'mastio_filter_verdicts_total{site="demo",verdict="no action"} 6',
        'mastio_mail_refused_total{site="demo",reason="spam"} 4',
        'mastio_viruses_total{site="demo"} 1',
        'mastio_log_lines_total{site="demo",machine="store"} 99',
    ):
        assert row in rows, row
    # Never measured, never updated: no age, so that nobody takes one for young.
    assert not any(
        "age_seconds" in it and ("webmail" in it or "watch" in it or "gateway" in it) for it in rows
    )


def test_nothing_was_found_yet() -> None:
    rows = kept.exposition("demo", {}, {}, {}, [], Summary(), 1.0).splitlines()
    assert {it.split("{")[0] for it in rows if it[0] != "#"} >= {
        "mastio_alarms_open",
        "mastio_bans_total",
    }
    assert not any("integrity" in it for it in rows)


@pytest.mark.parametrize(
    "text",
    [
        "\n".join([*told(), ""]),
        metrics.exposition(Glance('de"m\n', {"store": FACTS}, SETS, 3), 1.0),
    ],
    ids=["parts", "look"],
)
def test_prometheus_would_take_it(text: str) -> None:
    """The text format 0.0.4, and what `promtool check metrics` asks for besides."""
    assert text.endswith("\n")
    label = r'[a-z_]+="(?:[^"\\\n]|\\[\\n"])*"'
    series, kinds = set(), {}
    for line in text.splitlines():
        if found := re.fullmatch(r"# HELP (mastio_[a-z0-9_]+) (\S.*)", line):
            assert found[1] not in kinds
        elif found := re.fullmatch(r"# TYPE (mastio_[a-z0-9_]+) (gauge|counter)", line):
            assert found[1] not in kinds and (found[2] == "counter") == found[1].endswith("_total")
            kinds[found[1]] = found[2]
        else:
            found = re.fullmatch(
                rf"((mastio_[a-z0-9_]+)\{{{label}(?:,{label})*\}}) -?\d+(?:\.\d+)?(?:e[+-]\d+)?",
                line,
            )
            assert found, line
            assert found[2] in kinds and found[1] not in series
            series.add(found[1])
    assert series
