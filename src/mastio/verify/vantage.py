"""A vantage: one place from which a check looks, and what it may ask there.

    for fault in check.run(vantage): …
    vantage.ask(smtp.dialogue, "203.0.113.1", 25, ["EHLO probe.test"])     # runs *there*

`ask` sends the function's whole module to the vantage and gives back what the function returned, typed
as if it had run here: what is of another type is no answer. The same question is asked once per run, however
many checks want the answer.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from time import monotonic
from types import UnionType
from typing import Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from mastio.errors import Exit, MastioError
from mastio.flows import FlowMatrix
from mastio.hearing import MIB, Result, TooMuchError
from mastio.site.model import Site
from mastio.transport import OUTSIDE, PYTHON, Transport, last_line, parcel

ANSWER = 4 * MIB
"""Octets of an answer to one question; an honest one has some 50,000."""
RUN = 8 * MIB
"""Octets of what one machine answers in one run; an honest one has some 500,000."""
P = ParamSpec("P")
T = TypeVar("T")

_CALL = """

def _answer(order):
    import json, sys
    try:
        said = {"answer": globals()[order["function"]](*order["args"], **order["kwargs"])}
    except Exception as error:
        words = str(error) or type(error).__name__
        said = {"error": words if isinstance(error, (OSError, ValueError)) else type(error).__name__ + ": " + words}
    json.dump(said, sys.stdout)

import json as _json
_answer(_json.loads(PAYLOAD))
"""


def unknown(words: str) -> MastioError:
    """Why something could not be checked."""
    return MastioError(words, code=Exit.UNAVAILABLE)


class NotRunError(MastioError):
    """A check has nothing to look at here, for a reason that is no fault: neither green nor red."""


def not_run(words: str) -> NotRunError:
    """Why there is nothing to look at."""
    return NotRunError(words, code=Exit.UNAVAILABLE)


@dataclass
class Ground:
    """What all vantages of one run share: the site, how its machines are reached, answers so far."""

    site: Site
    matrix: FlowMatrix
    transport: Transport
    full: bool = False
    outside: bool = True
    """Whether there is a machine outside to look from."""
    passwords: Lock = field(default_factory=Lock, repr=False)
    """Held while logging in: hashes are slow on purpose, and two at once would spoil each other's clock."""
    _answers: dict[str, "Future[Any]"] = field(default_factory=dict, repr=False)
    _said: Counter[str] = field(default_factory=Counter, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def count(self, machine: str, octets: int) -> None:
        """Adds to what the machine has said in this run. All of it is kept: TooMuchError when it is more than `RUN`."""
        with self._lock:
            self._said[machine] += octets
            if self._said[machine] > RUN:
                raise TooMuchError(machine, RUN)

    def once(self, key: str, work: Callable[[], Any]) -> Any:
        """What `work` gives; asked again, the same answer (or the same error)."""
        with self._lock:
            mine = key not in self._answers
            future: Future[Any] = self._answers.setdefault(key, Future())
        if mine:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
        return future.result()


@dataclass(frozen=True)
class Vantage:
    """One place to look from, until `deadline` (on `monotonic`'s clock)."""

    name: str
    ground: Ground
    deadline: float

    @property
    def site(self) -> Site:
        """The site that is looked at."""
        return self.ground.site

    @property
    def matrix(self) -> FlowMatrix:
        """What should be reachable."""
        return self.ground.matrix

    @property
    def is_outside(self) -> bool:
        """Whether it is on the internet, not a machine of the site."""
        return self.name == OUTSIDE

    def at(self, machine: str) -> "Vantage":
        """The same look from another machine: a check compares what two of them see."""
        return replace(self, name=machine)

    def left(self) -> float:
        """Seconds until the deadline; MastioError when it has passed."""
        left = self.deadline - monotonic()
        if left <= 0:
            raise unknown("it took too long")
        return left

    def run(self, argv: Sequence[str], stdin: bytes = b"") -> Result:
        """A command there."""
        return self._heard(argv, stdin)

    def output(self, *argv: str) -> str:
        """What a command there prints; MastioError when it fails or is not there."""
        result = self.run(argv)
        if result.code == 127:
            raise unknown(f"{argv[0]} is not installed on {self.name}")
        if result.code:
            raise unknown(f"{argv[0]} on {self.name}: {last_line(result.stderr) or result.code}")
        return result.stdout.decode(errors="replace")

    def ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` of a probe module returns *there*; MastioError says why it could not look."""
        order = {"function": function.__name__, "args": args, "kwargs": kwargs}
        payload = json.dumps(order, sort_keys=True)
        key = f"{self.name} {function.__module__} {payload}"
        answer: T = self.ground.once(key, lambda: self._ask(function, payload))
        return answer

    def _heard(self, argv: Sequence[str], stdin: bytes) -> Result:
        result = self.ground.transport.run(self.name, argv, stdin, self.left(), ANSWER)
        self.ground.count(self.name, len(result.stdout) + len(result.stderr))
        return result

    def _ask(self, function: Callable[..., Any], payload: str) -> Any:
        result = self._heard(PYTHON, parcel(program(function.__module__), payload.encode()))
        try:
            said: Any = json.loads(result.stdout)
        except (ValueError, RecursionError):
            why = last_line(result.stderr) or f"exit code {result.code}"
            raise unknown(f"the probe on {self.name} broke: {why}") from None
        if isinstance(said, dict) and "error" in said:
            raise unknown(str(said["error"]))
        kind = get_type_hints(function)["return"]
        if not isinstance(said, dict) or "answer" not in said or not of_kind(said["answer"], kind):
            raise unknown(f"the probe on {self.name} broke: its answer makes no sense")
        return said["answer"]


def of_kind(it: object, kind: Any) -> bool:
    """Whether what came as JSON is what a probe's annotation says that it returns; a tuple comes as a list."""
    whole, parts = get_origin(kind) or kind, get_args(kind)
    if whole in (Any, object):
        return True
    if whole is UnionType:
        return any(of_kind(it, one) for one in parts)
    if whole is dict:
        return isinstance(it, dict) and all(of_kind(one, parts[1]) for one in it.values())
    if whole is list:
        return isinstance(it, list) and all(of_kind(one, parts[0]) for one in it)
    if whole is tuple:
        return isinstance(it, list) and len(it) == len(parts) and all(map(of_kind, it, parts))
    return isinstance(it, whole)


def program(module: str) -> str:
    """A probe module as the program that `ask` sends."""
    return program_in(Path(sys.modules[module].__file__ or ""))


def program_in(path: Path) -> str:
    """The same, by the module's file."""
    return path.read_text("utf-8") + _CALL
