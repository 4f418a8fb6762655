"""What is not as the reference has it, in words."""

from dataclasses import dataclass
from enum import StrEnum

from mastio.foreign import printable


class Kind(StrEnum):
    """What a difference is about; `mastio integrity` and alarms use these words."""

    ADDED = "new file"
    REMOVED = "gone"
    CHANGED = "changed"
    SUID = "new SUID"
    UNIT = "new unit"
    KEY = "new log-in key"
    LISTENER = "new listener"
    DELETED = "deleted but running"
    ACCOUNT = "new account"


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One thing; `what` is a path, or for what is no file the thing itself. It names it in `accept`."""

    what: str
    kind: Kind
    words: str
    """What changed."""

    @property
    def line(self) -> str:
        """For people, and safe to print: names may be an intruder's."""
        text = f"{self.what}: {self.kind}" + (f": {self.words}" if self.words else "")
        return printable(text)
