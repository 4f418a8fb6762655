"""Whether something needs a person: a digest's figures, and the rules that judge them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mastio.digest.memory import learning
from mastio.digest.need import Level, Need
from mastio.digest.reasons import AWAY
from mastio.digest.standing import Section
from mastio.digest.summary import Summary, Times, merged


@dataclass(frozen=True, slots=True)
class Verified:
    """What verification last said, as watch keeps it."""

    name: str
    verdict: str
    began: str
    late: bool
    bad: tuple[str, ...]


@dataclass(frozen=True)
class Digest:
    """What is told of some time."""

    site: str
    since: str
    """The first hour (`2026-11-24T00`), and the first that is not part of it."""
    until: str
    hours: Mapping[str, Summary]
    machines: tuple[str, ...] = ()
    """Whose lines there should be."""
    verified: tuple[Verified, ...] = ()
    learning_since: str = ""
    standing: tuple[Section, ...] = ()
    """How the site stands at the time of writing, whatever the hours."""
    whole: Summary = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "whole", merged(self.hours.values()))

    @property
    def learning(self) -> bool:
        """Whether too little was seen yet for anything to be news."""
        return not self.learning_since or learning(self.learning_since, self.until)

    def total(self, prefix: str) -> int:
        """The sum of the counts below a name."""
        return sum(self.whole.below(prefix).values())

    @property
    def delivered(self) -> Times:
        """How long the whole of the way took, from the gateway's taking to its handing over."""
        times = Times()
        for name in ("store/smtp", "smtp"):
            times.merge(self.whole.time(name))
        return times


_TROUBLE = {
    "disk full": (Level.ACT, "a disk is full"),
    "read-only disk": (Level.ACT, "a disk cannot be written"),
    "out of memory": (Level.ACT, "memory ran out"),
    "Postfix gave up": (Level.ACT, "Postfix gave up (fatal, panic)"),
    "a log file was changed": (Level.ACT, "a log file on watch is another, or became shorter"),
    "logs lost": (Level.ACT, "log lines were lost on their way"),
    "a program crashed": (Level.ACT, "a program crashed"),
    "a service failed": (Level.LOOK, "a service failed"),
    "a service hung": (Level.LOOK, "a service did not answer, and was restarted"),
    "a service hangs": (Level.ACT, "a service does not answer, though it was restarted"),
    "a machine sends too much": (
        Level.LOOK,
        "a machine of ours handed over more mail in a minute than it may",
    ),
    "clock": (Level.LOOK, "a clock is not synchronised"),
    "quota": (Level.LOOK, "a mailbox is over its quota"),
    "too much was new": (
        Level.LOOK,
        "so much was new on a machine that more of the kind will not be told",
    ),
}

_SHOWN = {
    **dict.fromkeys(
        ("a service failed", "a service hung", "a service hangs"), "Services that failed"
    ),
    "quota": "Over quota",
}
"""The table that has more of it."""


def needs(digest: Digest) -> list[Need]:
    """What needs a person, what is to be acted on first."""
    found = [
        *_verification(digest),
        *_machines(digest),
        *(need for part in digest.standing for row in part.rows for need in row.needs),
        *_mail(digest),
        *_reported(digest),
        *_people(digest),
        *_intrusion(digest),
        *_new(digest),
    ]
    return sorted(found, key=lambda it: it.level is not Level.ACT)


def _verification(digest: Digest) -> Iterator[Need]:
    for one in digest.verified:
        if one.verdict == "failed":
            words = f"verification ({one.name}) failed: {'; '.join(one.bad[:4])}"
            yield Need(Level.ACT, words, "mastio verify --scheduled")
        elif one.late:
            yield Need(
                Level.ACT,
                f"verification ({one.name}) has not run in time",
                "mastio verify --scheduled",
            )
        elif one.verdict == "could not check":
            words = f"verification ({one.name}) could not check everything"
            yield Need(Level.LOOK, words, "mastio verify --scheduled")


def _machines(digest: Digest) -> Iterator[Need]:
    whole = digest.whole
    for name in digest.machines:
        if digest.hours and not whole.count(f"lines.{name}"):
            yield Need(Level.ACT, f"not one line came from {name}", f"mastio plan {name}")
    for name, number in whole.below("trouble").items():
        level, words = _TROUBLE.get(name, (Level.LOOK, name))
        remedy = f"see {_SHOWN.get(name, 'Trouble')}"
        yield Need(level, f"{words} ({number:,} ×)", remedy)
    unreadable, lines = whole.count("reading.unreadable"), digest.total("lines")
    if unreadable > max(20, lines / 1000):
        yield Need(Level.LOOK, f"{unreadable:,} log lines could not be read")


