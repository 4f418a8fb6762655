"""Where mail leads inside the site, as plain data: accounts, forwards, aliases, catch-alls.

From it follow what is wrong with all of them together (`faults`), and what a gateway accepts
(`recipients`). Standard library only: it is sent to the store with `directory`.

>>> recipients(Ways("a@x.test", ("postmaster",), domains={"x.test": ""}, enabled={"a@x.test": True}))
['a@x.test', 'postmaster@x.test']
"""

from dataclasses import dataclass, field

_DEEPEST = 100
"""How many aliases may lead to each other; Postfix gives up at virtual_alias_recursion_limit, 1000."""
_SHOWN = 8
"""How many addresses of a loop are shown."""


@dataclass
class Ways:
    """Every address of the site and where its mail leads."""

    admin: str
    duties: tuple[str, ...]
    """What each domain has, for the administrator, unless somebody else has it (RFC 2142)."""
    domains: dict[str, str] = field(default_factory=dict)
    """Domain → its catch-all, which may be empty."""
    enabled: dict[str, bool] = field(default_factory=dict)
    """Account → whether it may be used."""
    forwards: dict[str, list[str]] = field(default_factory=dict)
    aliases: dict[str, list[str]] = field(default_factory=dict)

    def is_outside(self, address: str) -> bool:
        """Whether somebody else's server is asked."""
        return address.rpartition("@")[2] not in self.domains

    def is_duty(self, address: str) -> bool:
        """Whether the address exists just because every domain has it."""
        local, _, domain = address.rpartition("@")
        mine = address in self.enabled or address in self.aliases
        return local in self.duties and domain in self.domains and not mine

    def exists(self, address: str) -> bool:
        """Whether mail to the address arrives at somebody by name (a catch-all does not count)."""
        address = untagged(address)
        if self.is_duty(address):
            return not self.is_duty(self.admin) and self.exists(self.admin)
        return self.is_outside(address) or address in self.enabled or address in self.aliases

    def onward(self, address: str) -> list[str]:
        """The next addresses on the way."""
        address = untagged(address)
        if self.is_duty(address):
            return [self.admin]
        return self.aliases.get(address) or self.forwards.get(address) or []


def untagged(address: str) -> str:
    """The address without a user's tag: alice+news@… is alice@…"""
    local, _, domain = address.rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"


def faults(ways: Ways) -> dict[str, tuple[str, str]]:
    """What is wrong with all ways together: words → (the address to blame, what to do)."""
    found: dict[str, tuple[str, str]] = {}
    for kind, tables in (("alias", ways.aliases), ("forward of", ways.forwards)):
        for address, targets in tables.items():
            for target in targets:
                if not ways.exists(target):
                    hint = f"make {untagged(target)} first, or let {address} lead elsewhere first"
                    found[f"{kind} {address} leads to {target}, which does not exist"] = (
                        address,
                        hint,
                    )
    for domain, catch_all in ways.domains.items():
        if catch_all and not ways.exists(catch_all):
            hint = f"make {catch_all} first, or give {domain} another catch-all first"
            found[f"catch-all of {domain} is {catch_all}, which does not exist"] = domain, hint
    loops, deep = survey(ways)
    for loop in loops:
        hint = "mail would go round for ever; keep_copy already keeps a forwarding user's own copy"
        found[f"a loop: {' → '.join((*loop[:_SHOWN], *['…'][: len(loop) > _SHOWN], loop[0]))}"] = (
            loop[0],
            hint,
        )
    for address in deep:
        hint = f"at most {_DEEPEST}; let it lead straight to the end"
        found[f"a chain of too many aliases starts at {address}"] = address, hint
    return found


def survey(ways: Ways) -> tuple[list[list[str]], list[str]]:
    """All loops, each once, and where chains start that are just too long.

    Depth first, without recursion, since the depth may be great.
    """
    loops: list[list[str]] = []
    depths: dict[str, int] = {}
    """How many steps it is to the end; of addresses that are done."""
    for start in (*ways.aliases, *ways.forwards):
        trail = [] if start in depths else [start]
        pending = [iter(ways.onward(start))]
        while trail:
            here = trail[-1]
            following = next(pending[-1], None)
            if following is None:
                steps = (depths.get(untagged(it), 0) for it in ways.onward(here))
                depths[here] = 1 + max(steps, default=-1)
                trail.pop()
                pending.pop()
                continue
            following = untagged(following)
            if following in trail:
                loops.append(sorted_ring(trail[trail.index(following) :]))
            elif following not in depths:
                trail.append(following)
                pending.append(iter(ways.onward(following)))
    return loops, [address for address, depth in depths.items() if depth == _DEEPEST + 1]


def sorted_ring(ring: list[str]) -> list[str]:
    """The same ring from its least element on: equal loops read equal."""
    first = ring.index(min(ring))
    return ring[first:] + ring[:first]


def recipients(ways: Ways) -> list[str]:
    """What the gateway accepts: every address that leads to an enabled account or outside."""
    live: dict[str, bool] = {}

    def is_live(address: str, depth: int = 0) -> bool:
        address = untagged(address)
        if address not in live:
            if address in ways.enabled:
                live[address] = ways.enabled[address]
            elif ways.is_outside(address):
                live[address] = True
            else:
                live[address] = depth < _DEEPEST and any(
                    is_live(it, depth + 1) for it in ways.onward(address)
                )
        return live[address]

    duties = (f"{local}@{domain}" for domain in ways.domains for local in ways.duties)
    names = {it for it in (*ways.enabled, *ways.aliases, *duties) if is_live(it)}
    catch_alls = {
        f"@{name}" for name, catch_all in ways.domains.items() if catch_all and is_live(catch_all)
    }
    return sorted(names | catch_alls)
