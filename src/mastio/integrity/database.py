"""AIDE's database, which is lines of text: read, compared, and brought up to date for named paths alone. Pure.

    @@begin_db
    @@db_spec name lname perm uid gid inode attr acl sha256 xattrs capabilities
    /bin usr/bin 120777 0 0 1584188 34359738399 0 0 0 0
    …
    @@end_db

Of a row those columns count that say what a file *is*: not its inode, and not `attr`, which says how it was
measured. Names and links' targets are written as in URLs.
"""

import base64
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from mastio.integrity.difference import Difference, Kind

COLUMNS = ("lname", "perm", "uid", "gid", "acl", "sha256", "xattrs", "capabilities")
"""What is kept of a row, in this order."""
_NOTHING = "0"
_UNITS = re.compile(r"/(?:etc|usr/lib|usr/local/lib|run)/systemd/(?:system|user)/[^/]+(?:/[^/]+)?")
_KEYS = re.compile(r"/authorized_keys2?$|^/etc/ssh/authorized_keys\.d/")


@dataclass(frozen=True, slots=True)
class Row:
    """One path, in AIDE's own words."""

    lname: str
    perm: str
    uid: str
    gid: str
    acl: str
    sha256: str
    xattrs: str
    capabilities: str

    @property
    def mode(self) -> int:
        """As stat(2) has it, kind of file and all."""
        return int(self.perm, 8)

    @property
    def target(self) -> str:
        """Where a link leads."""
        return "" if self.lname == _NOTHING else unquote(self.lname)

    @property
    def digest(self) -> str:
        """SHA-256 of the content in hex; empty for what has none."""
        return "" if self.sha256 == _NOTHING else base64.b64decode(self.sha256).hex()

    @property
    def kind(self) -> str:
        """file, directory, link or device."""
        tests = (("file", stat.S_ISREG), ("directory", stat.S_ISDIR), ("link", stat.S_ISLNK))
        return next((word for word, test in tests if test(self.mode)), "device")

    @property
    def grants(self) -> bool:
        """Whether it lends its owner's or group's power, or capabilities, to whoever runs it."""
        bits = self.mode & (stat.S_ISUID | stat.S_ISGID)
        return stat.S_ISREG(self.mode) and (bool(bits) or self.capable)

    @property
    def capable(self) -> bool:
        """Whether it has capabilities (capabilities(7)): AIDE writes `0` for none."""
        return self.capabilities not in ("", "0")


Database = Mapping[str, Row]
"""Path → what stands there."""


def parse(text: str) -> dict[str, Row]:
    """What AIDE (or `render`) wrote; ValueError when it is not whole."""
    lines = text.rstrip("\n").split("\n")
    head = next((at for at, line in enumerate(lines) if line.startswith("@@db_spec ")), None)
    if head is None or lines[-1].strip() != "@@end_db":
        raise ValueError("not a whole AIDE database")
    names = lines[head].split()[1:]
    try:
        name = names.index("name")
        places = [names.index(it) if it in names else None for it in COLUMNS]
    except ValueError:
        raise ValueError("an AIDE database without names") from None
    found: dict[str, Row] = {}
    for line in lines[head + 1 : -1]:
        if line and not line.startswith("#"):
            fields = line.split(" ")
            if len(fields) != len(names):
                raise ValueError(f"not a row of an AIDE database: {line[:80]}")
            path = unquote(fields[name], errors="backslashreplace")
            found[path] = Row(*(_NOTHING if at is None else fields[at] for at in places))
    return found


def render(database: Database) -> str:
    """As `parse` reads it, the same text for the same database."""
    lines = ["@@begin_db", f"@@db_spec name {' '.join(COLUMNS)}"]
    for path, row in sorted(database.items()):
        fields = (getattr(row, it) for it in COLUMNS)
        lines.append(f"{_quoted(path)} {' '.join(fields)}")
    return "\n".join((*lines, "@@end_db", ""))


def _quoted(path: str) -> str:
    return "".join(
        it if it.isprintable() and it not in " %" else "".join(f"%{b:02X}" for b in it.encode())
        for it in path
    )


def merge(old: Database, new: Database, paths: Collection[str]) -> dict[str, Row]:
    """`old`, but as in `new` for `paths`: a row is taken over, added or left out. Nothing else is."""
    merged = dict(old)
    for path in paths:
        if path in new:
            merged[path] = new[path]
        else:
            merged.pop(path, None)
    return merged


def compare(old: Database, new: Database) -> tuple[Difference, ...]:
    """What is not as it was, by path."""
    return tuple(
        difference
        for path in sorted(old.keys() | new.keys())
        if (difference := _difference(path, old.get(path), new.get(path)))
    )


def _difference(path: str, old: Row | None, new: Row | None) -> Difference | None:
    if old is None and new is None:
        return None
    if new is None:
        return Difference(path, Kind.REMOVED, f"the {old.kind if old else 'file'} is not there")
    words = _new(new) if old is None else "; ".join(_changes(old, new))
    if not words:
        return None
    if new.grants and not (old and old.grants):
        return Difference(path, Kind.SUID, words)
    if old is None and _UNITS.fullmatch(path) and new.kind != "directory":
        return Difference(path, Kind.UNIT, words)
    if _KEYS.search(path) and new.kind == "file":
        return Difference(path, Kind.KEY, words)
    return Difference(path, Kind.ADDED if old is None else Kind.CHANGED, words)


def _new(row: Row) -> str:
    if row.kind == "link":
        return f"a link to {row.target}"
    more = ", with capabilities" if row.capable else ""
    return f"a {row.kind} of {row.uid}:{row.gid}, mode {stat.S_IMODE(row.mode):04o}{more}"


def _changes(old: Row, new: Row) -> Iterator[str]:
    if old.kind != new.kind:
        yield f"was a {old.kind}, is {_new(new)}"
        return
    if old.sha256 != new.sha256:
        yield "content"
    if old.lname != new.lname:
        yield f"link to {old.target} → {new.target}"
    modes = [stat.S_IMODE(it.mode) for it in (old, new)]
    if modes[0] != modes[1]:
        yield f"mode {modes[0]:04o} → {modes[1]:04o}"
    if (old.uid, old.gid) != (new.uid, new.gid):
        yield f"owner {old.uid}:{old.gid} → {new.uid}:{new.gid}"
    # The short form of an access list is the mode once more (acl(5)).
    if old.acl != new.acl and modes[0] == modes[1]:
        yield "access list"
    if old.xattrs != new.xattrs:
        yield "extended attributes"
    if old.capabilities != new.capabilities:
        yield "capabilities"
