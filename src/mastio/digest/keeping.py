"""Summaries and memory on disk: what was read is known by file and offset, and is read once.

    FOLDER/hours/2026-11-24T21.json   the summary of an hour, by when its lines arrived
    FOLDER/state.json                 how far each file was read, and what the readers remember
    FOLDER/pending.json               one step on its way into the two: it is finished after a crash

A step counts when `pending.json` has its name; each hour says which step it had last, so nothing counts twice.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mastio.digest import ahead
from mastio.digest.lines import Reader
from mastio.digest.memory import Memory
from mastio.digest.origins import Origins
from mastio.digest.summary import Summary, from_plain
from mastio.digest.tally import Tally
from mastio.files import put

DAYS = 100
"""For so long summaries are kept."""
BLOCK = 1 << 17
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

    def advance(
        self,
        logs: Path,
        scans: Sequence[tuple[float, float]] = (),
        origins: Origins | None = None,
        *,
        workers: int = 1,
        piece: int = ahead.PIECE,
    ) -> int:
        """Reads what the files below `logs` (`<machine>/<day>.log`) have more than the last time; how many
        lines that were. `scans` is when watch itself scanned, in seconds since the epoch; `origins` is what addresses
        count as. What is long is read by so many processes, in pieces of so many octets.
        """
        with self._alone():
            self._finish()
            state = self._state()
            memory = Memory(state.get("memory"))
            memory.scans = tuple(scans)
            memory.origins = origins or memory.origins
            offsets: dict[str, list[int]] = state.get("files", {})
            step: int = state.get("step", 0)
            lines = read = 0
            present: dict[str, list[int]] = {}
            tallies: dict[str, Tally] = {}

            def put_down() -> int:
                memory.since = memory.since or min(tallies)
                files = {**offsets, **present}
                self._put({"step": step + 1, "files": files, "memory": memory.plain()}, tallies)
                tallies.clear()
                return step + 1

            todo = []
            for path in sorted(logs.glob("*/*.log")):
                name, status = _name(path), path.stat()
                inode, offset = offsets.get(name, (status.st_ino, 0))
                if inode != status.st_ino or status.st_size < offset:
                    # Nothing on watch shortens a log: what had been read is not read again.
                    tally = tallies.setdefault(_now_hour(), Tally())
                    tally.counts["trouble.a log file was changed"] += 1
                    tally.tops["trouble"][
                        f"{name}: had {offset} bytes, has {status.st_size}".encode()
                    ] += 1
                    offset = min(offset, status.st_size)
                present[name] = [status.st_ino, offset]
                todo.append((path, offset, status.st_size))
            # Long ones last, which are read in pieces: so nobody waits for one who still reads.
            todo.sort(key=lambda it: it[2] - it[1])
            for path, number, end in _all(todo, memory, tallies, workers, piece):
                place = present[_name(path)]
                lines, read, place[1] = lines + number, read + end - place[1], end
                if read >= _STEP:
                    step, read = put_down(), 0
            if tallies:
                step = put_down()
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


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _all(
    todo: Sequence[tuple[Path, int, int]],
    memory: Memory,
    tallies: dict[str, Tally],
    workers: int,
    piece: int,
) -> Iterator[tuple[Path, int, int]]:
    """Reads files from one offset to another, in order; each time the file, the number of lines, and the offset of
    what was not read. Much is read by several processes.
    """
    if workers > 1 and sum(end - start for _, start, end in todo) > piece:
        for path, part in ahead.pieces_of(todo, blocks, memory.origins, workers, piece):
            ahead.take(Reader(path.parent.name, memory, tallies), part)
            yield path, part.lines, part.end
        return
    for path, start, end in todo:
        reader = Reader(path.parent.name, memory, tallies)
        for number, offset in blocks(reader, path, start, end):
            yield path, number, offset


def blocks(reader: Reader, path: Path, offset: int, until: int) -> Iterator[tuple[int, int]]:
    """Reads a file from one offset to another; after each block the number of its lines, and the
    offset of what was not read: a line that is not ended yet is read when it is.
    """
    size = BLOCK
    with path.open("rb", buffering=0) as file:
        # What was cut off is read once more: that is less than to put it before all that follows.
        while block := os.pread(file.fileno(), min(size, until - offset), offset):
            lines = block.split(b"\n")
            rest = lines.pop()
            if not lines and len(block) > _LONGEST:
                lines, rest = [rest], b""
            if lines:
                reader.feed(lines)
                offset += len(block) - len(rest)
                size = BLOCK
                yield len(lines), offset
            elif offset + len(block) < until:
                size *= 2
            else:
                break


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
