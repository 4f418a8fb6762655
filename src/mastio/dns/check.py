"""What a site should publish against what DNS answers. Pure: `ask` brings the answers.

Only what mastio knows about is judged: of the TXT records at a name those of the same kind (`v=spf1`,
`v=DKIM1` …), so that somebody's site verification is not in the way.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import dns.rdata
import dns.rdataclass
import dns.rdatatype

from mastio.dns.records import Record


@dataclass(frozen=True, slots=True)
class Answer:
    """What DNS said to one question."""

    data: tuple[str, ...] = ()
    """The records' data in zone format; () when there are none."""
    secure: bool = False
    """The resolver has validated it (the AD bit, RFC 4035, 3.2.3)."""
    failure: str = ""
    """Why there is no answer: SERVFAIL is what a validating resolver says to a broken signature."""


class Verdict(StrEnum):
    """How a name's records of a type stand."""

    SAME = "same"
    MISSING = "missing"
    DIFFERENT = "different"
    EXTRA = "extra"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on one name and type."""

    owner: str
    type: str
    verdict: Verdict
    secure: bool
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    failure: str = ""


Question = tuple[str, str]


def questions(records: Iterable[Record]) -> tuple[Question, ...]:
    """What must be asked, each name and type once, in the records' order."""
    return tuple(dict.fromkeys((record.owner, record.type) for record in records))


def compare(records: Iterable[Record], answers: Mapping[Question, Answer]) -> tuple[Finding, ...]:
    """A finding for each question. Raises KeyError when an answer is not there."""
    records = tuple(records)
    return tuple(_judge(records, it, answers[it]) for it in questions(records))


def _judge(records: tuple[Record, ...], question: Question, answer: Answer) -> Finding:
    owner, kind = question
    if answer.failure:
        return Finding(owner, kind, Verdict.FAILED, False, failure=answer.failure)
    wanted = [canonical(kind, it.data) for it in records if (it.owner, it.type) == question]
    found = [canonical(kind, it) for it in answer.data]
    if kind == "TXT":
        tags = {_tag(it) for it in wanted}
        found = [it for it in found if _tag(it) in tags]
    missing = tuple(it for it in wanted if it not in found)
    extra = tuple(it for it in found if it not in wanted)
    match bool(missing), bool(extra):
        case False, False:
            verdict = Verdict.SAME
        case True, True:
            verdict = Verdict.DIFFERENT
        case True, False:
            verdict = Verdict.MISSING
        case _:
            verdict = Verdict.EXTRA
    return Finding(owner, kind, verdict, answer.secure, missing, extra)


def canonical(kind: str, data: str) -> str:
    """A record's data in the one form that equal records share; a TXT record as its whole text."""
    rdata = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), data)
    if kind == "TXT":
        return b"".join(rdata.strings).decode(errors="replace")  # type: ignore[attr-defined]
    return rdata.to_text().lower()


def _tag(text: str) -> str:
    """What kind of policy a TXT record is: its version, up to the first blank or semicolon."""
    return text.replace(";", " ").partition(" ")[0].lower()
