"""A verification as text for a terminal, as JSON, and as JUnit's XML for build servers.

Failures come first, by severity, each with what was seen and what to do.
"""

from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from mastio import guide
from mastio.report.plan import Line, Style
from mastio.verify.model import Check, Finding, Run, Severity, Verdict

_SHOWN = (Verdict.FAILED, Verdict.UNKNOWN, Verdict.ACCEPTED, Verdict.NOT_RUN)
_STYLES = {
    Verdict.FAILED: Style.REMOVE,
    Verdict.UNKNOWN: Style.WARN,
    Verdict.ACCEPTED: Style.CHANGE,
    Verdict.NOT_RUN: Style.FAINT,
    Verdict.PASSED: Style.ADD,
}
SIGNS = {
    Verdict.FAILED: "✗",
    Verdict.UNKNOWN: "?",
    Verdict.ACCEPTED: "~",
    Verdict.NOT_RUN: "-",
    Verdict.PASSED: "✓",
}


def grouped(run: Run, verdict: Verdict) -> Iterator[tuple[Check, tuple[Finding, ...]]]:
    """The findings with a verdict, put together by check, the severest first."""
    found: dict[Check, list[Finding]] = {}
    for finding in run.having(verdict):
        found.setdefault(finding.check, []).append(finding)
    order = list(Severity)
    for check in sorted(found, key=lambda it: order.index(it.severity)):
        yield check, tuple(found[check])


def headline(run: Run) -> str:
    """One sentence for the whole run."""
    counts = [f"{len(run.having(it))} {it}" for it in Verdict if run.having(it)]
    what = "full" if run.full else "fast"
    verdict = {
        Verdict.PASSED: "All green",
        Verdict.FAILED: "FAILED",
        Verdict.UNKNOWN: "Could not check everything",
        Verdict.NOT_RUN: "Nothing was checked",
    }[run.verdict]
    return f"{verdict}: {', '.join(reversed(counts))} ({what} set, {run.seconds:.1f} s)"


def line(finding: Finding) -> Line:
    """One finding, for progress."""
    check = finding.check
    words = f"{SIGNS[finding.verdict]} {check.id:4} {finding.vantage:10} {check.title}"
    return _STYLES[finding.verdict], f"{words}  ({finding.seconds:.1f} s)"


def lines(run: Run) -> Iterator[Line]:
    """The report for a terminal."""
    for verdict in _SHOWN:
        groups = tuple(grouped(run, verdict))
        if groups:
            yield Style.TITLE, f"{verdict}"
        for check, findings in groups:
            yield (
                _STYLES[verdict],
                f"  {SIGNS[verdict]} {check.id} {check.title} ({check.severity})",
            )
            for words, places in _alike(findings):
                yield Style.PLAIN, f"      {', '.join(places)}: {words}"
            if verdict is Verdict.FAILED:
                yield Style.FAINT, f"      → {check.remedy}"
                yield Style.FAINT, f"        {guide.of_check(check.id)}"
    yield _STYLES[run.verdict], headline(run)


def _alike(findings: Iterable[Finding]) -> Iterator[tuple[str, list[str]]]:
    """The same words from several vantages, once."""
    found: dict[str, list[str]] = {}
    for finding in findings:
        for words in finding.seen:
            found.setdefault(words, []).append(finding.vantage)
    yield from found.items()


def data(run: Run) -> dict[str, object]:
    """The run as plain data: what `--json` prints and what history keeps."""
    return {
        "site": run.site,
        "began": run.began.isoformat(timespec="seconds"),
        "seconds": round(run.seconds, 2),
        "set": "full" if run.full else "fast",
        "verdict": str(run.verdict),
        "findings": [
            {
                "check": it.check.id,
                "title": it.check.title,
                "severity": str(it.check.severity),
                "vantage": it.vantage,
                "verdict": str(it.verdict),
                "seen": list(it.seen),
                "remedy": it.check.remedy if it.verdict is Verdict.FAILED else "",
                "guide": guide.of_check(it.check.id),
                "seconds": round(it.seconds, 2),
            }
            for it in run.findings
        ],
    }


def junit(run: Run) -> str:
    """JUnit's XML: a suite, a case for each finding; what could not be checked is an error."""
    suite = Element(
        "testsuite", name=f"mastio verify {run.site}", tests=str(len(run.findings)),
        failures=str(len(run.having(Verdict.FAILED))), errors=str(len(run.having(Verdict.UNKNOWN))),
        skipped=str(len(run.having(Verdict.NOT_RUN, Verdict.ACCEPTED))),
        timestamp=run.began.isoformat(timespec="seconds"), time=f"{run.seconds:.2f}",
    )  # fmt: skip
    elements = {
        Verdict.FAILED: "failure",
        Verdict.UNKNOWN: "error",
        Verdict.NOT_RUN: "skipped",
        Verdict.ACCEPTED: "skipped",
    }
    for it in run.findings:
        case = SubElement(
            suite, "testcase", classname=f"{it.check.family}.{it.check.id}",
            name=f"{it.check.title} [{it.vantage}]", time=f"{it.seconds:.2f}",
        )  # fmt: skip
        if name := elements.get(it.verdict):
            detail = SubElement(case, name, message="; ".join(it.seen)[:500])
            detail.text = "\n".join((*it.seen, f"→ {it.check.remedy}", guide.of_check(it.check.id)))
    indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(suite, "unicode") + "\n"
