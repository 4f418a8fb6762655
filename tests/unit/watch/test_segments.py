"""What a session wrote, read from segment files as borg writes them."""

import struct
from pathlib import Path
from zlib import crc32

import pytest

from mastio.watch import segments

OLD, NEW, OTHER = (bytes([n]) * 32 for n in (1, 2, 3))


def entry(tag: int, name: bytes = b"", data: bytes = b"") -> bytes:
    body = struct.pack("<IB", 9 + len(name) + len(data), tag) + name + data
    return struct.pack("<I", crc32(body)) + body


def put(name: bytes, data: bytes = b"x" * 100) -> bytes:
    return entry(0, name, data)


def delete(name: bytes) -> bytes:
    return entry(1, name)


COMMIT = entry(2)


def written(folder: Path, *parts: bytes, magic: bytes = segments.MAGIC) -> list[Path]:
    path = folder / "7"
    path.write_bytes(magic + b"".join(parts))
    return [path]


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (put(NEW), put(OTHER, b""), COMMIT),
        (
            put(NEW),
            delete(segments.MANIFEST),
            put(segments.MANIFEST),
            COMMIT,
        ),  # the list of archives
        (put(NEW), COMMIT, delete(NEW), COMMIT),  # a checkpoint of its own
        (put(NEW), COMMIT, put(OTHER)[:60]),  # cut off: never committed
    ],
    ids=["nothing", "adds", "manifest", "checkpoint", "cut"],
)
def test_who_only_adds_is_believed(tmp_path: Path, parts: tuple[bytes, ...]) -> None:
    assert segments.objections(written(tmp_path, *parts)) == []


@pytest.mark.parametrize(
    "parts",
    [
        (delete(OLD), COMMIT),
        (put(NEW), delete(OLD), put(OLD), COMMIT),  # replaced: borg deletes first
        (delete(NEW), put(NEW), COMMIT),  # the order counts
        (put(NEW), COMMIT, delete(OLD), delete(OTHER), COMMIT),
    ],
    ids=["deletes", "replaces", "deletes, then adds", "both"],
)
def test_who_deletes_or_replaces_is_not(tmp_path: Path, parts: tuple[bytes, ...]) -> None:
    (words,) = segments.objections(written(tmp_path, *parts))
    assert "of older archives were deleted or replaced" in words


@pytest.mark.parametrize(
    ("magic", "parts"),
    [
        (b"BORG_BAD", (put(NEW),)),
        (segments.MAGIC, (entry(9, NEW),)),
        (segments.MAGIC, (bytes(50),)),
    ],
)
def test_what_makes_no_sense_is_not(tmp_path: Path, magic: bytes, parts: tuple[bytes, ...]) -> None:
    (words,) = segments.objections(written(tmp_path, *parts, magic=magic))
    assert "cannot be read" in words


def test_segments_are_numbered_across_folders(tmp_path: Path) -> None:
    assert segments.newest(tmp_path) == -1
    for number in (3, 999, 1001):
        path = tmp_path / "data" / str(number // 1000) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(segments.MAGIC)
    assert segments.newest(tmp_path) == 1001
    assert [it.name for it in segments.new_segments(tmp_path, 3)] == ["999", "1001"]
