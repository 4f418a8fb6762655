"""Security updates by themselves, and when asked, on watch: `python3 -m mastio.watch.patching WHAT [MACHINE]…`.

| | |
|---|---|
| `window` | the tracker's data anew, then one round over all machines (`rounds`) |
| `run` | the same now, all machines or those named; stdin: JSON, `by` whom |
| `upgrade` | as `run`, with all that Debian has, not its security fixes alone |
| `late` | finish what watch's own reboot cut short; raise an alarm for machines that were not updated for a week |
| `status` | what is known of each machine, and what waits there |

Each prints lines of JSON. What was done is kept in `FOLDER`: the last record of each machine, and `runs.jsonl`.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mastio.context import ALARMS
from mastio.errors import Exit, MastioError
from mastio.files import hold, put
from mastio.flows import expand
from mastio.roles.inspection import SETTINGS as INSPECTION
from mastio.roles.inspection import SITE
from mastio.roles.patching import FOLDER, KNOWN, SETTINGS
from mastio.site import plain
from mastio.site.model import Site
from mastio.verify import commands
from mastio.verify.checks.host import MARKS, waiting
from mastio.verify.model import Severity
from mastio.verify.probes import host, state
from mastio.verify.vantage import Ground, Vantage
from mastio.watch import alarm, known
from mastio.watch.alarm import Alarm
from mastio.watch.bell import Bell
from mastio.watch.rounds import BOOT_ID, Record, Round
from mastio.watch.settings import FromWatch, Settings, load

WEEK = 7 * 86400.0
"""Seconds without a good update after which somebody must look."""
_LONGEST_REBOOT = 1800.0
_FRESH = 43_200.0
"""Seconds for which what is known of the machines is not asked for anew."""
_KEPT = 1000
"""Lines of `runs.jsonl`."""


class Kept:
    """What was done, in a folder that only root may enter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One round at a time; MastioError while another is at work."""
        with (self.folder / "lock").open("w") as file:
            try:
                hold(file)
            except BlockingIOError:
                raise MastioError(
                    "another round of updates is at work", hint="wait for it", code=Exit.LOCKED
                ) from None
            yield

    def record(self, machine: str) -> dict[str, Any]:
        """The machine's last record, with `good`: when it was last updated well (seconds, or 0); {} without any."""
        with suppress(FileNotFoundError, ValueError):
            found = json.loads((self.folder / f"{machine}.json").read_text())
            if isinstance(found, dict):
                return found
        return {}

    def keep(self, record: Record) -> None:
        """A record, in its machine's file and in the log."""
        good = record.began if record.good else self.record(record.machine).get("good", 0.0)
        data = {**asdict(record), "good": good}
        put(self.folder / f"{record.machine}.json", json.dumps(data, indent=1).encode(), 0o600)
        log = self.folder / "runs.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        text = "".join(f"{it}\n" for it in (*lines[1 - _KEPT :], json.dumps(asdict(record))))
        put(log, text.encode(), 0o600)

    def seals(self) -> list[list[str]]:
        """How integrity's seal has followed updates, the oldest first."""
        log = self.folder / "runs.jsonl"
        rows = [json.loads(it) for it in log.read_text().splitlines()] if log.exists() else []
        return [it["seal"] for it in rows if it["seal"][0] != it["seal"][1]]


def told(site: str, done: Iterable[Record], left: list[str], at: float) -> list[Alarm]:
    """What is to be said of each machine of a round: it could not be updated, is worse for it, or is well."""
    found = []
    for it in done:
        lines = [f"{it.machine}: {it.error}"] if it.error else []
        lines += [
            f"{it.machine} is not as well as before the update: {words}" for words in it.worse
        ]
        lines += [f"  {name} {old} → {new}" for name, old, new in it.updated]
        if not it.good:
            lines += ["", f"Left alone: {', '.join(left)}"] if left else []
            lines += [
                "",
                "`mastio patches` tells more; `mastio patches run` goes on when it is mended.",
            ]
        what = "updated" if it.good else "worse after updates" if it.worse else "not updated"
        found.append(
            Alarm(
                site, f"updates {it.machine}", Severity.HIGH, f"[{site}] {what}: {it.machine}",
                "\n".join((*lines, "")), alarm.WELL if it.good else "failed", at,
            )
        )  # fmt: skip
    return found


