"""The digest on watch: what verification said, and mail that is not lost."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from mastio.digest import keeping
from mastio.roles import digest as role
from mastio.site.model import Alarms
from mastio.verify.scheduled import LOOKING
from mastio.watch import digest as watching
from tests import sites
from tests.unit.digest.test_judge import calm, digest
from tests.unit.watch.test_schedule import SETTINGS

SITE = sites.demo_site()


def test_what_verification_last_said() -> None:
    seen = {"check": "H4", "vantage": "store", "verdict": "failed", "seen": ["a hole"]}
    report = {"began": "2026-11-24T10:00:00+00:00", "verdict": "failed", "findings": [seen]}
    now = 1_795_514_400.0  # an hour later
    fast, full = watching.verified({"fast": report}, now + 3600)
    assert (fast.verdict, fast.late, fast.bad) == ("failed", False, ("H4 store: a hole",))
    assert (full.verdict, full.late) == ("not run", False)
    assert watching.verified({"fast": report}, now + 4 * 3600)[0].late


def test_when_watch_scanned_is_known_also_while_it_does(tmp_path: Path) -> None:
    now = 1_795_514_400.0
    assert watching.scans(tmp_path, now) == []
    (tmp_path / "history").mkdir()
    for name, began, took in (("a", now - 3 * 86_400, 60), ("b", now - 3600, 60)):
        when = datetime.fromtimestamp(began, UTC).isoformat()
        one = {"began": when, "seconds": took, "full": False, "verdicts": {}}
        (tmp_path / "history" / f"{name}.json").write_text(json.dumps(one))
    assert watching.scans(tmp_path, now) == [(now - 3601, now - 3600 + 75)]
    (tmp_path / LOOKING).write_text(str(now - 30))
    assert watching.scans(tmp_path, now)[1:] == [(now - 31, now + 15)]
    # Killed, and nobody took it away.
    assert watching.scans(tmp_path, now + 86_400)[-1][1] < now + 4 * 3600


def test_who_gets_alarms_gets_the_digest() -> None:
    site = replace(SITE, alarms=Alarms(mail=("desk@demo.test",)))
    mail = watching.message(digest(calm()), site, time.time())
    assert mail["To"] == f"{SITE.admin_mail}, desk@demo.test"


def test_what_cannot_be_sent_waits(tmp_path: Path) -> None:
    one = digest(calm())
    watching.keep(tmp_path, one, watching.message(one, SITE, time.time()))
    assert sorted(it.name for it in (tmp_path / "days").iterdir()) == [
        "2026-11-24.html", "2026-11-24.json", "2026-11-24.txt",
    ]  # fmt: skip
    (words,) = watching.send(tmp_path, SITE, SETTINGS)
    assert words.startswith("the digest 2026-11-24 waits: ")
    assert len(list((tmp_path / "waiting").glob("*.eml"))) == 1
    assert watching.send(tmp_path / "nothing", SITE, SETTINGS) == []


def test_what_it_did_is_noted_for_verification(tmp_path: Path) -> None:
    def noted(what: str, waiting: list[str], now: float) -> dict[str, object]:
        watching.note(tmp_path, what, waiting, now)
        path = tmp_path / "status.json"
        assert path.stat().st_mode & 0o777 == 0o644, "probes show nothing that is not for everybody"
        found: dict[str, object] = json.loads(path.read_text())
        return found

    began = {"began": 10.0, "made": 0.0}
    assert noted("read", [], 10.0) == {**began, "read": 10.0, "waiting": []}
    assert noted("mail", ["refused"], 20.0) == {
        **began,
        "made": 20.0,
        "read": 20.0,
        "waiting": ["refused"],
    }
    assert noted("2026-01-01", [], 30.0) == {**began, "made": 20.0, "read": 30.0, "waiting": []}


def test_the_reader_may_write_to_its_own_folder_alone() -> None:
    unit = Path(role.__file__).with_name("digest.service.j2").read_text()
    assert "ProtectSystem=strict" in unit and "ReadWritePaths={{ folder }}" in unit
    assert unit.count("ReadWritePaths") == 1 and "CapabilityBoundingSet=\n" in unit
    assert keeping.DAYS >= 31, "as far back as `mastio digest --since` goes"
