"""A machine's borg repository on watch, as watch itself uses it: makes it, lists, prunes, compacts, checks.

    repository = Repository("store")
    repository.make()
    repository.archives()

No machine's session is open meanwhile: `Session` (backing.py) holds the machine's lock, and so must who calls this.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mastio import services
from mastio.errors import Exit, MastioError
from mastio.roles.backup import COPY_HOST, COPY_KEY, FOLDER, KEYS
from mastio.site.model import Backup

_HOURS = 11 * 3600
"""Seconds that borg may take."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive: its name, its id, and when it was begun (seconds since the epoch)."""

    name: str
    id: str
    at: float


def environment(machine: str) -> dict[str, str]:
    """What borg has to know on watch to read the archives of `machine` (borg(1), Environment Variables)."""
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/root",
        "BORG_BASE_DIR": f"{FOLDER}/base/{machine}", "BORG_PASSCOMMAND": f"cat {KEYS}/{machine}",
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes", "BORG_EXIT_CODES": "legacy",
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),  # noqa: S108
    }  # fmt: skip


class Repository:
    """The archives of one machine."""

    def __init__(self, machine: str, place: Path | None = None) -> None:
        self.machine = machine
        self.path = place or Path(FOLDER) / machine
        self.name = str(self.path)
        """As borg(1) is told of it."""
        self.environment = environment(machine)

    def made(self) -> bool:
        """Whether it is there."""
        return (self.path / "config").exists()

    def make(self) -> None:
        """Makes it, empty; its key stands in it, locked by the passphrase."""
        self.run("init", "--encryption", "repokey-blake2", self.name)

    def archives(self) -> list[Archive]:
        """All, the oldest first, also those that were not finished."""
        told = json.loads(self.run("list", "--json", "--consider-checkpoints", self.name))
        return [
            Archive(it["name"], it["id"], datetime.fromisoformat(it["start"]).replace(tzinfo=UTC).timestamp())
            for it in told["archives"]
        ]  # fmt: skip

    def prune(self, wanted: Backup) -> None:
        """Lets archives go that are older than the site file keeps them; compacts."""
        keep = {
            "within": f"{wanted.keep_hours}H", "daily": wanted.keep_days, "weekly": wanted.keep_weeks,
            "monthly": wanted.keep_months,
        }  # fmt: skip
        flags = [f"--keep-{name}={value}" for name, value in keep.items() if value not in (0, "0H")]
        self.run("prune", *flags, self.name)
        self.run("compact", self.name)

    def check(self, *, data: bool) -> None:
        """Raises MastioError when something in it cannot be read; `data`: each octet (slow)."""
        self.run("check", *(["--verify-data"] if data else []), self.name)

    def key(self) -> str:
        """Its key for paper: with the passphrase, it opens the repository (borg-key-export(1))."""
        return self.run("key", "export", "--paper", self.name)

    def relock(self, old: str, new: str) -> None:
        """Another passphrase for the repository's key (borg-key-change-passphrase(1)), unless it has it already."""
        more = {"BORG_PASSPHRASE": old, "BORG_NEW_PASSPHRASE": new}
        try:
            self.run("key", "change-passphrase", self.name, more=more)
        except MastioError:
            self.archives()  # watch went down before it could note the last change

    def forget(self) -> None:
        """Forgets what borg remembers of it here, after it was set back."""
        shutil.rmtree(environment(self.machine)["BORG_BASE_DIR"], ignore_errors=True)

    def run(self, *words: str, more: Mapping[str, str] | None = None) -> str:
        """borg's standard output; MastioError with its words when it fails."""
        try:
            done = subprocess.run(
                ["borg", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                timeout=_HOURS, env={**self.environment, **(more or {})},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise MastioError(f"borg {words[0]} does not end", code=Exit.UNAVAILABLE) from None
        if done.returncode:
            raise MastioError(
                f"the archives of {self.machine}: borg {words[0]}: {telling(done.stderr)}",
                hint="`mastio backup verify` tells more",
            )
        return done.stdout


class Distant(Repository):
    """A repository on a host that is reached by ssh, with a key for that alone; `name` is ssh://USER@HOST/PATH."""

    def __init__(self, machine: str, name: str) -> None:
        super().__init__(machine)
        options = (
            "BatchMode=yes", "IdentitiesOnly=yes", f"UserKnownHostsFile={COPY_HOST}", "StrictHostKeyChecking=yes",
            "GlobalKnownHostsFile=none", "ConnectTimeout=20", "ServerAliveInterval=20", f"Port={services.SSH.port}",
        )  # fmt: skip
        flags = " ".join(f"-o {it}" for it in options)
        self.name = name
        self.environment |= {"BORG_RSH": f"ssh -T -F none -i {COPY_KEY} {flags}"}

    def made(self) -> bool:
        """Whether it is there. Raises MastioError when the host cannot be asked."""
        try:
            self.run("info", self.name)
        except MastioError as error:
            if "does not exist" in error.message:
                return False
            raise
        return True


def telling(said: str) -> str:
    """The line of borg's that tells, without its traceback."""
    lines = [it.strip() for it in said.splitlines() if it.strip()]
    plain = [it for it in lines if "rror" in it or "passphrase" in it.lower() or "not exist" in it]
    return (plain or lines or ["no word"])[-1][:300]


def serve(repository: Path, quota: int) -> Sequence[str]:
    """The command line that serves a repository to one session: it adds, up to `quota` octets in all."""
    return [
        "borg", "serve", "--append-only", "--restrict-to-repository", str(repository),
        "--storage-quota", str(quota),
    ]  # fmt: skip
