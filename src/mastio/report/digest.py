"""A digest as text for mail and terminals, as a page for people, and as JSON.

The first three lines say whether something needs a person, what, and how the mail went.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mastio.digest.judge import Digest, Level, Need, needs
from mastio.digest.summary import Times
from mastio.report.page import environment

_SHOWN = 8
_WIDTH = 100
TOPS = (
    ("senders", "Senders (messages)"),
    ("to.lmtp", "Recipients (messages)"),
    ("sources", "Sources (messages)"),
    ("users", "Users who sent"),
    ("refused sources", "Refused most"),
    ("unknown users", "Asked for, but not here"),
    ("viruses", "Viruses"),
    ("block lists", "Block lists"),
)
"""The biggest of what, and how it is called."""
_GUARD = (
    ("login sources", "Failed log-ins from"),
    ("login users", "Failed log-ins as"),
    ("bans", "Banned"),
    ("bans for", "Banned for"),
    ("drops", "Stopped between (zone or machine)"),
    ("drop ports", "The internet knocked at"),
    ("drop sources", "Knocked most"),
    ("drops inside", "Stopped inside the site"),
    ("intrusion", "Intrusion detection: what was not as declared"),
    ("intrusion between", "Intrusion detection: between"),
    ("intrusion sources", "Intrusion detection: begun by"),
)
_WRONG = (
    ("trouble", "Trouble"),
    ("failed services", "Services that failed"),
    ("over quota", "Over quota"),
    ("not delivered", "Not delivered"),
    ("errors", "Errors by machine and program"),
)
_NEWS = (
    ("networks", "Users from a network that is new for them"),
    ("flows", "Conversations stopped for the first time"),
    ("alerts", "Alerts of a new kind from intrusion detection"),
    ("shapes", "Log lines of a new shape"),
)


@dataclass(frozen=True, slots=True)
class Table:
    """A name and its rows."""

    title: str
    rows: tuple[tuple[str, str], ...]
    more: int = 0


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
    reasons = "; ".join(it.words for it in found) or "all is as it should be"
    reasons = f"{reasons[:217].rstrip()} …" if len(reasons) > 220 else f"{reasons}."
    whole, times = digest.whole, digest.delivered
    refused = digest.total("refused.in")
    mail = (
        f"in {whole.count('mail.in'):,} ({octets(whole.count('bytes.in'))}), out {whole.count('mail.out'):,} "
        f"({octets(whole.count('bytes.out'))}), refused {refused:,}; {timing(times)}"
    )
    return headline(digest, found) + ".", reasons[0].upper() + reasons[1:], f"Mail: {mail}."


def timing(times: Times) -> str:
    """How long deliveries took, in words."""
    if not times.number:
        return "nothing was delivered"
    half, most = times.share(0.5), times.share(0.95)
    return (
        f"delivered in {span(half)} (median), 95 % within {span(most)}, worst {span(times.worst)}"
    )


def span(seconds: float) -> str:
    """A time that people read."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def octets(number: int) -> str:
    """A size that people read."""
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def when(digest: Digest) -> str:
    """The time that is told of, in words."""
    first, last = (datetime.fromisoformat(it + ":00") for it in (digest.since, digest.until))
    if last - first == timedelta(days=1) and first.hour == 0:
        return f"{first:%A, %d %B %Y} (UTC)"
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def figures(digest: Digest) -> list[Table]:
    """The tables of numbers."""
    whole, count = digest.whole, digest.whole.count
    mail = [
        ("received from the internet", f"{count('mail.in'):,} ({octets(count('bytes.in'))})"),
        ("put into mailboxes", f"{count('sent.lmtp'):,} ({octets(count('sent bytes.lmtp'))})"),
        ("of them into Junk", f"{count('mailbox.Junk'):,}"),
        ("sent by users", f"{count('mail.submitted'):,} ({octets(count('bytes.submitted'))})"),
        ("handed to the internet's servers", f"{count('mail.out'):,} ({octets(count('bytes.out'))})"),
        ("refused", f"{digest.total('refused.in'):,}"),
        ("put off, bounced, given up", " / ".join(
            f"{it:,}" for it in (digest.total("deferred"), digest.total("bounced"), count("expired")))),
    ]  # fmt: skip
    scanned = whole.below("filter")
    greylist = whole.time("greylisted")
    cleaned = [
        *((f"filter: {name}", f"{number:,}") for name, number in scanned.items()),
        ("viruses found", f"{count('viruses'):,}"),
        ("greylisted", f"{count('refused.in.greylisted, to come again'):,}"),
        ("greylisted, then delivered", f"{count('greylisted then delivered'):,}"),
    ]
    if greylist.number:
        cleaned.append(
            ("… after (median, 95 %)", f"{span(greylist.share(0.5))}, {span(greylist.share(0.95))}")
        )
    if (scan := whole.time("filter in ms")).number:
        cleaned.append(
            ("a scan takes (median, 95 %)", f"{scan.share(0.5):.0f} ms, {scan.share(0.95):.0f} ms")
        )
    held = whole.below("quarantine")
    cleaned += [(f"quarantine: {name}", f"{number:,}") for name, number in held.items()]
    steps = (
        ("gateway → store", "store/smtp"), ("store → mailbox", "lmtp"), ("store → gateway", "hand over"),
        ("gateway → the internet", "smtp"),
    )  # fmt: skip
    delays = [
        (words, f"{span(it.share(0.5))} / {span(it.share(0.95))} / {span(it.worst)}")
        for words, name in steps
        if (it := whole.time(name)).number
    ]
    tls = []
    if sessions := count("sessions.mail"):
        share = 100 * count("sessions.tls") / sessions
        tls.append(("of sessions that brought mail", f"{share:.0f} %"))
    for way in ("in", "out"):
        tls += [(f"{version}, {way}", f"{number:,}") for version, number in whole.top(f"TLS {way}")]
    tls += [(f"out, {name}", f"{number:,}") for name, number in whole.top("TLS proofs")]
    logins = [
        (f"failed: {name}", f"{number:,}") for name, number in whole.below("login.failed").items()
    ]
    logins += [
        (f"good: {name}", f"{number:,}") for name, number in whole.below("login.good").items()
    ]
    guard = [*logins, ("bans", f"{count('bans'):,}"), ("packets stopped", f"{count('dropped'):,}")]
    lines = [(name, f"{number:,}") for name, number in whole.below("lines").items()]
    tables = (
        ("Mail", mail), ("Refused at the door", [(k, f"{v:,}") for k, v in whole.below("refused.in").items()]),
        ("Refused from our users", [(k, f"{v:,}") for k, v in _ours(digest).items()]),
        ("Cleaning", cleaned), ("Deliveries: median / 95 % / worst", delays), ("TLS", tls),
        ("Log-ins and firewall", guard), ("Log lines", lines),
    )  # fmt: skip
    return [Table(title, tuple(rows)) for title, rows in tables if rows]


