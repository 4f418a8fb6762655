"""What watch makes of updates: the order, what is worse, alarms, and what is known of packages."""

import json
import zlib
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import cast

import pytest

from mastio.verify.model import Verdict
from mastio.watch import known, patching, rounds
from mastio.watch.rounds import Record
from tests import sites

SITE = sites.demo_site()


def record(machine: str = "store", **more: object) -> Record:
    return Record(machine, "me", 1000.0, **more)  # type: ignore[arg-type]


def test_mail_waits_where_it_is_safe() -> None:
    names = [it.name for it in SITE.machines]
    assert rounds.order(SITE, names) == ["webmail", "gateway", "store", "firewall", "watch"]
    split = sites.split_site()
    found = rounds.order(split, [it.name for it in split.machines])
    assert found.index("gateway-out") < found.index("gateway-in") < found.index("store")
    assert rounds.order(SITE, ["watch", "store"]) == ["store", "watch"]


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        (Verdict.PASSED, Verdict.FAILED, True),
        (Verdict.PASSED, Verdict.UNKNOWN, True),
        (Verdict.NOT_RUN, Verdict.FAILED, True),
        (Verdict.FAILED, Verdict.FAILED, False),
        (Verdict.PASSED, Verdict.PASSED, False),
        (Verdict.FAILED, Verdict.PASSED, False),
    ],
)
def test_worse_is_what_was_well(was: Verdict, now: Verdict, told: bool) -> None:
    found = rounds.worse({"H1@store": str(was)}, {"H1@store": (str(now), "seen")})
    assert found == (("H1@store: seen",) if told else ())


def test_a_bad_round_is_told_with_what_was_left_alone() -> None:
    bad = record(worse=("H1@store: nobody listens",), updated=(("dovecot", "1", "2"),))
    well, found = patching.told("demo", [record("webmail"), bad], ["firewall", "watch"], 5.0)
    assert well.well and well.about == "updates webmail"
    assert found.subject == "[demo] worse after updates: store" and not found.well
    for words in ("nobody listens", "dovecot 1 → 2", "Left alone: firewall, watch"):
        assert words in found.text
    (failed,) = patching.told("demo", [record(error="no disk")], [], 5.0)
    assert failed.subject == "[demo] not updated: store" and "no disk" in failed.text


def test_a_week_without_updates_is_told_and_that_they_come_again(tmp_path: Path) -> None:
    kept, week = patching.Kept(tmp_path), patching.WEEK

    def late(now: float) -> list[str]:
        return [it.about for it in patching.overdue(kept, SITE, now, 0.0) if not it.well]

    for machine in SITE.machines:
        kept.keep(record(machine.name))
    assert late(1000.0 + week - 1) == []
    kept.keep(Record("store", "me", 1000.0 + week / 2, error="no disk"))
    kept.keep(Record("watch", "me", 1000.0 + week / 2))
    assert "updating store" in late(1000.0 + week) and "updating watch" not in late(1000.0 + week)


def test_what_was_done_is_kept(tmp_path: Path) -> None:
    kept = patching.Kept(tmp_path)
    assert kept.record("store") == {} and kept.seals() == []
    kept.keep(record(seal=("a", "b")))
    kept.keep(record(error="x"))
    assert kept.record("store")["error"] == "x" and kept.record("store")["good"] == 1000.0
    assert kept.seals() == [["a", "b"]]
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 2


def test_one_round_at_a_time(tmp_path: Path) -> None:
    kept = patching.Kept(tmp_path)
    with (
        kept.alone(),
        pytest.raises(patching.MastioError, match="another round"),
        patching.Kept(tmp_path).alone(),
    ):
        pass


_SAID = """CVE-2024-0001 openssl (fixed, remotely exploitable, high urgency)
CVE-2024-0002 zlib1g (low urgency)
CVE-2024-0003 zlib1g
CVE-2024-0003 zlib1g
CVE-2024-0004 libssl3t64 (fixed, medium urgency, obsolete)
TEMP-0000000-ABCDEF bash
error: this is no line
"""


