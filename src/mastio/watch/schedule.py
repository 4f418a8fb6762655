"""Verification by itself, on watch: `python3 -m mastio.watch.schedule fast|full|late|metrics`.

`fast` and `full` look at the whole site, keep what they found (`fast.json`, `full.html`, `history/`), and
raise an alarm when a verdict is another than the last time. `late` raises one when either has not run for
too long: silence is no good news. `metrics` has a glance at each machine, for Prometheus, for the digest, and
for alarms about what runs out (`limits.py`); after one that went well it calls the site file's `alarms.heartbeat`,
so that somebody hears when watch itself is gone. A machine outside is asked by `mastio verify` alone: from here
no flow leads to it, so what only an outsider can see is *not run*.
"""

import json
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from mastio.context import ALARMS
from mastio.errors import Exit, MastioError
from mastio.files import put
from mastio.flows import FlowMatrix, expand
from mastio.report import page
from mastio.report import status as status_report
from mastio.report import verify as report
from mastio.roles.inspection import FOLDER, GLANCE, METRICS, SETTINGS, SITE
from mastio.site import plain
from mastio.site.model import Site
from mastio.status import metrics
from mastio.status.look import look as glance
from mastio.verify import history, registry, runner
from mastio.verify.history import Change
from mastio.verify.model import BAD, Run, Severity, Verdict
from mastio.verify.scheduled import LATE, LOOKING
from mastio.verify.vantage import Ground
from mastio.watch import alarm, exposed, limits
from mastio.watch.alarm import Alarm
from mastio.watch.bell import Bell
from mastio.watch.settings import FromWatch, Settings, load


def news(run: Run, before: tuple[history.Past, ...]) -> tuple[Change, ...]:
    """What an administrator must hear of: findings that have become bad, or good again.

    The first time everything bad is news.
    """
    known = {key for one in before for key in one.verdicts}
    first = tuple(
        Change(it.key, Verdict.PASSED, it.verdict) for it in run.having(*BAD) if it.key not in known
    )
    changed = history.changes(run, before)
    return first + tuple(it for it in changed if it.was in BAD or it.now in BAD)


def told(run: Run, changes: Iterable[Change]) -> Alarm:
    """The alarm that tells of changes in a run."""
    changes = tuple(changes)
    worse = [it for it in changes if it.now in BAD]
    names = ", ".join(dict.fromkeys(it.key.partition("@")[0] for it in worse or changes))
    words = [f"{it.key}: was {it.was}, is {it.now}" for it in changes]
    text = "\n".join((*words, "", *(line for _, line in report.lines(run)), ""))
    what = "NOT as it should be" if worse else "well again"
    subject = f"[{run.site}] {what}: {names}"
    grave = [it.check.severity for it in run.having(*BAD)]
    severity = min(grave, key=list(Severity).index, default=Severity.LOW)
    about = f"verify {'full' if run.full else 'fast'}"
    return Alarm(run.site, about, severity, subject, text, str(run.verdict), run.began.timestamp())


def overdue(folder: Path, site: Site, now: float, since: float) -> list[Alarm]:
    """What is to be said of each set that has not run for too long, or has again.

    `since` is when there was anything to run, in seconds since the epoch.
    """
    found = []
    for name, most in LATE.items():
        report_file = folder / f"{name}.json"
        last = report_file.stat().st_mtime if report_file.exists() else since
        late = now - last >= most
        when = datetime.fromtimestamp(last, UTC)
        text = (
            f"The {name} set of checks has not been run since {when:%Y-%m-%d %H:%M} UTC. Nobody knows how the "
            f"site is.\n\nOn watch: systemctl status mastio-verify@{name}.service mastio-verify-{name}.timer\n"
            if late
            else f"The {name} set of checks was run at {when:%Y-%m-%d %H:%M} UTC.\n"
        )
        found.append(
            Alarm(
                site.name, f"verification by itself ({name})", Severity.HIGH,
                f"[{site.name}] verification {'has not run' if late else 'runs again'}: {name}",
                text, str(Verdict.NOT_RUN) if late else alarm.WELL, now,
            )
        )  # fmt: skip
    return found


