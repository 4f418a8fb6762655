"""Runs checks at their vantages, side by side, each within its time and all within a limit.

A vantage that does not answer is asked once; all its checks are then *could not check*. There is no
outcome but a finding: what a probe or a check raises becomes words in one.
"""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic

from mastio.errors import MastioError
from mastio.site.model import Accepted
from mastio.transport import OUTSIDE
from mastio.verify import commands
from mastio.verify.model import Cell, Check, Finding, Run, Secret, Verdict
from mastio.verify.vantage import Ground, NotRunError, Vantage

HELLO_SECONDS = 15.0
"""How long a vantage may take to say that it is there."""
WORKERS = 8
SCANNERS = 2
"""Checks of the full set saturate a machine: only so many at a time."""
LIMIT = {False: 120.0, True: 900.0}
"""The longest a run takes, in seconds: fast, full."""

Tell = Callable[[Finding, int, int], None]
"""Told of each finding, how many are done, and of how many."""


def run(
    ground: Ground, checks: Iterable[Check], tell: Tell, limit: float | None = None,
    at: Collection[str] | None = None,
) -> Run:  # fmt: skip
    """All `checks` at all their vantages, or at those in `at` alone. Never raises for what the site does."""
    began, start = datetime.now(UTC), monotonic()
    todo = [
        (check, name)
        for check in checks
        for name in check.vantages(ground.site)
        if at is None or name in at
    ]
    # Who names a check of the full set gives it the time that it takes.
    long = ground.full or any(check.full for check, _ in todo)
    end = start + (LIMIT[long] if limit is None else limit)
    deaf = _deaf(ground, {name for _, name in todo}, min(end, start + HELLO_SECONDS))
    found: dict[tuple[str, str], Finding] = {}

    def note(finding: Finding) -> None:
        finding = _accept(finding, ground, began)
        found[finding.check.id, finding.vantage] = finding
        tell(finding, len(found), len(todo))

    pools = ThreadPoolExecutor(WORKERS), ThreadPoolExecutor(SCANNERS)
    waiting: dict[Future[Finding], tuple[Check, str]] = {}
    try:
        for check, name in todo:
            if finding := _hopeless(ground, check, name, deaf):
                note(finding)
            elif not check.alone:
                pool = pools[check.full or check.seconds > 60]
                waiting[pool.submit(look, ground, check, name, end)] = (check, name)
        while waiting and monotonic() < end:
            done, _ = wait(waiting, end - monotonic(), FIRST_COMPLETED)
            for future in done:
                del waiting[future]
                note(future.result())
        for check, name in todo:
            if check.alone and (check.id, name) not in found and monotonic() < end:
                note(look(ground, check, name, end))
        for check, name in [it for it in todo if (it[0].id, it[1]) not in found]:
            note(Finding(check, name, Verdict.UNKNOWN, ("the whole verification took too long",)))
    finally:
        for pool in pools:
            # Whoever still runs has a deadline that has passed, and ends by itself.
            pool.shutdown(wait=False, cancel_futures=True)
    findings = tuple(found[check.id, name] for check, name in todo)
    return Run(ground.site.name, began, monotonic() - start, ground.full, findings)


def look(ground: Ground, check: Check, name: str, end: float) -> Finding:
    """One check at one vantage."""
    start = monotonic()
    vantage = Vantage(name, ground, min(end, start + check.seconds))
    faults: list[str] = []
    cells: list[Cell] = []
    secrets: list[Secret] = []
    verdict = Verdict.UNKNOWN
    try:
        for item in check.run(vantage):
            if isinstance(item, Cell):
                cells.append(item)
            elif isinstance(item, Secret):
                secrets.append(item)
            else:
                faults.append(str(item))
        verdict = Verdict.FAILED if faults else Verdict.PASSED
    except NotRunError as error:
        verdict = Verdict.NOT_RUN
        faults.append(error.message)
    except MastioError as error:
        faults.append(error.message)
    except (OSError, ValueError, LookupError) as error:
        faults.append(f"{type(error).__name__}: {error}")
    except Exception as error:
        faults.append(f"a bug in check {check.id}: {type(error).__name__}: {error}")
    # What was already seen to be wrong stays wrong, though the look was cut short.
    if verdict in (Verdict.UNKNOWN, Verdict.NOT_RUN) and len(faults) > 1:
        verdict = Verdict.FAILED
    seconds = monotonic() - start
    return Finding(check, name, verdict, tuple(faults), tuple(cells), seconds, tuple(secrets))


def _hopeless(ground: Ground, check: Check, name: str, deaf: dict[str, str]) -> Finding | None:
    if name == OUTSIDE and not ground.outside:
        why = "no machine outside is named in the site file (verify.outside)"
        return Finding(check, name, Verdict.NOT_RUN, (why,))
    if name in deaf:
        return Finding(check, name, Verdict.UNKNOWN, (deaf[name],))
    return None


def _deaf(ground: Ground, names: set[str], end: float) -> dict[str, str]:
    """The vantages that do not answer, and why."""

    def ask(name: str) -> str:
        try:
            vantage = Vantage(name, ground, end)
            vantage.output(*commands.HELLO)
        except MastioError as error:
            return error.message
        return ""

    asked = [name for name in sorted(names) if name != OUTSIDE or ground.outside]
    if not asked:
        return {}
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = dict(zip(asked, pool.map(ask, asked), strict=True))
    return {name: why for name, why in answers.items() if why}


def _accept(finding: Finding, ground: Ground, now: datetime) -> Finding:
    """A failure that the site file accepts, for a reason and until a date."""
    if finding.verdict is not Verdict.FAILED:
        return finding
    known: Accepted | None = next(
        (it for it in ground.site.accepted if it.check == finding.check.id), None
    )
    if known is None:
        return finding
    if now.date() > known.until:
        words = f"(was accepted until {known.until}: {known.reason})"
        return replace(finding, seen=(*finding.seen, words))
    words = f"accepted until {known.until}: {known.reason}"
    if left := [
        it for it in finding.seen if known.only and not any(one in it for one in known.only)
    ]:
        others = len(finding.seen) - len(left)
        return replace(finding, seen=(*left, *([f"({others} more are {words})"] if others else [])))
    return replace(finding, verdict=Verdict.ACCEPTED, seen=(*finding.seen, words))
