"""All reports → what an administrator wants to know. Pure.

>>> summarize([dmarc_report]).domains["fortress.test"].failed
3
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Domain:
    """What was reported of one domain."""

    messages: int = 0
    """Messages that receivers counted (DMARC)."""
    passed: int = 0
    """Of these, those that SPF or DKIM proved to be from the domain."""
    failed: Counter[str] = field(default_factory=Counter)
    """The others, by the address they came from."""
    sessions: int = 0
    """Connections to our gateway that senders counted (TLS-RPT)."""
    tls_failures: Counter[str] = field(default_factory=Counter)
    """Those that failed, by `result type, reporter`."""


@dataclass(frozen=True)
class Summary:
    """The reports of a span of time."""

    reports: int
    unverified: int
    """Of these, those whose sender could be anybody; they count, but believe them less."""
    unreadable: int
    reporters: Mapping[str, int]
    domains: Mapping[str, Domain]


def summarize(reports: Iterable[Mapping[str, Any]], since: int = 0) -> Summary:
    """Of the reports that came in since a time (in seconds since 1970); one that came twice counts once."""
    seen: set[tuple[str, str, str]] = set()
    reporters: Counter[str] = Counter()
    domains: dict[str, Domain] = {}
    unverified = unreadable = 0
    for report in reports:
        if report["received"] < since:
            continue
        if report["kind"] == "unreadable":
            unreadable += 1
            continue
        key = report["kind"], report["org"], report["id"]
        if key in seen:
            continue
        seen.add(key)
        reporters[report["org"]] += 1
        unverified += not report["verified"]
        (_dmarc if report["kind"] == "dmarc" else _tls)(report, domains)
    return Summary(len(seen), unverified, unreadable, dict(reporters), domains)


def _dmarc(report: Mapping[str, Any], domains: dict[str, Domain]) -> None:
    domain = domains.setdefault(report["domain"], Domain())
    for row in report["rows"]:
        domain.messages += row["count"]
        if "pass" in (row["dkim"], row["spf"]):
            domain.passed += row["count"]
        else:
            domain.failed[row["source"]] += row["count"]


def _tls(report: Mapping[str, Any], domains: dict[str, Domain]) -> None:
    for policy in report["policies"]:
        domain = domains.setdefault(policy["domain"], Domain())
        domain.sessions += policy["ok"] + policy["failed"]
        told = 0
        for failure in policy["failures"]:
            domain.tls_failures[f"{failure['type']}, {report['org']}"] += failure["count"]
            told += failure["count"]
        if policy["failed"] > told:
            domain.tls_failures[f"unspecified, {report['org']}"] += policy["failed"] - told
