"""Who hears of alarms, and what watch calls by https: `[alarms]` of the site file."""

from dataclasses import dataclass

from mastio.site.key import Key, Kind


@dataclass(frozen=True, slots=True)
class Alarms:
    """Who hears of alarms beside the administrator, and when."""

    mail: tuple[str, ...] = ()
    webhook: str = ""
    """An https URL that gets each alarm as JSON; empty: none."""
    quiet: tuple[int, int] | None = None
    """Minutes of the day between which only what is critical is told; they may reach over midnight."""
    escalate_to: tuple[str, ...] = ()
    """Who is told when nobody answers; empty: the same once more."""
    escalate_hours: float = 4.0
    outside: tuple[str, ...] = ()
    """Who gets each alarm as well, without the store: addresses of other organisations."""
    disk_percent: int = 85
    """How full a disk may be before somebody is told."""
    heartbeat: str = ""
    """An https URL that is called while watch looks and can tell; empty: none."""


CALLS: tuple[Key, ...] = (
    Key(
        "alarms.webhook",
        Kind.TEXT,
        "An https URL to which watch posts alarms as JSON. It hears of a site whose mail is what is broken.",
        "none",
    ),
    Key(
        "alarms.heartbeat",
        Kind.TEXT,
        "An https URL that watch calls (GET) every five minutes, while it looks at the machines and an alarm could "
        "leave: a dead man's switch elsewhere, such as healthchecks.io, tells you when the calls stay away.",
        "none",
    ),
)
"""The keys of what watch calls."""
