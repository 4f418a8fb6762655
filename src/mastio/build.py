"""From a site to the desired state of each of its machines: pure, deterministic, no machine is asked.

A machine that carries several roles gets the union of their parts. Where two parts want one thing
differently (the same file with another content, a unit that one masks and the other starts) that is
an error that names both; nothing silently wins.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

from mastio import firewall, secrets
from mastio.context import Context, Internet, Kit, listeners
from mastio.errors import Exit, MastioError
from mastio.flows import FlowMatrix, expand
from mastio.roles.registry import PARTS
from mastio.site.model import Machine, Site
from mastio.state import HostState, Unit, User

T = TypeVar("T")
_NO_KIT = Kit()


def build(
    site: Site, vault: Mapping[str, str], internet: Internet, kit: Kit = _NO_KIT
) -> dict[str, HostState]:
    """The desired state of every machine, by name. `vault` must hold what `secrets.ensure` makes."""
    matrix = expand(site)
    return {
        machine.name: _machine(site, matrix, machine, vault, internet, kit)
        for machine in site.machines
    }


def _machine(
    site: Site, matrix: FlowMatrix, machine: Machine, vault: Mapping[str, str], internet: Internet,
    kit: Kit,
) -> HostState:  # fmt: skip
    known = secrets.for_machine(vault, site, machine)
    context = Context(site, matrix, machine, internet, known, kit)
    parts = [(part.name, part.build(context)) for part in PARTS if machine.has(*part.roles)]
    return merge(
        machine.name,
        [*parts, ("flow matrix", HostState(listeners=listeners(matrix, machine)))],
        firewall.ruleset(matrix, machine),
    )


def merge(machine: str, parts: Iterable[tuple[str, HostState]], ruleset: str = "") -> HostState:
    """The union of the parts of one machine; raises MastioError when two contradict each other."""
    parts = list(parts)

    def union(
        items: Callable[[HostState], Iterable[T]], key: Callable[[T], Hashable]
    ) -> tuple[T, ...]:
        found: dict[Hashable, tuple[str, T]] = {}
        for part, state in parts:
            for item in items(state):
                first, known = found.setdefault(key(item), (part, item))
                if known != item:
                    raise _conflict(machine, first, part, str(key(item)))
        return tuple(item for _, item in sorted(found.values(), key=lambda it: str(key(it[1]))))

    return HostState(
        packages=union(lambda s: s.packages, lambda it: it),
        debconf=union(lambda s: s.debconf, lambda it: it),
        files=union(lambda s: s.files, lambda it: it.path),
        directories=union(lambda s: s.directories, lambda it: it.path),
        links=union(lambda s: s.links, lambda it: it.path),
        removed=union(lambda s: s.removed, lambda it: it),
        users=_users(parts),
        units=_units(machine, parts),
        checks=union(lambda s: s.checks, lambda it: it.name),
        commands=union(lambda s: s.commands, lambda it: it.name),
        listeners=tuple(item for _, state in parts for item in state.listeners),
        firewall=ruleset,
    )


def _conflict(machine: str, first: str, second: str, what: str) -> MastioError:
    return MastioError(
        f"{machine}: {first} and {second} both want {what}, differently",
        hint="these roles cannot share a machine yet; give them machines of their own in the site file",
        code=Exit.DATA,
    )


def _users(parts: list[tuple[str, HostState]]) -> tuple[User, ...]:
    """Users by name; the supplementary groups of all parts together."""
    users: dict[str, User] = {}
    for _, state in parts:
        for user in state.users:
            known = users.get(user.name, user)
            groups = tuple(sorted({*known.groups, *user.groups}))
            users[user.name] = User(user.name, known.home, known.shell, groups)
    return tuple(users[name] for name in sorted(users))


def _units(machine: str, parts: list[tuple[str, HostState]]) -> tuple[Unit, ...]:
    """Units by name, in the order of the parts; what makes them restart is put together."""
    units: dict[str, tuple[str, Unit]] = {}
    for part, state in parts:
        for unit in state.units:
            first, known = units.setdefault(unit.name, (part, unit))
            if known.masked != unit.masked or known.oneshot != unit.oneshot:
                raise _conflict(machine, first, part, unit.name)
            reads = tuple(sorted({*known.reads, *unit.reads}))
            aliases = tuple(sorted({*known.aliases, *unit.aliases}))
            merged = Unit(
                unit.name, reads, known.reload and unit.reload, unit.masked, unit.oneshot, aliases
            )
            units[unit.name] = (first, merged)
    return tuple(unit for _, unit in units.values())
