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


def newest(site: Site, transport: Transport, now: float) -> dict[str, Newest]:
    """Each set's; nothing when no machine watches. MastioError when watch cannot be reached."""
    found = {}
    for watch in site.carrying(Role.WATCH)[:1]:
        for name, most in LATE.items():
            done = transport.run(watch.name, ["cat", f"{FOLDER}/{name}.json"])
            try:
                report = json.loads(done.stdout)
                age = now - datetime.fromisoformat(report["began"]).timestamp()
                found[name] = Newest(report, age, age > most)
            except ValueError:
                found[name] = Newest(None, None, True)
    return found
