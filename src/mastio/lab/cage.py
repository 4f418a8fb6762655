"""Cages: every process of a lab lives in a control group that says whose it is.

The kernel keeps the books, so nothing has to be remembered to be found again: after a `kill -9` of
mastio the next one reads from the cgroup tree what still runs, and a process outside it is never
touched. A cage is a cgroup2 directory (kernel ≥ 5.14, for cgroup.kill):

- where systemd is PID 1, that of a transient unit `mastio-SITE.NAME.service` in `mastio.slice`;
- elsewhere /mastio/SITE/NAME, with twins in the version 1 hierarchies that nspawn or the memory limit need.

See cgroups(7), systemd.resource-control(5).
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mastio.lab import command

_MOUNT = Path("/sys/fs/cgroup")
_TWINS = ("systemd", "memory")
"""Version 1 hierarchies that a cage joins where they exist."""
_ENTER = 'while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs" || exit; shift; done; shift; exec "$@"'
"""For sh -c: join the given groups up to `--`, then become the rest."""


def has_systemd() -> bool:
    """Whether systemd is this box's PID 1 (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def hierarchy() -> Path | None:
    """Where cgroup2 is mounted: alone, or beside version 1 (hybrid); None: nowhere."""
    for path in (_MOUNT, _MOUNT / "unified"):
        if (path / "cgroup.procs").exists() and (path / "cgroup.controllers").exists():
            return path
    return None


@dataclass(frozen=True, slots=True)
class Cage:
    """The cage `name` of the lab `site`; it exists on disk only while something was started in it."""

    site: str
    name: str

    @property
    def unit(self) -> str:
        """The transient unit's name, where systemd rules."""
        return f"mastio-{self.site}.{self.name}.service"

    @property
    def path(self) -> Path:
        """The cgroup2 directory."""
        root = hierarchy() or _MOUNT
        if has_systemd():
            return root / "mastio.slice" / self.unit
        return root / "mastio" / self.site / self.name

    def _twins(self) -> list[Path]:
        """The cage's directories in version 1 hierarchies."""
        if has_systemd() or hierarchy() == _MOUNT:
            return []
        found = [_MOUNT / it for it in _TWINS if (_MOUNT / it / "cgroup.procs").exists()]
        return [path / "mastio" / self.site / self.name for path in found]

    def start(
        self,
        argv: Sequence[str],
        output: Path,
        env: Mapping[str, str] | None = None,
        memory: int = 0,
    ) -> None:
        """Starts `argv` inside, detached from this process; its output is appended to `output`.

        `memory` is a limit in MiB, 0 for none; where the kernel does not offer one, there is none.
        """
        if has_systemd():
            properties = ["Delegate=yes", "KillMode=mixed", f"StandardOutput=append:{output}"]
            properties += ["StandardError=inherit", *([f"MemoryMax={memory}M"] if memory else [])]
            command.run(
                [
                    "systemd-run", "--quiet", "--collect", f"--unit={self.unit}", "--slice=mastio.slice",
                    *(f"--property={it}" for it in properties),
                    *(f"--setenv={key}={value}" for key, value in (env or {}).items()),
                    "--", *argv,
                ],
                what=f"starting {self.name}",
            )  # fmt: skip
            return
        groups = [self.path, *self._twins()]
        for group in groups:
            group.mkdir(parents=True, exist_ok=True)
        if memory:
            self._limit(groups, memory)
        with output.open("ab") as console:
            subprocess.run(
                ["setsid", "--fork", "sh", "-c", _ENTER, "sh", *map(str, groups), "--", *argv],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, check=True,
                env={**os.environ, **(env or {})},
            )  # fmt: skip

    @staticmethod
    def _limit(groups: Sequence[Path], memory: int) -> None:
        for group in groups:
            for knob in ("memory.max", "memory.limit_in_bytes"):
                if (group / knob).exists():
                    with suppress(OSError):
                        (group / knob).write_text(f"{memory}M")

    def pids(self, part: str = "") -> tuple[int, ...]:
        """The processes directly in the cage, or in its sub-group `part`."""
        try:
            return tuple(int(it) for it in (self.path / part / "cgroup.procs").read_text().split())
        except OSError:
            return ()

    def occupied(self) -> bool:
        """Whether any process lives in the cage or below it."""
        try:
            return "populated 1" in (self.path / "cgroup.events").read_text()
        except OSError:
            return False

    def leader(self) -> int | None:
        """PID 1 of the machine that nspawn runs in the cage, as the box numbers it."""
        for part in ("payload/init.scope", "payload"):
            for pid in self.pids(part):
                with suppress(OSError):
                    if _is_init(pid):
                        return pid
        return None

    def memory(self) -> int | None:
        """The memory in use, in bytes, page cache included; None where nobody counts."""
        for path in (
            self.path / "memory.current",
            *(it / "memory.usage_in_bytes" for it in self._twins()),
        ):
            with suppress(OSError):
                return int(path.read_text())
        return None

    def terminate(self) -> None:
        """Asks nspawn to shut its machine down in good order (systemd-nspawn(1), --kill-signal)."""
        for part in ("supervisor", ""):
            for pid in self.pids(part):
                self._signal(pid, part)

    def _signal(self, pid: int, part: str) -> None:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            # The handle is of one process for good; asked after it was opened, the cgroup says whose.
            if pid in self.pids(part):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, signal.SIGTERM)
        finally:
            os.close(handle)

    def freeze(self) -> None:
        """Stops all in the cage where they are, until they are killed (cgroups(7), cgroup.freeze)."""
        with suppress(FileNotFoundError):
            (self.path / "cgroup.freeze").write_text("1")

    def kill(self) -> None:
        """SIGKILL to all in the cage at once; nobody can fork away (cgroups(7), cgroup.kill)."""
        with suppress(FileNotFoundError):
            (self.path / "cgroup.kill").write_text("1")

    def remove(self, timeout: float = 5) -> None:
        """Removes the empty cage; waits up to `timeout` seconds for the last process to be gone."""
        deadline = time.monotonic() + timeout
        while self.occupied() and time.monotonic() < deadline:
            time.sleep(0.02)
        if has_systemd():
            command.succeeds(["systemctl", "stop", self.unit])
            return
        for top in (self.path, *self._twins()):
            for folder, _, _ in os.walk(top, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
            for parent in (top.parent, top.parent.parent):
                with suppress(OSError):
                    parent.rmdir()


def cages(site: str) -> tuple[Cage, ...]:
    """All cages of the lab `site` that exist, whoever made them."""
    root = hierarchy() or _MOUNT
    if has_systemd():
        head, tail = f"mastio-{site}.", ".service"
        found = (root / "mastio.slice").glob(f"{head}*{tail}")
        return tuple(Cage(site, it.name[len(head) : -len(tail)]) for it in sorted(found))
    names = {
        folder.name
        for top in (root, *(_MOUNT / it for it in _TWINS))
        for folder in (top / "mastio" / site).glob("*")
        if folder.is_dir()
    }
    return tuple(Cage(site, name) for name in sorted(names))


def _is_init(pid: int) -> bool:
    """Whether a process is the first of a PID namespace below the box's (proc_pid_status(5)).

    The lowest number proves nothing: numbers start again, and PID 1's short-lived children then
    have lower ones.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return line.split()[2:][-1:] == ["1"]
    return False
