"""Drills by themselves, and when asked, on watch: `python3 -m mastio.watch.drill WHAT`.

| | |
|---|---|
| `scheduled` | a drill, when the site file's days have passed since the last one |
| `run` | one now; stdin: JSON, `by` whom, and `all`: every mailbox |
| `late` | raise an alarm when the last good one is too long ago |
| `status` | what the last ones found |

Each prints lines of JSON. What they found is kept in `FOLDER`: `status.json`, `runs.jsonl`, and without details
`verdict.json`.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mastio.context import ALARMS
from mastio.errors import Exit, MastioError
from mastio.files import hold, put
from mastio.roles.inspection import SETTINGS as INSPECTION
from mastio.roles.inspection import SITE
from mastio.roles.restore import FOLDER, SETTINGS
from mastio.site import plain
from mastio.site.model import Site
from mastio.verify.model import Severity
from mastio.watch import alarm
from mastio.watch.alarm import Alarm
from mastio.watch.bell import Bell
from mastio.watch.drilling import Drill, Record, day
from mastio.watch.settings import load

DAY = 86_400.0
_SLACK = 3600.0
"""Seconds by which a night may come early."""
_KEPT = 500
ABOUT = "drill restore"


class Kept:
    """What drills found, in a folder that only root may enter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One drill at a time; MastioError while another is at work."""
        with (self.folder / "lock").open("w") as file:
            try:
                hold(file)
            except BlockingIOError:
                raise MastioError(
                    "another drill is at work", hint="wait for it", code=Exit.LOCKED
                ) from None
            yield

    @property
    def status(self) -> dict[str, Any]:
        """`last`, a record or None, and `good`: when the last good one was, or 0."""
        with suppress(FileNotFoundError, ValueError):
            found = json.loads((self.folder / "status.json").read_text())
            if isinstance(found, dict):
                return found
        return {"last": None, "good": 0.0}

    def keep(self, record: Record, overdue: int) -> None:
        """A record, as the last one and in the log; `overdue`: after how many days somebody must look."""
        good = record.at if record.good else self.status["good"]
        put(
            self.folder / "status.json",
            json.dumps({"last": asdict(record), "good": good}, indent=1),
        )
        verdict = {
            "at": record.at,
            "good": record.good,
            "last_good": good,
            "wrong": len(record.bad),
            "overdue": overdue,
        }
        put(self.folder / "verdict.json", json.dumps(verdict) + "\n", 0o644)
        log = self.folder / "runs.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        put(log, "".join(f"{it}\n" for it in (*lines[1 - _KEPT :], json.dumps(asdict(record)))))

    def runs(self) -> list[dict[str, Any]]:
        """The newest ones, the oldest first."""
        log = self.folder / "runs.jsonl"
        return [json.loads(it) for it in log.read_text().splitlines()[-10:]] if log.exists() else []


def told(site: Site, record: Record) -> Alarm:
    """What is to be said of a drill."""
    text = (
        "".join(f"{it}\n" for it in record.bad)
        or f"{record.messages} messages came back as they were.\n"
    )
    hint = "\nThe backup could not be restored as it should. `mastio drill status` tells more; when it is mended,\n"
    hint += "`mastio drill restore` shows whether it is.\n"
    words = (
        "a drill restored what was archived"
        if record.good
        else "a drill could not restore what was archived"
    )
    return Alarm(
        site.name, ABOUT, Severity.CRITICAL, f"[{site.name}] {words}", text + ("" if record.good else hint),
        alarm.WELL if record.good else "failed", record.at,
    )  # fmt: skip


def overdue(site: Site, good: float, since: float, now: float) -> Alarm:
    """What is to be said of how long ago the last good drill was, or the first `since` it could have been."""
    last = good or since
    late = now - last > site.drill.overdue * DAY
    text = (
        f"No drill has restored an archive since {day(last)}.\n\n`mastio drill restore` runs one now. On watch: "
        "systemctl status mastio-drill@scheduled.service mastio-drill-scheduled.timer\n"
        if late
        else f"The last good drill was at {day(last)}.\n"
    )
    words = "no good drill for too long" if late else "drills come again"
    return Alarm(
        site.name,
        "drills",
        Severity.HIGH,
        f"[{site.name}] {words}",
        text,
        "not run" if late else alarm.WELL,
        now,
    )


def say(what: Any) -> None:
    """A line of JSON; whoever listened may have gone, and the work goes on."""
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


def run(what: str) -> None:
    """One of them; MastioError says why not."""
    os.umask(0o077)
    kept, site = Kept(Path(FOLDER)), plain.recall(Path(SITE).read_text())
    if what == "status":
        say({**kept.status, "runs": kept.runs()})
        return
    bell, now = Bell(Path(ALARMS), site), time.time()
    settings = load(Path(INSPECTION))
    last = kept.status["last"]
    due = last is None or now - last["at"] > site.drill.days * DAY - _SLACK
    if what == "run" or (what == "scheduled" and due):
        order: dict[str, Any] = (
            json.load(sys.stdin) if what == "run" else {"by": "the schedule", "all": False}
        )
        ssh = json.loads(Path(SETTINGS).read_text())["ssh"]
        drill = Drill(
            settings.store,
            ssh[settings.store],
            lambda it: say({"step": it}),
        )
        with kept.alone():
            record = drill.run(
                order["by"],
                0 if order["all"] else site.drill.mailboxes,
                site.drill.oldest_hours * 3600,
            )
            kept.keep(record, site.drill.overdue)
        bell.raise_(told(site, record), time.time())
        say({"record": asdict(record)})
    bell.raise_(overdue(site, kept.status["good"], Path(SITE).stat().st_mtime, now), now)
    for words in bell.ring(settings, time.time()):
        print(words, file=sys.stderr)


def main(what: str) -> int:
    """The exit code."""
    try:
        run(what)
    except (MastioError, OSError, ValueError, KeyError) as error:
        message, hint, code = f"{type(error).__name__}: {error}", "", Exit.FAILED
        if isinstance(error, MastioError):
            message, hint, code = error.message, error.hint, error.code
        say({"error": message, "hint": hint, "code": code})
        print(message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1:] not in [[it] for it in ("scheduled", "run", "late", "status")]:
        sys.exit("scheduled, run, late or status?")
    sys.exit(main(sys.argv[1]))
