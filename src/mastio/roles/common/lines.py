#!/usr/bin/python3 -IS
"""Sends again what was on its way to watch when rsyslog ended, and brings the state of its queue up to date.

    mastio-lines start      before rsyslog starts: has it send again what is to be, and mends its queue's state
    mastio-lines stop       before rsyslog stops: notes up to where watch has answered
    mastio-lines turn       rsyslog's own call, when its record has grown: a second file is begun

librelp holds lines that watch has not answered in memory alone, and a batch that rsyslog works on when it is stopped
is gone with them (docs/decisions/0032). So rsyslog writes each line into a record before it hands it on. This program
knows a place in the record up to which all is accounted for. What stands behind it when rsyslog starts, at most the
last `LINES`, is sent again: some of it for the second time, none of it never.

| file, in `SPOOL` | what |
|---|---|
| sent-to-WATCH, sent-to-WATCH.1 | the record, and the one before; RFC 5424, a line each |
| sent-to-WATCH.place | the inode of a record and an offset in it, octets |
| again-to-WATCH | what rsyslog sends again; it keeps in `imfile-state:INODE…` how far it has read |
| to-WATCH.NNNNNNNN, to-WATCH.qi | rsyslog's queue, and its state: how many lines, from where and up to where |

The place moves when rsyslog starts, since all before it is in the file of what is sent again, and when it stops with a
connection on which nothing is open: established, all octets arrived there, answers to what was sent last come back,
and so for a while. A connection that cannot be seen to be like that proves nothing, and the place stays.

rsyslog puts each line of its queue on the disk, but the state only once in `CHECKPOINT` steps and at its end: for each
line it took three quarters of rsyslog's time. After a kill, what was written since stands behind that end, and rsyslog
would write over it. So the state is made to say what is there. Lines read since are read again. Standard library only.
"""

import json
import os
import re
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

CONFIG, SPOOL = Path("/etc/mastio/lines.json"), Path("/var/spool/rsyslog")
WINDOW, BATCH = 32, 32
"""How many lines librelp may have sent that nobody has answered; how many rsyslog works on at once."""
LINES = 100
"""More than what may be open: both together."""
CHECKPOINT = 20
"""After how many steps rsyslog writes its queue's state: a line is put in, taken out and done with."""
LONGEST = 8096
"""Octets of a line that rsyslog takes, without its end; it sends no more of one in any case."""
SIZE = 2 << 20
"""Octets after which a second record is begun, as rsyslog is told; more than `LINES` of the longest."""
QUIET, TRIES = 0.2, 5
"""Seconds in which nothing may happen on a connection on which nothing is open; how often that is looked for."""
_LINE = re.compile(rb"<\d{1,3}>1 [^\x00\n]+\n")
_ESTABLISHED, _NOBODY = "01", "0"
_MESSAGE_ENDS = b"\n>End\n.\n"
"""Behind each message of the queue; in one there is no line break, rsyslog writes `#012`."""
_STATE = re.compile(
    rb"\+iQueueSize:2:\d+:(\d+):.*?\+iCurrFNum:2:\d+:(\d+):.*?\+iCurrOffs:2:\d+:(\d+):"
    rb".*?\+iCurrFNum:2:\d+:(\d+):.*?\+iCurrOffs:2:\d+:(\d+):",
    re.DOTALL,
)
"""Lines, then file and offset where rsyslog writes, and where it reads."""


def last(written: bytes) -> bytes:
    """The last `LINES` whole lines of a record, without what is none (a power cut leaves anything)."""
    whole = [it for it in re.findall(rb"[^\n]*\n", written) if _LINE.fullmatch(it)]
    return b"".join(it[:-1][:LONGEST] + b"\n" for it in whole[-LINES:])


def end(address: str, port: int) -> str:
    """The end of a connection, as the kernel writes it in /proc/net/tcp and tcp6: words in the machine's byte order."""
    packed = ip_address(address).packed
    words = (int.from_bytes(packed[it : it + 4], sys.byteorder) for it in range(0, len(packed), 4))
    return "".join(f"{it:08X}" for it in words) + f":{port:04X}"


