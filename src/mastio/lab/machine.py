"""One machine of the lab: its disk, its boot, its end.

    STATE/machines/NAME/upper, work     what the machine wrote, over its image
    STATE/machines/NAME/root            the disk, mounted while it runs
    STATE/machines/NAME/machine.json    what it is and which images it stands on
    RUNTIME/NAME.console                what systemd said while it booted

systemd-nspawn(1) boots it in a namespace of `mastio.lab.network` and in a cage. A machine that has
not been configured yet boots to basic.target, networkd and sshd only: `mastio apply` decides what it runs,
not Debian's defaults. `settle` then starts the rest, and from then on it boots whole.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mastio.errors import Exit, MastioError
from mastio.lab import bootstrap, cage, command, network, paths
from mastio.lab.images import Image, Recipe
from mastio.lab.install import overlay
from mastio.lab.model import LabMachine, recall
from mastio.transport import CONSOLE, last_line

_NSPAWN_ENV = {
    # A clean cgroup2 inside, whatever the box has; /proc/sys/net is the machine's own to set.
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
}
_FIRST_BOOT = (
    "systemd.unit=basic.target",
    *(f"systemd.wants={it}.service" for it in ("systemd-networkd", "ssh")),
)
"""Taken by systemd in a container as its kernel command line (kernel-command-line(7))."""
_BOOT_TIMEOUT = 300
"""Seconds. A machine boots in two; many at once on a busy box take their time."""
_PATIENCE = 15
ANSWER = 5
"""Seconds in which systemd answers, if it is alive."""
_STOP_TIMEOUT = 15
MEMORY_MIB = 2048
"""No machine may take more; six together take about 500 MiB."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the lab knows of a machine that it made."""

    machine: LabMachine
    image: Image
    settled: bool = False
    """It has been configured: it boots whole."""

    @property
    def recipe(self) -> Recipe:
        """What is installed on it."""
        return Recipe(self.machine.packages, self.machine.debconf)


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine `name` of the lab `site`, whether it exists or not."""

    site: str
    name: str

    @property
    def folder(self) -> Path:
        """All that is kept of it."""
        return paths.state(self.site) / "machines" / self.name

    @property
    def root(self) -> Path:
        """Where its disk is mounted while it runs."""
        return self.folder / "root"

    @property
    def cage(self) -> cage.Cage:
        """Where its processes live."""
        return cage.Cage(self.site, self.name)

    @property
    def label(self) -> str:
        """Its name on the box: in the mount table, of its namespace."""
        return network.namespace(self.site, self.name)

    @property
    def _console(self) -> Path:
        return paths.runtime(self.site) / f"{self.name}.console"

    # --- what is known of it ---

    def record(self) -> Record | None:
        """What was made; None when nothing was, or not to its end."""
        try:
            data = json.loads((self.folder / "machine.json").read_text())
        except FileNotFoundError:
            return None
        return Record(recall(data["machine"]), Image(data["base"], data["layer"]), data["settled"])

    def _write(self, record: Record) -> None:
        image = record.image
        data = {
            "machine": record.machine.record(), "base": image.base, "layer": image.layer,
            "settled": record.settled,
        }  # fmt: skip
        making = self.folder / "machine.json.making"
        making.write_text(json.dumps(data, indent=1))
        making.rename(self.folder / "machine.json")

    # --- from nothing to running ---

    def make(self, machine: LabMachine, image: Image) -> None:
        """Makes the machine anew on `image`; whatever was kept of it is gone."""
        self.wipe()
        self.folder.mkdir(parents=True)
        self._mount(image)
        bootstrap.identity(self.root, machine)
        bootstrap.addresses(self.root, machine)
        self._write(Record(machine, image))

    def change(self, machine: LabMachine) -> None:
        """Gives a machine that does not run new links; its packages must be there already."""
        record = self._known()
        self._mount(record.image)
        bootstrap.addresses(self.root, machine)
        self._write(replace(record, machine=machine))

    def mount(self) -> None:
        """Mounts its disk at `root`, unless it is mounted."""
        self._mount(self._known().image)

    def start(self) -> None:
        """Boots it; `wait` then says when it is up."""
        record = self._known()
        self._mount(record.image)
        network.plug(self.site, record.machine)
        self._console.parent.mkdir(parents=True, exist_ok=True)
        self._console.unlink(missing_ok=True)
        self.cage.start(
            [
                "systemd-nspawn", "--quiet", f"--directory={self.root}", "--boot",
                f"--machine={self.site}-{self.name}", f"--hostname={record.machine.hostname}",
                "--register=no", "--keep-unit", "--link-journal=no", "--console=pipe",
                f"--network-namespace-path=/run/netns/{self.label}",
                # nspawn takes it away with a foreign namespace; the machine's firewall needs it.
                "--capability=CAP_NET_ADMIN", "--resolv-conf=off", "--timezone=off",
                *(f"--bind={it}" for it in record.machine.devices),
                *(() if record.settled else _FIRST_BOOT),
            ],
            self._console, _NSPAWN_ENV, MEMORY_MIB,
        )  # fmt: skip

    def wait(self, timeout: float = _BOOT_TIMEOUT) -> None:
        """Returns when systemd serves requests and all addresses are usable.

        One that boots whole may then take `_PATIENCE` seconds more for its daemons, so that a plan
        made next finds them running. Raises MastioError, with the console's last words, when the
        machine ends or takes longer than `timeout` seconds.
        """
        started = time.monotonic()
        wanted = {str(it) for link in self._known().machine.links for it in link.addresses}
        while not (self.up() and wanted <= network.addresses(self.label)):
            lasted = time.monotonic() - started
            if lasted > timeout or (lasted > 2 and not self.cage.occupied()):
                words = last_line(self._console.read_bytes())
                raise MastioError(
                    f"{self.name} did not boot within {lasted:.0f} seconds: {words}",
                    hint=f"its console is {self._console}; `mastio lab reset {self.name}` makes it anew",
                    code=Exit.UNAVAILABLE,
                )
            time.sleep(0.1)
        argv = self.argv(["systemctl", "is-system-running", "--wait"])
        if argv and self._known().settled:
            with suppress(subprocess.TimeoutExpired):
                subprocess.run(argv, capture_output=True, timeout=_PATIENCE, check=False)

    def up(self) -> bool:
        """Whether systemd there has reached basic.target, so that its D-Bus serves."""
        argv = self.argv(["systemctl", "--quiet", "is-active", "basic.target"])
        return argv is not None and command.succeeds(argv, ANSWER)

    def settle(self) -> None:
        """Starts what the machine should run at each boot, and boots it whole from now on.

        What it was configured for runs already; the rest may take its time, so nobody waits.
        """
        record = self._known()
        if not record.settled:
            self._write(replace(record, settled=True))
        argv = self.argv(["systemctl", "start", "--no-block", "default.target"])
        if argv:
            command.run(argv, what=self.name)

    def argv(self, argv: Sequence[str]) -> list[str] | None:
        """The box's command line that runs `argv` in the machine; None while it does not run."""
        leader = self.cage.leader()
        if leader is None:
            return None
        return ["nsenter", "--target", str(leader), "--all", "--", "env", "-i", *CONSOLE, *argv]

    def seconds(self) -> float | None:
        """How long it has been running; None when it is not."""
        leader = self.cage.leader()
        try:
            fields = Path(f"/proc/{leader}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        # Field 22 of proc_pid_stat(5), the start in ticks since the box's boot.
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")

    # --- and back ---

    def stop(self, timeout: float = _STOP_TIMEOUT) -> None:
        """Shuts it down, by force after `timeout` seconds; its disk stays.

        One that has not booted yet holds nothing, and may be deaf still: it gets a second.
        """
        deadline = time.monotonic() + (timeout if self.up() else 1)
        leader = self.cage.leader()
        self.cage.terminate()
        while self.cage.occupied() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.cut()
        if leader:
            _let_go(leader)

    def cut(self) -> None:
        """Ends it at once, as when its power fails: no program there gets to do anything more.

        What was written is still there, also what nobody synced: the box has it in memory.
        """
        self.cage.kill()
        self.cage.remove()
        self._unmount()
        # What nspawn leaves when it is killed; rmdir takes nothing that still holds something.
        with suppress(OSError):
            Path(f"/run/systemd/nspawn/propagate/{self.site}-{self.name}").rmdir()
        self._console.unlink(missing_ok=True)

    def wipe(self) -> None:
        """Throws away all that is kept of it. It must not run."""
        self._unmount()
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _known(self) -> Record:
        record = self.record()
        if record is None:
            raise MastioError(
                f"the lab has no machine {self.name}",
                hint="`mastio lab status` names them; `mastio lab up` makes them",
                code=Exit.USAGE,
            )
        return record

    def must_stand(self, image: Image) -> None:
        """MastioError when the image's folders are gone: somebody has deleted the cache."""
        lost = [it for it in image.lowers() if not Path(it).is_dir()]
        if lost:
            raise MastioError(
                f"{self.name}: the image that it stands on is gone ({lost[0]})",
                hint=f"`mastio lab reset {self.name}` makes it anew; what it held is lost",
            )

    def _mount(self, image: Image) -> None:
        if not mounted(self.label):
            self.must_stand(image)
            overlay(
                self.label, self.root, image.lowers(), self.folder / "upper", self.folder / "work"
            )

    def _unmount(self) -> None:
        for point in reversed(mounted(self.label)):
            command.run(["umount", "--recursive", point], what=self.name)


def _let_go(leader: int) -> None:
    """Wakes who still had a command run in a machine that has ended.

    At its end systemd stops all programs, then kills them; nsenter(1) stops as its child does, and would stay so.
    """
    mark = b"\0".join((b"nsenter", b"--target", str(leader).encode(), b""))
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if words.read_bytes().startswith(mark):
                os.kill(int(words.parent.name), signal.SIGCONT)


def mounted(label: str = "", prefix: str = "") -> list[str]:
    """The mount points whose source is called `label`, or starts with `prefix`."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # proc_pid_mountinfo(5): mount point is field 5, the source comes after the lone hyphen
        head, _, tail = line.partition(" - ")
        source = tail.split()[1]
        if source == label or (prefix and source.startswith(prefix)):
            found.append(head.split()[4].encode().decode("unicode_escape"))
    return found
