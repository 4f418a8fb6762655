"""What turns booted machines into the site: its configuration, then people with mailboxes.

Nothing here is the lab's own way of doing it: the same plan, the same apply and the same accounts
client serve any site.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from mastio.accounts import passwords
from mastio.accounts.client import Accounts
from mastio.accounts.model import AddUser, ChangeUser
from mastio.agent.wire import Event
from mastio.apply import Planned, apply_all, plan_all
from mastio.errors import MastioError
from mastio.lab import demo
from mastio.site.model import Site
from mastio.state import HostState
from mastio.transport import Transport
from mastio.vault import write_private


def configure(
    transport: Transport, states: Mapping[str, HostState], note: Callable[[str], None]
) -> None:
    """Plan and apply on all machines; raises MastioError with what failed where."""
    found = plan_all(transport, states)
    ready = {name: one for name, one in found.items() if isinstance(one, Planned)}

    def on_event(machine: str, event: Event) -> None:
        note(f"{machine}: {event['step']} {event['words']}".rstrip())

    outcomes = apply_all(transport, ready, on_event)
    failed = [one.message for one in found.values() if isinstance(one, MastioError)]
    failed += [f"{name}: {one.words}" for name, one in outcomes.items() if not one.ok]
    if failed:
        raise MastioError(
            "\n".join(failed),
            hint="`mastio lab shell MACHINE` looks into it; `mastio lab up` goes on from here",
        )


def people(site: Site, transport: Transport, kept: Path) -> dict[str, str]:
    """The demonstration's mailboxes and their passwords: made once, and remembered in `kept`.

    Also tells the gateways who there is, as after every apply.
    """
    accounts = Accounts(site, transport)
    known: dict[str, str] = json.loads(kept.read_text()) if kept.exists() else {}
    there = {user.address for user in accounts.listing().users}
    wanted = [f"{name}@{site.domains[0]}" for name in demo.PEOPLE]
    changes: list[AddUser | ChangeUser] = []
    for address in wanted:
        if address in there and address in known:
            continue
        known[address] = passwords.generate()
        hashed = passwords.hashed(known[address])
        if address in there:  # its password was forgotten here: it gets a new one
            changes.append(ChangeUser(address, password=hashed))
        else:
            changes.append(AddUser(address, hashed, name=address.partition("@")[0].capitalize()))
    write_private(kept, json.dumps(known, indent=2).encode())
    outcome = accounts.change(changes) if changes else accounts.sync()
    if outcome.late:
        raise MastioError(
            "\n".join(
                f"{gateway} did not get the recipients: {why}" for gateway, why in outcome.late
            ),
            hint="`mastio sync` brings them",
        )
    return {address: known[address] for address in wanted}
