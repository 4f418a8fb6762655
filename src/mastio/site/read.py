"""From TOML text to checked leaves: syntax, unknown keys, types. What they *mean* is `parse`'s affair.

`read(text, "site.toml")` gives a `Raw`: values by path, in which every value has its key's type; what
has not is a problem and left out.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from mastio.site.key import Key, Kind
from mastio.site.keys import below
from mastio.site.locate import Path, locate
from mastio.site.problems import Problem, Problems, SiteFileError, did_you_mean, written

Value = str | bool | int | float | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Raw:
    """A site file whose keys are known and whose values have the right types."""

    leaves: Mapping[Path, Value]
    tables: Mapping[str, tuple[str, ...]]
    """The names below `zones` and `machines`, in the file's order."""
    problems: Problems

    def text(self, *path: str) -> str:
        """A text; empty when it is not there."""
        value = self.leaves.get(path, "")
        return value if isinstance(value, str) else ""

    def texts(self, *path: str) -> tuple[str, ...]:
        """A list of texts; empty when it is not there."""
        value = self.leaves.get(path, ())
        return value if isinstance(value, tuple) else ()

    def has(self, *path: str) -> bool:
        """Whether the key is written, with a value of the right type."""
        return path in self.leaves


def read(text: str, file: str) -> Raw:
    """The checked leaves of `text`; SiteFileError at once when it is not TOML."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SiteFileError([_syntax(str(error), text, file)]) from None
    problems = Problems(file, locate(text))
    leaves: dict[Path, Value] = {}
    _table(data, (), leaves, problems)
    tables = {
        name: tuple(inner) if isinstance(inner := data.get(name), dict) else ()
        for name in ("zones", "machines")
    }
    return Raw(leaves, tables, problems)


def _syntax(said: str, text: str, file: str) -> Problem:
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)", said)
    line = int(place[1]) if place and place[1] else text.rstrip().count("\n") + 1
    what = (said[: place.start()] if place else said).strip()
    return Problem(file, line, "", f"not TOML: {what}", "texts stand in quotes, lists in [ ]")


def _table(
    data: Mapping[str, object], path: tuple[str, ...], leaves: dict[Path, Value], problems: Problems
) -> None:
    allowed = below(path)
    for name, value in data.items():
        here = (*path, name)
        if name not in allowed and "*" not in allowed:
            problems.add(here, "unknown key", did_you_mean(name, allowed))
            continue
        key = allowed.get(name, allowed.get("*"))
        if key is not None:
            if (leaf := _leaf(here, key, value, problems)) is not None:
                leaves[here] = leaf
        elif isinstance(value, dict):
            _table(value, here, leaves, problems)
        else:
            problems.add(here, f"must be a table, not {_kind(value)}", f"write [{written(here)}]")
    for name, key in allowed.items():
        if key is not None and not key.default and name not in data:
            problems.add((*path, name), "is missing", key.meaning)


def _leaf(path: tuple[str, ...], key: Key, value: object, problems: Problems) -> Value | None:
    match key.kind, value:
        case Kind.TEXT, str():
            return value
        case Kind.FLAG, bool():
            return value
        case Kind.TEXTS, list():
            for number, item in enumerate(value):
                if not isinstance(item, str):
                    problems.add((*path, number), f"must hold texts, not {_kind(item)}")
            return tuple(item for item in value if isinstance(item, str))
        case (Kind.WHOLE, int(number)) | (Kind.NUMBER, int(number) | float(number)) if (
            not isinstance(value, bool)
        ):
            if not key.least <= number <= key.most:
                span = f"{key.least:g} to {key.most:g}" if key.most > key.least else f"{key.most:g}"
                problems.add(path, f"{number:g} is out of range", f"allowed: {span}")
                return None
            return number
    problems.add(path, f"must be a {key.kind}, not {_kind(value)}", key.meaning)
    return None


def _kind(value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case str():
            return "a text"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"