def test_what_debsecan_says_is_understood_the_worst_first() -> None:
    found = known.parse(_SAID)
    assert [(it.name, it.urgency, it.remote, it.fixed) for it in found] == [
        ("CVE-2024-0001", "high", True, True),
        ("CVE-2024-0004", "medium", False, True),
        ("CVE-2024-0002", "low", False, False),
        ("CVE-2024-0003", "none yet", False, False),
        ("TEMP-0000000-ABCDEF", "none yet", False, False),
    ]
    assert [*known.summary(known.counts(found))] == [
        "1 high (1 with a fix)", "1 medium (1 with a fix)", "1 low (0 with a fix)", "2 none yet (0 with a fix)",
    ]  # fmt: skip


def test_packages_as_a_status_file() -> None:
    text = known.status([["libssl3t64", "3.5.1-1+b1", "openssl", "3.5.1-1"]])
    assert "Source: openssl (3.5.1-1)\n" in text and text.endswith("\n\n")


_TABLE = """version,codename,series,created,release,eol,eol-lts,eol-elts
13,Trixie,trixie,2023-06-10,2025-08-09,2028-08-09,2030-06-30,2035-06-30
14,Forky,forky,2025-08-09
"""


def test_support_ends_when_nobody_mends_it_any_more() -> None:
    found = known.support("trixie", _TABLE)
    assert (found.security, found.long) == ("2028-08-09", "2030-06-30")
    assert not found.over(date(2029, 1, 1)) and found.over(date(2030, 7, 1))
    for name in ("forky", "unheard"):
        assert not known.support(name, _TABLE).over(date(2099, 1, 1))


def test_a_machine_says_its_release() -> None:
    assert known.codename('ID=debian\nVERSION_CODENAME=trixie\nVERSION="13"\n') == "trixie"
    assert known.codename("ID=x\n") == ""


def test_only_the_trackers_data_replace_the_old_ones(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    good, url = zlib.compress(b"VERSION 1\n\n\n"), (tmp_path / "there").as_uri() + "/"
    assert known.age(tmp_path, "trixie") is None
    (tmp_path / "there" / "trixie").write_bytes(good)
    known.fetch(tmp_path, "trixie", url)
    assert (known.age(tmp_path, "trixie") or 0) < 60
    for bad in (b"<html>", zlib.compress(b"VERSION 2\n")):
        (tmp_path / "there" / "trixie").write_bytes(bad)
        with pytest.raises(ValueError, match="tracker's data"):
            known.fetch(tmp_path, "trixie", url)
    assert (tmp_path / "tracker" / "trixie").read_bytes() == good


def test_a_record_survives_json(tmp_path: Path) -> None:
    kept = patching.Kept(tmp_path)
    kept.keep(record(rebooting=True, before={"H1@watch": "passed"}))
    data = json.loads((tmp_path / "store.json").read_text())
    data.pop("good")
    assert Record(**data).before == {"H1@watch": "passed"}


class Back:
    """What a round says of watch when it is back."""

    def back(self, record: Record) -> Record:
        return replace(record, rebooting=False, rebooted=True, worse=("H1@watch: seen",))


def test_watch_is_back_when_the_boot_is_another_and_late_when_it_is_not(tmp_path: Path) -> None:
    kept, now = patching.Kept(tmp_path), Path(rounds.BOOT_ID).read_text().strip()
    round_ = cast("rounds.Round", Back())
    kept.keep(record("watch", rebooting=True, before={}, boot="another"))
    (found,) = patching.rebooted(kept, SITE, "watch", round_, 1060.0)
    assert "H1@watch" in found.text and kept.record("watch")["rebooted"]
    assert patching.rebooted(kept, SITE, "watch", round_, 1060.0) == []
    kept.keep(record("watch", rebooting=True, before={}, boot=now))
    assert patching.rebooted(kept, SITE, "watch", round_, 1060.0) == []
    (late,) = patching.rebooted(kept, SITE, "watch", round_, 9000.0)
    assert "has not rebooted" in late.text and not kept.record("watch")["rebooting"]
