"""Integrity by itself, and when asked, on watch: `python3 -m mastio.watch.integrity WHAT [MACHINE]…`.

| | |
|---|---|
| `check`, `deep` | measure (`deep`: mail folders too), compare, keep, raise an alarm when something is news |
| `late` | raise one when a machine was not measured for too long: silence is no good news |
| `tools` | gather AIDE and its libraries when there are none; what identifies them |
| `settle` | after an apply: take first references, take over what the apply changed (stdin: `expected.of_apply`) |
| `accept`, `renew` | take over what an administrator accepts: named differences, or a machine whole (stdin) |
| `status` | what is known, without looking |

Each prints lines of JSON; the last one but errors has `seal`.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mastio.errors import Exit, MastioError
from mastio.integrity import database, expected, facts
from mastio.integrity.difference import Difference
from mastio.integrity.place import Last, Place, Reference, Verdict, put
from mastio.roles.inspection import SETTINGS as INSPECTION
from mastio.roles.inspection import SITE
from mastio.roles.integrity import FOLDER, SETTINGS
from mastio.site import plain
from mastio.site.model import Site
from mastio.watch import alarm
from mastio.watch.alarm import Alarm
from mastio.watch.measuring import Measurer, Seen, TamperedError, gather
from mastio.watch.settings import FromWatch, load

LATE = 3 * 3600.0
"""Seconds without a measurement after which something is wrong with measuring."""
_ABREAST = 3
"""Machines that are measured at once."""
_SHOWN = 40
"""Differences that an alarm tells one by one."""


def compare(reference: Reference, seen: Seen) -> tuple[Difference, ...]:
    """All that differs."""
    return (
        *database.compare(reference.rows, seen.rows),
        *facts.compare(reference.facts, seen.facts),
    )


def news(
    site: str, before: Mapping[str, Last | None], now: Mapping[str, Last], at: float
) -> Alarm | None:
    """What an administrator must hear of: new differences, what cannot be trusted any more, what is well again."""
    changed, lost, better = [], [], []
    for machine, last in now.items():
        former = before.get(machine)
        if {*last.differences} - ({*former.differences} if former else set()):
            changed.append(machine)
        elif last.tampered and not (former and former.tampered):
            lost.append(machine)
        elif former and (former.differences or former.tampered) and last.verdict is Verdict.CLEAN:
            better.append(machine)
    words = (
        (changed, "changed, and nobody accepted it"),
        (lost, "integrity cannot be measured any more"),
        (better, "well again, nothing differs"),
    )
    if not (told := [(names, what) for names, what in words if names]):
        return None
    subject = f"[{site}] " + "; ".join(f"{', '.join(names)}: {what}" for names, what in told)
    lines = [line for names, _ in told for it in names for line in _told(it, now[it])]
    text = "\n".join(
        (
            *lines,
            "",
            "`mastio integrity check` tells more; `accept --why` takes over what is right.",
            "",
        )
    )
    return Alarm(site, subject, text, "failed" if changed or lost else "passed", at)


def _told(machine: str, last: Last) -> Iterable[str]:
    yield f"{machine}: {last.verdict}" + (f": {last.why}" if last.why else "")
    for it in last.differences[:_SHOWN]:
        yield f"  {it.line}"
    if (more := len(last.differences) - _SHOWN) > 0:
        yield f"  … and {more} more"


def overdue(place: Place, site: Site, now: float, since: float) -> list[Alarm]:
    """An alarm for machines that were not measured for too long; once, until they are.

    `since` is when there was anything to measure, in seconds since the epoch.
    """
    ages = {}
    for machine in (it.name for it in site.machines):
        last = place.last(machine)
        measured = last.measured if last and last.measured else since
        mark = place.folder / f"late-{machine}"
        if now - measured < LATE or (mark.exists() and float(mark.read_text()) == measured):
            continue
        mark.write_text(repr(measured))
        ages[machine] = datetime.fromtimestamp(measured, UTC)
    if not ages:
        return []
    lines = [f"{machine}: not since {when:%Y-%m-%d %H:%M} UTC" for machine, when in ages.items()]
    text = (
        "Nobody knows whether these machines are as they should be:\n\n" + "\n".join(lines) + "\n\n"
        "On watch: systemctl status mastio-integrity@check.service mastio-integrity-check.timer\n"
    )
    subject = f"[{site.name}] integrity has not been measured: {', '.join(ages)}"
    return [Alarm(site.name, subject, text, "not run", now)]


class Work:
    """One run on watch."""

    def __init__(
        self, place: Place, site: Site, measurer: Measurer, say: Callable[[Any], None]
    ) -> None:
        self.place, self.site, self.say = place, site, say
        self._measurer = measurer
        self._broken = place.broken()
        self._before = {it.name: place.last(it.name) for it in site.machines}
        self.now: dict[str, Last] = {}

    # --- measuring ---

    def check(self, machines: Iterable[str], *, deep: bool) -> None:
        """Measures and compares."""
        self._each(machines, lambda it: self._check(it, deep=deep))

    def settle(self, order: Mapping[str, Any]) -> None:
        """After an apply: see `expected`."""
        self._each(order["machines"], lambda it: self._settle(it, order))

    def renew(self, order: Mapping[str, Any]) -> None:
        """Takes machines as they are now, whole."""
        self._each(order["machines"], lambda it: self._take(it, order["by"], order["why"]))

    def _each(self, machines: Iterable[str], work: Callable[[str], Last]) -> None:
        def one(machine: str) -> None:
            self.say({"machine": machine, "step": "measuring"})
            begin, former = time.time(), self._before.get(machine)
            try:
                last = work(machine)
            except (MastioError, OSError, ValueError) as error:
                why = error.message if isinstance(error, MastioError) else str(error)
                measured = former.measured if former else 0.0
                known = former.differences if former else ()
                foul = isinstance(error, TamperedError | ValueError)
                last = Last(begin, Verdict.UNKNOWN, why, known, measured=measured, tampered=foul)
            self.place.keep_last(machine, last)
            self.now[machine] = last
            self.say({"machine": machine, "last": asdict(last)})

        with ThreadPoolExecutor(_ABREAST) as pool:
            list(pool.map(one, machines))
        self._publish()

    def _check(self, machine: str, *, deep: bool = False) -> Last:
        reference = self._reference(machine)
        if reference is None:
            raise MastioError("no reference was taken yet: `mastio apply` takes it")
        return self._keep(machine, reference, self._see(machine, deep=deep))

    def _settle(self, machine: str, order: Mapping[str, Any]) -> Last:
        reference = self._reference(machine)
        if reference is None:
            return self._take(machine, order["by"], "first apply")
        seen, done = self._see(machine), order["machines"][machine]
        packages = self._measurer.packages(machine, done["packages"]) if done["packages"] else {}
        paths = expected.settled(done, reference.rows, seen.rows, packages, reference.packages)
        accounts = expected.settled_accounts(
            done, reference.facts.get("account", ()), seen.facts["account"]
        )
        if paths or accounts:
            reference = Reference(
                time.time(), order["by"], facts.merge(reference.facts, seen.facts, accounts),
                {**reference.packages, **{name: it.version for name, it in packages.items()}},
                database.merge(reference.rows, seen.rows, paths),
            )  # fmt: skip
            self._seal(
                machine, reference, "apply", order["by"], [*sorted(paths), *sorted(accounts)]
            )
        return self._keep(machine, reference, seen)

    def _take(self, machine: str, by: str, why: str) -> Last:
        seen = self._see(machine)
        reference = Reference(time.time(), by, seen.facts, seen.packages, seen.rows)
        # What runs from a deleted file is never as it should be.
        reference.facts["deleted"][:] = []
        self._seal(machine, reference, why, by, ["everything"])
        return self._keep(machine, reference, seen)

    def _reference(self, machine: str) -> Reference | None:
        if edited := [it for it in self._broken if it.split("/")[0] in (machine, "seal.json")]:
            raise TamperedError(
                f"the reference was edited on watch: {', '.join(edited)}; "
                "`mastio integrity renew` takes a new one when you know what happened"
            )
        return self.place.reference(machine)

    def _see(self, machine: str, *, deep: bool = False) -> Seen:
        if edited := [it for it in self._broken if it.split("/")[0] == "tools"]:
            raise TamperedError(f"AIDE was edited on watch: {', '.join(edited)}")
        return self._measurer.see(machine, deep=deep)

    def _keep(self, machine: str, reference: Reference, seen: Seen) -> Last:
        self.place.keep_seen(machine, seen.rows, dict(seen.facts), seen.packages)
        found, now = compare(reference, seen), time.time()
        verdict = Verdict.DIFFERS if found else Verdict.CLEAN
        return Last(now, verdict, "", found, seen.seconds, seen.cpu, now)

    def _seal(self, machine: str, reference: Reference, why: str, by: str, what: list[str]) -> None:
        with self.place.writing:
            self.place.keep_reference(machine, reference)
            self.place.seal(machine)
            self.place.log(at=time.time(), by=by, machine=machine, why=why, what=what)

    # --- accepting ---

    def accept(self, order: Mapping[str, Any]) -> None:
        """Takes over differences as the last measurement found them, and as an administrator saw them."""
        machine, wanted = order["machine"], [*order["what"]]
        reference, last = self._reference(machine), self.place.last(machine)
        if reference is None or last is None:
            raise MastioError(
                f"{machine} has not been measured yet", hint="`mastio integrity check`"
            )
        known = {it.what for it in last.differences}
        if wrong := sorted({*wanted} - known):
            raise MastioError(
                f"{machine}: nothing differs at {', '.join(wrong)}",
                hint=f"what differs: {', '.join(sorted(known)[:10]) or 'nothing'}; `mastio integrity check` looks anew",
                code=Exit.USAGE,
            )
        accepted = {*wanted} or known
        rows, found, packages = self.place.last_seen(machine)
        if accepted:
            paths = {it for it in accepted if it in rows or it in reference.rows}
            reference = Reference(
                time.time(), order["by"], facts.merge(reference.facts, found, accepted), packages,
                database.merge(reference.rows, rows, paths),
            )  # fmt: skip
            self._seal(machine, reference, order["why"], order["by"], sorted(accepted))
        seen = Seen(rows, found, packages, last.seconds, last.cpu)
        left = compare(reference, seen)
        verdict = Verdict.DIFFERS if left else Verdict.CLEAN
        self.now[machine] = replace(last, verdict=verdict, why="", differences=left)
        self.place.keep_last(machine, self.now[machine])
        self.say(
            {"machine": machine, "accepted": sorted(accepted), "last": asdict(self.now[machine])}
        )
        self._publish()

    # --- telling ---

    def _publish(self) -> None:
        """Verdicts for `mastio verify`, without names of files."""
        told = {}
        for machine in (it.name for it in self.site.machines):
            last = self.place.last(machine)
            told[machine] = None if last is None else {
                "verdict": last.verdict, "why": last.why, "differences": len(last.differences),
                "measured": last.measured, "tampered": last.tampered,
            }  # fmt: skip
        data = {"machines": told, "broken": self.place.broken()}
        put(self.place.folder / "status.json", json.dumps(data, indent=1).encode(), 0o644)

    def alarm(self) -> Alarm | None:
        """What is news of this run."""
        return news(self.site.name, self._before, self.now, time.time())


def status(place: Place, site: Site) -> Iterable[dict[str, Any]]:
    """What is known of each machine."""
    entries, whole = place.entries()
    for machine in (it.name for it in site.machines):
        reference = place.reference(machine)
        last = place.last(machine)
        yield {
            "machine": machine,
            "reference": reference and {
                "at": reference.at, "by": reference.by, "files": len(reference.rows),
            },
            "last": last and asdict(last),
            "log": [it for it in entries if it["machine"] == machine][-5:],
        }  # fmt: skip
    yield {"broken": [*place.broken(), *(() if whole else ("log.jsonl",))]}


def say(what: Any) -> None:
    """A line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def run(what: str, machines: list[str]) -> None:
    """One of them; MastioError says why not."""
    os.umask(0o077)
    place, site = Place(Path(FOLDER)), plain.recall(Path(SITE).read_text())
    settings, own = load(Path(INSPECTION)), json.loads(Path(SETTINGS).read_text())
    order = json.load(sys.stdin) if what in ("settle", "accept", "renew", "tools") else {}
    transport = FromWatch(settings, Path(os.environ.get("TMPDIR", "/tmp")))  # noqa: S108 — its own
    with place.alone():
        if what == "tools" and (order.get("anew") or not place.tools()):
            place.keep_tools(gather())
            place.seal("tools")
            place.log(at=time.time(), by=order["by"], machine="", why=order["why"], what=["tools"])
        if what == "late":
            for one in overdue(place, site, time.time(), Path(SITE).stat().st_mtime):
                alarm.raise_(place.folder, one)
        work = Work(place, site, Measurer(site, transport, own["ssh"], place.tools()), say)
        match what:
            case "check" | "deep":
                known = [it.name for it in site.machines]
                if wrong := sorted({*machines} - {*known}):
                    raise MastioError(
                        f"no such machine: {', '.join(wrong)}",
                        hint=f"this site has {', '.join(known)}", code=Exit.USAGE,
                    )  # fmt: skip
                work.check(machines or known, deep=what == "deep")
            case "settle":
                work.settle(order)
            case "renew":
                work.renew(order)
            case "accept":
                work.accept(order)
            case "status":
                for row in status(place, site):
                    say(row)
        if found := work.alarm():
            alarm.raise_(place.folder, found)
        say({"seal": place.seal_digest(), "tools": place.tools_digest()})
    for words in alarm.send(place.folder, site, settings):
        print(words, file=sys.stderr)


def main(what: str, machines: list[str]) -> int:
    """The exit code."""
    try:
        run(what, machines)
    except (MastioError, OSError, ValueError) as error:
        message = (
            error.message if isinstance(error, MastioError) else f"{type(error).__name__}: {error}"
        )
        hint, code = (
            (error.hint, error.code) if isinstance(error, MastioError) else ("", Exit.FAILED)
        )
        say({"error": message, "hint": hint, "code": code})
        print(message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] not in [
        [it] for it in ("check", "deep", "late", "tools", "settle", "accept", "renew", "status")
    ]:
        sys.exit("check, deep, late, tools, settle, accept, renew or status?")
    sys.exit(main(sys.argv[1], sys.argv[2:]))
