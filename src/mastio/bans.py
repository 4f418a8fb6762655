"""Bans from the administrator's side: what the machines that face the internet keep out, and changing it.

    bans = Bans(site, transport)
    bans.add("198.51.100.7", 3600, "scanning")
    bans.all()

With several such machines each is asked; a ban is in force where it is listed.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mastio.errors import Exit, MastioError
from mastio.flows import expand
from mastio.roles.bans import GUARD
from mastio.roles.bans.guard import LONGEST_SPARED, REFUSED
from mastio.site.model import Site
from mastio.transport import Transport, ended, last_line

SPARED = LONGEST_SPARED
"""Seconds for which a client can be spared at most."""


@dataclass(frozen=True, slots=True)
class Ban:
    """A client that is kept out."""

    client: str
    """An IPv4 address or an IPv6 network, with its prefix length."""
    machine: str
    """Who keeps it out."""
    reason: str
    since: float
    until: float
    """Seconds since the epoch, as `since`."""


class Bans:
    """The bans of `site`, behind `transport`."""

    def __init__(self, site: Site, transport: Transport) -> None:
        firewall = expand(site).firewall
        self._guards = [firewall.name] if firewall else [it.name for it in site.machines]
        self._transport = transport

    def all(self) -> tuple[Ban, ...]:
        """Every ban in force, by client."""
        found = [ban for guard in self._guards for ban in self._of(guard)]
        return tuple(sorted(found, key=lambda it: (it.client, it.machine)))

    def _of(self, guard: str) -> list[Ban]:
        said = self._run(guard, ["list"])
        try:
            return [
                Ban(str(it["client"]), guard, str(it["reason"]), float(it["since"]), float(it["until"]))
                for it in json.loads(said)
            ]  # fmt: skip
        except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError):
            words = f"{guard}: its list of bans makes no sense"
            raise MastioError(words, code=Exit.UNAVAILABLE) from None

    def add(self, address: str, seconds: int, reason: str) -> str:
        """Keeps a client out for some time; what was banned, an address or a /64.

        Raises MastioError for the site's own, administrators' and exempt addresses.
        """
        words = ["add", address, str(seconds), *reason.split()]
        answers = [self._run(guard, words) for guard in self._guards]
        return answers[0]

    def lift(self, address: str) -> tuple[str, ...]:
        """Lets a client in again; the bans that were lifted."""
        lifted = [self._run(guard, ["lift", address]).split() for guard in self._guards]
        return tuple(sorted({it for some in lifted for it in some}))

    def spare(self, addresses: Iterable[str], seconds: int) -> None:
        """Lets these in, whatever they do, for `seconds` (an hour at most); 0: as everybody again.

        For who tests the defences from outside, and would else be kept out by them half-way.
        """
        for address in addresses:
            for guard in self._guards:
                self._run(guard, ["spare", address, str(seconds)])

    def _run(self, guard: str, words: Sequence[str]) -> str:
        done = self._transport.run(guard, [GUARD, *words])
        if done.code:
            said = last_line(done.stderr) or ended(done.code)
            code = Exit.DATA if done.code == REFUSED else Exit.FAILED
            hint = "" if done.code == REFUSED else "is the machine built? `mastio apply`"
            raise MastioError(f"{guard}: {said}", hint=hint, code=code)
        return done.stdout.decode(errors="replace").strip()
