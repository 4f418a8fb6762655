"""A long log read by several processes at once: each reads a piece of it, as if nothing had been before.

    for path, piece in pieces_of([(path, 0, size), …], …): …    the pieces come in order, as `take` needs them

What a line means hangs little on what came before: whose message it was, whether somebody is new. A reader in the
middle of a log puts that off, and it is done in order where all is known: a few lines of a hundred. The result is
the same as that of one process. Workers are forks that send what they have by a pipe; one that dies is an OSError.
"""

import gc
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mastio.digest.lines import HOUR, Later, Reader
from mastio.digest.memory import Memory
from mastio.digest.origins import Origins
from mastio.digest.shapes import Seen
from mastio.digest.tally import Tally

PIECE = 1 << 26
"""Octets: large enough that sending what it said costs little, small enough to be held several times."""
MOST = 4
"""So many workers hold less than the service may have (roles/digest)."""
_LOOK = 1 << 20
"""How far a line's beginning is looked for."""


@dataclass(slots=True)
class Piece:
    """What a piece said."""

    lines: int = 0
    end: int = 0
    """Offset of what was not read."""
    hour: str = ""
    """Of its last line."""
    hours: dict[str, Tally] = field(default_factory=dict)
    later: list[Later] = field(default_factory=list)
    live: dict[bytes, tuple[str, bytes, int]] = field(default_factory=dict)
    """Messages that began in it and have not ended."""


Read = Callable[[Reader, Path, int, int], Iterator[tuple[int, int]]]
"""Reads from one offset to another; number of lines and the offset after each block (`keeping.blocks`)."""


def workers() -> int:
    """How many this machine has processors for."""
    return min(MOST, len(os.sched_getaffinity(0)))


def bounds(path: Path, start: int, end: int, size: int) -> list[int]:
    """Where pieces of about that size begin and end: at lines that say their hour."""
    found = [start]
    with path.open("rb") as file:
        while (wanted := found[-1] + size) < end:
            file.seek(wanted)
            file.readline(_LOOK)
            at = file.tell()
            while (line := file.readline(_LOOK)) and not HOUR.match(line):
                at = file.tell()
            if not line or at >= end:
                break
            found.append(at)
    return [*found, end]


def pieces_of(
    todo: Iterable[tuple[Path, int, int]], read: Read, origins: Origins, workers: int, size: int
) -> Iterator[tuple[Path, Piece]]:
    """The pieces of files between two offsets, in order. Raises OSError when a worker has died."""
    waiting = deque(
        (path, *ends)
        for path, start, end in todo
        for ends in pairwise(bounds(path, start, end, size))
    )
    context = multiprocessing.get_context("fork")
    crew: list[tuple[Any, Connection]] = []
    busy: deque[tuple[Connection, Path]] = deque()

    def give(worker: Connection) -> None:
        piece = waiting.popleft()
        with suppress(ConnectionError):  # who has died does not answer either
            worker.send(piece)
        busy.append((worker, piece[0]))

    try:
        # One more: who has read his piece waits until he is heard.
        while waiting and len(crew) <= workers:
            ours, its = context.Pipe()
            theirs = [ours, *(pipe for _, pipe in crew)]
            process = context.Process(target=_work, args=(its, theirs, read, origins), daemon=True)
            process.start()
            its.close()
            crew.append((process, ours))
            give(ours)
        while busy:
            worker, path = busy.popleft()
            try:
                found: Piece = worker.recv()
            except (EOFError, ConnectionError):
                raise OSError(f"a process that read {path} has died") from None
            if waiting:
                give(worker)
            yield path, found
    finally:
        for process, ours in crew:
            process.kill()
            process.join()
            ours.close()


def take(reader: Reader, piece: Piece) -> None:
    """Adds what the next piece said to what a reader knows."""
    reader.catch_up(piece.later)
    for hour, tally in piece.hours.items():
        reader.hours.setdefault(hour, Tally()).absorb(tally)
        if hour != piece.hour:
            reader.past(hour)
    reader.live.update(piece.live)
    reader.bound()
    if piece.hour:
        reader.stands_at(piece.hour)


def _work(pipe: Connection, theirs: list[Connection], read: Read, origins: Origins) -> None:
    for other in theirs:
        other.close()  # else it would not end when the process that asks has died
    gc.disable()  # it looks at all names again and again
    while True:
        try:
            path, start, end = pipe.recv()
            pipe.send(_read(path, start, end, read, origins))
        except (EOFError, ConnectionError):
            return


def _read(path: Path, start: int, end: int, read: Read, origins: Origins) -> Piece:
    piece, memory = Piece(end=start), Memory()
    memory.origins = origins
    # It spares repetitions, no more: for what there is room is known where all is.
    memory.networks = Seen(PIECE, groups=PIECE)
    reader = Reader(path.parent.name, memory, piece.hours, ahead=True)
    for number, offset in read(reader, path, start, end):
        piece.lines, piece.end = piece.lines + number, offset
    piece.hour = memory.hours.get(reader.machine, "")
    piece.later, piece.live = reader.later, reader.live
    reader.end()
    return piece
