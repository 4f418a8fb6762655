"""How a program elsewhere is heard: no more of its words, and for no longer, than an honest one needs.

    done = hear(["ssh", "store", "cat"], b"words", who="store", seconds=60)      # Result(0, b"words", b"")

Whoever has broken into a machine can have it answer without end: all at once, to fill the memory of who asks, or a
little each minute, to keep them waiting. So each answer has a limit in octets and one in seconds, and what goes beyond
is cut off: the program here is killed, its pipes are closed, and so the one over there has nobody to write to.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from threading import Thread, Timer
from time import monotonic
from typing import IO

from mastio.errors import Exit, MastioError

MIB = 2**20
MOST = 32 * MIB
"""Octets of an answer, unless told otherwise: a list of 100,000 mailboxes is half of it."""
BULK = 1024 * MIB
"""Octets of what tells of every message, path or hour: some hundred each."""
DAY = 86_400.0
_LINE = MIB
"""Octets of a line of what goes by; a longer one comes in pieces."""
_PIECE = 65_536
"""Octets that are read, written, or kept of complaints at once."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left: exit code, output, complaints."""

    code: int
    stdout: bytes
    stderr: bytes


class TooMuchError(MastioError):
    """A machine said more than an honest one has to say."""

    def __init__(self, who: str, most: int) -> None:
        super().__init__(
            f"{who} answers with more than {most:,} octets: it was cut off",
            hint=f"nothing honest is so large: see from its console what it is that answers for {who}",
            code=Exit.UNAVAILABLE,
        )


def hear(
    argv: Sequence[str], stdin: bytes = b"", *, who: str, seconds: float, most: int = MOST
) -> Result:
    """Runs a local command line that speaks for the machine `who`, to its end.

    `most` counts output and complaints together, in octets. TooMuchError when it says more, subprocess.TimeoutExpired
    when it does not end in time; then it is killed. It has its own session: Ctrl-C here does not cut it short there.
    """
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:  # fmt: skip
        try:
            return _heard(process, stdin, who, seconds, most)
        except BaseException:
            process.kill()
            raise


def _heard(
    process: subprocess.Popen[bytes], stdin: bytes, who: str, seconds: float, most: int
) -> Result:
    assert process.stdin and process.stdout and process.stderr  # noqa: S101 — all are PIPE
    end, unsent = monotonic() + seconds, memoryview(stdin)
    said = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    with DefaultSelector() as ready:
        for pipe in (process.stdout, process.stderr):
            ready.register(pipe, EVENT_READ)
        os.set_blocking(process.stdin.fileno(), False)
        ready.register(process.stdin, EVENT_WRITE)
        while ready.get_map():
            if (left := end - monotonic()) <= 0:
                raise subprocess.TimeoutExpired(process.args, seconds)
            for key, events in ready.select(left):
                if events & EVENT_WRITE:
                    unsent = _sent(key.fd, unsent)
                    if not unsent:
                        ready.unregister(key.fileobj)
                        process.stdin.close()
                elif piece := os.read(key.fd, _PIECE):
                    said[key.fd] += piece
                    if sum(map(len, said.values())) > most:
                        raise TooMuchError(who, most)
                else:
                    ready.unregister(key.fileobj)
    code = process.wait(max(0.0, end - monotonic()))
    return Result(code, *map(bytes, said.values()))


def _sent(pipe: int, data: memoryview) -> memoryview:
    """What is left to be sent; a process that dies early breaks the pipe, and its exit code tells the story better."""
    try:
        return data[os.write(pipe, data[:_PIECE]) :]
    except BrokenPipeError:
        return data[:0]


def lines(process: subprocess.Popen[bytes], who: str, most: int | None) -> Iterator[bytes]:
    """What `process`, which speaks for the machine `who`, says on its standard output (a pipe), as it comes.

    `most` is how many octets all lines may have. When they have more it is killed and TooMuchError raised; MastioError
    when it does not end within a day. None is for what is not kept here: it goes by for as long as it takes.
    """
    assert process.stdout  # noqa: S101 — it is PIPE
    if most is None:
        while line := process.stdout.readline(_LINE):
            yield line
        return
    late = Timer(DAY, process.kill)
    late.daemon = True
    late.start()
    try:
        yield from limited(process.stdout, who, most)
        if late.finished.is_set():
            raise MastioError(f"{who} did not come to an end within a day", code=Exit.UNAVAILABLE)
    except TooMuchError:
        process.kill()
        raise
    finally:
        late.cancel()


def limited(pipe: IO[bytes], who: str, most: int) -> Iterator[bytes]:
    """The lines that come out of a pipe, as they come; TooMuchError when they have more than `most` octets."""
    left = most
    while line := pipe.readline(left + 1):
        left -= len(line)
        if left < 0:
            raise TooMuchError(who, most)
        yield line


class Complaints:
    """The end of what a process says on its standard error (a pipe), which is read all the time: the process never
    waits for that, however much it says.

    A thread has the pipe from then on and closes it: who leaves before the process ends is not held by it.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        pipe, process.stderr = process.stderr, None
        assert pipe  # noqa: S101 — it is PIPE
        self._end = b""
        self._thread = Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while piece := os.read(pipe.fileno(), _PIECE):
                self._end = (self._end + piece)[-_PIECE:]

    def end(self) -> bytes:
        """Once the process has ended. A child that it left behind may hold the pipe: that one is not waited for."""
        self._thread.join(1.0)
        return self._end
