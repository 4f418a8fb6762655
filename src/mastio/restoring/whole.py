"""The whole store, and what else a machine has that no site file says: all of it comes back, nothing there is removed.

rows, outcomes, plans = everything(restoring, archive)
state(restoring, archive, Role.GATEWAY_IN)
"""

from contextlib import nullcontext

from mastio.restoring.client import Archive, Outcome, Restoring, Row
from mastio.restoring.plan import Plan, Wish
from mastio.roles.backup.door import FOLDER as HERE
from mastio.roles.store import DIRECTORY, VMAIL
from mastio.site.model import Machine, Role

UNITS: dict[Role, tuple[str, ...]] = {
    Role.GATEWAY_IN: ("rspamd.service", "valkey-server.service"),
    Role.GATEWAY_OUT: ("rspamd.service", "valkey-server.service"),
    Role.WEBMAIL: ("php8.4-fpm.service",),
}
"""What stands still while a role's state comes back, in the order in which it stops."""


def everything(
    restoring: Restoring, archive: Archive, *, deleted: bool = False, change: bool = True
) -> tuple[list[Row], list[Outcome], list[Plan]]:
    """Accounts, then mailboxes that are gone, then what others lack; without `change`, what would come."""
    homes = restoring.homes(archive)
    # Who logs in, or gets mail, before the own mailbox is back would get a new one.
    with restoring.held() if change else nullcontext():
        rows = restoring.accounts(archive, [], change=change)
        live = restoring.live(homes)
        gone = [it for it in homes if not live[it].folders]
        outcomes = (
            restoring.whole(archive, gone, every=len(gone) == len(homes))
            if change
            else [Outcome(it, 0, whole=True) for it in gone]
        )
    plans = [
        restoring.plan(archive, it, Wish(deleted=deleted))
        for it in homes
        if live[it].folders and live[it].exists
    ]
    if change:
        for it in plans:
            outcomes += restoring.carry_out(archive, [it], unique=True)
    else:
        outcomes += [Outcome(it.user, it.count) for it in plans]
    return rows, outcomes, plans


def state(restoring: Restoring, archive: Archive, machine: Machine) -> int:
    """All else that was archived of a machine, while what uses it stands still; how many files."""
    units = [it for role in machine.roles for it in UNITS.get(role, ())]
    # What commands say is for people, but for the filter's memory.
    skipped = tuple(it.lstrip("/") for it in (VMAIL, DIRECTORY, str(HERE)))
    paths = [
        it
        for it in restoring.paths(archive)
        if not it.startswith(skipped) or it.endswith("/valkey.rdb")
    ]
    return restoring.state(archive, paths, list(dict.fromkeys(units)))
