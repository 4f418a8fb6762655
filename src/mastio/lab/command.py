"""Runs the box's own programs: argument lists in, output or one clear error out."""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from mastio.errors import MastioError
from mastio.transport import last_line


def run(
    argv: Sequence[str], stdin: str = "", *, what: str = "", env: Mapping[str, str] | None = None
) -> str:
    """Runs `argv` to its end and returns its output.

    Raises MastioError with the program's last words; `what` says what was being done, and the hint is
    the command line, ready to be pasted.
    """
    done = subprocess.run(
        list(argv), input=stdin, capture_output=True, text=True, check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
    )  # fmt: skip
    if done.returncode:
        words = last_line(done.stderr.encode()) or last_line(done.stdout.encode())
        raise MastioError(
            f"{what or argv[0]}: {words or f'exit code {done.returncode}'}",
            hint=f"the command was: {shlex.join(argv)}",
        )
    return done.stdout


def succeeds(argv: Sequence[str], timeout: float | None = None) -> bool:
    """Whether `argv` ends with exit code 0, within `timeout` seconds; its output is nobody's business."""
    try:
        done = subprocess.run(list(argv), capture_output=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def output(argv: Sequence[str], timeout: float) -> str:
    """What `argv` prints, whatever its exit code says; nothing when it takes longer than `timeout`."""
    try:
        return subprocess.run(
            list(argv), capture_output=True, text=True, check=False, timeout=timeout
        ).stdout
    except subprocess.TimeoutExpired:
        return ""
