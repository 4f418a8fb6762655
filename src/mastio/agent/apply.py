"""apply: carries out an `Order` in the steps of `STEPS`, or goes all the way back.

Until "journal" nothing that runs has changed. From there on any failure restores files, links,
units and the firewall from the journal, and the failure's text says so.
"""

import fcntl
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from mastio.agent import firewall, journal, machine, packages, stage, units
from mastio.agent.journal import Journal
from mastio.agent.machine import Failure, load_record, must, run, save_record
from mastio.agent.wire import Order

LOCK = "/run/mastio/lock"
STEPS = (
    "packages", "users", "validate", "journal", "record", "retire", "switch", "half-way",
    "commands", "units", "firewall", "health", "remember", "finish",
)  # fmt: skip
Say = Callable[[str, str], None]


class At(Protocol):
    """Told at the begin of each step."""

    def __call__(self, step: str, words: str = "") -> None: ...


@contextmanager
def locked() -> Iterator[None]:
    """One apply at a time on a machine; the kernel lets go when the holder dies (flock(2))."""
    os.makedirs(os.path.dirname(LOCK), mode=0o755, exist_ok=True)
    with open(LOCK, "w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure("another apply is at work on this machine") from None
        yield


def apply(order: Order, say: Say) -> bool:
    """Carries `order` out; True when the firewall now waits for a confirmation."""

    def at(step: str, words: str = "") -> None:
        say(step, words)
        if order["die_at"] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        with locked():
            return _apply(order, at)
    except (Failure, OSError) as error:
        raise Failure(redact(str(error), order)) from None


def _apply(order: Order, at: At) -> bool:
    machine.make_home()
    record = load_record()
    if record["generation"] != order["generation"]:
        raise Failure("the machine was changed after this plan was made; plan again")
    at("packages", " ".join(order["packages"]))
    if order["packages"]:
        packages.install(order["packages"], order["debconf"])
    at("users")
    packages.add_users(order["users"])
    at("validate", ", ".join(check["name"] for check in order["checks"]))
    if order["firewall"]:
        firewall.check(order["firewall"])
    stage.validate(order["puts"], order["checks"])
    at("journal")
    before = journal.begin(order, record)
    try:
        _switch(order, at)
    except (Failure, OSError) as error:
        at("rollback")
        raise Failure(f"{error}\n{_back(before)}") from None
    at("finish")
    journal.end(before)
    return bool(order["firewall"])


def _switch(order: Order, at: At) -> None:
    at("record")
    _forget(order)
    at("retire")
    units.retire(order["verbs"].get("retire", []))
    at("switch", f"{len(order['puts'])} paths")
    half = len(order["puts"]) // 2
    for number, item in enumerate(order["puts"]):
        if number == half:
            at("half-way")
        machine.put(item)
    at("commands")
    for command in order["commands"]:
        must(command["name"], command["argv"])
    if order["firewall"]:
        firewall.keep()
    at("units", " ".join(unit for group in order["verbs"].values() for unit in group))
    units.switch(order["verbs"])
    at("firewall")
    if order["firewall"]:
        firewall.load(order["firewall"], order["window"])
    at("health")
    units.healthy(order)
    at("remember")
    record = load_record()
    record["manifest"] = order["record"]["manifest"]
    record["secrets"] = order["record"]["secrets"]
    record["units"] = order["record"]["units"]
    record["commands"] = order["record"]["commands"]
    save_record(record)


def _forget(order: Order) -> None:
    """What is about to change is no longer known to be done; what is new is already ours."""
    record = load_record()
    record["manifest"] |= order["record"]["manifest"]
    record["secrets"] = sorted({*record["secrets"], *order["record"]["secrets"]})
    for group in ("restart", "reload", "start"):
        for unit in order["verbs"].get(group, []):
            record["units"].pop(unit, None)
    for command in order["commands"]:
        record["commands"].pop(command["name"], None)
    save_record(record)


def _back(before: Journal) -> str:
    """Everything as the journal has it; says what came of it."""
    firewall.revert()
    units.restore(before, before=True)
    journal.restore(before)
    for command in before["commands"]:
        run(command["argv"])
    run(["systemctl", "daemon-reload"])
    lost = units.restore(before, before=False)
    record = before["record"]
    for unit in lost:
        record["units"].pop(unit, None)
    save_record(record)
    journal.end(before)
    if lost:
        return f"The former state is back, but {', '.join(lost)} did not start again."
    return "The former state is back."


def redact(text: str, order: Order) -> str:
    """`text` without any word of the order's secret files: checkers like to quote what they read."""
    words = {
        word
        for item in order["puts"]
        if item["secret"]
        for word in re.split(r"[\s\"'=:;,{}]+", item["content"])
        if len(word) >= 8
    }
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, "[secret]")
    return text
