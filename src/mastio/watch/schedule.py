"""Verification by itself, on watch: `python3 -m mastio.watch.schedule fast|full|late|metrics`.

`fast` and `full` look at the whole site, keep what they found (`fast.json`, `full.html`, `history/`), and
raise an alarm when a verdict is another than the last time. `late` raises one when either has not run for
too long: silence is no good news. `metrics` has a glance at each machine, for Prometheus. A machine outside
is asked by `mastio verify` alone: from here no flow leads to it, so what only an outsider can see is *not run*.
"""

import json
import os
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from mastio.errors import Exit, MastioError
from mastio.flows import expand
from mastio.report import page
from mastio.report import verify as report
from mastio.roles.inspection import FOLDER, METRICS, SETTINGS, SITE
from mastio.site import plain
from mastio.site.model import Site
from mastio.status import metrics
from mastio.status.look import look as glance
from mastio.verify import history, registry, runner
from mastio.verify.history import Change
from mastio.verify.model import BAD, Run, Verdict
from mastio.verify.scheduled import LATE
from mastio.verify.vantage import Ground
from mastio.watch import alarm
from mastio.watch.alarm import Alarm
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
    return Alarm(run.site, subject, text, str(run.verdict), run.began.timestamp())


def overdue(folder: Path, site: Site, now: float, since: float) -> list[Alarm]:
    """An alarm for each set that has not run for too long; once, until it runs again.

    `since` is when there was anything to run, in seconds since the epoch.
    """
    found = []
    for name, most in LATE.items():
        report_file, mark = folder / f"{name}.json", folder / f"late-{name}"
        last = report_file.stat().st_mtime if report_file.exists() else since
        if now - last < most:
            continue
        if mark.exists() and float(mark.read_text()) == last:
            continue
        mark.write_text(repr(last))
        when = datetime.fromtimestamp(last, UTC)
        text = (
            f"The {name} set of checks has not been run since {when:%Y-%m-%d %H:%M} UTC. Nobody knows how the "
            f"site is.\n\nOn watch: systemctl status mastio-verify@{name}.service mastio-verify-{name}.timer\n"
        )
        subject = f"[{site.name}] verification has not run: {name}"
        found.append(Alarm(site.name, subject, text, str(Verdict.NOT_RUN), now))
    return found


def look(folder: Path, site: Site, settings: Settings, *, full: bool) -> Run:
    """One verification; what it found is kept in `folder`."""
    sockets = Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108 — systemd gives it one of its own
    transport = FromWatch(settings, sockets)
    ground = Ground(site, expand(site), transport, full, outside=False)
    run = runner.run(ground, registry.choose(site, full=full), lambda *_: None)
    before = history.load(folder)
    history.save(folder, run)
    name = "full" if full else "fast"
    _put(folder / f"{name}.html", page.html(run, ground.matrix, before))
    _put(folder / f"{name}.json", json.dumps(report.data(run), indent=2))
    if changes := news(run, before):
        alarm.raise_(folder, told(run, changes))
    return run


def _put(path: Path, text: str, mode: int = 0o600) -> None:
    making = path.with_name(f".{path.name}.new")
    making.write_text(text)
    making.chmod(mode)
    making.rename(path)


def main(what: str) -> Exit:
    """Runs one of them; how it went."""
    folder = Path(FOLDER)
    site, settings = plain.recall(Path(SITE).read_text()), load(Path(SETTINGS))
    if what == "metrics":
        sockets = Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108 — as above
        # Whom the firewall keeps out is not for watch's key to ask.
        seen = glance(site, FromWatch(settings, sockets), bans=False)
        _put(Path(METRICS) / "mastio.prom", metrics.exposition(seen, time.time()), mode=0o644)
        return Exit.OK
    if what == "late":
        for one in overdue(folder, site, time.time(), Path(SITE).stat().st_mtime):
            alarm.raise_(folder, one)
    else:
        run = look(folder, site, settings, full=what == "full")
        print(report.headline(run))
    failed = alarm.send(folder, site, settings)
    for words in failed:
        print(words, file=sys.stderr)
    return Exit.UNAVAILABLE if failed else Exit.OK


if __name__ == "__main__":
    if sys.argv[1:] not in (["fast"], ["full"], ["late"], ["metrics"]):
        sys.exit("fast, full, late or metrics?")
    try:
        sys.exit(main(sys.argv[1]))
    except (MastioError, OSError, ValueError) as error:
        sys.exit(f"verification: {error}")