def look(folder: Path, site: Site, settings: Settings, bell: Bell, *, full: bool) -> Run:
    """One verification; what it found is kept in `folder`."""
    transport = FromWatch(settings)
    ground = Ground(site, expand(site), transport, full, outside=False)
    (folder / LOOKING).write_text(f"{time.time()}")
    run = runner.run(ground, registry.choose(site, full=full), lambda *_: None)
    keep(folder, run, ground.matrix, bell)
    return run


def keep(folder: Path, run: Run, matrix: FlowMatrix, bell: Bell) -> None:
    """What is new in a run is told before anything knows of it: what cannot be kept is news the next time again."""
    before = history.load(folder)
    if changes := news(run, before):
        bell.raise_(told(run, changes), time.time())
    history.save(folder, run)
    (folder / LOOKING).unlink(missing_ok=True)
    name = "full" if run.full else "fast"
    put(folder / f"{name}.json", json.dumps(report.data(run), indent=2))
    put(folder / f"{name}.html", page.html(run, matrix, before))


def _glance(folder: Path, site: Site, settings: Settings, bell: Bell) -> Exit:
    """How the machines are: for the digest, for Prometheus, and for whoever must hear what runs out."""
    # Whom the firewall keeps out is not for watch's key to ask.
    seen, at = glance(site, FromWatch(settings), bans=False), time.time()
    put(Path(GLANCE), json.dumps({"at": at, **status_report.data(seen)}))
    put(Path(METRICS) / "mastio.prom", metrics.exposition(seen, at), mode=0o644)
    put(Path(METRICS) / "mastio-watch.prom", exposed.by_parts(site, bell, at), mode=0o644)
    noted = folder / "limits.json"
    try:
        known = dict(json.loads(noted.read_text()))
    except (OSError, ValueError):
        known = {}
    disks = limits.grow(known.get("disks", {}), seen, at)
    silent = frozenset(name for name, facts in seen.machines.items() if isinstance(facts, str))
    found = limits.troubles(seen, limits.soon(disks))
    alarms, now = limits.news(site.name, found, known.get("troubles", {}), at, silent)
    for one in alarms:
        bell.raise_(one, at)
    put(noted, json.dumps({"troubles": now, "disks": disks}))
    rung = _ring(bell, settings) if alarms else Exit.OK
    if site.alarms.heartbeat and not bell.mute:
        beat(site.alarms.heartbeat, settings)
    return rung


def beat(url: str, settings: Settings) -> None:
    """Says that watch has looked and can tell. Who does not answer to that is no reason to look less.

    Of the URL the log has the host alone: who knows the rest can beat for a watch that is gone.
    """
    try:
        alarm.beat(url, settings)
    except OSError as error:
        host = urlsplit(url).hostname
        print(f"the heartbeat (alarms.heartbeat) did not reach {host}: {error}", file=sys.stderr)


def _ring(bell: Bell, settings: Settings) -> Exit:
    failed = bell.ring(settings, time.time())
    for words in failed:
        print(words, file=sys.stderr)
    return Exit.UNAVAILABLE if failed else Exit.OK


def main(what: str) -> Exit:
    """Runs one of them; how it went."""
    folder = Path(FOLDER)
    site, settings = plain.recall(Path(SITE).read_text()), load(Path(SETTINGS))
    bell = Bell(Path(ALARMS), site)
    if what == "metrics":
        try:
            return _glance(folder, site, settings, bell)
        except OSError as problem:
            if limits.cry(problem, site, settings, folder / "cried", time.time()):
                return Exit.UNAVAILABLE
            raise
    if what == "late":
        for one in overdue(folder, site, time.time(), Path(SITE).stat().st_mtime):
            bell.raise_(one, time.time())
    else:
        run = look(folder, site, settings, bell, full=what == "full")
        print(report.headline(run))
    return _ring(bell, settings)


if __name__ == "__main__":
    if sys.argv[1:] not in (["fast"], ["full"], ["late"], ["metrics"]):
        sys.exit("fast, full, late or metrics?")
    try:
        sys.exit(main(sys.argv[1]))
    except (MastioError, OSError, ValueError) as error:
        sys.exit(f"verification: {error}")
