"""One machine's backup on watch: a session in which it may add an archive, and what is made of what it wrote.

    backing = Backing("store", ssh)
    with backing.alone():
        record = backing.run()

A session is believed in nothing. What it wrote is read as it stands on the disk (`segments`), the list of archives is
compared with the one that is known here, the repository's key and settings with their copies. What did more than add is
set aside, and the repository is as it was before.
"""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mastio.errors import Exit, MastioError
from mastio.files import hold, put
from mastio.hearing import MIB, TooMuchError, limited
from mastio.roles.backup import FOLDER, KEYS
from mastio.transport import last_line
from mastio.watch import segments
from mastio.watch.borg import Archive, Repository, environment, serve

_SAID = 16 * MIB
"""Octets of what a machine tells meanwhile: a line each few seconds."""
_LONGEST = 11 * 3600.0
"""Seconds that a session may take: a first one may bring a terabyte."""
_LEFT = 0.1
"""The share of watch's disk that no repository takes."""
_REMEMBERED = 30


@dataclass(slots=True)
class Known:
    """What watch knows of a repository by itself."""

    archives: dict[str, str] = field(default_factory=dict)
    """Names by id."""
    good: int = -1
    """The last segment that is known to be as it should be."""
    config: str = ""
    """The repository's settings, and in them its locked key."""
    fresh: bool = False
    """The machine must forget what it remembers of the repository: it was set back."""
    refused: list[str] = field(default_factory=list)
    """What was set aside and why, until an administrator has seen it."""
    added: list[int] = field(default_factory=list)
    """Octets that the last archives added."""
    last: dict[str, Any] = field(default_factory=dict)
    """How the last session went: `at`, `error`, and what the machine told of it."""
    newest: float = 0.0
    """When the newest archive was begun."""
    checked: float = 0.0
    """When all was last read."""
    damaged: str = ""
    """What cannot be read."""
    copied: float = 0.0
    """When the newest archive that stands in the second copy was begun."""


@dataclass(frozen=True, slots=True)
class Record:
    """How a session went."""

    machine: str
    archive: str
    error: str = ""
    refused: tuple[str, ...] = ()
    """What it did beside adding."""
    told: dict[str, Any] = field(default_factory=dict)
    """What the machine told: `files`, `size`, `added` (octets), `seconds`, `gone`, `warnings`."""

    @property
    def good(self) -> bool:
        """Whether there is an archive more."""
        return not self.error and not self.refused


