"""A plan as the agent carries it out: everything to do, nothing to decide. Pure."""

from mastio.agent.wire import Account, Job, Order, Record, Seen
from mastio.plan import (
    Kind,
    MachinePlan,
    absent,
    command_digest,
    listeners,
    manifest,
    ruleset,
    unit_digest,
    wanted,
)
from mastio.state import HostState


def order(
    state: HostState, seen: Seen, plan: MachinePlan, *, window: int = 60, health: int = 30
) -> Order:
    """The plan as the agent carries it out. `window` and `health`: see `wire.Order`."""
    puts = wanted(state)
    removals = [change.path for change in plan.paths if change.kind is Kind.REMOVE]
    if plan.packages:
        # A new package may bring the very defaults that must not be here.
        removals += [path for path in state.removed if path not in removals]
    changes = [puts[change.path] for change in plan.paths if change.path in puts]
    verbs: dict[str, list[str]] = {}
    for action in plan.units:
        verbs.setdefault(action.verb, []).append(action.name)
    due = {action.name for action in plan.commands}
    return Order(
        op="apply",
        generation=seen["record"]["generation"],
        packages=list(plan.packages),
        debconf=list(state.debconf),
        users=_accounts(state, plan),
        # What goes, goes first: a path may come back as something else, or below another.
        puts=[absent(path) for path in removals] + changes,
        checks=[Job(name=c.name, argv=list(c.argv)) for c in state.checks if c.name in plan.checks],
        commands=[Job(name=c.name, argv=list(c.argv)) for c in state.commands if c.name in due],
        verbs=verbs,
        former={action.name: seen["units"][action.name] for action in plan.units},
        active=[unit.name for unit in state.units if not (unit.masked or unit.oneshot)],
        oneshot=[unit.name for unit in state.units if unit.oneshot and not unit.masked],
        listeners=listeners(state),
        firewall=ruleset(state) if plan.firewall else "",
        window=window,
        health=health,
        record=Record(
            generation=0,
            manifest=manifest(puts),
            secrets=[path for path, put in puts.items() if put["secret"]],
            units={unit.name: unit_digest(unit, puts) for unit in state.units},
            commands={job.name: command_digest(job, puts) for job in state.commands},
            firewall="",
        ),
        die_at="",
    )


def _accounts(state: HostState, plan: MachinePlan) -> list[Account]:
    verbs = {action.name: action.verb for action in plan.users}
    return [
        Account(
            name=user.name, home=user.home, shell=user.shell,
            create=verbs[user.name] == "create", groups=list(user.groups),
        )
        for user in state.users
        if user.name in verbs
    ]  # fmt: skip
