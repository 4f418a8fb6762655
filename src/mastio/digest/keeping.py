"""Summaries and memory on disk: what was read is known by file and offset, and is read once.

    FOLDER/hours/2026-11-24T21.json   the summary of an hour, by when its lines arrived
    FOLDER/state.json                 how far each file was read, and what the readers remember
    FOLDER/pending.json               one step on its way into the two: it is finished after a crash

A step counts when `pending.json` has its name; each hour says which step it had last, so nothing counts twice.
"""

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mastio.digest.lines import Memory, Reader, Tally
from mastio.digest.summary import Summary, from_plain
from mastio.files import put

DAYS = 100
"""For so long summaries are kept."""
BLOCK = 1 << 18
"""Octets that are read at once: what a processor's cache holds with all lines cut; a MiB takes a third longer."""
_LONGEST = 1 << 22
"""A line that is longer is none."""
_STEP = 1 << 30
"""Octets of logs after which what was read is put down."""


class Keeping:
    """The folder with what was read; raises OSError and ValueError when it is not as it should be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hours = folder / "hours"
        self.hours.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def advance(self, logs: Path, scans: Sequence[tuple[float, float]] = ()) -> int:
        """Reads what the files below `logs` (`<machine>/<day>.log`) have more than the last time; how many
        lines that were. `scans` is when watch itself scanned, in seconds since the epoch.
        """
        with self._alone():
            self._finish()
            state = self._state()
            memory = Memory(state.get("memory"))
            memory.scans = tuple(scans)
            offsets: dict[str, list[int]] = state.get("files", {})
            step, lines = state.get("step", 0), 0
            present = {}
            for path in sorted(logs.glob("*/*.log")):
                name = f"{path.parent.name}/{path.name}"
                status = path.stat()
                inode, offset = offsets.get(name, (status.st_ino, 0))
                tallies: dict[str, Tally] = {}
                if inode != status.st_ino or status.st_size < offset:
                    # Nothing on watch shortens a log: what had been read is not read again.
                    tally = tallies.setdefault(_now_hour(), Tally())
                    tally.counts["trouble.a log file was changed"] += 1
                    tally.tops["trouble"][
                        f"{name}: had {offset} bytes, has {status.st_size}".encode()
                    ] += 1
                    offset = min(offset, status.st_size)
                while True:
                    start = offset
                    for number, end in blocks(path, start, tallies, memory):
                        lines, offset = lines + number, end
                    present[name] = [status.st_ino, offset]
                    if tallies:
                        step += 1
                        memory.since = memory.since or min(tallies)
                        files = {**offsets, **present}
                        self._put({"step": step, "files": files, "memory": memory.plain()}, tallies)
                        tallies = {}
                    if offset == start or offset >= path.stat().st_size or offset - start < _STEP:
                        break
            if set(offsets) - set(present):
                left = {"step": step, "files": present, "memory": memory.plain()}
                put(self.folder / "state.json", json.dumps(left))
            self._forget()
            return lines

    def _put(self, state: dict[str, Any], tallies: dict[str, Tally]) -> None:
        hours = {hour: tally.frozen().plain() for hour, tally in tallies.items()}
        put(self.folder / "pending.json", json.dumps({"state": state, "hours": hours}))
        self._finish()

    def _finish(self) -> None:
        path = self.folder / "pending.json"
        if not path.exists():
            return
        pending = json.loads(path.read_text())
        step = pending["state"]["step"]
        for hour, data in pending["hours"].items():
            before = self._read(f"hours/{hour}.json")
            if before and before["step"] >= step:
                continue
            summary = from_plain(data)
            if before:
                summary = from_plain(before["summary"])
                summary.merge(from_plain(data))
            put(self.hours / f"{hour}.json", json.dumps({"step": step, "summary": summary.plain()}))
        put(self.folder / "state.json", json.dumps(pending["state"]))
        path.unlink()

    def _state(self) -> dict[str, Any]:
        return self._read("state.json") or {}

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.folder / name).read_text())
        except FileNotFoundError:
            return None
        return found

    def _forget(self) -> None:
        known = sorted(self.hours.glob("*.json"))
        for path in known[: -24 * DAYS]:
            path.unlink()


def blocks(
    path: Path, offset: int, tallies: dict[str, Tally], memory: Memory
) -> Iterator[tuple[int, int]]:
    """Reads a file from an offset on, into `tallies`; after each block the number of its lines, and the
    offset of what was not read: a line that is not ended yet is read when it is.
    """
    reader, done = Reader(path.parent.name, memory, tallies), 0
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        rest = b""
        while done < _STEP and (more := file.read(BLOCK)):
            block = rest + more if rest else more
            end = block.rfind(b"\n") + 1
            if not end and len(block) > _LONGEST:
                end = len(block)
            rest = block[end:]
            if end:
                number = reader.feed(block[:end])
                offset += end
                done += end
                yield number, offset


def _now_hour() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H")


def load(folder: Path, since: str, until: str) -> dict[str, Summary]:
    """The summaries of the hours from `since` up to, not with, `until` (`2026-11-24T21`), the oldest first."""
    found = {}
    for path in sorted((folder / "hours").glob("*.json")):
        if since <= path.stem < until:
            found[path.stem] = from_plain(json.loads(path.read_text())["summary"])
    return found


def hours_of(day: str) -> tuple[str, str]:
    """The first hour of a day (`2026-11-24`) and of the next; raises ValueError when it is none."""
    start = datetime.fromisoformat(day)
    return f"{start:%Y-%m-%dT%H}", f"{start + timedelta(days=1):%Y-%m-%dT%H}"


def learning_since(folder: Path) -> str:
    """The first hour of which anything is known; empty when nothing is."""
    try:
        return str(json.loads((folder / "state.json").read_text())["memory"]["since"])
    except (FileNotFoundError, KeyError):
        return ""
