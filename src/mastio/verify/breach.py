"""If a machine is broken into: what can be reached from it, which secrets lie there, what it can do about mail,
each compared with what the design grants it. Pure: it judges what checks N2, N5 and H7 have seen.

    exposures(matrix, run) → one Exposure for each machine that was looked at

Reach is granted by the flow matrix; secrets and powers by `grants`. Powers are derived, never asked for: from
the secrets that lie there, the services that answer, the services that it offers to others.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mastio import services
from mastio.flows import INTERNET, FlowMatrix
from mastio.services import Service
from mastio.site.model import Machine, Role, Site
from mastio.transport import OUTSIDE
from mastio.verify.grants import WITHOUT_PERIMETER, Lies, Power, Whose, of_roles
from mastio.verify.model import Cell, Finding, Kind, Run, Secret, Verdict
from mastio.verify.reach import PUBLIC, Port, named

REACH, EGRESS, SECRETS = "N2", "N5", "H7"
"""The checks whose findings are judged."""
LOOKS = (REACH, EGRESS, SECRETS)
_KEYS = (Kind.PRIVATE_KEY, Kind.SSH_KEY, Kind.SESSION_KEY, Kind.VAULT_KEY)


@dataclass(frozen=True, slots=True)
class Rule:
    """Who has any of these has the power: secrets of a kind, an answer from a service, callers of a service."""

    power: Power
    kinds: tuple[Kind, ...] = ()
    reaches: tuple[Service, ...] = ()
    serves: tuple[Service, ...] = ()
    roles: tuple[Role, ...] = ()


RULES = (
    Rule(Power.STORED, (Kind.MAIL,), serves=(services.IMAPS,)),
    Rule(
        Power.TRANSIT, (Kind.QUEUED_MAIL,),
        serves=(services.SMTP, services.DELIVERY, services.RELAY, services.SUBMISSIONS),
        roles=(Role.FIREWALL,),
    ),
    Rule(
        Power.LOGGING_IN, (Kind.SESSION, Kind.SESSION_KEY),
        serves=(services.HTTPS, services.IMAPS, services.SUBMISSIONS, services.PASSWORD),
    ),
    Rule(Power.PASSWORD, reaches=(services.IMAPS, services.SUBMISSIONS, services.SIEVE, services.PASSWORD)),
    Rule(Power.GUESS, (Kind.PASSWORD_HASH,)),
    Rule(Power.DELIVER, reaches=(services.DELIVERY,), serves=(services.DELIVERY,)),
    Rule(Power.SIGNED, reaches=(services.RELAY,), serves=(services.RELAY,)),
    Rule(Power.VERDICTS, reaches=(services.LEARN,), roles=(Role.GATEWAY_IN, Role.GATEWAY_OUT)),
    Rule(Power.PERIMETER, roles=(Role.FIREWALL,)),
    Rule(Power.KNOCK, reaches=(services.SSH,)),
    # Watch does both for its own machine too, and for that has no flow.
    Rule(Power.SUPPLY, serves=(services.PROXY, services.NTP), roles=(Role.WATCH,)),
    Rule(Power.LOGS, serves=(services.SYSLOG,), roles=(Role.WATCH,)),
)  # fmt: skip
"""`SEND` is not here: it depends on whom one reaches; without a perimeter, on nothing, and neither does `PERIMETER`."""
_UNWALLED = (
    "it stands on the internet by itself: its own firewall holds programs back, not who has root"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A service that answers, and whether the flow matrix says so."""

    target: str
    port: Port
    granted: bool

    @property
    def words(self) -> str:
        """For people."""
        return named(self.port)


@dataclass(frozen=True, slots=True)
class Held:
    """A power; `why` is the grant's, empty when there is none; `by` is what gives it."""

    power: Power
    why: str
    by: str


