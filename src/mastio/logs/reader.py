"""Finds log lines on watch and prints them as they are. Sent there; standard library and grep(1) only.

`PAYLOAD` is JSON: `folder`, `machines`, `since` (seconds since the epoch) and either

- `grep` (each must be in the line) and `follow`: lines in the order of their arrival, all machines merged; or
- `trace`: an address, a message id or a queue id. Then all lines of the messages that it names, found in
  rounds: what a line tells of further ids is looked for in the next one, until nothing new turns up. `most` is
  how many messages an address may name, the newest first; `own` are the site's addresses.

Memory does not grow with the logs: files are streamed, `trace` keeps the lines that it prints. It ends when
its input does: whoever asked has gone.
"""

from __future__ import annotations

import gzip
import heapq
import json
import os
import re
import select
import subprocess
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any, BinaryIO

BLOCK = 1 << 16
PAUSE = 0.3
"""Seconds between two looks at files that are followed."""
_QUEUE = rb"([0-9A-Za-z]{10,20})"
_IDS = re.compile(
    rb" postfix/[^ ]*: %b: |queued as %b|qid: <%b>|notification: %b|"
    rb"(?:message-id=|write_log: id: |msgid=|\]; Message )(<[^<> ]+>)"
    % (_QUEUE, _QUEUE, _QUEUE, _QUEUE)
)
_CLIENT = re.compile(
    rb" (postfix/smtpd\[\d+\]): (?:[^ ]+ client=|NOQUEUE: (?:milter-)?reject: [A-Z-]+(?: [A-Z]+)? from )"
    rb"([^ ,]*\[[^\] ]+\])(:\d+)?"
)
_SERVER = re.compile(
    rb" postfix/smtp\[\d+\]: [^ ]+ to=.*?(?: relay=[^ ,\[]+|\(connect to [^ \[]+)\[([^\] ]+)\]:(\d+)"
)
_PASSAGE = re.compile(
    rb" ulogd\[\d+\]: mastio accept: .*? SRC=(\S+) DST=(\S+) .* SPT=(\d+) DPT=(\d+) "
)
"""What the firewall has let in, or out (mastio.nft)."""
_BEFORE = 60
"""Seconds between a connection and what is said in it at first."""
_ABROAD = 600
"""Seconds that a delivery may take (smtp(8), smtp_data_done_timeout)."""
_SLACK = 1
"""Seconds by which two machines' clocks may differ, and by which the firewall writes after it has acted."""
_BANNED = re.compile(rb" mastio-offences\[\d+\]: banned (\S+) for (\d+) seconds: ")
_RETRY = 5 * 3600
"""For so long after a ban a message may come late because of it: senders try again within hours (RFC 5321, 4.5.4.1)."""
_ROUNDS, _KEYS, _KNOWN = 6, 600, 20_000
_BYTES = {"LC_ALL": "C", "PATH": os.defpath}
"""grep looks for bytes."""


def moment(stamp: bytes) -> float | None:
    """Seconds since the epoch of an RFC 3339 time, as bytes; None when it is none."""
    try:
        return datetime.fromisoformat(stamp.decode()).timestamp()
    except (UnicodeDecodeError, ValueError):
        return None


def paths(folder: str, machine: str, since: float) -> list[str]:
    """A machine's files that may hold lines from `since` on, the oldest first."""
    # A day's name is local time: one day more does no harm.
    first = time.strftime("%Y-%m-%d", time.localtime(since - 86400))
    try:
        names = [it.name for it in Path(folder, machine).iterdir()]
    except OSError:
        return []
    days: dict[str, list[str]] = {}
    for name in names:
        if re.fullmatch(r"\d{4}-\d\d-\d\d\.log(\.gz)?", name) and name[:10] >= first:
            days.setdefault(name[:10], []).append(name)
    # What came after a day was packed stands beside it: .log.gz first.
    return [
        f"{folder}/{machine}/{name}"
        for day in sorted(days)
        for name in sorted(days[day], key=len, reverse=True)
    ]


def whole(path: str) -> Any:
    """A file's text, packed or not."""
    return gzip.open(path, "rb") if path.endswith(".gz") else Path(path).open("rb")


def skip(file: BinaryIO, size: int, since: float) -> None:
    """Goes near the first line from `since` on, by halving; the rest is left to the caller."""
    low, high = 0, size
    while high - low > BLOCK:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline()
        at = moment(file.readline().split(b" ", 1)[0])
        if at is None or at >= since:
            high = middle
        else:
            low = middle
    file.seek(low)
    if low:
        file.readline()


