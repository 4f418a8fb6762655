"""A digest as text for mail and terminals, as a page for people, and as JSON.

The first three lines say whether something needs a person, what, and how the mail went.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from mastio.digest.judge import Digest, needs
from mastio.digest.need import Level, Need
from mastio.report.charts import HEIGHT, WIDTH, Layer, chart
from mastio.report.figures import (
    GUARD,
    TOPS,
    WRONG,
    Table,
    figures,
    news,
    octets,
    standing,
    timing,
    tops,
)  # fmt: skip
from mastio.report.page import environment

_WIDTH, _SECOND = 100, 200


def headline(digest: Digest, found: Sequence[Need]) -> str:
    """One sentence: whether something needs a person."""
    act = sum(it.level is Level.ACT for it in found)
    look = len(found) - act
    if act:
        return f"NEEDS A PERSON: {act} to act on" + (f", {look} to look at" if look else "")
    return f"Worth a look: {look}" if look else "Nothing needs a person"


def top_lines(digest: Digest) -> tuple[str, str, str]:
    """The three lines at the top."""
    found = needs(digest)
    reasons = _short([it.words for it in found]) or "all is as it should be"
    whole, times = digest.whole, digest.delivered
    refused = digest.total("refused.in")
    mail = (
        f"in {whole.count('mail.in'):,} ({octets(whole.count('bytes.in'))}), out {whole.count('mail.out'):,} "
        f"({octets(whole.count('bytes.out'))}), refused {refused:,}; {timing(times)}"
    )
    return headline(digest, found) + ".", f"{reasons[0].upper()}{reasons[1:]}.", f"Mail: {mail}."


def _short(words: Sequence[str]) -> str:
    """As many as fit in two lines of a terminal, and how many more there are."""
    fit = 0
    while fit < len(words) and len("; ".join(words[: fit + 1])) <= _SECOND:
        fit += 1
    if words and not fit:
        return f"{words[0][:_SECOND].rstrip()} …" + (
            f" and {len(words) - 1} more" * (len(words) > 1)
        )
    more = f"; and {len(words) - fit} more" if len(words) > fit else ""
    return "; ".join(words[:fit]) + more


def when(digest: Digest) -> str:
    """The time that is told of, in words."""
    first, last = (datetime.fromisoformat(it + ":00") for it in (digest.since, digest.until))
    if last - first == timedelta(days=1) and first.hour == 0:
        return f"{first:%A, %d %B %Y} (UTC)"
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def text(digest: Digest) -> str:
    """The digest as plain text."""
    out = [*top_lines(digest), "", f"{digest.site}: {when(digest)}", ""]
    for need in needs(digest):
        remedy = f"  → {need.remedy}" if need.remedy else ""
        out.append(f"  {'!' if need.level is Level.ACT else '·'} {need.words}{remedy}")
    new = news(digest)
    if digest.learning and new:
        out += ["", "New: still learning what is usual; in the first day everything is new."]
    for table in (
        *standing(digest), *new, *figures(digest), *tops(digest, WRONG), *tops(digest, GUARD), *tops(digest, TOPS),
    ):  # fmt: skip
        out += ["", table.title, *_rows(table)]
    if digest.verified:
        out += ["", "Verification"]
        out += [
            f"  {it.name}: {it.verdict}, {it.began}{', OVERDUE' if it.late else ''}"
            for it in digest.verified
        ]
    return "\n".join(_clean(it) for it in out) + "\n"


def _rows(table: Table) -> Iterator[str]:
    width = min(max((len(name) for name, value in table.rows if value), default=0), _WIDTH - 14)
    for name, value in table.rows:
        most = width if value else _WIDTH
        name = name if len(name) <= most else name[: most - 1] + "…"
        yield f"  {name:<{width}}  {value}".rstrip()
    if table.more:
        yield f"  … and {table.more:,} more"


def _clean(line: str) -> str:
    """Log lines are strangers' words: nothing of them commands a terminal."""
    return "".join(it if it.isprintable() else "\N{REPLACEMENT CHARACTER}" for it in line)


def data(digest: Digest) -> dict[str, Any]:
    """The digest as plain data: what is judged, then all of the summary."""
    found = needs(digest)
    return {
        "site": digest.site,
        "since": digest.since,
        "until": digest.until,
        "needs_a_person": any(it.level is Level.ACT for it in found),
        "needs": [{"level": str(it.level), "words": it.words, "remedy": it.remedy} for it in found],
        "top": list(top_lines(digest)),
        "learning": digest.learning,
        "verification": [
            {
                "set": it.name,
                "verdict": it.verdict,
                "began": it.began,
                "late": it.late,
                "bad": list(it.bad),
            }
            for it in digest.verified
        ],
        "standing": [
            {"part": it.title, "rows": [{"about": row.name, "words": row.words} for row in it.rows]}
            for it in digest.standing
        ],
        "summary": digest.whole.plain(),
        "hours": {
            hour: {
                name: it.count(name)
                for name in ("mail.in", "mail.out", "viruses", "bans", "dropped")
            }
            for hour, it in digest.hours.items()
        },
    }


_REFUSED = "#d08a00"
CHARTS = (
    ("Mail", (Layer("mail.in", "received", "#2f6fae"), Layer("mail.out", "sent", "#63b3a4"),
              Layer("refused.in", "refused", _REFUSED))),
    ("At the doors", (Layer("login.failed", "log-ins failed", _REFUSED),
                      Layer("dropped", "packets stopped", "#9aa7b4"))),
)  # fmt: skip
"""What is drawn, hour by hour."""


def html(digest: Digest, *, mail: bool = False) -> str:
    """The page: one file that needs nothing else. In a `mail`, whose reader folds nothing, without charts' tables."""
    found = needs(digest)
    mood = (
        "failed" if any(it.level is Level.ACT for it in found) else "unknown" if found else "passed"
    )
    charts = [chart(digest, title, layers) for title, layers in CHARTS]
    refused = digest.whole.below("refused.in")
    return environment().get_template("digest.html.j2").render(
        digest=digest, when=when(digest), lines=top_lines(digest), needs=found, mood=mood, charts=charts,
        width=WIDTH, height=HEIGHT,
        refused=refused, most=max(refused.values(), default=1), figures=figures(digest), news=news(digest),
        standing=standing(digest),
        wrong=tops(digest, WRONG), guard=tops(digest, GUARD), tops=tops(digest, TOPS), Level=Level, mail=mail,
    )  # fmt: skip
