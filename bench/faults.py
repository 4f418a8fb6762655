"""What goes wrong in chaos, and when: a plan from a seed, pure, and the hands that carry it out in the lab.

| kind | what is done |
|---|---|
| power | a machine's processes are all killed at once; some seconds later it boots |
| kill | a daemon gets SIGKILL: all its processes, or its main one alone; nobody starts it again |
| cut | nothing gets through between a zone and the firewall |
| bad | what passes between a zone and the firewall is late, and some of it lost |
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bench import wire

from mastio.errors import MastioError
from mastio.lab import network
from mastio.lab.provider import Lab
from mastio.transport import Transport

FIREWALL = "firewall"
KINDS = ("power", "kill", "cut", "bad")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    at: float
    """Seconds after the first message."""
    kind: str
    target: str
    """A machine, for `cut` and `bad` a segment."""
    seconds: float = 0.0
    """How long; for `kill` meaningless."""
    unit: str = ""
    """The daemon that is killed."""
    main: bool = False
    """Its main process alone."""
    delay: float = 0.0
    loss: float = 0.0

    @property
    def words(self) -> str:
        """As the plan tells it."""
        match self.kind:
            case "power":
                return f"{self.target}: no power for {self.seconds:.1f} s"
            case "kill":
                what = "main process" if self.main else "all processes"
                return f"{self.target}: kill -9 {self.unit} ({what})"
            case "cut":
                return f"zone {self.target}: cut off for {self.seconds:.1f} s"
            case _:
                return (
                    f"zone {self.target}: {self.delay * 1000:.0f} ms late each way, {self.loss:.0%} lost, "
                    f"for {self.seconds:.1f} s"
                )


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that was, with its times (CLOCK_MONOTONIC)."""

    fault: Fault
    began: float
    ended: float
    """When it was taken back, for `power` when the machine had booted."""
    error: str = ""


def plan(
    seed: int, lasts: float, machines: Sequence[str], daemons: Sequence[tuple[str, str]],
    zones: Sequence[str], rounds: int = 1, longest: float = 12,
) -> tuple[Fault, ...]:  # fmt: skip
    """`rounds` times: each machine without power, each of the `daemons` (machine, unit) killed, each zone cut off, late
    and lossy, for at most `longest` seconds; in an order by chance, spread over `lasts` seconds.

    >>> plan(1, 60, ["store"], [("store", "dovecot.service")], ["core"]) == plan(
    ...     1, 60, ["store"], [("store", "dovecot.service")], ["core"])
    True
    """
    chance = random.Random(seed)
    found = []
    for _ in range(rounds):
        row: list[dict[str, Any]] = [
            {"kind": "power", "target": it, "seconds": chance.uniform(1, longest)}
            for it in machines
        ]
        row += [
            {"kind": "kill", "target": machine, "unit": unit, "main": chance.random() < 0.5}
            for machine, unit in daemons
        ]
        row += [
            {"kind": "cut", "target": it, "seconds": chance.uniform(2, longest)} for it in zones
        ]
        for it in zones:
            wire_ = {"delay": chance.uniform(0.02, 0.4), "loss": chance.uniform(0.01, 0.25)}
            row.append(
                {"kind": "bad", "target": it, "seconds": chance.uniform(2, longest), **wire_}
            )
        chance.shuffle(row)
        found += row
    # What lasts longer gets more of the time.
    weights = [
        it.get("seconds", 0.0) + {"power": 5.0, "kill": 2.0}.get(it["kind"], 1.0) for it in found
    ]
    scale = lasts / sum(weights)
    faults, at = [], 0.0
    for it, weight in zip(found, weights, strict=True):
        faults.append(Fault(at=round(at, 2), **it))
        at += weight * scale
    return tuple(faults)


def daemons(transport: Transport, machines: Sequence[str]) -> list[tuple[str, str]]:
    """All services that run, by machine."""
    argv = [
        "systemctl",
        "list-units",
        "--type=service",
        "--state=running",
        "--plain",
        "--no-legend",
    ]
    found = []
    for machine in machines:
        lines = transport.run(machine, argv).stdout.decode().splitlines()
        found += sorted((machine, line.split()[0]) for line in lines)
    return found


class Power(Protocol):
    """Who switches machines off and on."""

    def cut(self, name: str) -> None:
        """Off."""

    def boot(self, name: str) -> None:
        """On; returns when it has booted."""


class Hands:
    """Carries faults out, one after the other."""

    def __init__(
        self,
        site: str,
        transport: Transport,
        say: Callable[[str], None],
        power: Power | None = None,
    ) -> None:
        self._site, self._transport, self._say = site, transport, say
        self._power = power or Lab(site)

    def all(self, faults: Sequence[Fault], began: float, seed: int = 0) -> list[Done]:
        """Each at its time, or as soon as those before it are over."""
        done = []
        for number, fault in enumerate(faults):
            time.sleep(max(0.0, began + fault.at - time.monotonic()))
            start, error = time.monotonic(), ""
            self._say(f"{start - began:7.1f} s  {fault.words}")
            try:
                self.one(fault, seed + number)
            except MastioError as problem:
                error = problem.message
                self._say(f"           {error}")
            done.append(Done(fault, start, time.monotonic(), error))
        return done

    def one(self, fault: Fault, seed: int) -> None:
        """Does it and takes it back. Raises MastioError, such as of a machine that does not boot."""
        match fault.kind:
            case "power":
                self._power.cut(fault.target)
                time.sleep(fault.seconds)
                self._power.boot(fault.target)
            case "kill":
                whom = f"--kill-whom={'main' if fault.main else 'all'}"
                argv = ["systemctl", "kill", whom, "--signal=KILL", fault.unit]
                # It may have been killed before and be on its way back.
                self._transport.run(fault.target, argv)
            case "cut":
                network.pull(self._site, fault.target)
                time.sleep(fault.seconds)
                network.mend(self._site, fault.target)
            case _:
                with wire.bad(
                    self._site,
                    fault.target,
                    FIREWALL,
                    delay=fault.delay,
                    loss=fault.loss,
                    seed=seed,
                ):
                    time.sleep(fault.seconds)
