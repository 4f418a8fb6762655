"""What a key of a site file is: where it stands, its type, its range."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The type of a value, as people read it."""

    TEXT = "text"
    TEXTS = "list of texts"
    WHOLE = "whole number"
    NUMBER = "number"
    FLAG = "true or false"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the file."""

    name: str
    """Where it stands, such as `zones.*.networks`."""
    kind: Kind
    meaning: str
    default: str = ""
    """In words; empty: the key is required."""
    least: float = 0
    most: float = 0
    """The allowed range of numbers, ends included."""

    @property
    def path(self) -> tuple[str, ...]:
        """`name`, in its parts."""
        return tuple(self.name.split("."))


def names(values: type[StrEnum]) -> str:
    """The values of an enumeration, for people."""
    return ", ".join(f"`{value}`" for value in values)
