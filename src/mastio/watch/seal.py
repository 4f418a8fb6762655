"""Seals the logs on watch (mastio.logs.chain), packs past days, and removes what is old.

In `state`: `chain` (one seal a line), `first` (the public key that begins it), `key` (the private key of the next
seal; each signs once), `lengths.json` (how far each file is sealed; made anew from the chain when it is behind).

Killed at any step, the next run goes on: the next key is on disk before the seal that names it, a seal that is
not whole is dropped, and a file is removed only after the seal that says so.
"""

import fcntl
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mastio.files import put
from mastio.logs import chain
from mastio.logs.chain import Seal, Segment
from mastio.logs.measure import BLOCK, NAME, over

_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Sealed:
    """What one run has done."""

    seal: Seal
    odd: tuple[str, ...]
    """What does not fit the seals before, in words; it is not sealed."""
    packed: tuple[str, ...]


def seal(logs: Path, state: Path, keep: int, now: float) -> Sealed:
    """One seal over what is new in `logs`; logs are kept for `keep` days. Raises OSError and ValueError."""
    state.mkdir(mode=0o700, exist_ok=True)
    with alone(state):
        key = _key(state)
        last, known = _known(state)
        segments, odd = _new(logs, known, last)
        # What is removed below is not sealed first: a chain that is new would name it missing for ever.
        segments = [it for it in segments if not _old(_day(it.file), now, keep)]
        old = tuple(sorted(it for it in known if _old(_day(it), now, keep)))
        following = Ed25519PrivateKey.generate()
        one = chain.signed(
            Seal(
                last.number + 1 if last else 1, now, last.digest if last else chain.START,
                tuple(segments), old, keep, _public(following),
            ),
            key,
        )  # fmt: skip
        _private(state / "key.next", following)
        _append(state / "chain", chain.record(one) + "\n")
        (state / "key.next").rename(state / "key")
        for it in segments:
            known[it.file] = it.offset + it.length
        for file in old:
            known.pop(file)
        put(
            state / "lengths.json",
            json.dumps({"digest": one.digest, "lengths": known}),
            0o644,
        )
        _remove(logs, now, keep)
        return Sealed(one, tuple(odd), tuple(_pack(logs, known, now)))


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Nothing is sealed, packed or removed meanwhile."""
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _key(state: Path) -> Ed25519PrivateKey:
    """The key of the next seal; a run that was killed is put right first."""
    path, chained = state / "key", state / "chain"
    if not path.exists() and not (state / "key.next").exists() and not chained.exists():
        first = Ed25519PrivateKey.generate()
        put(state / "first", _public(first) + "\n", 0o644)
        _private(path, first)
        chained.touch(mode=0o600)
    _whole(chained)
    last = _last(chained)
    if (coming := state / "key.next").exists():
        if last and _public(_load(coming)) == last.next:
            coming.rename(path)
        else:
            coming.unlink()
    key = _load(path)
    if _public(key) != (last.next if last else (state / "first").read_text().strip()):
        raise ValueError(f"{path} is not the key that the last seal names: nothing can be sealed")
    return key


def _whole(path: Path) -> None:
    """Cuts off a seal of which only a part was written."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        while size:
            start = max(0, size - BLOCK)
            file.seek(start)
            end = file.read(size - start).rfind(b"\n")
            if end >= 0:
                file.truncate(start + end + 1)
                return
            size = start
        file.truncate(0)


def _last(path: Path) -> Seal | None:
    """The newest seal."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        tail, start = b"", size
        while start and tail.count(b"\n") < 2:
            start = max(0, start - BLOCK)
            file.seek(start)
            tail = file.read(size - start)
    lines = tail.decode().splitlines()
    return chain.recall(lines[-1]) if lines else None


def _known(state: Path) -> tuple[Seal | None, dict[str, int]]:
    """The newest seal, and how far each file is sealed."""
    last = _last(state / "chain")
    if last is None:
        return None, {}
    try:
        noted = json.loads((state / "lengths.json").read_text())
        if noted["digest"] == last.digest:
            return last, dict(noted["lengths"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    with (state / "chain").open() as file:
        return last, chain.lengths(chain.recall(line) for line in file)


def _new(logs: Path, known: dict[str, int], last: Seal | None) -> tuple[list[Segment], list[str]]:
    """What was added, and what is otherwise than it should be."""
    segments, odd, there = [], [], set()
    for path in sorted(logs.glob("*/*")):
        match = NAME.fullmatch(path.name)
        if not match:
            continue
        file = f"{path.parent.name}/{match[1]}"
        there.add(file)
        if match[2]:
            continue
        size, sealed = path.stat().st_size, known.get(file, 0)
        if path.with_name(f"{path.name}.gz").exists():
            odd.append(f"{chain.place(file)}: lines were added after it was packed")
        elif size < sealed:
            odd.append(
                f"{chain.place(file)}: cut: {sealed - size} octets of what was sealed are missing"
            )
        elif size > sealed and last and last.at > over(match[1]) + chain.SLACK:
            odd.append(
                f"{chain.place(file)}: {size - sealed} octets were added after the day was over and sealed"
            )
        elif size > sealed:
            segments.append(
                Segment(file, sealed, size - sealed, _hash(path, sealed, size - sealed))
            )
    odd += [f"{chain.place(file)}: the file was removed" for file in sorted(known.keys() - there)]
    return segments, odd


def _hash(path: Path, offset: int, length: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(offset)
        while length and (data := file.read(min(BLOCK, length))):
            digest.update(data)
            length -= len(data)
    return digest.hexdigest()


def _old(day: str, now: float, keep: int) -> bool:
    """Whether a day's file has been kept for long enough."""
    return over(day) + keep * _DAY <= now


def _remove(logs: Path, now: float, keep: int) -> None:
    """Removes what is older than `keep` days; the seal that says so is written."""
    for path in logs.glob("*/*"):
        match = NAME.fullmatch(path.name)
        if match and _old(match[1], now, keep):
            path.unlink()


def _pack(logs: Path, known: dict[str, int], now: float) -> Iterator[str]:
    """Packs the days that are over and wholly sealed. The reader reads both."""
    for file, sealed in sorted(known.items()):
        path, packed = logs / f"{file}.log", logs / f"{file}.log.gz"
        if over(_day(file)) + chain.SLACK > now or packed.exists():
            continue
        if not path.exists() or path.stat().st_size != sealed:
            continue
        making = packed.with_name(f".{packed.name}.new")
        with path.open("rb") as source, gzip.open(making, "wb", 6) as target:
            shutil.copyfileobj(source, target, BLOCK)
        status = path.stat()
        os.chown(making, status.st_uid, status.st_gid)
        making.chmod(0o640)
        os.utime(making, (status.st_atime, status.st_mtime))
        _sync(making)
        making.rename(packed)
        path.unlink()
        yield file


def _day(file: str) -> str:
    return file.rpartition("/")[2]


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def _load(path: Path) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text()))


def _private(path: Path, key: Ed25519PrivateKey) -> None:
    put(path, key.private_bytes_raw().hex())


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
