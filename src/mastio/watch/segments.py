"""What a session wrote into a borg repository, read from its segment files: whether it only added.

An append-only repository takes deletions and replacements; they count from the next compaction on (borg-serve(1),
borg(1) "Append-only mode"). So what a machine's session wrote is read before anything else touches the repository:

    wrong = objections(new_segments(repository, good))

Only the manifest (the list of archives, object 0) may be replaced, and what this very session had added may go again
(checkpoints). Format: borg's internals, "Segments": magic, then entries of crc32, size, tag, and for objects their id.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

MAGIC = b"BORG_SEG"
MANIFEST = bytes(32)
_PUT, _DELETE, _COMMIT = 0, 1, 2
_HEADER = struct.Struct("<IIB")
_ID = 32
_LARGEST = 21 << 20
"""No object may be larger (borg's MAX_OBJECT_SIZE, 20 MiB)."""


def segments(repository: Path) -> dict[int, Path]:
    """The segment files there are, by number."""
    return {int(it.name): it for it in repository.glob("data/*/*") if it.name.isdigit()}


def newest(repository: Path) -> int:
    """The number of the last segment; -1 where there is none."""
    return max(segments(repository), default=-1)


def new_segments(repository: Path, good: int) -> list[Path]:
    """The segments after number `good`, in their order."""
    return [path for number, path in sorted(segments(repository).items()) if number > good]


def entries(path: Path) -> Iterator[tuple[int, bytes]]:
    """Tag and id of each entry; a last one that is not whole was never committed. Raises ValueError for what is no
    segment."""
    size_left = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            if size_left < len(MAGIC):
                return
            raise ValueError(f"{path.name} is no segment")
        size_left -= len(MAGIC)
        while size_left >= _HEADER.size:
            _, size, tag = _HEADER.unpack(file.read(_HEADER.size))
            if size > size_left:
                return
            if not _HEADER.size <= size <= _LARGEST or tag not in (_PUT, _DELETE, _COMMIT):
                raise ValueError(f"{path.name} makes no sense at {file.tell() - _HEADER.size}")
            yield tag, file.read(_ID) if tag != _COMMIT else b""
            read = _HEADER.size + (_ID if tag != _COMMIT else 0)
            file.seek(size - read, 1)
            size_left -= size


def objections(written: Iterable[Path]) -> list[str]:
    """What a session that may only add has done beside that, in words; [] when it only added."""
    added: set[bytes] = set()
    gone = 0
    for path in written:
        try:
            for tag, name in entries(path):
                if tag == _PUT:
                    added.add(name)
                elif tag == _DELETE and name != MANIFEST and name not in added:
                    gone += 1
        except (OSError, ValueError) as error:
            return [f"what was written cannot be read: {error}"]
    return [f"{gone} objects of older archives were deleted or replaced"] if gone else []
