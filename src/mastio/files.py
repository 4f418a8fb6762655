"""Files that are whole or not there."""

import os
from pathlib import Path


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
