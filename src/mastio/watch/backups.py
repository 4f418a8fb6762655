"""What is to be said of backups: alarms, and what is in an archive. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from mastio.site.model import Site
from mastio.verify.model import Severity
from mastio.watch import alarm
from mastio.watch.alarm import Alarm
from mastio.watch.backing import Known, Record

DAY = 86_400.0
COPY = 3 * DAY
"""The age of the newest archive in the second copy, in seconds, from which it is too old."""
_JUMP, _LEAST = 10, 1 << 30
"""An archive adds too much when it is so many times the most that any of the last ones added, and so many octets."""
_ENOUGH = 3
"""Archives after which there is something to compare with."""


def limit(site: Site, *, often: bool) -> float:
    """The age of the newest archive, in seconds, from which it is too old."""
    return max(3 * 60.0 * site.backup.every_minutes, 3600.0) if often else 2 * DAY


def jumped(added: list[int]) -> bool:
    """Whether the last archive added far more than those before it; the first brings everything."""
    before = added[1:-1] if len(added) < 30 else added[:-1]
    return len(before) >= _ENOUGH and added[-1] > max(_LEAST, _JUMP * max(before))


def octets(number: float) -> str:
    """Octets, as people read them."""
    for unit in ("octets", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "octets" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def places(listed: str) -> list[dict[str, Any]]:
    """How many files and octets an archive has, by place: a folder of a machine's state, or a domain's mail."""
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for line in listed.splitlines():
        kind, _, rest = line.partition(" ")
        number, _, path = rest.partition(" ")
        if kind == "-":
            place = "/" + "/".join(path.split("/")[: 3 if path.startswith("var/vmail/") else 4][:4])
            count[place] += 1
            size[place] += int(number)
    return [{"place": it, "files": count[it], "octets": size[it]} for it in sorted(count)]


class Alarms:
    """Collects what is to be said, of `site`, now (seconds since the epoch)."""

    def __init__(self, site: Site, now: float) -> None:
        self._site, self._now = site, now
        self.found: list[Alarm] = []

    def _say(self, about: str, severity: Severity, words: str, text: str, *, bad: bool) -> None:
        verdict = "failed" if bad else alarm.WELL
        self.found.append(
            Alarm(
                self._site.name,
                about,
                severity,
                f"[{self._site.name}] {words}",
                text + "\n",
                verdict,
                self._now,
            )
        )

    def of_records(self, records: Iterable[Record], backings: Mapping[str, Any]) -> None:
        """Sessions that failed, that did more than add, that added too much; and those that are well again."""
        for it in records:
            machine = it.machine
            self._say(
                f"backup {machine}", Severity.HIGH,
                f"{machine}: no backup" if it.error else f"{machine}: backups are made",
                f"{it.error}\n\n`mastio backup now {machine}` tries again." if it.error else f"Archive {it.archive}.",
                bad=bool(it.error),
            )  # fmt: skip
            if it.refused:
                self._say(
                    f"backup session {machine}", Severity.CRITICAL,
                    f"{machine}: its backup tried to do more than add",
                    "\n".join((
                        *it.refused, "",
                        "What it wrote was set aside; older archives are as they were. Only who has root on "
                        f"{machine} can do this: take it as broken into.",
                        f"When you have seen to it: `mastio backup accept {machine} --why …`. "
                        "Until then nothing is pruned.",
                    )), bad=True,
                )  # fmt: skip
            known = backings[machine].known
            if it.good:
                grew = jumped(known.added)
                self._say(
                    f"backup growth {machine}", Severity.MEDIUM,
                    f"{machine}: its backup grew by {octets(known.added[-1])}" if grew
                    else f"{machine}: backups grow as usual",
                    f"Archive {it.archive} added {octets(known.added[-1])}. Somebody brings mail over, or fills the "
                    "disk of watch.",
                    bad=grew,
                )  # fmt: skip

    def of_tidying(self, failed: Iterable[str]) -> None:
        """What could not be pruned, or copied."""
        text = "\n".join(failed)
        self._say(
            "backup tidying", Severity.HIGH,
            "archives were not pruned or not copied" if text else "archives are pruned and copied",
            text or "All is as it should be.", bad=bool(text),
        )  # fmt: skip

    def of_damage(self, found: Mapping[str, str]) -> None:
        """What cannot be read."""
        for machine, words in found.items():
            self._say(
                f"backup damage {machine}", Severity.CRITICAL,
                f"{machine}: archives are damaged" if words else f"{machine}: archives can be read",
                f"{words}\n\n`mastio backup verify {machine}` tells more; see to the disk of watch." if words
                else "All archives were read.", bad=bool(words),
            )  # fmt: skip

    def of_age(self, known: Mapping[str, Known], often: Iterable[str], since: float) -> None:
        """Archives that are too old. `since` is when there was anything to archive."""
        for machine, it in known.items():
            newest = it.newest or since
            late = self._now - newest > limit(self._site, often=machine in often)
            when = f"{datetime.fromtimestamp(newest, UTC):%Y-%m-%d %H:%M} UTC"
            self._say(
                f"backup age {machine}", Severity.HIGH,
                f"{machine}: no new backup since {when}" if late else f"{machine}: the newest backup is young enough",
                f"Newest archive: {when if it.newest else 'none'}. On watch: systemctl status 'mastio-backup@*' "
                "'mastio-backup-*.timer'", bad=late,
            )  # fmt: skip
            if not self._site.backup.copy:
                continue
            copied = it.copied or since
            late = self._now - copied > COPY
            when = f"{datetime.fromtimestamp(copied, UTC):%Y-%m-%d %H:%M} UTC"
            self._say(
                f"backup copy age {machine}", Severity.HIGH,
                f"{machine}: no second copy since {when}" if late else f"{machine}: the second copy is young enough",
                f"Newest archive in {self._site.backup.copy}: {when if it.copied else 'none'}. On watch: "
                "journalctl -u mastio-backup@daily", bad=late,
            )  # fmt: skip

    def seen(self, machine: str, by: str, why: str) -> None:
        """What was refused has been seen by an administrator."""
        self._say(
            f"backup session {machine}", Severity.CRITICAL, f"{machine}: what its backup did was looked at",
            f"{by}: {why}", bad=False,
        )  # fmt: skip
