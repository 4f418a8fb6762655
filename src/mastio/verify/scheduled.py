"""What watch found by itself: its newest reports, and whether they are too old."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mastio.roles.inspection import FOLDER
from mastio.site.model import Role, Site
from mastio.transport import Transport
from mastio.verify.model import BAD

LATE = {"fast": 3 * 3600.0, "full": 36 * 3600.0}
"""Seconds without a run after which something is wrong with running."""

LOOKING = "looking"
"""A file beside the reports, with the time at which a run began that has not ended."""


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest report of a set of checks."""

    report: Mapping[str, Any] | None
    """As `report.verify.data` wrote it; None when there is none yet."""
    age: float | None
    """Seconds since it began."""
    late: bool

    @property
    def bad(self) -> list[Mapping[str, Any]]:
        """The findings that somebody must hear of."""
        rows = self.report["findings"] if self.report else ()
        return [it for it in rows if it["verdict"] in BAD]

    @property
    def words(self) -> list[str]:
        """The same for people."""
        return [f"{it['check']} {it['vantage']}: {'; '.join(it['seen'])}" for it in self.bad]


def judged(name: str, report: Mapping[str, Any] | None, now: float) -> Newest:
    """What a set's newest report is worth `now`. Raises ValueError when it is none."""
    if report is None:
        return Newest(None, None, True)
    age = now - datetime.fromisoformat(report["began"]).timestamp()
    return Newest(report, age, age > LATE[name])


def newest(site: Site, transport: Transport, now: float) -> dict[str, Newest]:
    """Each set's; nothing when no machine watches. MastioError when watch cannot be reached."""
    found = {}
    for watch in site.carrying(Role.WATCH)[:1]:
        for name in LATE:
            done = transport.run(watch.name, ["cat", f"{FOLDER}/{name}.json"])
            try:
                found[name] = judged(name, json.loads(done.stdout), now)
            except ValueError:
                found[name] = judged(name, None, now)
    return found