@dataclass(frozen=True, slots=True)
class Exposure:
    """One machine, taken as broken into."""

    machine: Machine
    answers: tuple[Answer, ...]
    secrets: tuple[tuple[Secret, str], ...]
    """Each with the reason why it may lie there; empty when it may not."""
    powers: tuple[Held, ...]
    findings: tuple[str, ...]
    """What is found and not granted, or the other way round."""
    unseen: tuple[str, ...]
    """What could not be looked at, and why."""

    @property
    def verdict(self) -> Verdict:
        """What is wrong counts most; what was not looked at is never green."""
        if self.findings:
            return Verdict.FAILED
        return Verdict.UNKNOWN if self.unseen else Verdict.PASSED

    @property
    def lacks(self) -> tuple[Power, ...]:
        """What an intruder cannot do from here; nothing when not all could be looked at."""
        held = {it.power for it in self.powers}
        return () if self.unseen else tuple(it for it in Power if it not in held)

    def by_target(self) -> dict[str, tuple[Answer, ...]]:
        """The answers, by whom they come from."""
        found: dict[str, list[Answer]] = {}
        for it in self.answers:
            found.setdefault(it.target, []).append(it)
        return {target: tuple(answers) for target, answers in found.items()}


def exposures(matrix: FlowMatrix, run: Run) -> tuple[Exposure, ...]:
    """What a run tells of each machine where it looked for secrets."""
    looked = {it.vantage for it in run.findings if it.check.id == SECRETS}
    return tuple(exposure(matrix, run, it) for it in matrix.site.machines if it.name in looked)


def exposure(matrix: FlowMatrix, run: Run, machine: Machine) -> Exposure:
    """What a run tells of one machine."""
    looks = [it for it in run.findings if it.vantage == machine.name and it.check.id in LOOKS]
    answers = tuple(sorted(_answers(looks), key=lambda it: (it.target, it.port)))
    secrets = tuple(secret for look in looks for secret in look.secrets)
    own = {it for it in declared(matrix, machine) if it[0] == machine.name}
    held = powers(matrix, machine, secrets, own | {(it.target, it.port) for it in answers})
    faults = [words for it in looks if it.verdict is Verdict.FAILED for words in it.seen]
    faults += [fault for it in held if (fault := ungranted(machine, it)) and fault not in faults]
    return Exposure(
        machine, answers, tuple((it, granted(matrix.site, machine, it)) for it in secrets), held, tuple(faults),
        (*_unseen(looks, _wanted(matrix, machine)),),
    )  # fmt: skip


def _answers(looks: Iterable[Finding]) -> set[Answer]:
    return {
        Answer(INTERNET if cell.target == OUTSIDE else cell.target, port, port in cell.expected)
        for look in looks
        for cell in look.cells
        for port in _seen(cell)
    }


def _seen(cell: Cell) -> set[Port]:
    """What answers. A port outside that says `closed` was reached as well: the site let the packet out."""
    closed = cell.closed if cell.target == OUTSIDE else ()
    return {*cell.answered, *closed}


def _wanted(matrix: FlowMatrix, machine: Machine) -> tuple[str, ...]:
    """The looks that can tell something of it."""
    # Nothing stands between the internet and the perimeter, or a machine without one: N5 can prove nothing there.
    walled = matrix.firewall is not None and not machine.has(Role.FIREWALL)
    alone = len(matrix.site.machines) == 1
    return (*(() if alone else (REACH,)), *((EGRESS,) if walled else ()), SECRETS)


def _unseen(looks: list[Finding], wanted: tuple[str, ...]) -> Iterator[str]:
    seen = {it.check.id for it in looks}
    for it in looks:
        if it.check.id in wanted and it.verdict in (Verdict.UNKNOWN, Verdict.NOT_RUN):
            yield from (f"{it.check.id} {it.check.title}: {words}" for words in it.seen)
    for name in wanted:
        if name not in seen:
            yield f"{name} was not run"


