"""The words of verification: checks, verdicts, findings, runs. Plain data, nothing is done here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mastio.foreign import printable
from mastio.site.model import Role, Site
from mastio.transport import OUTSIDE
from mastio.verify.vantage import Vantage


class Verdict(StrEnum):
    """What a check found at a vantage, the worst first."""

    FAILED = "failed"
    UNKNOWN = "could not check"
    NOT_RUN = "not run"
    ACCEPTED = "accepted"
    PASSED = "passed"


BAD = (Verdict.FAILED, Verdict.UNKNOWN)
"""What a person must hear of, the worst first."""


class Severity(StrEnum):
    """What a failure means, the worst first."""

    CRITICAL = "critical"
    """Mail can be read, forged or relayed by strangers, or the isolation is broken."""
    HIGH = "high"
    """One defence is gone; another still stands."""
    MEDIUM = "medium"
    """Others trust the site less, or an attacker learns something."""
    LOW = "low"
    """Hygiene."""


class Family(StrEnum):
    """What a check is about; its identifiers begin with the letter in front."""

    NETWORK = "Network"
    MAIL = "Mail in and out"
    TLS = "TLS"
    NAMES = "Names"
    LOGIN = "Logging in"
    CONTENT = "Content"
    WEB = "Webmail"
    HOST = "Machines"
    LOGS = "Logs"
    INTEGRITY = "Integrity"
    BACKUP = "Backup"
    EYES = "Other eyes"


class Place(StrEnum):
    """Vantages that are not a role."""

    OUTSIDE = OUTSIDE
    EVERY_MACHINE = "every machine"
    BEHIND = "every machine behind the firewall"
    """Without one, every machine: the check says what it cannot tell there."""
    PERIMETER = "the firewall machine"
    """The same without one."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one vantage reaches of one address: the reachability matrix is made of these.

    Ports are `(transport, port)`. `answered` are open; `closed` answered that nobody listens, which a
    firewall that drops would not have let happen.
    """

    source: str
    target: str
    address: str
    expected: tuple[tuple[str, int], ...]
    answered: tuple[tuple[str, int], ...]
    closed: tuple[tuple[str, int], ...]
    tried: int
    """How many ports were tried."""

    @property
    def surplus(self) -> tuple[tuple[str, int], ...]:
        """What answers and should not."""
        return tuple(it for it in self.answered if it not in self.expected)

    @property
    def missing(self) -> tuple[tuple[str, int], ...]:
        """What should answer and does not."""
        return tuple(it for it in self.expected if it not in self.answered)

    @property
    def leaks(self) -> tuple[tuple[str, int], ...]:
        """What the firewall lets through although nobody listens there."""
        return tuple(it for it in self.closed if it not in self.expected)


class Kind(StrEnum):
    """What a secret is; the words are those of `probes.disk`."""

    PRIVATE_KEY = "private key"
    SSH_KEY = "ssh key"
    LOGIN_KEY = "log-in key"
    """Not secret: whose keys open the machine. A line that nobody declared is a back door."""
    VAULT = "vault"
    VAULT_KEY = "vault key"
    PASSWORD_HASH = "password hash"  # noqa: S105 — a kind
    SESSION_KEY = "session key"
    WIREGUARD_KEY = "wireguard key"
    SESSION = "session"
    QUEUED_MAIL = "queued mail"
    MAIL = "mail"


@dataclass(frozen=True, slots=True)
class Secret:
    """Something that lies on a machine's disk. Its content stays there."""

    machine: str
    kind: Kind
    path: str
    owner: str
    """user:group"""
    mode: str
    """In octal, as 0600."""
    count: int
    """Messages of a Maildir; 1 of all else."""
    of: tuple[str, ...]
    """Of a private key: the names in its certificate."""

    @property
    def words(self) -> str:
        """For people."""
        many = f", {self.count} messages" if self.kind is Kind.MAIL and self.count != 1 else ""
        whose = f" of {', '.join(self.of)}" if self.of else ""
        return printable(f"{self.kind}{whose} at {self.path} ({self.owner} {self.mode}{many})")


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `run` yields what is wrong, a sentence each; nothing means passed.

    `run` may raise MastioError, OSError or ValueError: then it *could not check*, for that reason; or
    `NotRunError`, when there is nothing here to look at.
    """

    id: str
    family: Family
    title: str
    where: tuple[Role | Place, ...]
    severity: Severity
    probe: str
    """What is done, in a line."""
    passes: str
    """When it passes, in a line."""
    source: str
    """On whose authority: an RFC, a manual page, a published attack."""
    remedy: str
    """What to do when it fails."""
    run: Callable[[Vantage], Iterator[str | Cell | Secret]] = field(compare=False)
    full: bool = False
    """It takes long: only in the full set."""
    seconds: float = 30
    """The longest it may take at one vantage."""
    alone: bool = False
    """It has the vantage shut out for a moment: it runs when all others are done, by itself."""

    def vantages(self, site: Site) -> tuple[str, ...]:
        """From where it looks, in this site."""
        roles = tuple(it for it in self.where if isinstance(it, Role))
        walled = site.carrying(Role.FIREWALL)
        machines = tuple(
            machine.name
            for machine in site.machines
            if Place.EVERY_MACHINE in self.where
            or machine.has(*roles)
            or (Place.BEHIND in self.where and not machine.has(Role.FIREWALL))
            or (Place.PERIMETER in self.where and (machine.has(Role.FIREWALL) or not walled))
        )
        return (OUTSIDE, *machines) if Place.OUTSIDE in self.where else machines


@dataclass(frozen=True, slots=True)
class Finding:
    """One check at one vantage."""

    check: Check
    vantage: str
    verdict: Verdict
    seen: tuple[str, ...] = ()
    """What was seen that should not be, or why it could not be checked, a printable line each; empty when passed."""
    cells: tuple[Cell, ...] = ()
    seconds: float = 0.0
    secrets: tuple[Secret, ...] = ()

    def __post_init__(self) -> None:
        # In it are a machine's own words, which an intruder may have chosen.
        object.__setattr__(self, "seen", tuple(printable(it) for it in self.seen))

    @property
    def key(self) -> str:
        """What identifies it from run to run."""
        return f"{self.check.id}@{self.vantage}"


@dataclass(frozen=True, slots=True)
class Run:
    """All findings of one verification."""

    site: str
    began: datetime
    seconds: float
    full: bool
    findings: tuple[Finding, ...]

    def having(self, *verdicts: Verdict) -> tuple[Finding, ...]:
        """The findings with one of these verdicts."""
        return tuple(it for it in self.findings if it.verdict in verdicts)

    @property
    def verdict(self) -> Verdict:
        """The worst of all: a run is as good as its worst finding. `accepted` and `not run` do not spoil it."""
        for verdict in BAD:
            if self.having(verdict):
                return verdict
        looked = self.having(Verdict.PASSED, Verdict.ACCEPTED)
        return Verdict.PASSED if looked else Verdict.NOT_RUN
