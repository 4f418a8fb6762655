"""A site whose machines are this process, or answer what a test tells them to."""

import sys
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any

from mastio.errors import MastioError
from mastio.flows import expand
from mastio.hearing import MOST, Result
from mastio.site.model import Site
from mastio.transport import Transport
from mastio.verify.model import Cell, Check, Family, Place, Severity
from mastio.verify.vantage import Ground, Vantage
from tests import sites


class Here(Transport):
    """Every machine is this one; those in `deaf` cannot be reached."""

    def __init__(self, *deaf: str) -> None:
        self.deaf = deaf

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        if machine in self.deaf:
            raise MastioError(f"{machine} cannot be reached: no route")
        return [sys.executable if command[0] == "python3" else command[0], *command[1:]]


class Says(Transport):
    """Every command prints `text`."""

    def __init__(self, text: str) -> None:
        self.text = text

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        raise NotImplementedError

    def run(
        self, machine: str, command: Sequence[str], stdin: bytes = b"", timeout: float = 60, most: int = MOST
    ) -> Result:  # fmt: skip
        return Result(0, self.text.encode(), b"")


def ground(transport: Transport | None = None, site: Site | None = None, **more: Any) -> Ground:
    """The ground of the demonstration site."""
    site = site or sites.demo_site()
    return Ground(site, expand(site), transport or Here(), **more)


def vantage(name: str = "webmail", transport: Transport | None = None) -> Vantage:
    """A place to look from, for ten seconds."""
    return Vantage(name, ground(transport), monotonic() + 10)


def check(
    run: Callable[[Vantage], Iterator[str | Cell]], where: tuple[Any, ...] = (Place.EVERY_MACHINE,),
    name: str = "Z1", **more: Any,
) -> Check:  # fmt: skip
    """A check that only a test knows."""
    return Check(
        name, Family.HOST, f"Title <{name}>", where, Severity.HIGH, "looks", "is so", "RFC 0", "Mend & go.",
        run, **more,
    )  # fmt: skip