def overdue(kept: Kept, site: Site, now: float, since: float) -> list[Alarm]:
    """What is to be said of each machine that was not updated well for a week, or is again."""
    found = []
    for machine in (it.name for it in site.machines):
        last = kept.record(machine).get("good") or since
        late = now - last >= WEEK
        when = f"{datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M} UTC"
        text = (
            f"{machine} has not got its security updates since {when}.\n\n`mastio patches run` installs them now. "
            "On watch: systemctl status mastio-patches@window.service mastio-patches-window.timer\n"
            if late
            else f"{machine} was updated at {when}.\n"
        )
        words = "no updates for a week" if late else "updates come again"
        found.append(
            Alarm(
                site.name, f"updating {machine}", Severity.HIGH, f"[{site.name}] {words}: {machine}",
                text, "not run" if late else alarm.WELL, now,
            )
        )  # fmt: skip
    return found


def rebooted(kept: Kept, site: Site, watch: str, round_: Round, now: float) -> list[Alarm]:
    """Ends watch's own record once it is back from its reboot."""
    data = kept.record(watch)
    if not data.get("rebooting"):
        return []
    record = Record(**{key: value for key, value in data.items() if key != "good"})
    ended = record.began + record.seconds
    # Not by the uptime: a container has its host's.
    if Path(BOOT_ID).read_text().strip() != record.boot:
        record = round_.back(record)
    elif now - ended < _LONGEST_REBOOT:
        return []
    else:
        record = Record(record.machine, record.by, record.began, record.seconds, record.updated, due=True,
                        error="has not rebooted")  # fmt: skip
    kept.keep(record)
    return told(site.name, [record], [], now)


def status(kept: Kept, site: Site, settings: Settings, tracker: str) -> Iterator[dict[str, Any]]:
    """What is known of each machine; the last line has `seals`."""
    with TemporaryDirectory() as work:
        transport = FromWatch(settings, Path(work))
        ground = Ground(site, expand(site), transport, outside=False)

        def one(machine: str) -> dict[str, Any]:
            vantage = Vantage(machine, ground, time.monotonic() + 120)
            place = Path(work) / f"{machine}.d"
            place.mkdir()
            return {
                "machine": machine,
                "last": kept.record(machine) or None,
                **seen(kept, vantage, place),
            }

        with ThreadPoolExecutor(4) as pool:
            yield from pool.map(one, [it.name for it in site.machines])
    yield {"seals": kept.seals(), "fetches": bool(tracker)}


def remember(rows: Iterable[dict[str, Any]], kept: Kept, since: float) -> None:
    """Puts down what `status` told, as far as the digest needs it. `since` is when there was anything to update."""
    machines = {}
    for it in rows:
        if machine := it.get("machine"):
            record = kept.record(machine)
            last = {key: record.get(key, "") for key in ("began", "error", "worse")}
            more = {
                key: it.get(key) for key in ("why", "waiting", "reboot", "support", "counts", "age")
            }
            machines[machine] = {
                "last": last,
                "good": record.get("good", 0.0),
                "since": since,
                **more,
            }
    put(Path(KNOWN), json.dumps({"at": time.time(), "machines": machines}, indent=1))


def _old(path: Path) -> bool:
    return not path.exists() or time.time() - path.stat().st_mtime > _FRESH


def seen(kept: Kept, vantage: Vantage, work: Path) -> dict[str, Any]:
    """What a machine says now."""
    answer: dict[str, Any] = {"why": ""}
    try:
        release = known.codename(vantage.ask(host.text, "/etc/os-release"))
        support = known.support(release, known.RELEASES.read_text())
        answer["support"] = {**asdict(support), "over": support.over(datetime.now(UTC).date())}
        answer["waiting"] = waiting(vantage.output(*commands.UPDATES))
        answer["reboot"] = bool(vantage.ask(host.exists, list(MARKS)))
        answer["age"] = known.age(kept.folder, release)
        installed = known.status(vantage.ask(state.sources))
        if answer["age"] is not None:
            found = known.vulnerabilities(kept.folder, release, installed, work)
            answer["vulnerabilities"] = [asdict(it) for it in found]
            answer["counts"] = known.counts(found)
    except MastioError as error:
        answer["why"] = error.message
    except (OSError, ValueError) as error:
        answer["why"] = f"{type(error).__name__}: {error}"
    return answer


