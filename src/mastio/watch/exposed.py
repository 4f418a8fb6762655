"""What the parts of watch have found, gathered for Prometheus."""

from datetime import UTC, datetime
from pathlib import Path

from mastio.digest import keeping, standing
from mastio.digest.summary import merged
from mastio.roles.backup import STATUS as BACKUPS
from mastio.roles.digest import FOLDER
from mastio.roles.integrity import FOLDER as INTEGRITY
from mastio.roles.patching import KNOWN
from mastio.site.model import Site
from mastio.status import kept
from mastio.watch.bell import Bell


def by_parts(site: Site, bell: Bell, now: float) -> str:
    """Integrity, updates, open alarms, and today's log lines; a part that has kept nothing yet says nothing."""
    found = standing.collect()
    since, until = keeping.hours_of(f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}")
    today = merged(keeping.load(Path(FOLDER), since, until).values())
    severities = [str(it.alarm.severity) for it in bell.book.values()]
    integrity, updates, backups = (
        found.get(it, {}) for it in (f"{INTEGRITY}/status.json", KNOWN, BACKUPS)
    )
    return kept.exposition(site.name, integrity, updates, backups, severities, today, now)
