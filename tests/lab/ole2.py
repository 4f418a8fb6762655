"""Documents of before 2007 (.doc, .xls): compound files, made here octet by octet, with a VBA project or without.

`document(macros=True)` has what a word processor writes when a document has a macro: a storage `Macros` with the
project's streams, whose source is compressed. See [MS-CFB] for the file, [MS-OVBA] 2.3.4.2 and 2.4.1 for the project.
"""

import struct
from dataclasses import dataclass
from typing import TypeAlias

SECTOR = 512
LEAST = 4096
"""Shorter streams would lie in a file within the file; ours are filled up to this."""
FREE, END, TABLE, NONE = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFF
STORAGE, STREAM, ROOT = 1, 2, 5
SOURCE = b'Attribute VB_Name = "Module1"\r\nSub AutoOpen()\r\nMsgBox "Good day"\r\nEnd Sub\r\n'

Tree: TypeAlias = "dict[str, bytes | Tree]"


def compressed(data: bytes) -> bytes:
    """A compressed container of one chunk in which nothing is a copy of anything."""
    tokens = b"".join(b"\0" + data[start : start + 8] for start in range(0, len(data), 8))
    return b"\x01" + struct.pack("<H", (len(tokens) - 1) | 0xB000) + tokens


def _record(number: int, data: bytes = b"") -> bytes:
    return struct.pack("<HI", number, len(data)) + data


def _directory() -> bytes:
    """The project's `dir` stream: one module, whose source begins with its stream."""
    long, short = struct.Struct("<I").pack, struct.Struct("<H").pack
    name, wide = b"Module1", "Module1".encode("utf-16-le")
    return b"".join((
        _record(0x01, long(1)), _record(0x02, long(0x409)), _record(0x14, long(0x409)),
        _record(0x03, short(1252)), _record(0x04, b"Project"),
        _record(0x05), _record(0x40), _record(0x06), _record(0x3D),
        _record(0x07, long(0)), _record(0x08, long(0)),
        struct.pack("<HIIH", 0x09, 4, 1, 1), _record(0x0C), _record(0x3C),
        _record(0x0F, short(1)), _record(0x13, short(0xFFFF)),
        _record(0x19, name), _record(0x47, wide), _record(0x1A, name), _record(0x32, wide),
        _record(0x1C), _record(0x48), _record(0x31, long(0)), _record(0x1E, long(0)),
        _record(0x2C, short(0xFFFF)), _record(0x21), _record(0x2B), _record(0x10),
    ))  # fmt: skip


def document(*, macros: bool, main: str = "WordDocument", storage: str = "Macros") -> bytes:
    """A document; its words are of no matter."""
    content: Tree = {main: b"\xec\xa5" + b"Good day. " * 500, "1Table": b"\0" * LEAST}
    if macros:
        content[storage] = {
            "VBA": {
                "dir": compressed(_directory()), "Module1": compressed(SOURCE),
                "_VBA_PROJECT": b"\xcc\x61\xff\xff\0\0\0",
            },
            "PROJECT": b'Module=Module1\r\nName="Project"\r\n',
        }  # fmt: skip
    return compound(content)


@dataclass
class _Entry:
    name: str
    sort: int
    data: bytes = b""
    left: int = NONE
    right: int = NONE
    child: int = NONE
    start: int = END

    def packed(self) -> bytes:
        wide = self.name.encode("utf-16-le")
        return (
            wide.ljust(64, b"\0")
            + struct.pack("<HBB3I", len(wide) + 2, self.sort, 1, self.left, self.right, self.child)
            + bytes(36)
            + struct.pack("<IQ", self.start, len(self.data))
        )


def compound(content: Tree) -> bytes:
    """A compound file, version 3, that holds these storages and streams."""
    entries = [_Entry("Root Entry", ROOT)]

    def placed(tree: Tree) -> int:
        """Each storage is a search tree of names; one that leans to the right is one too."""
        top = before = NONE
        for name in sorted(tree, key=lambda it: (len(it), it.upper())):
            inner, number = tree[name], len(entries)
            sort = STREAM if isinstance(inner, bytes) else STORAGE
            entries.append(_Entry(name, sort))
            if isinstance(inner, bytes):
                entries[number].data = inner.ljust(LEAST, b"\0")
            else:
                entries[number].child = placed(inner)
            if before == NONE:
                top = number
            else:
                entries[before].right = number
            before = number
        return top

    entries[0].child = placed(content)
    table, sectors = [TABLE], [b""]  # the first sector is for the table of all

    def written(data: bytes) -> int:
        start = len(sectors)
        for at in range(0, len(data), SECTOR):
            sectors.append(data[at : at + SECTOR].ljust(SECTOR, b"\0"))
            table.append(len(sectors))
        table[-1] = END
        return start

    for entry in entries:
        if entry.data:
            entry.start = written(entry.data)
    blank = _Entry("", 0).packed()
    listing = b"".join(it.packed() for it in entries)
    first = written(listing + blank * (-len(entries) % 4))
    assert len(table) <= SECTOR // 4, "more than one sector of table"
    sectors[0] = struct.pack("<128I", *table, *[FREE] * (SECTOR // 4 - len(table)))
    head = struct.pack(
        "<8s16x5H6xIIIIIIIII", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0x3E, 3, 0xFFFE, 9, 6,
        0, 1, first, 0, LEAST, END, 0, END, 0,
    )  # fmt: skip
    return head + struct.pack("<109I", 0, *[FREE] * 108) + b"".join(sectors)
