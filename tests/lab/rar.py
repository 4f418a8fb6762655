"""RAR archives, made here octet by octet: no free program makes one. Files in them are stored as they are.

`five` is RAR 5 (rarlab.com/technote.htm), `four` what was before it (unrar's headers.hpp). `locked` says what is
behind a password: nothing, the file alone, or its name as well (`rar -hp`); no password opens what lies there.
"""

import struct
from enum import Enum, auto
from zlib import crc32

_RANDOM = bytes(range(160, 192))
"""In the place of salts and of what is encrypted."""


class Locked(Enum):
    """What a password hides."""

    NOTHING = auto()
    FILE = auto()
    NAME = auto()


def five(name: str, data: bytes, locked: Locked = Locked.NOTHING) -> bytes:
    """An archive of RAR 5 that holds one file."""
    start = b"Rar!\x1a\x07\x01\x00"
    if locked is Locked.NAME:
        return start + _block(4, 0, b"\0\0\x0f" + _RANDOM[:16]) + _RANDOM + data
    extra = b""
    if locked is Locked.FILE:
        extra = _sized(b"\x01\0\0\x0f" + _RANDOM)
    flags = 3 if extra else 2
    path = name.encode()
    sizes = (_number(len(extra)) if extra else b"") + _number(len(data))
    what = b"\x04" + _number(len(data)) + b"\x20" + struct.pack("<I", crc32(data)) + b"\0\x01"
    file = _block(2, flags, sizes + what + _sized(path) + extra)
    return start + _block(1, 0, b"\0") + file + data + _block(5, 0, b"\0")


def four(name: str, data: bytes, locked: Locked = Locked.NOTHING) -> bytes:
    """An archive of RAR before 5 that holds one file."""
    start = b"Rar!\x1a\x07\0" + _old(0x73, 0x80 if locked is Locked.NAME else 0, bytes(6))
    if locked is Locked.NAME:
        return start + _RANDOM + data
    path, size = name.encode(), len(data)
    fields = (size, size, 3, crc32(data), 0x5A210000, 20, 0x30, len(path), 0o100644)
    file = struct.pack("<IIBIIBBHI", *fields) + path
    return (
        start
        + _old(0x74, 0x8004 if locked is Locked.FILE else 0x8000, file)
        + data
        + _old(0x7B, 0x4000)
    )


def _number(value: int) -> bytes:
    octets = b""
    while value > 0x7F:
        octets += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return octets + bytes((value,))


def _sized(data: bytes) -> bytes:
    return _number(len(data)) + data


def _block(sort: int, flags: int, data: bytes) -> bytes:
    header = _sized(_number(sort) + _number(flags) + data)
    return struct.pack("<I", crc32(header)) + header


def _old(sort: int, flags: int, data: bytes = b"") -> bytes:
    header = struct.pack("<BHH", sort, flags, 7 + len(data)) + data
    return struct.pack("<H", crc32(header) & 0xFFFF) + header
