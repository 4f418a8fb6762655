"""One round of updates: machine after machine, each looked at before and after; one that is worse ends it.

The order is one in which mail waits where it is safe. Only one machine is ever away, so its neighbours are there:

| away | who waits |
|---|---|
| webmail | no mail; it comes first, since it harms nobody's mail when an update turns out bad |
| gateway-out | what users send stays in the store's queue |
| gateway-in | senders keep it and try for days (RFC 5321, 4.5.4.1) |
| store | the gateways' queues |
| firewall | senders outside and the gateways' queues |
| watch | nothing; it is last, since packages and logs come through it |
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mastio.errors import MastioError
from mastio.flows import expand
from mastio.hearing import MIB, hear
from mastio.integrity.place import Place
from mastio.roles.integrity import FOLDER as INTEGRITY
from mastio.roles.patching import PATCH
from mastio.roles.patching.patch import FETCH, INSTALL, REFUSED
from mastio.site.model import Role, Site
from mastio.transport import last_line
from mastio.verify import registry, runner
from mastio.verify.model import Verdict
from mastio.verify.probes import host
from mastio.verify.vantage import Ground, Vantage
from mastio.watch.settings import FromWatch, Settings

_RANK = {
    Role.WEBMAIL: 0, Role.GATEWAY_OUT: 1, Role.GATEWAY_IN: 2, Role.STORE: 3, Role.FIREWALL: 4, Role.WATCH: 5,
}  # fmt: skip
_MOST = FETCH + INSTALL + 1800
"""Seconds that one machine's update may take."""
_ANSWER = 60
_SAID = 4 * MIB
"""Octets of what `mastio-patch` tells: some hundred a package."""
BACK = 600
"""Seconds within which a machine must be back from its reboot."""
_PAUSE = 3.0
_ELSEWHERE = ("P1", "P2", "P3", "P4", "H5", "A3", "I1", "I2", "I3", "L2", "L4", "L5")
"""Checks about updates themselves; one that takes the time of many log-ins; what watch's timers noted before."""
_AFTER_REBOOT = 4
"""By what patience is longer when all begins anew."""
_GOOD = (Verdict.PASSED, Verdict.ACCEPTED, Verdict.NOT_RUN)
BOOT_ID = "/proc/sys/kernel/random/boot_id"
Verdicts = Mapping[str, tuple[str, str]]
"""`CHECK@vantage` → verdict, and what was seen."""


@dataclass(frozen=True, slots=True)
class Record:
    """What was done on one machine."""

    machine: str
    by: str
    began: float
    """Seconds since the epoch."""
    seconds: float = 0.0
    updated: tuple[tuple[str, str, str], ...] = ()
    """Package, old version, new one."""
    gone: tuple[str, ...] = ()
    """Files that those packages had and no package has any more."""
    restarted: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    """Units that still run old code."""
    due: bool = False
    """A reboot is due and was not done."""
    rebooted: bool = False
    rebooting: bool = False
    """Watch itself: it tells when it is back."""
    error: str = ""
    worse: tuple[str, ...] = ()
    """What was well before and is not, in words."""
    seal: tuple[str, str] = ("", "")
    """What identified integrity's references before and after they took the packages over."""
    before: Mapping[str, str] | None = None
    """Verdicts before watch's own reboot."""
    boot: str = ""
    """The kernel's number of the boot in which it was updated."""

    @property
    def good(self) -> bool:
        """Whether the next machine may follow."""
        return not self.error and not self.worse


def order(site: Site, names: Iterable[str]) -> list[str]:
    """The machines in the order in which they are updated."""
    wanted = {*names}
    machines = [it for it in site.machines if it.name in wanted]
    return [
        it.name for it in sorted(machines, key=lambda it: max(_RANK[role] for role in it.roles))
    ]


def worse(before: Mapping[str, str], after: Verdicts) -> tuple[str, ...]:
    """What was well and is not, in words."""
    return tuple(
        f"{key}: {seen or verdict}"
        for key, (verdict, seen) in after.items()
        if verdict not in _GOOD and before.get(key) in _GOOD
    )