def _ours(digest: Digest) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for way in ("submitted", "out"):
        for name, number in digest.whole.below(f"refused.{way}").items():
            found[name] = found.get(name, 0) + number
    return found


def tops(digest: Digest, kinds: Sequence[tuple[str, str]]) -> list[Table]:
    """The tables of names."""
    found = []
    for kind, title in kinds:
        if rows := digest.whole.top(kind, _SHOWN):
            more = max(0, len(digest.whole.tops[kind].names) - _SHOWN)
            found.append(
                Table(title, tuple((name or "<>", f"{number:,}") for name, number in rows), more)
            )
    return found


def news(digest: Digest) -> list[Table]:
    """What is new, the latest last."""
    found = []
    for kind, title in _NEWS:
        known = digest.whole.news.get(kind, {})
        rows = sorted(known.items(), key=lambda it: it[1].first)
        told: dict[str, list[str]] = {}
        for what, it in rows:
            who, name = _novel(kind, what, it.example)
            told.setdefault(
                f"{it.first[5:16].replace('T', ' ')}  {who}" if not name else who, []
            ).append(name)
        shown = tuple(
            (f"{who}: {', '.join(names[:_SHOWN])}{f' and {len(names) - _SHOWN} more' * (len(names) > _SHOWN)}"
             if names[0] else who, "")
            for who, names in list(told.items())[-25:]
        )  # fmt: skip
        more = len(told) - len(shown) + digest.whole.count(f"untold.{kind}")
        if shown:
            found.append(Table(title, shown, more))
    return found


