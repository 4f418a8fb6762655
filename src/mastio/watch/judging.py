"""What measurements say: compared with references, kept, told; and what of them is taken over.

work = Work(place, site, measurer, say, tell)
work.check(["store"], deep=False)

What is news goes to `tell` before it is kept as known: whoever is stopped in between tells it once more, and the bell
knows what was told.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from mastio.errors import Exit, MastioError
from mastio.files import put
from mastio.foreign import printable
from mastio.integrity import database, expected, facts
from mastio.integrity.difference import Difference
from mastio.integrity.place import Last, Place, Reference, Verdict
from mastio.roles.integrity import LATE
from mastio.site.model import Site
from mastio.verify.model import Severity
from mastio.watch import alarm
from mastio.watch.alarm import Alarm
from mastio.watch.measuring import Measurer, Seen, TamperedError

_ABREAST = 3
"""Machines that are measured at once."""
_SHOWN = 40
"""Differences that an alarm tells one by one."""
_NEXT = {
    Verdict.DIFFERS: "`mastio integrity check` tells more; `accept --why` takes over what is right.",
    Verdict.UNKNOWN: "`mastio integrity check` looks anew; until it can measure, nothing can be accepted.",
    Verdict.CLEAN: "`mastio integrity status` tells more.",
}
"""What whoever is told does next."""


def compare(reference: Reference, seen: Seen) -> tuple[Difference, ...]:
    """All that differs."""
    return (
        *database.compare(reference.rows, seen.rows),
        *facts.compare(reference.facts, seen.facts),
    )


def judged(reference: Reference, seen: Seen) -> tuple[Last, Seen]:
    """What a measurement says, now."""
    found, now = compare(reference, seen), time.time()
    verdict = Verdict.DIFFERS if found else Verdict.CLEAN
    return Last(now, verdict, "", found, seen.seconds, seen.cpu, now), seen


def news(
    site: str, before: Mapping[str, Last | None], now: Mapping[str, Last], at: float
) -> list[Alarm]:
    """What an administrator must hear of, by machine: new differences, what cannot be trusted any more, what is well
    again."""
    found = []
    for machine, last in now.items():
        former = before.get(machine)
        if {*last.differences} - ({*former.differences} if former else set()):
            what, verdict = "changed, and nobody accepted it", "failed"
        elif last.tampered and not (former and former.tampered):
            what, verdict = "integrity cannot be measured any more", "failed"
        elif former and (former.differences or former.tampered) and last.verdict is Verdict.CLEAN:
            what, verdict = "well again, nothing differs", alarm.WELL
        else:
            continue
        text = "\n".join((*_told(machine, last), "", _NEXT[last.verdict], ""))
        subject = f"[{site}] {machine}: {what}"
        found.append(
            Alarm(
                site, f"integrity {machine}", Severity.HIGH, subject, text, verdict, at, _which(last)
            )
        )  # fmt: skip
    return found


def _which(last: Last) -> str:
    """What identifies the differences: one more is another alarm, although its subject is the same."""
    lines = "\n".join(sorted(it.line for it in last.differences))
    return hashlib.sha256(lines.encode()).hexdigest()


def _told(machine: str, last: Last) -> Iterable[str]:
    yield f"{machine}: {last.verdict}" + (f": {last.why}" if last.why else "")
    for it in last.differences[:_SHOWN]:
        yield f"  {it.line}"
    if (more := len(last.differences) - _SHOWN) > 0:
        yield f"  … and {more} more"


def overdue(place: Place, site: Site, now: float, since: float) -> list[Alarm]:
    """What is to be said of each machine that was not measured for too long, or is again.

    `since` is when there was anything to measure, in seconds since the epoch.
    """
    found = []
    for machine in (it.name for it in site.machines):
        last = place.last(machine)
        measured = last.measured if last and last.measured else since
        late = now - measured >= LATE
        when = f"{datetime.fromtimestamp(measured, UTC):%Y-%m-%d %H:%M} UTC"
        words = "has not been measured" if late else "is measured again"
        text = (
            f"Nobody knows whether {machine} is as it should be: not since {when}.\n\n"
            "On watch: systemctl status mastio-integrity@check.service mastio-integrity-check.timer\n"
            if late
            else f"{machine} was measured at {when}.\n"
        )
        found.append(
            Alarm(
                site.name, f"measuring {machine}", Severity.HIGH,
                f"[{site.name}] {machine}: integrity {words}", text, "not run" if late else alarm.WELL, now,
            )
        )  # fmt: skip
    return found


class Work:
    """One run on watch."""

    def __init__(
        self, place: Place, site: Site, measurer: Measurer, say: Callable[[Any], None],
        tell: Callable[[Alarm], None],
    ) -> None:  # fmt: skip
        self.place, self.site, self.say, self._tell = place, site, say, tell
        self._measurer = measurer
        self._broken = place.broken()
        self._before = {it.name: place.last(it.name) for it in site.machines}
        self.now: dict[str, Last] = {}
        self.doubtful: list[str] = []

    # --- measuring ---

    def check(self, machines: Iterable[str], *, deep: bool, patient: bool = False) -> None:
        """Measures and compares. `patient`: what differs anew is only noted in `doubtful`, to be looked at again: an
        apply may be at work, and what it does is no alarm once it has said so."""
        self._each(machines, lambda it: self._check(it, deep=deep), patient=patient)

    def settle(self, order: Mapping[str, Any]) -> None:
        """After an apply: see `expected`."""
        self._each(order["machines"], lambda it: self._settle(it, order))

    def renew(self, order: Mapping[str, Any]) -> None:
        """Takes machines as they are now, whole."""
        self._each(order["machines"], lambda it: self._take(it, order["by"], order["why"]))

    def _each(
        self,
        machines: Iterable[str],
        work: Callable[[str], tuple[Last, Seen]],
        *,
        patient: bool = False,
    ) -> None:
        def one(machine: str) -> None:
            self.say({"machine": machine, "step": "measuring"})
            begin, former = time.time(), self._before.get(machine)
            seen: Seen | None = None
            try:
                last, seen = work(machine)
            except Exception as error:
                # Whatever one machine answers, the others are measured, and it is told.
                known = former.differences if former else ()
                measured = former.measured if former else 0.0
                why, foul = _why(error)
                last = Last(begin, Verdict.UNKNOWN, why, known, measured=measured, tampered=foul)
            if patient and {*last.differences} - {*(former.differences if former else ())}:
                self.doubtful.append(machine)
                return
            self._keep(machine, last, seen)
            self.say({"machine": machine, "last": asdict(last)})

        with ThreadPoolExecutor(_ABREAST) as pool:
            list(pool.map(one, machines))
        self._publish()

    def _keep(self, machine: str, last: Last, seen: Seen | None = None) -> None:
        """Tells what is news of a machine, then keeps it as known."""
        for it in news(self.site.name, self._before, {machine: last}, time.time()):
            self._tell(it)
        if seen:
            self.place.keep_seen(machine, seen.rows, dict(seen.facts), seen.packages)
        self.place.keep_last(machine, last)
        self.now[machine] = last

    def _check(self, machine: str, *, deep: bool = False) -> tuple[Last, Seen]:
        reference = self._reference(machine)
        if reference is None:
            raise MastioError("no reference was taken yet: `mastio integrity begin` takes it")
        return judged(reference, self._see(machine, deep=deep))

    def _settle(self, machine: str, order: Mapping[str, Any]) -> tuple[Last, Seen]:
        reference = self._reference(machine)
        if reference is None:
            return self._take(machine, order["by"], "first apply")
        seen, done = self._see(machine), order["machines"][machine]
        packages = self._measurer.packages(machine, done["packages"]) if done["packages"] else {}
        before = self._before.get(machine)
        told = {it.what for it in before.differences} if before else set()
        paths = expected.settled(
            done, reference.rows, seen.rows, packages, reference.packages, told
        )
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
        return judged(reference, seen)

    def _take(self, machine: str, by: str, why: str) -> tuple[Last, Seen]:
        seen = self._see(machine)
        reference = Reference(time.time(), by, seen.facts, seen.packages, seen.rows)
        # What runs from a deleted file is never as it should be.
        reference.facts["deleted"][:] = []
        self._seal(machine, reference, why, by, ["everything"])
        return judged(reference, seen)

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
        if last.verdict is Verdict.UNKNOWN:
            raise MastioError(
                f"{machine} could not be measured: {last.why}; nobody knows what there would be to accept",
                hint=f"`mastio integrity check {machine}` looks anew",
                code=Exit.UNAVAILABLE,
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
        self._keep(machine, replace(last, verdict=verdict, differences=left))
        self.say(
            {"machine": machine, "accepted": sorted(accepted), "last": asdict(self.now[machine])}
        )
        self._publish()

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


def _why(error: Exception) -> tuple[str, bool]:
    """Why a machine could not be measured, and whether somebody must have had a hand in it: an answer that makes no
    sense is none of a machine that is away."""
    if isinstance(error, MastioError):
        return error.message, isinstance(error, TamperedError)
    if isinstance(error, OSError | ValueError):
        return printable(str(error)), isinstance(error, ValueError)
    return printable(f"its answer makes no sense: {type(error).__name__}: {error}"), True
