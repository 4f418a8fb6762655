"""How the site stands: what watch last found by itself, whatever the logs say.

Each part of watch keeps what it found in a file of its own. A `Part` names that file and tells what is in it; one more
part is one more row of `PARTS`. What is missing or old is told as well: nobody knows then.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mastio.context import ALARMS
from mastio.digest.need import Level, Need
from mastio.roles.backup import STATUS as BACKUPS
from mastio.roles.inspection import GLANCE
from mastio.roles.integrity import FOLDER as INTEGRITY
from mastio.roles.integrity import LATE
from mastio.roles.patching import KNOWN
from mastio.roles.restore import VERDICT

_SEEN = 1800.0
"""Seconds after which a glance at the machines, one each five minutes, is old."""
_NONE, _ALL = "none is open", "all work"
_NAMED = 4
"""How many alarms are named."""
_WEEK = 7 * 86_400.0
"""Seconds without a good update that are too many."""


@dataclass(frozen=True, slots=True)
class Row:
    """How one thing stands, and what of it needs a person."""

    name: str
    words: str
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Something that watch looks after."""

    title: str
    path: str
    """A file of JSON on watch."""
    rows: Callable[[Mapping[str, Any], Sequence[str], float], Iterator[Row]]
    """What the file says of the machines of these names, now (seconds since the epoch)."""
    remedy: str
    """What tells more."""
    without: str = ""
    """What it means when there is no such file; empty: that nothing is known yet."""


@dataclass(frozen=True, slots=True)
class Section:
    """How a part stands."""

    title: str
    rows: tuple[Row, ...]


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _share(disk: Mapping[str, Any]) -> float:
    octets = 1 - disk["available"] / disk["total"]
    inodes = 1 - disk["inodes_free"] / disk["inodes"] if disk["inodes"] else 0.0
    return float(max(octets, inodes))


def _alarms(data: Mapping[str, Any], names: Sequence[str], now: float) -> Iterator[Row]:
    """What is open; one need for all of it, since most of it is told by its own part as well."""
    waiting = [about for about, it in data.items() if not it["answered"]]
    for number, (about, it) in enumerate(data.items()):
        needs = (_unanswered(data, waiting),) if waiting and not number else ()
        words = it["alarm"]["subject"].partition("] ")[2]
        who = f"; answered by {it['answered']}" if it["answered"] else ""
        yield Row(about, f"{words}, since {_day(it['since'])}{who}", needs)
    if not data:
        yield Row(_NONE, "")


def _ways(data: Mapping[str, Any], names: Sequence[str], now: float) -> Iterator[Row]:
    """By what alarms do not leave."""
    for way, it in data.items():
        words = f"alarms do not leave by {way} since {_day(it['since'])}: {it['words']}"
        yield Row(way, "does not work", (Need(Level.ACT, words, "mastio alarms"),))
    if not data:
        yield Row(_ALL, "")


def _unanswered(data: Mapping[str, Any], waiting: Sequence[str]) -> Need:
    pressing = any(data[it]["alarm"]["severity"] in ("critical", "high") for it in waiting)
    more = f" and {len(waiting) - _NAMED} more" if len(waiting) > _NAMED else ""
    what = "alarms are" if len(waiting) > 1 else "alarm is"
    words = (
        f"{len(waiting)} {what} open that nobody has answered: {', '.join(waiting[:_NAMED])}{more}"
    )
    return Need(Level.ACT if pressing else Level.LOOK, words, "mastio alarms")


def _machines(data: Mapping[str, Any], names: Sequence[str], now: float) -> Iterator[Row]:
    if now - data["at"] > _SEEN:
        words = f"nobody has looked at the machines since {_day(data['at'])}"
        yield Row("last look", _day(data["at"]), (Need(Level.LOOK, words, "mastio status"),))
    for name in names:
        facts = data["machines"].get(name, {"error": "not looked at"})
        needs = tuple(
            Need(Level.ACT if it["level"] == "bad" else Level.LOOK, f"{name}: {it['words']}", "mastio status")
            for it in data["notes"] if it["about"] == name
        )  # fmt: skip
        if "error" in facts:
            yield Row(name, "cannot be asked", needs)
            continue
        fullest = max(facts["disks"], key=_share, default=None)
        disk = [f"{_share(fullest):.0%} of {fullest['path']} used"] if fullest else []
        queue = [_queue(facts["queue"])] if facts["queue"] else []
        yield Row(name, "; ".join(disk + queue), needs)


