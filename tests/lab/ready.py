"""mastio with its modules loaded, ready to be called: a call costs a fork, not a start of Python.

Lab tests call mastio some thousands of times, and most of what a call costs is Python that loads modules. Here one
process loads them, once; each call is forked from it, a process of its own with its own arguments, environment, folder
and streams, and it ends as Python ends. That a cold start does the same is seen where guides are typed, and by
`mastio_begun`.

    Ready(folder, environment).run(["--site", "demo", "plan"], environment).returncode
    python -m tests.lab.ready 7        the process that is forked; calls come in by file descriptor 7
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from select import select
from typing import Any

_MOST = 1 << 20
"""No call is longer, in octets; what a command reads comes by its standard input."""
_LATER = (
    "mastio.site.parse",
    "mastio.secrets",
    "mastio.build",
    "mastio.lab.ground",
    "mastio.adopt.pins",
)
"""What commands load only once they are at work."""


class Ready:
    """The process that waits for calls, in `folder`, until it is closed or this one ends."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())], pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=folder, env=environment,
            )  # fmt: skip

    def run(
        self, argv: Sequence[str], environment: Mapping[str, str], stdin: str = "", timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Calls mastio and waits for its end, as subprocess.run does with text and captured output."""
        order = json.dumps({"argv": [*argv], "environment": {**environment}})
        given, said, complained, ended = (os.pipe() for _ in range(4))
        theirs = [given[0], said[1], complained[1], ended[1]]
        socket.send_fds(self._door, [order.encode()], theirs)
        for it in theirs:
            os.close(it)
        with ThreadPoolExecutor(3) as streams, os.fdopen(ended[0]) as end:
            streams.submit(_feed, given[1], stdin)
            output, complaints = (streams.submit(_read, it[0]) for it in (said, complained))
            late = not select([end], [], [], timeout)[0] if (pid := end.readline()) else False
            if late:
                os.kill(int(pid), signal.SIGKILL)
            code = end.readline()
        if late:
            raise subprocess.TimeoutExpired(
                argv, timeout or 0, output.result(), complaints.result()
            )
        assert code, f"who loads mastio's modules is gone: {self._process.poll()}"
        return subprocess.CompletedProcess(
            argv, os.waitstatus_to_exitcode(int(code)), output.result(), complaints.result()
        )

    def close(self) -> None:
        """No more calls."""
        self._door.close()
        self._process.wait()


def _feed(pipe: int, text: str) -> None:
    with suppress(BrokenPipeError), os.fdopen(pipe, "w") as file:
        file.write(text)


def _read(pipe: int) -> str:
    with os.fdopen(pipe) as file:
        return file.read()


def _await_call(door: socket.socket) -> None:
    """Returns in each process that has become a call, and in no other; tells how each ended."""
    running: dict[int, tuple[int, int]] = {}
    while True:
        for it in select([door, *running], [], [])[0]:
            if it in running:
                pid, end = running.pop(it)
                os.write(end, b"%d\n" % os.waitpid(pid, 0)[1])
                os.close(it)
                os.close(end)
                continue
            order, handles, *_ = socket.recv_fds(door, _MOST, 4)
            if not order:
                os._exit(0)
            *streams, end = handles
            pid = os.fork()
            if not pid:
                for other in (
                    door.detach(),
                    end,
                    *running,
                    *(tell for _, tell in running.values()),
                ):
                    os.close(other)
                _become(json.loads(order), streams)
                return
            for stream in streams:
                os.close(stream)
            os.write(end, b"%d\n" % pid)
            running[os.pidfd_open(pid)] = (pid, end)


def _become(order: dict[str, Any], streams: list[int]) -> None:
    """This process is the call from now on."""
    for number, it in enumerate(streams):
        os.dup2(it, number)
        os.close(it)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["mastio", *order["argv"]]


if __name__ == "__main__":
    from mastio.cli import main

    # Whoever interrupts the tests means this process too, which has nothing to say about it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for module in (*(f"mastio.cli.{it}" for it, _ in main.COMMANDS.values()), *_LATER):
        import_module(module)
    gc.freeze()  # who looks for garbage in a call would have each page copied
    _await_call(socket.socket(fileno=int(sys.argv[1])))
    main.main()
