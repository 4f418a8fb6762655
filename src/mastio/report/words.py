"""Words that several reports need."""

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
"""Seconds of the units in which people say times."""


def span(seconds: float) -> str:
    """A time as people say it: the largest unit that fits twice."""
    for unit, size in reversed(UNITS.items()):
        if seconds >= 2 * size:
            return f"{round(seconds / size)}{unit}"
    return f"{max(0, round(seconds))}s"
