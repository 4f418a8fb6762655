"""What a machine knows about itself, read from /proc and /etc.

Each question is a Python of its own, and there are many: what only one needs, and is dear to load, it loads itself.
"""

from __future__ import annotations

import glob
import io
import os
import socket
import stat
import struct
import time

_TAIL = 1_000_000
"""How much of a log is read back: a scan leaves many lines behind the one that is looked for."""
_LOOKS = 3
_REPLY = 10.0
"""Seconds for which a client waits at most for a reply to one packet: resolver(5) and dnspython take less."""


def listeners(declared: list[list[object]]) -> list[list[object]]:
    """`[transport, address, port, name, files]` of all that listens beyond loopback: what the program calls itself, and
    the files that those run who have the socket, or one of several at the same place; "" for one that nobody has.

    The socket of a UDP client looks like a listener's when it is not tied to its server (connect(2)), but it goes when
    its reply comes, or does not. So one counts when it is there in two looks; and UDP that is not among the
    `declared` (transport, address, port) only when it is there until nobody would wait for a reply any longer.
    """
    first = _sockets()
    time.sleep(1.0)
    there = {it for it in first.keys() & _sockets().keys() if not _inward(it[1])}
    known = {(str(kind), str(address), int(str(port))) for kind, address, port in declared}
    end = time.monotonic() + _REPLY
    while any(it[0] == "udp" for it in there - known) and time.monotonic() < end:
        time.sleep(1.0)
        there &= _sockets().keys()
    return sorted([*it, *found] for it, found in _held(there).items())


def _held(sockets: set[tuple[str, str, int]]) -> dict[tuple[str, str, int], tuple[str, list[str]]]:
    """Who has them: the name of one, and the files of all. One that is gone is left out."""
    found: dict[tuple[str, str, int], tuple[str, list[str]]] = {}
    for _ in range(_LOOKS):
        now, found = _sockets(), {}
        there = {it: now[it] for it in sockets & now.keys()}
        who = _programs({inode for inodes in there.values() for inode in inodes})
        nobody = ("?", "")
        for it, inodes in there.items():
            names, files = zip(*(one for i in inodes for one in who.get(i, {nobody})), strict=True)
            found[it] = (max(names), sorted({*files}))
        # Only the kernel's are nobody's; but a daemon that was restarted while we looked has others by now.
        if all("" not in files for _, files in found.values()):
            break
        time.sleep(1.0)
    return found


def _inward(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")


def _sockets() -> dict[tuple[str, str, int], set[str]]:
    """The inodes of each: programs may share a place (SO_REUSEPORT, socket(7))."""
    found: dict[tuple[str, str, int], set[str]] = {}
    for kind, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        with open(f"/proc/net/{kind}") as file:
            for line in list(file)[1:]:
                fields = line.split()
                if fields[3] == state and fields[2].endswith(":0000"):
                    address, port = fields[1].split(":")
                    key = kind[:3], _address(address), int(port, 16)
                    found.setdefault(key, set()).add(fields[9])
    return found


def _address(text: str) -> str:
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    data = struct.pack(f"={len(words)}L", *words)
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)


def _programs(inodes: set[str]) -> dict[str, set[tuple[str, str]]]:
    """Who has each of these sockets: what a program calls itself, and the file that it runs."""
    found: dict[str, set[tuple[str, str]]] = {}
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            target = os.readlink(path)
            if target.startswith("socket:[") and target[8:-1] in inodes:
                folder = f"/proc/{path.split('/')[2]}"
                with _words(f"{folder}/comm") as file:
                    who = file.read().strip(), _file(folder)
                found.setdefault(target[8:-1], set()).add(who)
        except OSError:
            continue  # it ended while we looked
    return found


def _file(folder: str) -> str:
    """What a process runs. A mount that only that process sees could call any program by any name, so it counts when it
    is the file that stands there, or one that an update has replaced, of which `deleted` tells."""
    path = os.readlink(f"{folder}/exe")
    name = path.removesuffix(" (deleted)")
    try:
        same = os.path.samefile(f"{folder}/exe", name)
    except FileNotFoundError:
        same = False
    shown = os.fsencode(name).decode(errors="backslashreplace")
    return shown if same or (name != path and _ours(folder)) else f"another file than {shown}"


def _ours(folder: str) -> bool:
    """Whether a process is in the same namespace as we are (pid_namespaces(7)): a container's are its own matter."""
    return os.readlink(f"{folder}/ns/pid") == os.readlink("/proc/self/ns/pid")


def _words(path: str) -> io.TextIOWrapper:
    """A file in which names stand that any user may choose: they need not be UTF-8."""
    return open(path, errors="backslashreplace")


def kernel(names: list[str]) -> dict[str, str]:
    """sysctl(8) values; those that this kernel or container does not have are left out."""
    found = {}
    for name in names:
        try:
            with open("/proc/sys/" + name.replace(".", "/")) as file:
                found[name] = file.read().strip()
        except OSError:
            continue
    return found