def _novel(kind: str, what: str, example: str) -> tuple[str, str]:
    """A row of the news, and what stands there with others: ports between two zones."""
    if kind == "flows":
        who, _, port = what.rpartition(" ")
        return who, port
    if kind != "shapes":
        return what, ""
    machine, _, said = example.partition(" ")
    return f"{machine} {what.partition(': ')[0]}: {said}", ""


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
        *new, *figures(digest), *tops(digest, _WRONG), *tops(digest, _GUARD), *tops(digest, TOPS),
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
        "summary": digest.whole.plain(),
        "hours": {
            hour: {
                name: it.count(name)
                for name in ("mail.in", "mail.out", "viruses", "bans", "dropped")
            }
            for hour, it in digest.hours.items()
        },
    }


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart: where it stands, in hundredths of a chart's width and height."""

    label: str
    words: str
    x: float
    width: float
    parts: tuple[tuple[str, float, float], ...]
    """Class, top, height."""


def bars(digest: Digest, stack: Sequence[tuple[str, str, str]]) -> tuple[tuple[Bar, ...], int]:
    """A bar for each hour, of what `stack` counts (class, prefix of counts, words), and the highest."""
    first = datetime.fromisoformat(digest.since + ":00")
    number = int((datetime.fromisoformat(digest.until + ":00") - first).total_seconds() // 3600)
    days = number > 96
    slots: dict[str, list[int]] = {}
    for index in range(number):
        hour = f"{first + timedelta(hours=index):%Y-%m-%dT%H}"
        slot = slots.setdefault(hour[:10] if days else hour, [0] * len(stack))
        if summary := digest.hours.get(hour):
            for place, (_, prefix, _) in enumerate(stack):
                slot[place] += summary.count(prefix) + sum(summary.below(prefix).values())
    highest = max((sum(it) for it in slots.values()), default=0)
    width, found = 600 / max(len(slots), 1), []
    for index, (slot_name, counts) in enumerate(slots.items()):
        top, parts = 100.0, []
        for (kind, _, _), count in zip(stack, counts, strict=True):
            if count:
                height = max(0.7, 100 * count / highest)
                top = max(0.0, top - height)
                parts.append((kind, round(top, 2), round(height, 2)))
        said = ", ".join(f"{count:,} {it[2]}" for it, count in zip(stack, counts, strict=True))
        label = slot_name[5:] if days else slot_name[11:]
        words = f"{slot_name.replace('T', ' ')}{'' if days else 'h'}: {said}"
        found.append(
            Bar(label, words, round(index * width, 2), round(width * 0.82, 2), tuple(parts))
        )
    return tuple(found), highest


MAIL = (
    ("inward", "mail.in", "received"),
    ("outward", "mail.out", "sent"),
    ("refused", "refused.in", "refused"),
)
DOORS = (("refused", "login.failed", "log-ins failed"), ("dropped", "dropped", "packets stopped"))


def html(digest: Digest) -> str:
    """The page: one file that needs nothing else."""
    found = needs(digest)
    mood = (
        "failed" if any(it.level is Level.ACT for it in found) else "unknown" if found else "passed"
    )
    charts = []
    for title, stack in (("Mail", MAIL), ("At the doors", DOORS)):
        drawn, highest = bars(digest, stack)
        charts.append((title, stack, drawn, highest, max(1, -(-len(drawn) // 8))))
    refused = digest.whole.below("refused.in")
    return environment().get_template("digest.html.j2").render(
        digest=digest, when=when(digest), lines=top_lines(digest), needs=found, mood=mood, charts=charts,
        refused=refused, most=max(refused.values(), default=1), figures=figures(digest), news=news(digest),
        wrong=tops(digest, _WRONG), guard=tops(digest, _GUARD), tops=tops(digest, TOPS), Level=Level,
    )  # fmt: skip
