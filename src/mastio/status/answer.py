"""Whether a machine's answer is one that `probes.glance.now` gives.

Who has a machine makes it say anything, and what one of them says must spoil the look at no other.
"""

from collections.abc import Callable

Test = Callable[[object], bool]

_LARGEST = 1e20
"""Above what file systems say that do not count their inodes (-1 as statvfs(3) has it, 2⁶⁴ - 1)."""


def sensible(said: object) -> bool:
    """Whether all is there, of its kind, and can be reckoned with and printed."""
    return _ANSWER(said)


def _number(it: object) -> bool:
    # Neither infinite nor no number at all (NaN), which JSON from Python may be.
    return isinstance(it, int | float) and abs(it) < _LARGEST


def _some(it: object) -> bool:
    return isinstance(it, int | float) and 0 < it < _LARGEST


def _text(it: object) -> bool:
    return isinstance(it, str) and it.isprintable()


def _each(test: Test) -> Test:
    return lambda it: isinstance(it, list) and all(map(test, it))


def _with(**tests: Test) -> Test:
    return lambda it: (
        isinstance(it, dict) and all(test(it.get(name)) for name, test in tests.items())
    )


_DISK = _with(path=_text, total=_some, available=_number, inodes=_number, inodes_free=_number)


def _disks(it: object) -> bool:
    # Prometheus takes nothing at all from a file in which the same series stands twice.
    return (
        isinstance(it, list) and all(map(_DISK, it)) and len({one["path"] for one in it}) == len(it)
    )


def _queue(it: object) -> bool:
    """None where there is no Postfix."""
    if not isinstance(it, dict):
        return it is None
    return "oldest" in it and all(_text(name) and _number(value) for name, value in it.items())


_ANSWER = _with(
    uptime=_number, load=_number, processors=_number, memory=_with(total=_some, available=_number),
    disks=_disks, failed=_each(_text), queue=_queue, names=lambda it: it is None or isinstance(it, bool),
)  # fmt: skip