def _queue(queue: Mapping[str, Any]) -> str:
    count = sum(number for name, number in queue.items() if name != "oldest")
    if not count:
        return "queue empty"
    parts = [
        f"{queue[name]:,} {words}"
        for name, words in (("deferred", "put off"), ("hold", "held"))
        if queue[name]
    ]
    oldest = queue["oldest"]
    age = f"{oldest / 3600:.1f} h" if oldest >= 3600 else f"{oldest / 60:.0f} min"
    what = f" ({', '.join(parts)})" if parts else ""
    return f"queue {count:,}{what}, the oldest for {age}"


def _updates(data: Mapping[str, Any], names: Sequence[str], now: float) -> Iterator[Row]:
    for name in names:
        if it := data["machines"].get(name):
            yield Row(name, "; ".join(_level(it)), tuple(_patched(name, it, now)))
        else:
            yield Row(name, "nothing is known")


def _level(it: Mapping[str, Any]) -> Iterator[str]:
    yield f"updated {_day(it['good'])}" if it["good"] else "not updated yet"
    if waiting := it.get("waiting"):
        yield f"{len(waiting)} security updates wait"
    if it.get("reboot"):
        yield "a reboot is due"
    for urgency, row in (it.get("counts") or {}).items():
        if row["all"] and urgency in ("high", "medium"):
            yield f"{row['all']} {urgency} vulnerabilities ({row['fixed']} with a fix)"


def _patched(name: str, it: Mapping[str, Any], now: float) -> Iterator[Need]:
    remedy = "mastio patches"
    last = it["last"] or {}
    if last.get("error") or last.get("worse"):
        words = last["error"] or f"worse than before: {'; '.join(last['worse'][:2])}"
        yield Need(Level.ACT, f"updates of {name}: {words}", remedy)
    if now - (it["good"] or it["since"]) > _WEEK:
        yield Need(Level.ACT, f"{name} was not updated for a week", remedy)
    if (it.get("support") or {}).get("over"):
        yield Need(
            Level.ACT, f"Debian mends nothing on {name} any more: its release is too old", remedy
        )
    if it.get("reboot"):
        yield Need(Level.LOOK, f"{name} should be rebooted", remedy)
    if fixed := (it.get("counts") or {}).get("high", {}).get("fixed"):
        yield Need(
            Level.LOOK, f"{name} has {fixed} severe vulnerabilities that Debian has mended", remedy
        )
    if it.get("why"):
        yield Need(Level.LOOK, f"how {name} is patched cannot be told: {it['why']}", remedy)


def _integrity(data: Mapping[str, Any], names: Sequence[str], now: float) -> Iterator[Row]:
    remedy = "mastio integrity status"
    if data["broken"]:
        words = f"integrity's own files were edited on watch: {', '.join(data['broken'][:3])}"
        yield Row("on watch", "edited", (Need(Level.ACT, words, remedy),))
    for name in names:
        it, needs = data["machines"].get(name), []
        if it is None:
            yield Row(
                name, "not measured yet", (Need(Level.LOOK, f"{name} was never measured", remedy),)
            )
            continue
        words = it["verdict"]
        if it["differences"]:
            words = f"{it['differences']:,} differences"
            needs.append(Need(Level.ACT, f"{name}: {words} that nobody accepted", remedy))
        if it["tampered"]:
            needs.append(
                Need(
                    Level.ACT, f"{name}: integrity cannot be measured any more: {it['why']}", remedy
                )
            )
        elif not it["measured"]:
            needs.append(Need(Level.ACT, f"{name} was never measured: {it['why']}", remedy))
        elif now - it["measured"] > LATE:
            needs.append(
                Need(Level.ACT, f"{name} was not measured since {_day(it['measured'])}", remedy)
            )
        yield Row(
            name, f"{words}, {_day(it['measured'])}" if it["measured"] else words, tuple(needs)
        )


