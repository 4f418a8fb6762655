"""What the role `inspection` tells watch: who it is, and how it calls the others."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mastio.transport import Transport


@dataclass(frozen=True, slots=True)
class Settings:
    """As `/etc/mastio/inspection.json` has it."""

    machine: str
    """The watch's own name."""
    ssh: Mapping[str, Sequence[str]]
    """How each other machine is called, but for what is to be done there."""
    stores: Sequence[str]
    authorities: str
    """A file with authorities that are trusted on the internet beside Debian's; it may be empty."""
    pki: str
    """The folder with the machine's certificate."""
    gateways: Sequence[str] = ()
    """The machines that take alarms to other organisations."""

    @property
    def store(self) -> str:
        """The machine that takes alarms."""
        return self.stores[0] if self.stores else self.machine


def load(path: Path) -> Settings:
    """Raises OSError and ValueError when the file is not as it should be."""
    try:
        return Settings(**json.loads(path.read_text()))
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error


class FromWatch(Transport):
    """Commands as watch may have them run: here, or by its key on the other machines.

    `sockets` is a folder for ssh's shared connections: one to each machine (ssh_config(5), ControlMaster); that
    of this run unless told.
    """

    def __init__(self, settings: Settings, sockets: Path | None = None) -> None:
        self._settings = settings
        # systemd and mastio-on-watch give each run a folder of its own.
        self._sockets = sockets or Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        """Nothing around a command for watch itself."""
        if machine == self._settings.machine:
            return list(command)
        *ssh, host = self._settings.ssh[machine]
        share = (
            "ControlMaster=auto",
            f"ControlPath={self._sockets / machine}",
            "ControlPersist=30",
        )
        flags = [flag for option in share for flag in ("-o", option)]
        return [*ssh, *flags, "--", host, shlex.join(command)]

    def lost(self, code: int) -> bool:
        """255 is ssh's own (ssh(1))."""
        return code == 255
