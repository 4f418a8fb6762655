"""A round over a site that answers from here: the order, when it ends, reboots."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from mastio.errors import MastioError
from mastio.site.model import Patches
from mastio.watch.rounds import Record, Round
from mastio.watch.settings import Settings
from tests import sites

NOTHING: dict[str, Any] = {
    "updated": [], "gone": [], "restarted": [], "left": [], "reboot": False, "error": "", "boot": "1",
}  # fmt: skip
SITE = sites.demo_site()
ALL = [it.name for it in SITE.machines]


class Pretended(Round):
    """Machines that answer what `told` has, and are found as `after` has it once they were asked."""

    def __init__(self, told: dict[str, Any], after: dict[str, str], *, reboot: bool = True) -> None:
        site = replace(SITE, patches=Patches(reboot=reboot))
        super().__init__(site, Settings("watch", {}, (), "", ""), {}, 0.0, lambda _: None)
        self.told, self.after, self.asked = told, after, []  # type: ignore[var-annotated]

    def verdicts(self, machine: str) -> dict[str, tuple[str, str]]:
        now = self.after.get(machine, "passed") if self.asked_to(machine) else "passed"
        return {f"H1@{machine}": (now, "seen")}

    def asked_to(self, machine: str) -> bool:
        return any((machine, word) in self.asked for word in ("update", "upgrade"))

    def _ask(self, machine: str, word: str, seconds: float) -> dict[str, Any]:
        self.asked.append((machine, word))
        answer = self.told.get(machine, {})
        if isinstance(answer, str):
            raise MastioError(answer)
        return {**NOTHING, **answer}

    def _reboot(self, machine: str, boot: str) -> None:
        self._ask(machine, "reboot", 1.0)

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        yield

    def _settled(self, record: Record) -> Record:
        self.asked.append((record.machine, "settle"))
        return record

    def go(self, word: str = "update") -> tuple[list[Record], list[str]]:
        kept: list[Record] = []
        done, left = self.run(ALL, "me", kept.append, word)
        assert kept == done
        return done, left


FIX = {"updated": [["tick", "1", "2"]], "restarted": ["tick.service"]}


def test_all_machines_in_order_and_integrity_hears_of_packages() -> None:
    one = Pretended({"store": FIX}, {})
    done, left = one.go()
    assert [it.machine for it in done] == [
        "webmail",
        "gateway",
        "store",
        "firewall",
        "watch",
    ] and not left
    assert all(it.good for it in done)
    assert [it for it in one.asked if it[1] == "settle"] == [("store", "settle")]


@pytest.mark.parametrize(
    ("told", "after"),
    [
        ({"gateway": FIX}, {"gateway": "failed"}),
        ({"gateway": FIX}, {"gateway": "could not check"}),
        ({"gateway": {"error": "no disk"}}, {}),
        ({"gateway": "cannot be reached"}, {}),
        ({"gateway": {"updated": [[]]}}, {}),
    ],
)
def test_the_first_that_is_not_well_ends_it(told: dict[str, Any], after: dict[str, str]) -> None:
    one = Pretended(told, after)
    done, left = one.go()
    assert [it.machine for it in done] == ["webmail", "gateway"]
    assert not done[-1].good and left == ["store", "firewall", "watch"]
    assert not any(it[1] == "settle" or it[0] == "store" for it in one.asked)


def test_what_was_not_well_before_is_nobodys_fault() -> None:
    class Ill(Pretended):
        def verdicts(self, machine: str) -> dict[str, tuple[str, str]]:
            return {f"H1@{machine}": ("failed", "seen")}

    done, left = Ill({"gateway": FIX}, {}).go()
    assert all(it.good for it in done) and not left


def test_a_reboot_that_is_due_is_done_where_the_site_file_lets_it() -> None:
    one = Pretended({"store": {"reboot": True}}, {})
    done, _ = one.go()
    assert [it for it in one.asked if it[1] == "reboot"] == [("store", "reboot")]
    assert [(it.rebooted, it.due) for it in done if it.machine == "store"] == [(True, False)]
    one = Pretended({"store": {"reboot": True}}, {}, reboot=False)
    done, _ = one.go()
    assert not [it for it in one.asked if it[1] == "reboot"]
    assert [(it.rebooted, it.due) for it in done if it.machine == "store"] == [(False, True)]


def test_watch_tells_of_its_own_reboot_when_it_is_back() -> None:
    one = Pretended({"watch": {"reboot": True, **FIX}}, {})
    done, _ = one.go()
    last = done[-1]
    assert (
        last.rebooting
        and last.before == {"H1@watch": "passed"}
        and ("watch", "settle") not in one.asked
    )
    back = one.back(last)
    assert back.rebooted and not back.rebooting and back.good and ("watch", "settle") in one.asked
    one.after = {"watch": "failed"}
    assert one.back(last).worse == ("H1@watch: seen",)


def test_an_upgrade_is_a_round_in_which_machines_are_told_another_word() -> None:
    one = Pretended({"store": FIX}, {"store": "failed"})
    done, left = one.go("upgrade")
    assert ("store", "upgrade") in one.asked and ("store", "update") not in one.asked
    assert done[-1].worse and left == ["firewall", "watch"]
