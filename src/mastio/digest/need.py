"""Something that needs a person."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much something needs a person."""

    ACT = "act"
    LOOK = "look"


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs a person, and what to do."""

    level: Level
    words: str
    remedy: str = ""
