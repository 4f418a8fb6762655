"""Files that are whole or not there, and files that say who is at work."""

import fcntl
import os
import time
from pathlib import Path
from typing import IO, Any


def put(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Replaces a file at once; after a crash there is the old one or the new one (rename(2), fsync(2)).

    A hidden file beside it is the new one while it is written. Raises OSError.
    """
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    making = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    making.rename(path)


def hold(file: IO[Any], patience: float = 0.0) -> None:
    """Locks an open file for as long as it is open (flock(2)); BlockingIOError when somebody else keeps it.

    The kernel lets go when the holder ends, however it ends: there are no stale locks. But what was killed between
    fork(2) and execve(2) leaves a child that holds its locks for a moment: `patience`, in seconds.
    """
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def current(file: IO[Any], path: Path) -> bool:
    """Whether an open file is still what `path` names: not replaced or deleted while its lock was waited for."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
