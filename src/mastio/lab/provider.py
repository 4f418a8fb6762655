"""The lab: all machines of a site on this box, from nothing to booted, and back to nothing.

    lab = Lab("demo")
    lab.up(machines(site, states), progress)
    lab.down()

Everything is found again by what the kernel knows: cages (`mastio.lab.cage`), namespaces and mounts
carry the lab's name. So `down` needs no record of what a killed `up` had begun, and two labs never
meet. One mastio at a time works on a lab; it holds RUNTIME.lock, which goes with the lab.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mastio import files
from mastio.errors import Exit, MastioError
from mastio.lab import command, forward, host, network, paths, room
from mastio.lab.cage import cages
from mastio.lab.images import Images, Recipe
from mastio.lab.machine import ANSWER, Machine, mounted
from mastio.lab.model import LabMachine

Item = TypeVar("Item")
Result = TypeVar("Result")


class Progress(Protocol):
    """Who tells the user what goes on; phases are timed by their context."""

    def phase(self, title: str) -> AbstractContextManager[None]:
        """A phase begins, and ends with the context."""
        ...

    def note(self, text: str) -> None:
        """What is being done just now."""
        ...


@dataclass(frozen=True, slots=True)
class Status:
    """One machine as it is."""

    name: str
    state: str
    """`stopped`, `deaf` when systemd does not answer, or its own word: running, degraded, starting …"""
    addresses: tuple[str, ...]
    seconds: float | None
    """Uptime."""
    memory: int | None
    """In bytes."""


class Lab:
    """The lab of the site called `site`."""

    def __init__(self, site: str) -> None:
        self.site = site

    @contextmanager
    def _lock(self) -> Iterator[None]:
        path = paths.runtime(self.site).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with path.open("w") as lock:
                try:
                    files.hold(lock, patience=3)
                except BlockingIOError:
                    raise MastioError(
                        f"another mastio is at work on the lab {self.site}",
                        hint="wait until it has finished, or end it; `mastio lab down` then cleans up",
                        code=Exit.LOCKED,
                    ) from None
                if not files.current(lock, path):
                    continue  # who held it has taken the lab down: there may be a new one, held by another
                try:
                    yield
                finally:
                    if not paths.runtime(self.site).exists():
                        path.unlink()
                return

    # --- up ---

    def up(self, machines: Sequence[LabMachine], progress: Progress) -> None:
        """Makes and boots `machines`, and stops all others; returns when all have their addresses.

        A machine that runs as wanted is left alone; one that is kept from before boots with what it
        holds. MastioError says what lacks.
        """
        with self._lock():
            runs = _each(self._runs_as, machines)
            todo = [it for it, as_wanted in zip(machines, runs, strict=True) if not as_wanted]
            self._retire({it.name for it in machines} - {it.name for it in todo})
            if todo:
                room.make(self.site)
                self._build(todo, progress)
                with progress.phase("network"):
                    segments = {link.segment for it in machines for link in it.links}
                    network.lay(self.site, segments)
                with progress.phase("boot"):
                    progress.note(", ".join(it.name for it in todo))
                    _each(lambda it: Machine(self.site, it.name).start(), todo)
                    _each(lambda it: Machine(self.site, it.name).wait(), machines)

    def _runs_as(self, wanted: LabMachine) -> bool:
        machine = Machine(self.site, wanted.name)
        record = machine.record()
        return record is not None and record.machine == wanted and machine.up()

    def _retire(self, kept: set[str]) -> None:
        """Stops what runs and is not to stay as it is: changed, half-booted or no longer wanted."""
        names = {it.name for it in cages(self.site) if not forward.is_forward(it)} - kept
        _each(lambda name: Machine(self.site, name).stop(), sorted(names))

    def _build(self, todo: Iterable[LabMachine], progress: Progress) -> None:
        """Brings each machine's disk to what is wanted."""
        new, changed = [], []
        for wanted in todo:
            record = Machine(self.site, wanted.name).record()
            if record is None:
                new.append(wanted)
            elif record.machine != wanted:
                changed.append((wanted, record))
        if not new and not changed:
            return
        with progress.phase("images"), Images.held(progress.note) as images:
            recipes = {it: Recipe(it.packages, it.debconf) for it in new}
            built = images.build(set(recipes.values())) if new else {}
            for wanted, record in changed:
                machine = Machine(self.site, wanted.name)
                if set(wanted.packages) - set(record.machine.packages):
                    machine.must_stand(record.image)
                    progress.note(f"{wanted.name}: more packages")
                    recipe = Recipe(wanted.packages, wanted.debconf)
                    images.add(record.image, machine.folder, recipe)
                machine.change(wanted)
            for wanted in new:
                machine = Machine(self.site, wanted.name)
                machine.make(wanted, built[recipes[wanted]])
                images.enlist(machine.label, machine.folder)

    def settle(self, progress: Progress) -> None:
        """After the machines have been configured: starts all that they run at each boot."""
        with self._lock(), progress.phase("start"):
            _each(Machine.settle, self.machines())

    # --- down ---

    def down(self, *, purge: bool = False) -> None:
        """Ends everything: machines (in good order if they can), forwards, wires, mounts.

        What the machines hold is kept, unless `purge`; the cache is kept in any case.
        """
        with self._lock():
            for cage in cages(self.site):
                if forward.is_forward(cage):
                    forward.close(self.site, int(cage.name.rpartition(".")[2]))
            self._retire(set())
            for point in mounted(prefix=f"{network.switch(self.site)}."):
                command.run(["umount", "--recursive", point])
            network.remove(self.site)
            room.give_back(self.site)
            shutil.rmtree(paths.runtime(self.site), ignore_errors=True)
            if purge and paths.state(self.site).exists():
                shutil.rmtree(paths.state(self.site))

    def cut(self, name: str) -> None:
        """Takes a machine's power away. Its disk stays; its network is dead."""
        with self._lock():
            self.machine(name).cut()

    def boot(self, name: str) -> None:
        """Gives a machine its power back; returns when it has its addresses."""
        with self._lock():
            machine = self.machine(name)
            machine.start()
            machine.wait()

    def reset(self, name: str) -> None:
        """Stops a machine and throws away what it holds; `up` makes it anew."""
        with self._lock():
            machine = self.machine(name)
            machine.stop()
            machine.wipe()

    # --- asking ---

    def machines(self) -> tuple[Machine, ...]:
        """The machines that were made, running or not."""
        folder = paths.state(self.site) / "machines"
        found = (Machine(self.site, it.name) for it in sorted(folder.glob("*")))
        return tuple(it for it in found if it.record())

    def machine(self, name: str) -> Machine:
        """The machine `name`; MastioError when there is none."""
        for machine in self.machines():
            if machine.name == name:
                return machine
        known = ", ".join(it.name for it in self.machines()) or "none; `mastio lab up` makes them"
        raise MastioError(
            f"the lab {self.site} has no machine {name}",
            hint=f"there are: {known}",
            code=Exit.USAGE,
        )

    def status(self) -> tuple[Status, ...]:
        """Every machine as it is now."""
        return tuple(_each(self._status, self.machines()))

    @staticmethod
    def _status(machine: Machine) -> Status:
        record = machine.record()
        links = record.machine.links if record else ()
        addresses = tuple(str(it.ip) for link in links for it in link.addresses)
        argv = machine.argv(["systemctl", "is-system-running"])
        if argv is None:
            return Status(machine.name, "stopped", addresses, None, None)
        return Status(
            machine.name,
            command.output(argv, ANSWER).strip() or "deaf",
            addresses,
            machine.seconds(),
            machine.cage.memory(),
        )


def _each(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Does `work` on all items side by side; the first error is raised when all have ended."""
    items = list(items)
    if not items:
        return []
    with ThreadPoolExecutor(max_workers=len(items)) as pool:
        return list(pool.map(work, items))


def require(port: int | None = None) -> None:
    """All that the lab asks of the box before it begins; `port` is the loopback port it will need."""
    host.require_root()
    host.require_kernel()
    host.require_space(paths.cache(), paths.state(""))
    if port is not None:
        host.require_port(port)