def lines(folder: str, machine: str, since: float, ends: dict[str, int]) -> Iterator[bytes]:
    """A machine's lines from `since` on; `ends` learns how far each file was read."""
    for path in paths(folder, machine, since):
        try:
            file = whole(path)
        except FileNotFoundError:
            continue
        with file:
            if not path.endswith(".gz"):
                skip(file, os.fstat(file.fileno()).st_size, since)
            late = False
            for line in undamaged(path, file):
                if not line.endswith(b"\n"):
                    break
                if not late:
                    at = moment(line.split(b" ", 1)[0])
                    late = at is not None and at >= since
                if late:
                    yield line
            if not path.endswith(".gz"):
                ends[path] = file.tell() - trailing(file)


def undamaged(path: str, file: BinaryIO) -> Iterator[bytes]:
    """A file's lines; of a packed one that somebody has changed those before the damage, which is told."""
    try:
        for line in file:  # noqa: UP028 — `yield from` would close the file with this
            yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        print(f"damaged {path}: {error}", file=sys.stderr)


def trailing(file: BinaryIO) -> int:
    """How long the unfinished line at the end of what was read is."""
    here = file.tell()
    back = min(here, BLOCK)
    file.seek(here - back)
    data = file.read(back)
    return len(data) - (data.rfind(b"\n") + 1)


def gone(seconds: float) -> bool:
    """Waits; whether the one who asked has gone meanwhile."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready) and not os.read(sys.stdin.fileno(), 1)


def shown(out: BinaryIO, line: bytes, words: list[bytes]) -> None:
    """Prints a line that has all the words."""
    if all(word in line for word in words):
        out.write(line)


def follow(
    out: BinaryIO, folder: str, machines: list[str], words: list[bytes], ends: dict[str, int]
) -> None:
    """Prints what is added, until the one who asked goes away."""
    while not gone(PAUSE):
        for machine in machines:
            for path in paths(folder, machine, time.time()):
                if path.endswith(".gz"):
                    continue
                with Path(path).open("rb") as file:
                    file.seek(ends.get(path, 0))
                    for line in file:
                        if not line.endswith(b"\n"):
                            break
                        ends[path] = ends.get(path, 0) + len(line)
                        shown(out, line, words)
        out.flush()


def found(keys: Iterable[bytes], files: list[str]) -> Iterator[bytes]:
    """The lines with one of the keys."""
    patterns = [part for key in keys for part in (b"-e", key)]
    for path in files:
        with whole_or_pipe(path) as text:
            search = subprocess.Popen(
                [b"grep", b"-haF", *patterns], stdin=text, stdout=subprocess.PIPE, env=_BYTES
            )
            with search:
                assert search.stdout  # noqa: S101 — it is PIPE
                yield from search.stdout


@contextmanager
def whole_or_pipe(path: str) -> Iterator[Any]:
    """A file's text as something that a process reads."""
    if not path.endswith(".gz"):
        with Path(path).open("rb") as file:
            yield file
        return
    with subprocess.Popen(["gzip", "-dc", "--", path], stdout=subprocess.PIPE) as unpack:
        yield unpack.stdout


def ids(line: bytes) -> set[bytes]:
    """The queue ids and message ids that a line tells of."""
    return {
        one for groups in _IDS.findall(line) for one in groups if one and one != b"notification"
    }


def seeds(what: bytes, files: list[str], most: int) -> tuple[set[bytes], list[bytes], int]:
    """The ids to begin with; lines that have none, as refusals before DATA; how many messages are left out."""
    loose: list[bytes] = []
    known: dict[bytes, bytes] = {}
    left = 0
    for line in found([what], files):
        told = ids(line)
        for name in told:
            known[name] = line.split(b" ", 3)[2]
        if not told and b" NOQUEUE: " in line:
            loose = [*loose[1 - most :], line]
        if len(known) > _KNOWN:
            left += thinned(known)
    if len(known) <= 4 * most:
        return set(known), loose, 0
    # Many: by message id, which leads to the queues; where there is none, the queues have to do.
    messages = [it for it in known if it.startswith(b"<")]
    names = sorted(messages or known, key=known.__getitem__)
    return set(names[-most:]), loose, left + max(0, len(names) - most)


