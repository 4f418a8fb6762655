"""All that is wrong with a site file, collected before anything is said.

problems = Problems("site.toml", lines)
problems.add(("zones", "core", "networks"), "10.77.3.0/24 overlaps zones.mail", "give each its own")
problems.raise_if_any()

site.toml:12: zones.core.networks: 10.77.3.0/24 overlaps zones.mail; give each its own
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mastio.errors import Exit, MastioError
from mastio.site.locate import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, what, and what is allowed instead."""

    file: str
    line: int
    """From 1; 0 when the file as a whole is meant."""
    key: str
    """The key as one would write it, such as `zones.core.networks`; may be empty."""
    what: str
    hint: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        words = "; ".join(filter(None, (self.what, self.hint)))
        return ": ".join(filter(None, (place, self.key, words)))


class SiteFileError(MastioError):
    """The site file is wrong; `problems` says all of it, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda it: it.line))
        # the message already says what to do, line by line
        super().__init__("\n".join(map(str, self.problems)), code=Exit.DATA)


class Problems:
    """The collector."""

    def __init__(self, file: str, lines: Mapping[Path, int]) -> None:
        self.file = file
        self._lines = lines
        self._found: list[Problem] = []

    def add(self, path: Path, what: str, hint: str = "") -> None:
        """Something is wrong at `path`; a key that is not written stands where its table does."""
        problem = Problem(self.file, self.line(path), written(path), what, hint)
        if problem not in self._found:
            self._found.append(problem)

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest table around it; 0 when there is none."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 0)

    def place(self, path: Path) -> str:
        """How a problem speaks of another place: `zones.mail (line 9)`, `zones.mail (default)`."""
        known = path in self._lines
        return f"{written(path)} ({f'line {self._lines[path]}' if known else 'default'})"

    def raise_if_any(self) -> None:
        """Raises `SiteFileError` when something was added."""
        if self._found:
            raise SiteFileError(self._found)

    def __len__(self) -> int:
        return len(self._found)


def written(path: Path) -> str:
    """The path as one writes it in the file; elements of arrays are their array."""
    return ".".join(part for part in path if isinstance(part, str))


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """`did you mean …?` when one of `allowed` is close; all of them when they are few, or none is."""
    names = list(allowed)
    close = difflib.get_close_matches(word, names, 1)
    words = [f"did you mean {close[0]}?"] if close else []
    if not close or len(names) <= 8:
        words.append(f"allowed: {', '.join(names)}")
    return " ".join(words)