def deleted() -> list[str]:
    """Programs that run from files which are gone: an update replaced them, or somebody hides."""
    found = set()
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            if not _ours(folder):
                continue
            with _words(f"{folder}/comm") as file:
                name = file.read().strip()
            if os.readlink(f"{folder}/exe").endswith(" (deleted)"):
                found.add(f"{name}: its program")
            with _words(f"{folder}/maps") as file:
                for line in file:
                    path = line.rstrip().partition("/")[2]
                    if " r-xp " in line and path.endswith(" (deleted)") and ".so" in path:
                        found.add(f"{name}: /{path.removesuffix(' (deleted)')}")
        except OSError:
            continue
    return sorted(found)


def passwords() -> list[str]:
    """Accounts of the operating system that a password opens, or that have none (shadow(5))."""
    found = []
    with open("/etc/shadow") as file:
        for line in file:
            name, secret = line.split(":")[:2]
            if not secret:
                found.append(f"{name} needs no password")
            elif secret[0] not in "!*":
                found.append(f"{name} has a password")
    return found


def superusers() -> list[str]:
    """Accounts beside root that are root (passwd(5))."""
    with open("/etc/passwd") as file:
        rows = [line.split(":") for line in file]
    return [row[0] for row in rows if row[2] == "0" and row[0] != "root"]


def exists(paths: list[str]) -> list[str]:
    """Those of `paths` that are there."""
    return [path for path in paths if os.path.lexists(path)]


def digest(path: str) -> str:
    """SHA-256 of a file that everybody may read; ValueError for any other: a short secret could be guessed by it."""
    import hashlib

    with open(path, "rb") as file:
        _public(file.fileno(), path)
        return hashlib.sha256(file.read()).hexdigest()


def text(path: str) -> str:
    """A file of text that everybody may read; ValueError for any other: no probe shows a secret."""
    with open(path, errors="replace") as file:
        _public(file.fileno(), path)
        return file.read(1_000_000)


def _public(handle: int, path: str) -> None:
    if not os.fstat(handle).st_mode & stat.S_IROTH:
        raise ValueError(f"{path} is not for everybody to read")


def signatures(folder: str) -> list[list[str]]:
    """`[file, when it was built]` of ClamAV's own signature files, from their headers."""
    found = []
    for path in sorted(glob.glob(f"{folder}/*.c[vl]d")):
        with open(path, "rb") as file:
            fields = file.read(512).decode("ascii", "replace").split(":")
        if fields[0] == "ClamAV-VDB" and len(fields) > 2:
            found.append([os.path.basename(path), fields[1]])
    return found


def daily(folder: str, scanner: str) -> tuple[int, int, int | None]:
    """Of ClamAV's daily signatures: the version in `folder`, for how many seconds it is there, and which version clamd
    has loaded, that listens at the socket `scanner` (clamd(8), VERSION): 0 for none, None when it does not say.
    """
    version, since = 0, time.time()
    for path in glob.glob(f"{folder}/daily.c[vl]d"):
        with open(path, "rb") as file:
            fields = file.read(512).decode("ascii", "replace").split(":")
        if len(fields) > 2 and fields[2].isdigit() and int(fields[2]) > version:
            version, since = int(fields[2]), os.stat(path).st_mtime
    said = b""
    try:
        with socket.socket(socket.AF_UNIX) as clamd:
            clamd.settimeout(10)
            clamd.connect(scanner)
            clamd.sendall(b"zVERSION\0")
            while (part := clamd.recv(1000)) and b"\0" not in said:
                said += part
    except OSError:
        said = b""
    words = said.decode("ascii", "replace").strip("\0\n").split("/")
    loaded = None
    if words[0].startswith("ClamAV "):
        loaded = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return version, int(time.time() - since), loaded


def package_lists(folder: str = "/var/lib/apt/lists") -> dict[str, object]:
    """What apt knows of its archives: their lists, and how many seconds ago they were fetched."""
    names = [it for it in os.listdir(folder) if it.endswith(("Release", "Packages", ".lz4"))]
    fetched = max(os.stat(it).st_mtime for it in (folder, f"{folder}/partial"))
    return {"lists": sorted(names), "seconds": time.time() - fetched}


def kernels(folder: str = "/boot") -> dict[str, object]:
    """The release that runs, and those that are installed."""
    found = [os.path.basename(it)[8:] for it in glob.glob(f"{folder}/vmlinuz-*")]
    return {"running": os.uname().release, "installed": sorted(found)}


def log(words: str) -> None:
    """A line in the machine's log (logger(1))."""
    import subprocess

    subprocess.run(["logger", "--tag", "mastio-verify", "--", words], check=True, timeout=10)


def awaited(folder: str, words: str, patience: float) -> bool:
    """Whether a line with `words` stands in the newest files of `folder`, or comes within `patience` seconds."""
    end = time.monotonic() + patience
    read: dict[str, int] = {}
    while True:
        for path in sorted(glob.glob(f"{folder}/*.log"))[-2:]:
            with open(path, "rb") as file:
                start = read.get(path, max(0, os.stat(path).st_size - _TAIL))
                file.seek(start)
                data = file.read()
            if words.encode() in data:
                return True
            # The last line may be half there.
            read[path] = start + data.rfind(b"\n") + 1
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
