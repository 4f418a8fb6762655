"""The generations of a domain's DKIM keys, and how one follows the other without a gap.

    published (next) → signing → retiring (still published) → gone

A generation is one RSA and one Ed25519 key (RFC 8463, 3: both sign, old verifiers know only RSA). Its
selectors are the generation's number and the algorithm: `k3r`, `k3e`. The next generation is made and
published long before it signs, so that no receiver ever misses its record; a retired one stays
published for `RETIRE_DAYS`, since mail may wait in queues and be verified late.

The ring of a domain is text in the vault, a line for each generation: `number state since`.

>>> rotate(parse("1 signing 2026-01-01\\n2 next 2026-01-01"), date(2026, 7, 1))
(Generation(1, RETIRING, …), Generation(2, SIGNING, …), Generation(3, NEXT, …))
"""

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

RETIRE_DAYS = 30
"""How long a key stays published after it has signed its last message."""

PUBLISH_DAYS = 7
"""So many days after the next key was made it should be in DNS; until then nobody is reminded."""


class State(StrEnum):
    """What a generation of keys is at."""

    NEXT = "next"
    SIGNING = "signing"
    RETIRING = "retiring"


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of keys of a domain."""

    number: int
    state: State
    since: date

    @property
    def rsa(self) -> str:
        """The selector of the RSA key."""
        return f"k{self.number}r"

    @property
    def ed25519(self) -> str:
        """The selector of the Ed25519 key."""
        return f"k{self.number}e"

    @property
    def selectors(self) -> tuple[str, str]:
        """Both selectors."""
        return self.rsa, self.ed25519


Ring = tuple[Generation, ...]


def name(domain: str) -> str:
    """What a domain's ring is called in the vault."""
    return f"dkim/{domain}/ring"


def key(domain: str, selector: str) -> str:
    """What a private key is called in the vault."""
    return f"dkim/{domain}/{selector}"


def begin(today: date) -> Ring:
    """The ring of a new domain: one generation signs, the next one is published beside it."""
    return Generation(1, State.SIGNING, today), Generation(2, State.NEXT, today)


def parse(text: str) -> Ring:
    """The ring from its text. Raises ValueError when it is not one."""
    found: list[Generation] = []
    for line in text.splitlines():
        number, state, since = line.split()
        found.append(Generation(int(number), State(state), date.fromisoformat(since)))
    return tuple(found)


def unparse(ring: Ring) -> str:
    """The ring as text."""
    return "".join(f"{it.number} {it.state} {it.since.isoformat()}\n" for it in ring)


def signing(ring: Ring) -> Generation:
    """The generation that signs now."""
    return next(it for it in ring if it.state is State.SIGNING)


def following(ring: Ring) -> Generation:
    """The generation that will sign next."""
    return next(it for it in ring if it.state is State.NEXT)


def due(ring: Ring, today: date, days: int) -> bool:
    """Whether the signing keys have signed for `days` days."""
    return today - signing(ring).since >= timedelta(days=days)


def awaited(ring: Ring, today: date) -> bool:
    """Whether the next keys were made so long ago that DNS should know them, due or not."""
    return today - following(ring).since >= timedelta(days=PUBLISH_DAYS)


def rotate(ring: Ring, today: date, *, compromised: bool = False) -> Ring:
    """The next generation signs, the signing one retires, a new one comes.

    When they are `compromised`, what signs and what has signed is gone at once: who has one may have the others,
    and a retired key signs for whoever has it as long as it is published.
    """
    moved = [
        Generation(it.number, State.SIGNING if it.state is State.NEXT else State.RETIRING, today)
        if it.state is not State.RETIRING
        else it
        for it in ring
        if it.state is State.NEXT or not compromised
    ]
    fresh = Generation(max(it.number for it in ring) + 1, State.NEXT, today)
    return (*tidy(tuple(moved), today), fresh)


def tidy(ring: Ring, today: date) -> Ring:
    """Without the generations that have been retired long enough."""
    end = today - timedelta(days=RETIRE_DAYS)
    return tuple(it for it in ring if it.state is not State.RETIRING or it.since > end)
