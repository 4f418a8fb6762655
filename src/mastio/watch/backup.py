"""Backups by themselves, and when asked, on watch: `python3 -m mastio.watch.backup WHAT [MACHINE]…`.

| | |
|---|---|
| `often`, `daily` | the store; the other machines, then what is too old goes, and the second copy |
| `weekly` | whether all archives can be read |
| `late` | raise an alarm for machines whose newest archive is too old |
| `now` | all machines, or those named |
| `list`, `show` | the archives; one of them, and what is in it |
| `verify`, `deep` | as weekly, when asked; each octet of all data |
| `key` | a repository's key, for paper |
| `accept` | what was refused has been seen (stdin: JSON, `by` whom, `why`) |

Each prints lines of JSON. What is known is kept below `roles.backup.FOLDER`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mastio.context import ALARMS
from mastio.errors import Exit, MastioError
from mastio.files import put
from mastio.roles.backup import ON_SIDE_OF_WATCH, STATUS
from mastio.roles.inspection import SETTINGS as INSPECTION
from mastio.roles.inspection import SITE
from mastio.site import plain
from mastio.site.model import Site
from mastio.watch import backups
from mastio.watch.backing import Backing, Record
from mastio.watch.bell import Bell
from mastio.watch.copying import copy
from mastio.watch.settings import load

_ABREAST = 3
WORDS = (
    "often",
    "daily",
    "weekly",
    "late",
    "now",
    "list",
    "show",
    "verify",
    "deep",
    "key",
    "accept",
)


def say(what: Any) -> None:
    """A line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class Work:
    """One run."""

    def __init__(self, site: Site, own: dict[str, Any]) -> None:
        self.site = site
        self.often: list[str] = own["often"]
        self.all = {name: Backing(name, ssh) for name, ssh in own["ssh"].items()}

    def chosen(self, machines: Iterable[str]) -> list[Backing]:
        """Those that are named, or all; MastioError for one that is none."""
        names = [*machines]
        if wrong := sorted({*names} - {*self.all}):
            raise MastioError(
                f"nothing is archived of {', '.join(wrong)}",
                hint=f"backups are made of {', '.join(self.all)}", code=Exit.USAGE,
            )  # fmt: skip
        return [self.all[it] for it in names or self.all]

    def back_up(self, these: Iterable[Backing]) -> list[Record]:
        """A session with each, some side by side."""
        with ThreadPoolExecutor(_ABREAST) as pool:
            return list(pool.map(self._one, these))

    @staticmethod
    def _one(backing: Backing) -> Record:
        try:
            with backing.alone():
                say({"machine": backing.machine, "step": "archiving"})
                record = backing.run(say)
        except (MastioError, OSError, ValueError, TypeError) as error:
            words = (
                error.message
                if isinstance(error, MastioError)
                else f"{type(error).__name__}: {error}"
            )
            record = Record(backing.machine, "", error=words)
        say({
            "machine": record.machine, "archive": record.archive, "why": record.error, "refused": record.refused,
            **record.told,
        })  # fmt: skip
        return record

    def tidy(self) -> Iterator[str]:
        """What is too old goes; what could not be done, in words."""
        for backing in self.all.values():
            try:
                with backing.alone():
                    backing.tidy(self.site.backup)
                if self.site.backup.copy:
                    copy(backing, self.site)
            except (MastioError, OSError, ValueError, TypeError) as error:
                words = (
                    error.message
                    if isinstance(error, MastioError)
                    else f"{type(error).__name__}: {error}"
                )
                yield f"{backing.machine}: {words}"

    def status(self) -> dict[str, Any]:
        """How each machine's backups are."""
        return {
            "at": time.time(),
            "copy": bool(self.site.backup.copy),
            "machines": {
                name: {
                    "newest": known.newest, "limit": backups.limit(self.site, often=name in self.often),
                    "archives": len(known.archives), "octets": it.size() if it.repository.made() else 0,
                    "last": known.last, "refused": known.refused, "damaged": known.damaged,
                    "checked": known.checked, "copied": known.copied,
                    "copy_limit": backups.COPY if self.site.backup.copy else 0.0,
                }
                for name, it in self.all.items()
                for known in (it.known,)
            },
        }  # fmt: skip


def run(what: str, words: list[str]) -> None:
    """One of them; MastioError says why not. What went wrong with a machine is told, and an alarm."""
    os.umask(0o077)
    site = plain.recall(Path(SITE).read_text())
    work = Work(site, json.loads(Path(ON_SIDE_OF_WATCH).read_text()))
    bell, now = Bell(Path(ALARMS), site), time.time()
    since = Path(SITE).stat().st_mtime
    alarms = backups.Alarms(site, now)
    match what:
        case "often" | "daily" | "now":
            names = {"often": work.often, "daily": [it for it in work.all if it not in work.often]}
            records = work.back_up(work.chosen(names.get(what, words)))
            alarms.of_records(records, work.all)
            if what == "daily":
                alarms.of_tidying([*work.tidy()])
        case "weekly" | "verify" | "deep":
            found = {}
            for backing in work.chosen(words):
                say({"machine": backing.machine, "step": "reading all archives"})
                with backing.alone():
                    found[backing.machine] = backing.checked(data=what == "deep")
                say({"machine": backing.machine, "damaged": found[backing.machine]})
            alarms.of_damage(found)
        case "late":
            alarms.of_age({name: it.known for name, it in work.all.items()}, work.often, since)
        case "accept":
            order = json.load(sys.stdin)
            for backing in work.chosen(words):
                backing.seen()
                alarms.seen(backing.machine, order["by"], order["why"])
        case _:
            _asked(what, words, work)
            return
    # Everybody on watch may read it: the checks answer with nothing else (look.py).
    put(Path(STATUS), json.dumps(work.status(), indent=1), 0o644)
    for one in alarms.found:
        bell.raise_(one, now)
    for failed in bell.ring(load(Path(INSPECTION)), now):
        print(failed, file=sys.stderr)


def _asked(what: str, words: list[str], work: Work) -> None:
    """What only looks."""
    match what:
        case "list":
            state = work.status()["machines"]
            for backing in work.chosen(words):
                with backing.alone():
                    found = backing.repository.archives() if backing.repository.made() else []
                rows = [{"name": it.name, "at": it.at} for it in found]
                say({"machine": backing.machine, "archives": rows, "state": state[backing.machine]})
        case "key":
            for backing in work.chosen(words):
                say({"machine": backing.machine, "key": backing.repository.key()})
        case _:
            machine, _, name = words[0].partition("::")
            (backing,) = work.chosen([machine])
            with backing.alone():
                told = backing.repository.run(
                    "info", "--json", f"{backing.repository.path}::{name}"
                )
                listed = backing.repository.run(
                    "list",
                    "--format",
                    "{type} {size} {path}{NL}",
                    f"{backing.repository.path}::{name}",
                )
            say(
                {
                    "machine": machine,
                    "info": json.loads(told)["archives"][0],
                    "places": backups.places(listed),
                }
            )


def main(what: str, words: list[str]) -> int:
    """The exit code."""
    try:
        run(what, words)
    except (MastioError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        message, hint, code = f"{type(error).__name__}: {error}", "", Exit.FAILED
        if isinstance(error, MastioError):
            message, hint, code = error.message, error.hint, error.code
        say({"error": message, "hint": hint, "code": code})
        print(message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] not in [[it] for it in WORDS]:
        sys.exit(f"{', '.join(WORDS)}?")
    sys.exit(main(sys.argv[1], sys.argv[2:]))
