"""What a mailbox lacks of what shall be in it, by content. Pure.

A message is known by its octets. As many copies of it as there are there shall be here: in the folder where they
belong or, since people move mail, in another one. So a second run brings nothing twice, and a copy that really is a
second one is not lost.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mastio.importing.message import Message


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is missing, and what is not."""

    missing: tuple[Message, ...]
    there: int = 0
    """Messages that are where they belong."""
    elsewhere: int = 0
    """Messages that are in another folder of the mailbox."""

    @property
    def octets(self) -> int:
        """How much would come."""
        return sum(it.size for it in self.missing)


def compare(wanted: Iterable[Message], have: Mapping[str, Iterable[str]]) -> Comparison:
    """`have`: the digests of the messages by folder."""
    left = {folder: Counter(digests) for folder, digests in have.items()}
    pending: list[Message] = []
    missing: list[Message] = []
    there = elsewhere = 0
    for it in wanted:
        if left.get(it.folder, Counter())[it.digest]:
            left[it.folder][it.digest] -= 1
            there += 1
        else:
            pending.append(it)
    spare: Counter[str] = sum(left.values(), Counter())
    for it in pending:
        if spare[it.digest]:
            spare[it.digest] -= 1
            elsewhere += 1
        else:
            missing.append(it)
    return Comparison(tuple(missing), there, elsewhere)
