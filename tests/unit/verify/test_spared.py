"""The machine outside is spared while somebody looks from there, and only then."""

from collections.abc import Iterator, Sequence

from mastio.hearing import MOST, Result
from mastio.roles.bans import GUARD
from mastio.verify.model import Place
from mastio.verify.spared import spared
from mastio.verify.vantage import Vantage
from tests.unit.verify.fakes import Says, check, ground

ADDRESS = "203.0.113.7"


class Heard(Says):
    """Answers every probe with that address, and remembers what the guard was told."""

    def __init__(self) -> None:
        super().__init__(f'{{"answer": ["{ADDRESS}"]}}')
        self.asked = 0
        self.told: list[list[str]] = []

    def run(
        self, machine: str, command: Sequence[str], stdin: bytes = b"", timeout: float = 60, most: int = MOST
    ) -> Result:  # fmt: skip
        self.asked += 1
        if command[0] == GUARD:
            self.told.append([machine, *command[1:3]])
        return super().run(machine, command, stdin, timeout)


def nothing(_: Vantage) -> Iterator[str]:
    yield from ()


def test_who_looks_from_outside_is_spared_meanwhile() -> None:
    heard = Heard()
    spare = ["firewall", "spare", ADDRESS]
    with spared(ground(heard), [check(nothing), check(nothing, (Place.OUTSIDE,))]):
        assert heard.told == [spare]
    assert heard.told == [spare, spare]


def test_where_nobody_looks_from_outside_nothing_is_asked() -> None:
    heard = Heard()
    with spared(ground(heard), [check(nothing)]):
        pass
    assert not heard.asked