def powers(
    matrix: FlowMatrix, machine: Machine, secrets: Iterable[Secret], answers: Collection[tuple[str, Port]]
) -> tuple[Held, ...]:  # fmt: skip
    """What can be done about mail from `machine`, by what was found there and what answered it."""
    reasons = {it.power: it.why for it in of_roles(machine.roles, matrix.site.clients).powers}
    kinds = {it.kind: it for it in secrets}
    reached = {
        service: target
        for target, (kind, number) in sorted(answers)
        if target not in (INTERNET, PUBLIC)
        for service in services.ALL
        if service.port == number and kind in service.transports
    }
    inside = matrix.inside(machine.name)
    callers = {it.service: it.source for it in (*inside, *matrix.into(machine.name))}
    # Who passes a service on to where it is answered keeps nothing of it.
    onward = {it.service for it in matrix.out_of(machine.name)}
    found = []
    for rule in RULES:
        by = [f"{kinds[it].kind} at {kinds[it].path}" for it in rule.kinds if it in kinds]
        by += [f"{it.name} at {reached[it]} answers" for it in rule.reaches if it in reached]
        kept = (it for it in rule.serves if rule.power is not Power.STORED or it not in onward)
        by += [f"{callers[it]} comes with {it.name}" for it in kept if it in callers]
        by += [f"it is {it}" for it in rule.roles if machine.has(it)]
        if by:
            found.append(Held(rule.power, reasons.get(rule.power, ""), "; ".join(by)))
    if (INTERNET, ("tcp", services.SMTP.port)) in answers:
        by_smtp = f"{services.SMTP.name} on the internet answers"
        found.append(Held(Power.SEND, reasons.get(Power.SEND, ""), by_smtp))
    if matrix.firewall is None:
        known = {it.power for it in found}
        found += [
            Held(it, reasons.get(it, _UNWALLED), "no perimeter stands there")
            for it in (Power.SEND, Power.PERIMETER)
            if it not in known
        ]
    order = list(Power)
    return tuple(sorted(found, key=lambda it: order.index(it.power)))


def declared(matrix: FlowMatrix, machine: Machine) -> set[tuple[str, Port]]:
    """What should answer a machine, as the flow matrix says: `answers` before anybody looked."""
    return {
        (flow.target, (str(kind), flow.service.port))
        for flow in (*matrix.out_of(machine.name), *matrix.inside(machine.name))
        for kind in flow.service.transports
    }


def ungranted(machine: Machine, held: Held) -> str:
    """What is wrong with a power; nothing when it is granted."""
    if held.why:
        return ""
    return f"{machine.name} can {held.power} ({held.by}), which its work does not need"


def faults(site: Site, machine: Machine, secrets: Iterable[Secret]) -> Iterator[str]:
    """What is wrong with the secrets that lie on a machine, a sentence each."""
    for it in secrets:
        if not granted(site, machine, it):
            yield f"{machine.name}: {it.words}: its work does not need that"
        elif it.kind in _KEYS and int(it.mode, 8) & 0o006:
            yield f"{machine.name}: {it.words}: every program there may read it"


def granted(site: Site, machine: Machine, secret: Secret) -> str:
    """Why a secret may lie where it does; empty when it may not."""
    rows = of_roles(machine.roles, site.clients).secrets
    if not site.carrying(Role.FIREWALL):
        rows = (*rows, *WITHOUT_PERIMETER)
    return next((it.why for it in rows if _fits(site, machine, it, secret)), "")


def _fits(site: Site, machine: Machine, row: Lies, secret: Secret) -> bool:
    if row.kind is not secret.kind or not fnmatchcase(secret.path, row.place):
        return False
    names = {
        Whose.MACHINE: site.internal_name(machine.name),
        Whose.MX: site.mx_host,
        Whose.WEBMAIL: site.webmail_host,
        Whose.PROGRAMS: site.imap_host,
    }
    return row.whose is None or names[row.whose] in secret.of