def answers(connections: str, ends: Collection[str]) -> int:
    """How many octets of answers wait to be read on the connection to one of these ends; 0 when something is open.

    librelp reads answers just before it sends: when there are none after it has sent, nobody has answered.
    """
    found = 0
    for fields in map(str.split, connections.splitlines()):
        # What has no inode is nobody's any more: it was a former rsyslog's.
        if len(fields) > 9 and fields[2] in ends and fields[9] != _NOBODY:
            unarrived, _, unread = fields[4].partition(":")
            if fields[3] != _ESTABLISHED or int(unarrived, 16) or not int(unread, 16):
                return 0
            found += int(unread, 16)
    return found


Place = tuple[int, int]
"""The number of a file of the queue, and an offset in it."""


class Queue:
    """rsyslog's queue on disk of what goes to one watch machine (8.2504, queue.c: `qqueuePersist`)."""

    def __init__(self, watch: str) -> None:
        self.name = f"to-{watch}"
        self.state = SPOOL / f"{self.name}.qi"

    def file(self, number: int) -> Path:
        """One of its files."""
        return SPOOL / f"{self.name}.{number:08}"

    def sizes(self) -> dict[int, int]:
        """How large each of its files is, the oldest first."""
        found = SPOOL.glob(f"{self.name}.{'[0-9]' * 8}")
        return {int(it.suffix[1:]): it.stat().st_size for it in sorted(found)}

    def known(self) -> tuple[int, Place, Place] | None:
        """What the state says: how many lines, where it writes, where it reads."""
        found = _STATE.search(self.state.read_bytes()) if self.state.exists() else None
        if not found:
            return None
        count, *rest = map(int, found.groups())
        return count, (rest[0], rest[1]), (rest[2], rest[3])

    def behind(self, place: Place, last: int) -> int:
        """How many lines there are behind a place."""
        offsets = {place[0]: place[1]}
        return sum(
            self.file(it).read_bytes().count(_MESSAGE_ENDS, offsets.get(it, 0))
            for it in range(place[0], last + 1)
        )

    def cut(self, number: int) -> int:
        """Takes away what is no whole message at the end of a file; its size then."""
        content = self.file(number).read_bytes()
        found = content.rfind(_MESSAGE_ENDS)
        size = found + len(_MESSAGE_ENDS) if found >= 0 else 0
        if size < len(content):
            os.truncate(self.file(number), size)
        return size

    def mend(self) -> None:
        """Makes the state say up to where there are lines, and how many."""
        sizes, known = self.sizes(), self.known()
        if not sizes:
            self.state.unlink(missing_ok=True)
            return
        read = known[2] if known and known[2][0] in sizes else (min(sizes), 0)
        # rsyslog reads one file after the other: behind one that is missing, it would find none.
        last = next(it for it in range(read[0], max(sizes) + 1) if it + 1 not in sizes)
        if known and known[1:] == ((last, sizes[last]), read):
            return
        sizes[last] = self.cut(last)

        def there(place: Place) -> bool:
            return place[0] <= last and sizes.get(place[0], -1) >= place[1]

        if not there(read):
            read = (read[0], 0)
        count, written = known[:2] if known and known[2] == read and there(known[1]) else (0, read)
        count += self.behind(written, last)
        octets = sum(size for number, size in sizes.items() if number <= last)
        _replace(self.state, self.said(count, octets, (last, sizes[last]), read))

    def said(self, count: int, octets: int, written: Place, read: Place) -> bytes:
        """The state, as rsyslog writes it."""

        def values(fields: Mapping[str, int | str]) -> str:
            return "".join(
                f"+{name}:{1 if isinstance(it, str) else 2}:{len(str(it))}:{it}:\n"
                for name, it in fields.items()
            )

        def stream(place: Place, *, reads: bool) -> str:
            fields: dict[str, int | str] = {
                "iCurrFNum": place[0], "pszFName": self.name, "iMaxFiles": 10_000_000,
                "bDeleteOnClose": int(reads), "sType": 1, "tOperationsMode": 1 if reads else 2,
                "tOpenMode": 0o600, "iCurrOffs": place[1], "inode": 0,
                "strtOffs": place[1] if reads else 0, "bPrevWasNL": 0,
            }  # fmt: skip
            return f"<Obj:1:strm:1:\n{values(fields)}>End\n.\n"

        head = values({"iQueueSize": count, "tVars.disk.sizeOnDisk": octets})
        text = f"<OPB:1:qqueue:1:\n{head}>End\n.\n" + stream(written, reads=False)
        return (text + stream(read, reads=True)).encode()


