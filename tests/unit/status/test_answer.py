"""What a machine may answer, and that the others are looked at whatever one says."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from mastio.hearing import MOST, Result
from mastio.report import status as report
from mastio.status import metrics
from mastio.status.answer import sensible
from mastio.status.look import look
from mastio.verify.probes import glance as probe
from mastio.verify.vantage import program
from mastio.watch import limits
from tests import sites
from tests.unit.status.test_glance import FACTS
from tests.unit.verify.fakes import Says

DISK = FACTS["disks"][0]


@pytest.mark.parametrize(
    "change",
    [{}, {"queue": None}, {"names": True}, {"disks": []}, {"failed": ["nginx.service"]}],
)
def test_what_a_machine_says_makes_sense(change: dict[str, Any]) -> None:
    assert sensible(FACTS | change)


@pytest.mark.parametrize(
    "said",
    [
        None, [], {}, "well", FACTS | {"uptime": "long"}, FACTS | {"load": float("nan")},
        FACTS | {"processors": float("inf")}, FACTS | {"memory": {"total": 0, "available": 0}}, FACTS | {"memory": 5},
        FACTS | {"disks": {"/": DISK}}, FACTS | {"disks": [DISK, DISK]}, FACTS | {"disks": [{**DISK, "total": 0}]},
        FACTS | {"disks": [{**DISK, "total": True, "available": None}]},
        FACTS | {"disks": [{**DISK, "path": "\ud800"}]},
        FACTS | {"failed": "nginx"}, FACTS | {"failed": [5]}, FACTS | {"failed": ["\x1b[2J"]}, FACTS | {"queue": {}},
        FACTS | {"queue": {"oldest": 10**400}}, FACTS | {"queue": {"oldest": 0, "a\nb": 1}}, FACTS | {"queue": []},
        FACTS | {"names": "yes"},
    ],
)  # fmt: skip
def test_what_a_machine_says_makes_none(said: object) -> None:
    assert not sensible(said)


class Odd(Says):
    """The gateway answers what a test has it say; the other machines are well, but for the store's disk."""

    def run(
        self, machine: str, command: Sequence[str], stdin: bytes = b"", timeout: float = 60, most: int = MOST
    ) -> Result:  # fmt: skip
        if program(probe.__name__).encode() not in stdin:
            return Result(1, b"", b"there is nothing yet")
        disk = {**DISK, "available": 1 if machine == "store" else 60}
        good = json.dumps({"answer": {**FACTS, "disks": [disk]}})
        return Result(0, (self.text if machine == "gateway" else good).encode(), b"")


@pytest.mark.parametrize(
    "said",
    ["", "[]", "{}", '{"answer": {}}', '{"answer": {"failed": [], "disks": [{"total": 0}]}}', "[" * 100_000,
     '{"error": "\\ud800\\u001b[2J"}'],
)  # fmt: skip
def test_one_that_makes_no_sense_hides_no_other(said: str) -> None:
    seen = look(sites.demo_site(), Odd(said))
    assert isinstance(seen.machines["gateway"], str) and seen.machines["gateway"].isprintable()
    text = "\n".join(line for _, line in report.lines(seen))
    assert "gateway: cannot be asked" in text and "octets of / are 99% used" in text
    assert 'mastio_machine_up{site="demo",machine="gateway"} 0' in metrics.exposition(seen, 1.0)
    told, _ = limits.news("demo", limits.troubles(seen, {}), {}, 1.0, frozenset(["gateway"]))
    assert [it.about for it in told] == ["disk store"]


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ([{"client": "192.0.2.1", "reason": "x", "since": 1, "until": 2}], 1),
        ([{"client": "192.0.2.1"}], None),
        ({"client": 5}, None),
        (5, None),
    ],
)
def test_bans_that_make_no_sense_are_not_known(said: object, known: int | None) -> None:
    class Guarded(Odd):
        def run(self, machine: str, command: Sequence[str], *args: Any, **more: Any) -> Result:
            if command[-1] == "list":
                return Result(0, json.dumps(said).encode(), b"")
            return super().run(machine, command, *args, **more)

    assert look(sites.demo_site(), Guarded("")).bans == known
