"""What was never seen before: lines of a new shape, and names that are new in their group.

Each machine may bring so much, and what it brings is known of all: one that says more than there is room for
ends no other's news.

What varies is masked (numbers, addresses, names in quotes and brackets); of what is left, lines of one program
with as many words are compared word by word, and those that agree in most are one shape whose other words
are free. (After He et al., "Drain", 2017; drain3 is not in Debian.) The memory is bounded: `PROGRAMS` programs,
`SHAPES` shapes of each, `WORDS` words of a line. A program with more shapes than that writes prose; that is
told, and it is no news any more.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

PROGRAMS, SHAPES, WORDS, LETTERS = 400, 200, 14, 220
GROUPS = 20_000
"""So many users, or pairs of zones, of each machine."""
LONGEST = 320
"""Octets of a name that are remembered: what an address may have (RFC 5321, 4.5.3.1)."""
_ALIKE = 0.6
_FREE = "*"
_VARIES = re.compile(
    rb"""<[^>]*> | \[[^\]]*\] | \{[^}]*\} | "[^"]*" | '[^']*'   # quoted, bracketed
    | \S*@\S* | /[^\s,:;)]+                                     # addresses, paths
    | \w*\d[\w.:%+-]*                                           # anything that begins with or holds a digit
    """,
    re.X,
)


Plain = dict[str, dict[str, list[str]]]
"""Machine → group → what it brought, as JSON has it."""


def _of_plain(known: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Machine, group and name; what an older version kept is by group alone, and nobody's."""
    for machine, groups in known.items():
        old = isinstance(groups, list)
        for group, names in {machine: groups}.items() if old else groups.items():
            yield from (("" if old else machine, group, name) for name in names)


class Shares:
    """How much each machine has brought: so many groups at most, and so many names of each."""

    def __init__(self, groups: int, names: int, *, forget: bool = False) -> None:
        self._groups, self._names, self._forget = groups, names, forget
        self._brought: dict[str, dict[str, int]] = {}

    def _room(self, machine: str, group: str) -> bool:
        brought = self._brought.get(machine, {})
        return brought[group] < self._names if group in brought else len(brought) < self._groups

    def _take(self, machine: str, group: str) -> None:
        brought = self._brought.setdefault(machine, {})
        brought[group] = brought.get(group, 0) + 1

    def full(self, machine: str, group: str) -> str | None:
        """Of what there is no room for more, since something in that group was new just now."""
        brought, group = self._brought[machine], group[:LONGEST]
        if len(brought) == self._groups and brought[group] == 1:
            return "all that never said anything yet"
        return group if brought[group] == self._names and not self._forget else None


class Shapes(Shares):
    """The shapes that are known, by program."""

    def __init__(self, known: Mapping[str, Any] | None = None) -> None:
        super().__init__(PROGRAMS, SHAPES)
        self._known: dict[str, dict[int, list[tuple[str, list[str]]]]] = {}
        """Program → number of words → who brought a shape, and its words."""
        for machine, program, shape in _of_plain(known or {}):
            self._keep(machine, program, shape.split(" "))

    def plain(self) -> Plain:
        """As JSON has it."""
        found: Plain = {}
        for program, groups in self._known.items():
            for shapes in groups.values():
                for machine, shape in shapes:
                    found.setdefault(machine, {}).setdefault(program, []).append(" ".join(shape))
        return found

    def new(self, machine: str, program: str, text: bytes) -> str | None:
        """The shape of a line when it is a new one, which it then is no longer."""
        program = program[:LONGEST]
        masked = _VARIES.sub(b"*", text[:LETTERS])
        words = masked.decode("ascii", "replace").split()[:WORDS] or [_FREE]
        known = self._known.get(program, {}).get(len(words), ())
        if any(_fits(shape, words) for _, shape in known) or not self._room(machine, program):
            return None
        self._keep(machine, program, words)
        return " ".join(words)

    def _keep(self, machine: str, program: str, words: list[str]) -> None:
        groups = self._known.setdefault(program, {})
        groups.setdefault(len(words), []).append((machine, words))
        self._take(machine, program)


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


class Seen(Shares):
    """Names that were seen before, in groups. Past `most` names a group tells of no more, or it forgets the oldest.

    A group is what a name belongs to: a user and the networks of it, two zones and the ports between them.
    """

    def __init__(
        self, most: int, known: Mapping[str, Any] | None = None, *, forget: bool = False, groups: int = GROUPS
    ) -> None:  # fmt: skip
        super().__init__(groups, most, forget=forget)
        self._known: dict[str, dict[str, str]] = {}
        """Group → name → who brought it."""
        for machine, group, name in _of_plain(known or {}):
            self._keep(machine, group, name)

    def plain(self) -> Plain:
        """As JSON has it."""
        found: Plain = {}
        for group, names in sorted(self._known.items()):
            for name, machine in names.items():
                found.setdefault(machine, {}).setdefault(group, []).append(name)
        return found

    def new(self, machine: str, group: str, name: str) -> bool:
        """Whether this is news; it is none the next time."""
        group, name = group[:LONGEST], name[:LONGEST]
        names = self._known.get(group, {})
        if name in names:
            return False
        if self._room(machine, group):
            self._keep(machine, group, name)
            return True
        oldest = next((it for it, whose in names.items() if whose == machine), None)
        if not self._forget or oldest is None:
            return False
        del names[oldest]
        names[name] = machine
        return True

    def _keep(self, machine: str, group: str, name: str) -> None:
        self._known.setdefault(group, {})[name] = machine
        self._take(machine, group)