def thinned(known: dict[bytes, bytes]) -> int:
    """Forgets the older half; how many messages that were."""
    old = sorted(known, key=known.__getitem__)[: len(known) // 2]
    for name in old:
        del known[name]
    return sum(it.startswith(b"<") for it in old)


def trace(out: BinaryIO, what: str, files: list[str], most: int, own: set[bytes]) -> None:
    """Prints every line of the messages that `what` names."""
    address = "@" in what and not what.startswith("<")
    key = what.encode()
    keys, loose, left = seeds(b"<%b>" % key if address else key, files, most)
    kept, asked = set(loose), set[bytes]()
    for _ in range(_ROUNDS):
        new = {it for it in keys if it not in asked}
        if not new:
            break
        asked |= new
        for line in found(sorted(new)[:_KEYS], files):
            if line not in kept:
                kept.add(line)
                keys |= ids(line)
    kept |= sessions(kept, files, own)
    for line in sorted(kept, key=lambda it: it.split(b" ", 3)[2]):
        out.write(line)
    if left:
        print(f"left out {left}", file=sys.stderr)


def banned(address: bytes) -> list[bytes]:
    """What a ban of a client may be called: by itself, or by its /64."""
    if b":" not in address:
        return [address + b"/32"]
    try:
        network = ip_network((address.decode(), 64), strict=False)
    except (UnicodeDecodeError, ValueError):
        return []
    return [address + b"/128", str(network).encode()]


def sessions(kept: set[bytes], files: list[str], own: set[bytes]) -> set[bytes]:
    """What was said of the clients before they gave their messages: by the firewall, by postscreen, about TLS, and that
    they were banned. And of servers outside: that the firewall let the gateway out to them."""
    clients: list[tuple[float, bytes, bytes, bytes]] = []
    servers: dict[tuple[bytes, bytes], list[float]] = {}
    for line in kept:
        at = moment(line.split(b" ", 3)[2]) or 0.0
        if match := _CLIENT.search(line):
            clients.append((at, match[1], match[2], match[3] or b""))
        elif (match := _SERVER.search(line)) and match[1] not in own:
            servers.setdefault((match[1], match[2]), []).append(at)
    keys = {b" DST=%b " % it for it, _ in servers}
    bans: dict[bytes, list[float]] = {}
    for when, _, host, port in clients:
        address = host[host.rindex(b"[") :]
        for name in banned(address[1:-1]):
            bans.setdefault(name, []).append(when)
        # Without a port (an older line) it is some connection of that client's.
        keys |= {b"PASS NEW " + address + port, b"PASS OLD " + address + port}
        keys.add(b"TLS connection established from " + host + port)
        if port:
            keys.add(b" SRC=%b " % address[1:-1])
    keys |= {b": banned %b for " % name for name in bans}
    if not keys:
        return set()
    chosen: set[bytes] = set()
    for line in found(sorted(keys)[:_KEYS], files):
        at = moment(line.split(b" ", 3)[2]) or 0.0
        if ban := _BANNED.search(line):
            if any(0 <= it - at < int(ban[2]) + _RETRY for it in bans.get(ban[1], ())):
                chosen.add(line)
            continue
        if passage := _PASSAGE.search(line):
            source, target, port, service = passage.groups()
            door = b"[%b]:%b" % (source, port)
            moments = [it for it, _, host, its in clients if (host + its).endswith(door)]
            if any(-_SLACK <= it - at < _BEFORE for it in moments) or any(
                -_SLACK <= it - at < _ABROAD for it in servers.get((target, service), ())
            ):
                chosen.add(line)
            continue
        screen = b" postfix/postscreen[" in line
        for when, who, host, port in clients:
            its = host[host.rindex(b"[") :] + port in line and (screen or b" %b: " % who in line)
            if its and 0 <= when - at < _BEFORE:
                chosen.add(line)
                break
    return chosen


def main(asked: dict[str, Any]) -> None:
    """Does what is asked."""
    out = sys.stdout.buffer
    folder, machines, since = asked["folder"], asked["machines"], asked["since"]
    if asked.get("trace"):
        files = [path for it in machines for path in paths(folder, it, since)]
        trace(
            out, asked["trace"], files, asked["most"], {it.encode() for it in asked.get("own", ())}
        )
        return
    words = [it.encode() for it in asked["grep"]]
    ends: dict[str, int] = {}
    streams = [lines(folder, it, since, ends) for it in machines]
    for line in heapq.merge(*streams, key=lambda it: it.split(b" ", 1)[0]):
        shown(out, line, words)
    out.flush()
    if asked["follow"]:
        follow(out, folder, machines, words, ends)


if __name__ == "__main__":
    try:
        main(json.loads(globals()["PAYLOAD"]))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
