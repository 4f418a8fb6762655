"""Waiting for what comes by itself: a test looks again and again until it is there, or until patience ends."""

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")

PATIENCE = 300
"""How long a message may take from one end to the other, in seconds; it needs about one, or about 61 when it is
deferred once on a busy box (the site's minimal_backoff_time), and 120 more the second time."""


def eventually(
    look: Callable[[], Seen],
    why: str | Callable[[], str],
    patience: float = PATIENCE,
    rest: float = 0.5,
) -> Seen:
    """What `look()` returns, as soon as that is true; an AssertionError that says `why` when patience has ended."""
    seen = at_last(look, bool, patience, rest)
    assert seen, why if isinstance(why, str) else why()
    return seen


def at_last(
    look: Callable[[], Seen],
    good: Callable[[Seen], object] = bool,
    patience: float = PATIENCE,
    rest: float = 0.5,
) -> Seen:
    """What `look()` returns, as soon as that is good, or as it is when patience has ended."""
    end = time.monotonic() + patience
    while True:
        # A look takes seconds on a busy box: the last one begins when patience has ended.
        began = time.monotonic()
        seen = look()
        if good(seen) or began >= end:
            return seen
        # At least half of the time is left to what is waited for.
        time.sleep(max(rest, time.monotonic() - began))