class Backing:
    """The backups of `machine`; `ssh` calls its door."""

    def __init__(self, machine: str, ssh: Sequence[str], folder: Path = Path(FOLDER)) -> None:
        self.machine, self._ssh, self._folder = machine, [*ssh], folder
        self.repository = Repository(machine, folder / machine)
        self._file = folder / "known" / f"{machine}.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One at a time; MastioError while another is at work."""
        self._file.parent.mkdir(mode=0o700, exist_ok=True)
        with self._file.with_suffix(".lock").open("w") as file:
            try:
                hold(file)
            except BlockingIOError:
                raise MastioError(
                    f"another backup of {self.machine} is at work",
                    hint="wait for it",
                    code=Exit.LOCKED,
                ) from None
            yield

    @property
    def known(self) -> Known:
        """What is known. Raises ValueError and TypeError when the file makes no sense."""
        try:
            return Known(**json.loads(self._file.read_text()))
        except FileNotFoundError:
            return Known()

    def noted(self, what: str) -> Path:
        """Where something more is noted of this machine's archives."""
        return self._file.with_suffix(f".{what}")

    def keep(self, known: Known) -> None:
        """Remembers it."""
        put(self._file, json.dumps(asdict(known), indent=1))

    def run(self, say: Callable[[Any], None]) -> Record:
        """A session, and what becomes of it."""
        known = self.known
        if not self.repository.made():
            self.repository.make()
            known = Known(good=segments.newest(self.repository.path), config=self._config())
            self.keep(known)
        self._relock(known)
        # Watch may have gone down while a machine wrote.
        known, wrong = self._judged(known, "")
        if not wrong:
            name = f"{self.machine}-{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
            told, error = self._session(name, fresh=known.fresh, say=say)
            known, wrong = self._judged(known, name)
            if not error and not wrong and name not in known.archives.values():
                error = "the machine says that it is done, and there is no archive"
            record = Record(self.machine, name, error, tuple(wrong), told)
        else:
            record = Record(self.machine, "", refused=tuple(wrong))
        if record.good:
            known.added = [*known.added, int(record.told.get("added", 0))][-_REMEMBERED:]
            known.fresh = False
        known.last = {"at": time.time(), "error": record.error, **record.told}
        self.keep(known)
        return record

    def _relock(self, known: Known) -> None:
        """Locks the repository's key anew when the site has another passphrase (`mastio secrets rotate`)."""
        wanted, locked = Path(KEYS, self.machine).read_text(), self.noted("passphrase")
        if not locked.exists():
            put(locked, wanted)
        if (old := locked.read_text()) != wanted:
            self.repository.relock(old, wanted)
            known.config = self._config()
            self.keep(known)
            put(locked, wanted)

    def _session(
        self, name: str, *, fresh: bool, say: Callable[[Any], None]
    ) -> tuple[dict[str, Any], str]:
        """What the machine told at its end, and what went wrong."""
        from_machine, to_serve = os.pipe()
        from_serve, to_machine = os.pipe()
        served = subprocess.Popen(
            serve(self.repository.path, self._quota()), stdin=from_machine, stdout=to_machine,
            stderr=subprocess.PIPE, env=environment(self.machine),
        )  # fmt: skip
        *ssh, host = self._ssh  # without ssh: the door of this very machine
        alive = ["-o", "ServerAliveInterval=20"] if ssh else []
        called = subprocess.Popen(
            [*ssh, *alive, host, "create", name, *(["fresh"] if fresh else [])],
            stdin=from_serve, stdout=to_serve, stderr=subprocess.PIPE,
        )  # fmt: skip
        for end in (from_machine, to_serve, from_serve, to_machine):
            os.close(end)
        late = threading.Timer(_LONGEST, called.kill)
        late.start()
        told: dict[str, Any] = {}
        words = b""
        try:
            assert called.stderr  # noqa: S101 — it is PIPE
            for line in limited(called.stderr, self.machine, _SAID):
                try:
                    event = json.loads(line)
                except (ValueError, RecursionError):
                    words = line
                    continue
                if not isinstance(event, dict):
                    continue
                if isinstance(event.get("done"), dict):
                    told = event["done"]
                elif "error" in event:
                    words = str(event["error"]).encode()
                else:
                    say({"machine": self.machine, **event})
            code = called.wait()
        except TooMuchError as error:
            told, words, code = {}, error.message.encode(), 1
        finally:
            late.cancel()
            called.kill()
            called.wait()
            if called.stderr:
                called.stderr.close()
            try:
                complaint = served.communicate(timeout=60)[1]
            except subprocess.TimeoutExpired:
                served.kill()
                complaint = served.communicate()[1]
        if told and not code:
            return told, ""
        # The server's word first: a quota, a lock, a broken repository.
        said = last_line(words) or last_line(complaint) or f"exit code {code}"
        return told, f"cannot be reached: {said}" if code == 255 else said

    def _quota(self) -> int:
        """Octets that the repository may have: what it has, and what the disk can spare."""
        disk = os.statvfs(self._folder)
        spare = (disk.f_bavail - int(disk.f_blocks * _LEFT)) * disk.f_frsize
        return self.size() + max(0, spare)

    def size(self) -> int:
        """Octets that the repository takes."""
        return sum(it.stat().st_size for it in segments.segments(self.repository.path).values())

    def _config(self) -> str:
        return (self.repository.path / "config").read_text(errors="replace")

    def _judged(self, known: Known, name: str) -> tuple[Known, list[str]]:
        """What is known now, and what was wrong with what was written since: it is set aside then.

        `name` is the archive that was to be made. Raises MastioError when the repository cannot be read though
        nothing was written.
        """
        written = segments.new_segments(self.repository.path, known.good)
        wrong = segments.objections(written)
        if self._config() != known.config:
            wrong.append("the repository's key or settings were replaced")
        found: list[Archive] = []
        if not wrong:
            try:
                found = self.repository.archives()
            except MastioError as error:
                if not written:
                    raise
                wrong.append(f"the list of archives cannot be read any more ({error.message})")
            else:
                wrong += _unlike(known, found, name)
        if wrong:
            place = self._aside(known)
            known.refused = [*known.refused, *(f"{it} (in {place})" for it in wrong)][-20:]
            known.fresh = True
        else:
            self._take(known, found)
        self.keep(known)
        return known, wrong

    def _take(self, known: Known, found: Sequence[Archive]) -> None:
        known.archives = {it.id: it.name for it in found}
        known.good = segments.newest(self.repository.path)
        whole = [it.at for it in found if not it.name.endswith(".checkpoint")]
        known.newest = max(whole, default=0.0)

    def _aside(self, known: Known) -> str:
        """Sets the repository back to what is known to be good; where what was written lies then.

        Indexes are made anew from the segments when they are missing (borg's internals, "Indexes").
        """
        top = self._folder / "aside" / self.machine
        shutil.rmtree(top, ignore_errors=True)
        place = top / f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
        place.mkdir(mode=0o700, parents=True)
        path = self.repository.path
        later = segments.new_segments(path, known.good)
        later += [
            it for kind in ("hints", "index", "integrity") for it in path.glob(f"{kind}.*")
            if it.name.partition(".")[2].isdigit() and int(it.name.partition(".")[2]) > known.good
        ]  # fmt: skip
        for it in later:
            it.rename(place / it.name)
        if self._config() != known.config:
            (path / "config").rename(place / "config")
            put(path / "config", known.config)
        self.repository.forget()
        return str(place)

    def tidy(self, wanted: Any) -> None:
        """Prunes, unless something was refused that nobody has seen yet."""
        known, wrong = self._judged(self.known, "")
        if not wrong and not known.refused:
            self.repository.prune(wanted)
            self._take(known, self.repository.archives())
            self.keep(known)

    def checked(self, *, data: bool) -> str:
        """Reads all; what cannot be read, or nothing."""
        known = self.known
        try:
            known, wrong = self._judged(known, "")
            if wrong:
                return "; ".join(wrong)
            self.repository.check(data=data)
            known.damaged = ""
        except MastioError as error:
            known.damaged = error.message
        known.checked = time.time()
        self.keep(known)
        return known.damaged

    def seen(self) -> None:
        """An administrator has seen what was refused."""
        known = self.known
        known.refused = []
        self.keep(known)


def _unlike(known: Known, found: Sequence[Archive], name: str) -> Iterator[str]:
    """How the list of archives differs from the known one by more than the new archive."""
    now = {it.id: it.name for it in found}
    if gone := [it for key, it in known.archives.items() if now.get(key) != it]:
        yield f"{len(gone)} archives are missing, such as {gone[-1]}"
    for key, other in now.items():
        if key not in known.archives and not (name and other.startswith(name)):
            yield f"{other} is there, and nobody asked for it"