class Record:
    """What rsyslog hands on to one watch machine."""

    def __init__(self, watch: str) -> None:
        self.now, self.former = SPOOL / f"sent-to-{watch}", SPOOL / f"sent-to-{watch}.1"
        self.place, self.again = SPOOL / f"sent-to-{watch}.place", SPOOL / f"again-to-{watch}"

    def size(self) -> tuple[int, int]:
        """The inode of the record and its size; zeros when there is none."""
        try:
            found = self.now.stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_size

    def account(self, place: tuple[int, int]) -> None:
        """Notes that all before this place is accounted for."""
        _replace(self.place, "{} {}\n".format(*place).encode())

    def known(self) -> tuple[int, int]:
        """The place that was noted; zeros when there is none."""
        try:
            inode, offset = map(int, self.place.read_text().split())
        except (FileNotFoundError, ValueError):
            return 0, 0
        return inode, offset

    def after(self, place: tuple[int, int]) -> bytes:
        """What was recorded after a place; of a place that is not known, all that is there."""
        found = b""
        for it in (self.former, self.now):
            with suppress(FileNotFoundError), it.open("rb") as file:
                about = os.fstat(file.fileno())
                here = about.st_ino == place[0] and about.st_size >= place[1]
                if here:
                    found = b""
                file.seek(max(place[1] if here else 0, about.st_size - SIZE))
                found += file.read(SIZE)
        return found

    def unread(self) -> bytes:
        """What was to be sent again and rsyslog has not read yet."""
        try:
            told, inode = self.again.read_bytes(), self.again.stat().st_ino
        except FileNotFoundError:
            return b""
        offsets = [0]
        for state in SPOOL.glob(f"imfile-state:{inode}*"):
            with suppress(ValueError, KeyError, TypeError):
                offsets.append(int(json.loads(state.read_text())["curr_offs"]))
        return told[max(offsets) :]

    def mend(self) -> None:
        """Ends a line that a power cut has cut off: the next is one of its own."""
        with suppress(OSError), self.now.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")

    def start(self) -> None:
        """Has what is not accounted for sent again."""
        self.mend()
        size = self.size()
        if lines := last(self.after(self.known())):
            told = self.again.stat().st_ino if self.again.exists() else 0
            _replace(self.again, last(self.unread()) + lines)
            for state in SPOOL.glob(f"imfile-state:{told}*"):
                state.unlink()
        elif not self.again.exists():
            _replace(self.again, b"")
        self.account(size)

    def turn(self) -> None:
        """Begins a second file."""
        if self.size()[1] < SIZE:
            return
        with suppress(FileNotFoundError):
            # What takes over its inode is another record.
            if self.former.stat().st_ino == self.known()[0]:
                self.place.unlink()
        self.now.replace(self.former)


def _replace(file: Path, content: bytes) -> None:
    making = file.with_name(f"{file.name}.making")
    making.write_bytes(content)
    making.chmod(0o600)
    making.replace(file)


def _connections() -> str:
    return "".join(Path(f"/proc/net/{it}").read_text() for it in ("tcp", "tcp6"))


def stop(record: Record, ends: Collection[str]) -> None:
    """Accounts for all that is recorded, if nothing is open."""
    for _ in range(TRIES):
        before = record.size(), answers(_connections(), ends)
        time.sleep(QUIET)
        if before[1] and before == (record.size(), answers(_connections(), ends)):
            return record.account(before[0])
    return None


def main(verb: str, config: Mapping[str, list[tuple[str, int]]]) -> None:
    """Does it for each watch machine: its name, and the addresses and ports that lead to it."""
    for watch, ways in config.items():
        record = Record(watch)
        if verb == "start":
            record.start()
        elif verb == "stop":
            stop(record, {end(address, port) for address, port in ways})
        else:
            record.turn()
    if (
        verb == "start"
    ):  # afterwards: it may take long, and rsyslog's files may be as nobody thought
        for watch in config:
            Queue(watch).mend()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(CONFIG.read_text()))
