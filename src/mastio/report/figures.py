"""A digest's tables: figures, the biggest of many names, what is new, and how the site stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mastio.digest.judge import Digest
from mastio.digest.summary import Times

_SHOWN = 8

TOPS = (
    ("senders", "Senders (messages)"),
    ("to.lmtp", "Recipients (messages)"),
    ("sources", "Sources (messages)"),
    ("users", "Users who sent"),
    ("refused sources", "Refused most"),
    ("unknown users", "Asked for, but not here"),
    ("viruses", "Viruses"),
    ("dmarc sources", "In our name, not proven to be ours (DMARC reports)"),
    ("tls failures", "TLS to us failed (TLS reports)"),
    ("reporters", "Reported by"),
    ("block lists", "Block lists"),
)
"""The biggest of what, and how it is called."""
GUARD = (
    ("login sources", "Failed log-ins from"),
    ("login users", "Failed log-ins as"),
    ("bans", "Banned"),
    ("bans for", "Banned for"),
    ("accepted", "Let in from outside, and mail let out (connections)"),
    ("drops", "Stopped between (zone or machine)"),
    ("drop ports", "The internet knocked at"),
    ("drop sources", "Knocked most"),
    ("drops inside", "Stopped inside the site"),
    ("intrusion", "Intrusion detection: what was not as declared"),
    ("intrusion between", "Intrusion detection: between"),
    ("intrusion sources", "Intrusion detection: begun by"),
)
WRONG = (
    ("trouble", "Trouble"),
    ("failed services", "Services that failed"),
    ("over quota", "Over quota"),
    ("nearly full", "Nearly full (90 % of the quota)"),
    ("not delivered", "Not delivered"),
    ("errors", "Errors by machine and program"),
)
_NEWS = (
    ("networks", "Users from a network that is new for them"),
    ("flows", "Conversations stopped for the first time"),
    ("begun", "Conversations with the outside let begin for the first time"),
    ("alerts", "Alerts of a new kind from intrusion detection"),
    ("shapes", "Log lines of a new shape"),
)


@dataclass(frozen=True, slots=True)
class Table:
    """A name and its rows."""

    title: str
    rows: tuple[tuple[str, str], ...]
    more: int = 0


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
    for kind, words in (("quarantine", "quarantine"), ("leaving", "on its way out")):
        held = whole.below(kind)
        cleaned += [(f"{words}: {name}", f"{number:,}") for name, number in held.items()]
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
    if ours := count("scanned"):
        guard.append(("of them inside, while watch scanned", f"{ours:,}"))
    guard.append(("connections with the outside", f"{count('accepted'):,}"))
    told = [(f"reports: {name}", f"{number:,}") for name, number in whole.below("reports").items()]
    if messages := count("dmarc.messages"):
        told.append(
            ("messages in our name proven to be ours", f"{count('dmarc.passed'):,} of {messages:,}")
        )
    if sessions := count("tls reports.sessions"):
        told.append(
            (
                "connections to us that failed in TLS",
                f"{count('tls reports.failed'):,} of {sessions:,}",
            )
        )
    lines = [(name, f"{number:,}") for name, number in whole.below("lines").items()]
    tables = (
        ("Mail", mail), ("Refused at the door", [(k, f"{v:,}") for k, v in whole.below("refused.in").items()]),
        ("Refused from our users", [(k, f"{v:,}") for k, v in _ours(digest).items()]),
        ("Cleaning", cleaned), ("Deliveries: median / 95 % / worst", delays), ("TLS", tls),
        ("Reported by others", told), ("Log-ins and firewall", guard), ("Log lines", lines),
    )  # fmt: skip
    return [Table(title, tuple(rows)) for title, rows in tables if rows]


def _ours(digest: Digest) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for way in ("submitted", "out"):
        for name, number in digest.whole.below(f"refused.{way}").items():
            found[name] = found.get(name, 0) + number
    return found


def standing(digest: Digest) -> list[Table]:
    """How the site stands at the time of writing."""
    return [
        Table(it.title, tuple((row.name, row.words) for row in it.rows)) for it in digest.standing
    ]


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
    if kind in ("flows", "begun"):
        who, _, port = what.rpartition(" ")
        return who, port
    if kind != "shapes":
        return what, ""
    machine, _, said = example.partition(" ")
    return f"{machine} {what.partition(': ')[0]}: {said}", ""
