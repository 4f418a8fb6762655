"""Files as Outlook wraps them (winmail.dat), made here octet by octet: [MS-OXTNEF] 2.1.3, [MS-OXCDATA] 2.11.1.

wrapped(file(b"invoice.txt\\0", b"Good day."))
"""

import struct

MESSAGE, FILE = 1, 2
VERSION, CODE_PAGE, CLASS = 0x89006, 0x69007, 0x78008
BEGIN, TITLE, DATA, PROPERTIES = 0x69002, 0x18010, 0x6800F, 0x69005
LONG_NAME, BODY, NAMED = 0x3707, 0x1000, 0x8001
NUMBER, TEXT, UNICODE = 0x3, 0x1E, 0x1F


def wrapped(*files: bytes, code_page: int = 1252) -> bytes:
    """A message's properties, then what `file` has made."""
    return (
        struct.pack("<IH", 0x223E9F78, 1)
        + attribute(MESSAGE, VERSION, struct.pack("<I", 0x10000))
        + attribute(MESSAGE, CODE_PAGE, struct.pack("<II", code_page, 0))
        + attribute(MESSAGE, CLASS, b"IPM.Microsoft Mail.Note\0")
        + b"".join(files)
    )


def file(title: bytes, data: bytes, *properties: bytes) -> bytes:
    """One attached file."""
    described = struct.pack("<I", len(properties)) + b"".join(properties)
    return (
        attribute(FILE, BEGIN, bytes(14))
        + attribute(FILE, TITLE, title)
        + attribute(FILE, DATA, data)
        + (attribute(FILE, PROPERTIES, described) if properties else b"")
    )


def attribute(level: int, tag: int, value: bytes) -> bytes:
    return (
        struct.pack("<BII", level, tag, len(value)) + value + struct.pack("<H", sum(value) % 2**16)
    )


def number(identity: int, value: int) -> bytes:
    return struct.pack("<HHI", NUMBER, identity, value)


def text(identity: int, value: bytes, *, sort: int = TEXT, filling: bytes = bytes(3)) -> bytes:
    """A property of one value, filled up to a multiple of four."""
    return struct.pack("<HHII", sort, identity, 1, len(value)) + value + filling[: -len(value) % 4]


def named(identity: int, value: bytes) -> bytes:
    """A property that is another one by its number in a set of names."""
    return struct.pack("<HH16sIIII", TEXT, NAMED, bytes(16), 0, identity, 1, len(value)) + (
        value + bytes(-len(value) % 4)
    )
