"""Measures the logs on watch against the seals there: what is on disk, and what each sealed stretch hashes to.

Sent there; standard library only, and of watch nothing is asked but its disk. `PAYLOAD` is JSON: `folder`,
`state` (where the chain is) and `since` (a day; files of earlier days are not read). Prints JSON, one a line:
`{"first": …}`, each seal as `{"seal": "…"}`, each file as `{"file": …, "size": …, …}`. What a file holds is
streamed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

BLOCK = 1 << 20
NAME = re.compile(r"(\d{4}-\d\d-\d\d)\.log(\.gz)?")


def over(day: str) -> float:
    """When a day ends here, in seconds since the epoch."""
    year, month, number = (int(it) for it in day.split("-"))
    return time.mktime((year, month, number + 1, 0, 0, 0, 0, 0, -1))


def hashed(
    file: BinaryIO, stretches: list[tuple[int, int]]
) -> tuple[int, list[tuple[int, int, str]]]:
    """A file's size, and the hash of each stretch (offset, length) that is there whole; they do not overlap."""
    at, found = 0, []

    def read(length: int, digest: Any = None) -> int:
        nonlocal at
        left = length
        while left:
            data = file.read(min(BLOCK, left))
            if not data:
                break
            if digest:
                digest.update(data)
            left -= len(data)
        at += length - left
        return length - left

    for offset, length in sorted(stretches):
        if offset < at or read(offset - at) < offset - at:
            continue
        digest = hashlib.sha256()
        if read(length, digest) == length:
            found.append((offset, length, digest.hexdigest()))
    while read(BLOCK):
        pass
    return at, found


def measured(logs: Path, file: str, stretches: list[tuple[int, int]]) -> dict[str, Any] | None:
    """One file, packed or not; None when it is not there, ValueError words when it cannot be read."""
    plain, packed = logs / f"{file}.log", logs / f"{file}.log.gz"
    try:
        if packed.exists():
            with gzip.open(packed, "rb") as one:
                size, found = hashed(one, stretches)  # type: ignore[arg-type]
        else:
            with plain.open("rb") as one:
                size, found = hashed(one, stretches)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, zlib.error):
        # A packed file that is no such thing any more: nothing of it is there.
        size, found = 0, []
    beside = plain.stat().st_size if packed.exists() and plain.exists() else 0
    return {"file": file, "size": size, "over": over(file.rpartition("/")[2]),
            "packed": packed.exists(), "segments": found, "beside": beside}  # fmt: skip


def said(logs: Path, state: Path, since: str = "") -> Iterator[str]:
    """It, line by line. Raises OSError."""
    stretches: dict[str, list[tuple[int, int]]] = {}
    try:
        yield json.dumps({"first": (state / "first").read_text().strip()})
        with (state / "chain").open() as chain:
            for line in chain:
                yield json.dumps({"seal": line.rstrip("\n")})
                try:
                    seal = json.loads(line)
                    for file, offset, length, _ in seal["segments"]:
                        stretches.setdefault(file, []).append((offset, length))
                    for file in seal["removed"]:
                        stretches.pop(file, None)
                except (ValueError, KeyError, TypeError):
                    continue
    except FileNotFoundError:
        pass
    files = {
        f"{path.parent.name}/{match[1]}"
        for path in logs.glob("*/*")
        if (match := NAME.fullmatch(path.name))
    }
    for file in sorted(files | stretches.keys()):
        if file.rpartition("/")[2] >= since:
            one = measured(logs, file, stretches.get(file, []))
            if one:
                yield json.dumps(one)


if __name__ == "__main__":
    ASKED = json.loads(globals()["PAYLOAD"])
    for text in said(Path(ASKED["folder"]), Path(ASKED["state"]), ASKED["since"]):
        print(text, flush=True)