def say(what: Any) -> None:
    """A line of JSON; whoever listened may have gone, and the work goes on."""
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


def _round(
    kept: Kept, site: Site, machines: list[str], by: str, round_: Round, word: str = "update"
) -> list[Alarm]:
    names = [it.name for it in site.machines]
    if wrong := sorted({*machines} - {*names}):
        raise MastioError(
            f"no such machine: {', '.join(wrong)}", hint=f"this site has {', '.join(names)}", code=Exit.USAGE
        )  # fmt: skip
    with kept.alone():
        done, left = round_.run(machines or names, by, kept.keep, word)
    say({"left": left, "seals": kept.seals()})
    return told(site.name, done, left, time.time())


def _fetch(kept: Kept, site: Site, settings: Settings, url: str) -> None:
    """The tracker's data on the releases that run here; it may be away, their age tells."""
    releases = set()
    with TemporaryDirectory() as work:
        ground = Ground(site, expand(site), FromWatch(settings, Path(work)), outside=False)
        for machine in (it.name for it in site.machines):
            with suppress(MastioError):
                vantage = Vantage(machine, ground, time.monotonic() + 60)
                releases.add(known.codename(vantage.ask(host.text, "/etc/os-release")))
    for release in sorted(releases - {""}):
        try:
            known.fetch(kept.folder, release, url)
        except (OSError, ValueError) as error:
            print(f"the tracker's data on {release} could not be fetched: {error}", file=sys.stderr)


def run(what: str, machines: list[str]) -> Exit:
    """One of them; MastioError says why not."""
    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    kept, site = Kept(Path(FOLDER)), plain.recall(Path(SITE).read_text())
    settings, own = load(Path(INSPECTION)), json.loads(Path(SETTINGS).read_text())
    round_ = Round(site, settings, own["ssh"], own["patience"], say)
    found: list[Alarm] = []
    bell, since = Bell(Path(ALARMS), site), Path(SITE).stat().st_mtime
    rows: list[dict[str, Any]] = []
    try:
        match what:
            case "window":
                if own["tracker"]:
                    _fetch(kept, site, settings, own["tracker"])
                found += _round(kept, site, [], "the window", round_)
            case "run" | "upgrade":
                by, word = json.load(sys.stdin)["by"], "upgrade" if what == "upgrade" else "update"
                found += _round(kept, site, machines, by, round_, word)
            case "late":
                found += rebooted(kept, site, settings.machine, round_, time.time())
                found += overdue(kept, site, time.time(), since)
            case _:
                for row in status(kept, site, settings, own["tracker"]):
                    rows.append(row)
                    say(row)
        if what != "status" and (what != "late" or _old(Path(KNOWN))):
            rows += status(kept, site, settings, own["tracker"])
        if rows:
            remember(rows, kept, since)
    finally:
        for one in found:
            bell.raise_(one, time.time())
    failed = bell.ring(settings, time.time()) if what != "status" else []
    for words in failed:
        print(words, file=sys.stderr)
    return Exit.UNAVAILABLE if failed and what not in ("run", "upgrade") else Exit.OK


def main(what: str, machines: list[str]) -> int:
    """The exit code."""
    try:
        return run(what, machines)
    except (MastioError, OSError, ValueError) as error:
        message, hint, code = f"{type(error).__name__}: {error}", "", Exit.FAILED
        if isinstance(error, MastioError):
            message, hint, code = error.message, error.hint, error.code
        say({"error": message, "hint": hint, "code": code})
        print(message, file=sys.stderr)
        return 1


if __name__ == "__main__":
    if sys.argv[1:2] not in [[it] for it in ("window", "run", "upgrade", "late", "status")]:
        sys.exit("window, run, upgrade, late or status?")
    sys.exit(main(sys.argv[1], sys.argv[2:]))