def verdicts(ground: Ground, machine: str) -> dict[str, tuple[str, str]]:
    """How the fast checks find a machine, from itself."""
    checks = [it for it in registry.choose(ground.site, full=False) if it.id not in _ELSEWHERE]
    run = runner.run(ground, checks, lambda *_: None, at=(machine,))
    return {it.key: (str(it.verdict), "; ".join(it.seen)) for it in run.findings}


def patiently(
    before: Mapping[str, str], look: Callable[[], Verdicts], seconds: float
) -> tuple[str, ...]:
    """What is `worse`, once services have had some seconds."""
    end = time.monotonic() + seconds
    while (found := worse(before, look())) and time.monotonic() < end:
        time.sleep(_PAUSE)
    return found


class Round:
    """Updates machines of `site`."""

    def __init__(
        self, site: Site, settings: Settings, ssh: Mapping[str, Sequence[str]], patience: float,
        say: Callable[[Any], None],
    ) -> None:  # fmt: skip
        self._site, self._settings, self._ssh, self._say = site, settings, ssh, say
        self._patience = patience

    def run(
        self, machines: Iterable[str], by: str, keep: Callable[[Record], None], word: str = "update"
    ) -> tuple[list[Record], list[str]]:
        """What was done, and the machines that were left alone since one before them is not well.

        `word` is what `mastio-patch` is told: update, upgrade.
        """
        names, done = order(self._site, machines), []
        while names:
            self._measured(names[0])
            with self._undisturbed():
                record = self._one(names.pop(0), by, word)
            if record.updated and record.good and not record.rebooting:
                record = self._settled(record)
            keep(record)
            done.append(record)
            self._say({"machine": record.machine, "record": asdict(record)})
            if not record.good:
                break
        return done, names

    def _one(self, machine: str, by: str, word: str) -> Record:
        record = Record(machine, by, time.time())
        try:
            self._step(machine, "looking")
            before = {key: verdict for key, (verdict, _) in self.verdicts(machine).items()}
            self._step(machine, "updating" if word == "update" else "upgrading")
            told = self._ask(machine, word, _MOST)
            record = replace(
                record, updated=tuple((it[0], it[1], it[2]) for it in told["updated"]),
                gone=tuple(told["gone"]), restarted=tuple(told["restarted"]), left=tuple(told["left"]),
                due=told["reboot"], error=told["error"], boot=told["boot"],
            )  # fmt: skip
            if record.due and self._site.patches.reboot and not record.error:
                self._step(machine, "rebooting")
                if machine == self._settings.machine:
                    self._ask(machine, "reboot", _ANSWER)
                    return self._ended(replace(record, rebooting=True, before=before))
                self._reboot(machine, told["boot"])
                record = replace(record, due=False, rebooted=True, left=())
            if record.updated or record.rebooted or record.error:
                self._step(machine, "looking again")
                record = replace(record, worse=self._compare(record, before))
        except MastioError as error:
            record = replace(record, error="; ".join(filter(None, (record.error, error.message))))
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            record = replace(
                record, error=f"the answer makes no sense: {type(error).__name__}: {error}"
            )
        return self._ended(record)

    @staticmethod
    def _ended(record: Record) -> Record:
        return replace(record, seconds=round(time.time() - record.began, 1))

    def _step(self, machine: str, step: str) -> None:
        self._say({"machine": machine, "step": step})

    def _compare(self, record: Record, before: Mapping[str, str]) -> tuple[str, ...]:
        """What is worse, once services have had their time."""
        patience = self._patience * (_AFTER_REBOOT if record.rebooted else 1)
        return patiently(before, lambda: self.verdicts(record.machine), patience)

    def back(self, record: Record) -> Record:
        """Watch's own record, once it has rebooted."""
        before = record.before or {}
        record = replace(record, rebooting=False, rebooted=True, due=False, left=(), before=None)
        record = replace(record, worse=self._compare(record, before))
        return self._settled(record) if record.updated and record.good else record  # fmt: skip

    # --- asking machines ---

    def verdicts(self, machine: str) -> dict[str, tuple[str, str]]:
        """How the fast checks find the machine, from itself."""
        with self._looking() as transport:
            ground = Ground(self._site, expand(self._site), transport, outside=False)
            return verdicts(ground, machine)

    @contextmanager
    def _looking(self) -> Iterator[FromWatch]:
        """Connections that end with the look: sshd serves them by a process that would run old code afterwards."""
        with TemporaryDirectory() as folder:
            transport = FromWatch(self._settings, Path(folder))
            try:
                yield transport
            finally:
                for socket in Path(folder).iterdir():
                    *ssh, host_ = self._settings.ssh[socket.name.partition(".")[0]]
                    argv = [*ssh, "-o", f"ControlPath={socket}", "-O", "exit", host_]
                    subprocess.run(argv, capture_output=True, timeout=_ANSWER, check=False)

    def _ask(self, machine: str, word: str, seconds: float) -> dict[str, Any]:
        """What `mastio-patch` answers; MastioError when it does not."""
        here = machine == self._settings.machine
        argv = [PATCH, word] if here else [*self._ssh[machine], word]
        try:
            done = hear(argv, who=machine, seconds=seconds, most=_SAID)
        except subprocess.TimeoutExpired:
            raise MastioError(f"no answer to {word} within {seconds:.0f} s") from None
        if done.code == 255 and not here:
            raise MastioError(f"cannot be reached: {last_line(done.stderr)}")
        if done.code == REFUSED:
            raise MastioError(last_line(done.stderr))
        if done.code:
            raise MastioError(f"{word} broke: {last_line(done.stderr) or done.code}")
        told = json.loads(done.stdout)
        if not isinstance(told, dict):
            raise ValueError("no object")
        return told

    def _reboot(self, machine: str, boot: str) -> None:
        """Until it is back with another boot's number; MastioError when it is not in time."""
        if error := self._ask(machine, "reboot", _ANSWER)["error"]:
            raise MastioError(f"does not reboot: {error}")
        end = time.monotonic() + BACK
        while time.monotonic() < end:
            time.sleep(_PAUSE)
            try:
                with self._looking() as transport:
                    ground = Ground(self._site, expand(self._site), transport, outside=False)
                    now = Vantage(machine, ground, time.monotonic() + 15).ask(host.text, BOOT_ID)
            except MastioError:
                continue
            if now.strip() != boot:
                return
        raise MastioError(f"is not back {BACK} s after its reboot")

    # --- integrity ---

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Nobody measures while packages change."""
        place = Place(Path(INTEGRITY))
        with place.alone() if place.folder.is_dir() else nullcontext():
            yield

    def _measured(self, machine: str) -> None:
        """What differs already is told before packages come, and is not taken over with them.

        That a machine cannot be measured is told as well, and holds no fix back.
        """
        if self._known(machine):
            self._step(machine, "measuring")
            self._integrity("check", machine)

    @staticmethod
    def _known(machine: str) -> bool:
        return (Place(Path(INTEGRITY)).folder / machine / "reference.json").exists()

    @staticmethod
    def _integrity(*words: str, asked: object = None) -> str:
        """Has `mastio.watch.integrity` do something; why it could not."""
        argv = [sys.executable, "-m", "mastio.watch.integrity", *words]
        try:
            ran = subprocess.run(
                argv, input=json.dumps(asked).encode(), capture_output=True, timeout=_MOST, check=False
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return "it does not end"
        return "" if not ran.returncode else last_line(ran.stderr) or str(ran.returncode)

    def _settled(self, record: Record) -> Record:
        """Has integrity take over the packages' files, where it has a reference."""
        place = Place(Path(INTEGRITY))
        if not self._known(record.machine):
            return record
        self._step(record.machine, "taking over what changed")
        before = place.seal_digest()
        done = {
            "paths": {path: ["absent"] for path in record.gone}, "made": [], "wrote": [], "units": [], "masked": [],
            "aliases": {}, "retired": [], "packages": [name for name, _, new in record.updated if new], "accounts": [],
        }  # fmt: skip
        asked = {"by": f"updates of Debian ({record.by})", "machines": {record.machine: done}}
        words = self._integrity("settle", asked=asked)
        error = f"integrity did not take the packages over: {words}" if words else ""
        return replace(record, error=error, seal=(before, place.seal_digest()))