def _mail(digest: Digest) -> Iterator[Need]:
    whole, times = digest.whole, digest.delivered
    if away := whole.count(f"refused.in.{AWAY}"):
        level = Level.ACT if away > 100 else Level.LOOK
        yield Need(
            level,
            f"the scanner was away: {away:,} times mail was told to come again",
            "see Errors by machine and program",
        )
    if times.number and times.share(0.95) > 300:
        level = Level.ACT if times.share(0.95) > 3600 else Level.LOOK
        yield Need(
            level,
            f"one message in twenty took {times.share(0.95):,.0f} s or more",
            "see Not delivered",
        )
    deferred, sent = digest.total("deferred"), digest.total("sent")
    if deferred > 50 and deferred > sent / 5:
        yield Need(Level.LOOK, f"{deferred:,} deliveries were put off", "see Not delivered")
    if full := whole.count("refused.in.mailbox or disk full"):
        words = f"{full:,} times there was no room for a message: a mailbox or a disk is full"
        yield Need(Level.LOOK, words, "mastio user list")
    if near := len(whole.tops["nearly full"].names) if "nearly full" in whole.tops else 0:
        words = f"{near:,} mailboxes are nearly full"
        yield Need(Level.LOOK, words, "see Nearly full")
    if expired := whole.count("expired"):
        yield Need(
            Level.LOOK, f"{expired:,} messages were given up after days", "see Not delivered"
        )


def _reported(digest: Digest) -> Iterator[Need]:
    """What other organisations report: a share of mail in our name that is not ours is usual, but small."""
    whole = digest.whole
    messages, passed = whole.count("dmarc.messages"), whole.count("dmarc.passed")
    if messages - passed > max(20, messages / 20):
        words = f"{messages - passed:,} of {messages:,} messages in our name could not be proven to be ours (DMARC)"
        yield Need(Level.LOOK, words, "mastio reports")
    sessions, failed = whole.count("tls reports.sessions"), whole.count("tls reports.failed")
    if failed > sessions / 100:
        words = f"{failed:,} of {sessions:,} connections to us failed in TLS, others report"
        yield Need(Level.LOOK, words, "mastio reports")


def _people(digest: Digest) -> Iterator[Need]:
    whole = digest.whole
    if sick := whole.count("refused.submitted.virus") + whole.count("refused.out.virus"):
        yield Need(
            Level.ACT, f"users of ours tried to send malware ({sick:,} ×)", "see Not delivered"
        )
    if held := whole.count("held.outgoing"):
        who = ", ".join(name for name, _ in whole.top("held", 3))
        yield Need(Level.ACT, f"outgoing mail is held: {held:,} of {who}", "mastio outbound show")
    if held := whole.count("leaving.held"):
        words = f"mail is held on its way out, because of what is attached: {held:,}"
        yield Need(Level.ACT, words, "mastio quarantine list")
    failed = digest.total("login.failed")
    good = digest.total("login.good")
    if failed > 200 and failed > good:
        yield Need(Level.LOOK, f"{failed:,} log-ins failed, {good:,} did not", "mastio ban list")


def _intrusion(digest: Digest) -> Iterator[Need]:
    whole = digest.whole
    if inside := whole.count("intrusion.inside"):
        words = f"machines of ours spoke what no flow declares ({inside:,} ×)"
        yield Need(Level.ACT, words, "mastio logs --grep suricata")


def _new(digest: Digest) -> Iterator[Need]:
    if digest.learning:
        return
    for kind, one, many, of in (
        ("shapes", "log line", "log lines", "of a new shape"),
        ("networks", "log-in", "log-ins", "from a network that is new for its user"),
        ("alerts", "kind", "kinds", "of alert from intrusion detection"),
        ("flows", "conversation", "conversations", "that the firewalls stopped for the first time"),
        ("begun", "conversation", "conversations", "with the outside for the first time"),
    ):
        number = len(digest.whole.news.get(kind, ())) + digest.whole.count(f"untold.{kind}")
        if number:
            words = f"{one if number == 1 else many} {of}"
            yield Need(Level.LOOK, f"{number:,} {words}", "see New")
