"""What outlives a block of lines, and a run."""

from datetime import datetime, timedelta
from typing import Any

from mastio.digest.origins import Origins
from mastio.digest.shapes import Seen, Shapes

LEARNING = timedelta(days=1)
"""For so long after the first line, everything is new, and so nothing is."""
LIVE = 100_000
"""How many messages on their way are remembered of a machine, and how many greylisted ones of all."""


def learning(since: str, hour: str) -> bool:
    """Whether too little was seen since an hour (`2026-11-24T21`) for anything to be news in another one."""
    first, now = (datetime.fromisoformat(f"{it}:00") for it in (since, hour))
    return now < first + LEARNING


class Memory:
    """What outlives a block: messages on their way, who was greylisted, and all that was seen before."""

    def __init__(self, data: dict[str, Any] | None = None) -> None:
        data = data or {}
        self.since: str = data.get("since", "")
        """When the first line of all came; empty: nothing was read yet."""
        self.hours: dict[str, str] = data.get("hours", {})
        """Machine → the hour of its last line: a line that tells none is of the same."""
        self.shapes = Shapes(data.get("shapes"))
        self.networks = Seen(50, data.get("networks"))
        self.origins = Origins()
        """What addresses count as in this site. Not kept."""
        # A scan fills it: what is stopped afterwards must be news all the same.
        self.flows = Seen(25, data.get("flows"), forget=True)
        self.begun = Seen(100, data.get("begun"))
        """Conversations with the outside that were let begin."""
        self.begun_since: str = data.get("begun_since", "")
        """The hour of the first of them: an older version, or an older firewall, told of none."""
        self.scans: tuple[tuple[float, float], ...] = ()
        """When watch itself scanned, in seconds since the epoch: what was stopped then is no news. Not kept."""
        self.lost: dict[str, dict[str, int]] = data.get("lost", {})
        """Machine → queue → how many lines it had thrown away when it last said so."""
        self.live: dict[str, dict[bytes, tuple[str, bytes, int]]] = {
            machine: {
                qid.encode(): (way, sender.encode(), size)
                for qid, (way, sender, size) in live.items()
            }
            for machine, live in data.get("live", {}).items()
        }
        """Machine → queue id → the way it came, its sender, its size (-1: not known yet)."""
        self.waiting: dict[bytes, float] = {
            key.encode(): when for key, when in data.get("waiting", {}).items()
        }
        """Sender and recipient that were greylisted → when, in seconds since the epoch."""

    def scanning(self, at: float) -> bool:
        """Whether watch scanned then."""
        return any(begin <= at <= end for begin, end in self.scans)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "since": self.since,
            "hours": self.hours,
            "shapes": self.shapes.plain(),
            "networks": self.networks.plain(),
            "flows": self.flows.plain(),
            "begun": self.begun.plain(),
            "begun_since": self.begun_since,
            "lost": self.lost,
            "live": {
                machine: {
                    as_text(qid): (way, as_text(sender), size)
                    for qid, (way, sender, size) in list(live.items())[-LIVE // 4 :]
                }
                for machine, live in self.live.items()
            },
            "waiting": {as_text(key): when for key, when in list(self.waiting.items())[-10_000:]},
        }


def as_text(octets: bytes) -> str:
    """What a program wrote, whatever its octets are."""
    return octets.decode("utf-8", "backslashreplace")