def _drills(data: Mapping[str, Any], names: Sequence[str], now: float) -> Iterator[Row]:
    remedy = "mastio drill status"
    needs = []
    if not data["good"]:
        needs.append(Need(Level.ACT, "a drill could not restore what was archived", remedy))
    last = data["last_good"]
    if last and now - last > data["overdue"] * 86_400:
        needs.append(Need(Level.ACT, f"no drill has been good since {_day(last)}", remedy))
    words = "good" if data["good"] else f"not good: {data['wrong']} findings"
    yield Row("restoring", f"{words}, {_day(data['at'])}", tuple(needs))


def _backups(data: Mapping[str, Any], names: Sequence[str], now: float) -> Iterator[Row]:
    remedy = "mastio backup list"
    for name, it in data["machines"].items():
        needs = [
            Need(Level.ACT, f"{name}: its backup tried to do more than add: {words}", remedy)
            for words in it["refused"][-1:]
        ]
        if it["damaged"]:
            needs.append(Need(Level.ACT, f"{name}: archives are damaged: {it['damaged']}", remedy))
        if not it["newest"]:
            needs.append(Need(Level.ACT, f"{name} has no archive", remedy))
        elif now - it["newest"] > it["limit"]:
            needs.append(
                Need(Level.ACT, f"{name} has no archive since {_day(it['newest'])}", remedy)
            )
        newest = _day(it["newest"]) if it["newest"] else "none"
        yield Row(
            name,
            f"newest {newest}; {it['archives']} archives, {it['octets'] / 1e6:,.0f} MB",
            tuple(needs),
        )


PARTS = (
    Part("Alarms", f"{ALARMS}/book.json", _alarms, "mastio alarms", _NONE),
    Part("Ways of alarms", f"{ALARMS}/ways.json", _ways, "mastio alarms", _ALL),
    Part("Disks and queues now", GLANCE, _machines, "mastio status"),
    Part("Updates", KNOWN, _updates, "mastio patches"),
    Part("Integrity", f"{INTEGRITY}/status.json", _integrity, "mastio integrity status"),
    Part("Backups", BACKUPS, _backups, "mastio backup list"),
    Part("Restore drills", VERDICT, _drills, "mastio drill status"),
)
"""What watch looks after."""


def collect() -> dict[str, Any]:
    """What the parts' files say, by their paths; on watch: nothing of one that is not there, None of one that broke."""
    found: dict[str, Any] = {}
    for part in PARTS:
        try:
            found[part.path] = json.loads(Path(part.path).read_text())
        except OSError:
            continue
        except ValueError:
            found[part.path] = None
    return found


def sections(
    found: Mapping[str, Any], names: Sequence[str], now: float, parts: Sequence[Part] = PARTS
) -> tuple[Section, ...]:
    """How each part stands, from what `collect` found."""
    return tuple(Section(part.title, tuple(_rows(part, found, names, now))) for part in parts)


def _rows(part: Part, found: Mapping[str, Any], names: Sequence[str], now: float) -> Sequence[Row]:
    title = part.title.lower()
    if part.path not in found and part.without:
        return (Row(part.without, ""),)
    if part.path not in found:
        need = Need(Level.LOOK, f"{title}: nothing is known yet", part.remedy)
        return (Row("nothing is known yet", "", (need,)),)
    try:
        return tuple(part.rows(found[part.path], names, now))
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        # Another version of mastio wrote it, or nobody of ours did.
        need = Need(
            Level.LOOK, f"{title}: {part.path} on watch makes no sense: {error!r}", part.remedy
        )
        return (Row("makes no sense", "", (need,)),)
