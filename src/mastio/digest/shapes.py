"""Lines of a shape that was never seen before.

What varies is masked (numbers, addresses, names in quotes and brackets); of what is left, lines of one program
with as many words are compared word by word, and those that agree in most are one shape whose other words
are free. (After He et al., "Drain", 2017; drain3 is not in Debian.) The memory is bounded: `PROGRAMS` programs,
`SHAPES` shapes of each, `WORDS` words of a line. A program with more shapes than that writes prose; it is
known to, and no news any more.
"""

import re
from collections.abc import Iterable

PROGRAMS, SHAPES, WORDS, LETTERS = 400, 200, 14, 220
_ALIKE = 0.6
_FREE = "*"
_VARIES = re.compile(
    rb"""<[^>]*> | \[[^\]]*\] | \{[^}]*\} | "[^"]*" | '[^']*'   # quoted, bracketed
    | \S*@\S* | /[^\s,:;)]+                                     # addresses, paths
    | \w*\d[\w.:%+-]*                                           # anything that begins with or holds a digit
    """,
    re.X,
)


class Shapes:
    """The shapes that are known, by program."""

    def __init__(self, known: dict[str, list[str]] | None = None) -> None:
        self._known: dict[str, dict[int, list[list[str]]]] = {}
        self._sizes: dict[str, int] = {}
        for program, shapes in (known or {}).items():
            for shape in shapes:
                self._keep(program, shape.split(" "))

    def plain(self) -> dict[str, list[str]]:
        """As JSON has it."""
        return {
            program: [" ".join(shape) for shapes in groups.values() for shape in shapes]
            for program, groups in self._known.items()
        }

    def new(self, program: str, text: bytes) -> str | None:
        """The shape of a line when it is a new one, which it then is no longer."""
        masked = _VARIES.sub(b"*", text[:LETTERS])
        words = masked.decode("ascii", "replace").split()[:WORDS] or [_FREE]
        groups = self._known.get(program)
        if groups is None and len(self._known) >= PROGRAMS:
            return None
        if any(_fits(shape, words) for shape in (groups or {}).get(len(words), ())):
            return None
        if self._sizes.get(program, 0) >= SHAPES:
            return None
        self._keep(program, words)
        return " ".join(words)

    def _keep(self, program: str, words: list[str]) -> None:
        groups = self._known.setdefault(program, {})
        groups.setdefault(len(words), []).append(words)
        self._sizes[program] = self._sizes.get(program, 0) + 1


def _fits(shape: list[str], words: list[str]) -> bool:
    """Whether a line has this shape; words in which it differs become free."""
    fixed = sum(it != _FREE for it in shape)
    same = sum(ours == theirs != _FREE for ours, theirs in zip(shape, words, strict=True))
    if same == fixed:
        return bool(fixed) or words == shape
    # What is left must still say something.
    if same < _ALIKE * fixed or 2 * same < len(words):
        return False
    shape[:] = [
        ours if ours == theirs else _FREE for ours, theirs in zip(shape, words, strict=True)
    ]
    return True


class Seen:
    """Names that were seen before, in groups. Past `most` names a group tells of no more, or it forgets the oldest.

    A group is what a name belongs to: a user and the networks of it, two zones and the ports between them.
    """

    GROUPS = 20_000

    def __init__(
        self, most: int, known: dict[str, Iterable[str]] | None = None, *, forget: bool = False
    ) -> None:
        self._most, self._forget = most, forget
        self._groups = {group: dict.fromkeys(names) for group, names in (known or {}).items()}

    def plain(self) -> dict[str, list[str]]:
        """As JSON has it."""
        return {group: list(names) for group, names in sorted(self._groups.items())}

    def new(self, group: str, name: str) -> bool:
        """Whether this is news; it is none the next time."""
        names = self._groups.get(group)
        if names is None:
            if len(self._groups) >= self.GROUPS:
                return False
            names = self._groups[group] = {}
        if name in names:
            return False
        if len(names) >= self._most:
            if not self._forget:
                return False
            del names[next(iter(names))]
        names[name] = None
        return True
