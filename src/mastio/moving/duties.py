"""Which of a machine's roles go elsewhere, what they hold, and who takes it.

>>> [(it.role, it.takers) for it in duties(machine, site)]  # a lone machine, a site of five
[(<Role.GATEWAY_IN: 'gateway-in'>, ('gateway',)), (<Role.STORE: 'store'>, ('store',)), ...]
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mastio.roles.registry import KEPT
from mastio.site.model import Machine, Role, Site
from mastio.state import Kept


@dataclass(frozen=True, slots=True)
class Duty:
    """A role that leaves a machine."""

    role: Role
    kept: Kept
    takers: tuple[str, ...]
    """Machines that carry the role in the site as it shall be."""


def duties(machine: Machine, site: Site, former: Sequence[Machine] = ()) -> tuple[Duty, ...]:
    """The roles that `machine` had and has no more in `site`, of which something is kept.

    A sending and a receiving gateway on one machine hold one thing. Who carried the role beside it all along (`former`
    are the machines as they were) has what it needs, and takes nothing.
    """
    return tuple(_duties(machine, site, former))


def _duties(machine: Machine, site: Site, former: Sequence[Machine]) -> Iterator[Duty]:
    stays = {role for it in site.machines if it.name == machine.name for role in it.roles}
    for role in machine.roles:
        if role in stays or role not in KEPT:
            continue
        if role is Role.GATEWAY_OUT and Role.GATEWAY_IN in machine.roles:
            continue
        carrying = [it.name for it in site.carrying(role)]
        known = {it.name for it in former if it.has(role) and it.name != machine.name}
        takers = tuple(it for it in carrying if it not in known)
        if takers or not carrying:
            yield Duty(role, KEPT[role], takers)
