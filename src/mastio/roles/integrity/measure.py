#!/usr/bin/python3 -IS
"""Measures this machine for watch: the forced command of watch's key for that (authorized_keys, sshd(8)).

On stdin come a line of JSON, `{"config": SIZE, "tools": [[NAME, SIZE], …]}`, then AIDE's configuration and the
tools: AIDE, the libraries it needs and their loader. They are run only when `mastio apply` has named them here by
their SHA-256, since a configuration can have programs run (aide.conf(5), @@x_include). All else is refused with exit
code 77, and said in the log.

AIDE runs by its own loader and libraries, in a private mount namespace, changed into a file system in memory that
holds nothing else (so not /etc/ld.so.preload either); the machine is mounted there as /host. All of it is gone when
this process ends, however it ends. On stdout goes a line of JSON (how it went) and the database, packed (gzip).
Standard library only.
"""

import ctypes
import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

ALLOWED, TOOLS = "/etc/mastio/integrity-allowed.json", "/var/lib/mastio/integrity-tools"
REFUSED = 77
MOST = 64_000_000
"""Octets of all that is taken."""
SECONDS, CPU = 1200, 900
"""What a measurement may take."""
PLACE = Path("/run/mastio/measure")
LOADER, AIDE = re.compile(r"ld-linux[\w.-]*\.so\.\d+"), "aide"
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
CLONE_NEWNS = 0x00020000  # <linux/sched.h>
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = (
    0x2,
    0x4,
    0x1000,
    0x4000,
    0x40000,
)  # <linux/mount.h>


class RefusedError(Exception):
    """Why nothing is run."""


def taken(stdin: BinaryIO, config_hash: str, tools_hash: str) -> tuple[bytes, dict[str, bytes]]:
    """The configuration and the tools; raises RefusedError unless they are those with these SHA-256."""
    try:
        head = json.loads(stdin.readline(100_000))
        size, rows = int(head["config"]), [(str(name), int(size)) for name, size in head["tools"]]
    except (ValueError, KeyError, TypeError):
        raise RefusedError("not a measurement") from None
    sizes = [size, *(it for _, it in rows)]
    if min(sizes) < 0 or sum(sizes) > MOST or not all(_NAME.fullmatch(name) for name, _ in rows):
        raise RefusedError("not a measurement")
    config = stdin.read(size)
    tools = {name: stdin.read(size) for name, size in rows}
    if hashlib.sha256(config).hexdigest() != config_hash:
        raise RefusedError("not a configuration that apply has named")
    if not tools_hash or digest(tools) != tools_hash:
        raise RefusedError("not the tools that apply has named")
    return config, tools


def digest(tools: dict[str, bytes]) -> str:
    """What identifies the tools: SHA-256 of a list as sha256sum(1) prints it."""
    rows = (f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(tools.items()))
    return hashlib.sha256("".join(rows).encode()).hexdigest()


def measure(config: bytes, tools: dict[str, bytes]) -> tuple[dict[str, Any], bytes]:
    """How it went, and the database."""
    begin = time.monotonic()
    _alone()
    for name, data in {**tools, "aide.conf": config}.items():
        (PLACE / "t" / name).write_bytes(data)
        (PLACE / "t" / name).chmod(0o700)
    loader = next(name for name in tools if LOADER.fullmatch(name))
    argv = [f"/t/{loader}", "--library-path", "/t", f"/t/{AIDE}", "--config=/t/aide.conf", "--init"]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False, env={},
            preexec_fn=_confine,
        )  # fmt: skip
        code, words = done.returncode, done.stderr.decode(errors="replace")[-2000:]
    except subprocess.TimeoutExpired:
        code, words = -1, f"not done within {SECONDS} seconds"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        database = (PLACE / "t/new.db.gz").read_bytes()
    except FileNotFoundError:
        database = b""
    spent = round(time.monotonic() - begin, 2)
    cpu = round(used.ru_utime + used.ru_stime, 2)
    return {"code": code, "words": words, "seconds": spent, "cpu": cpu}, database


def _alone() -> None:
    """A place of our own in memory, that no other process sees, with the machine below it."""
    PLACE.mkdir(mode=0o700, parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "no mount namespace")
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    _mount("tmpfs", str(PLACE), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=512m")
    for name in ("t", "host", "proc"):
        (PLACE / name).mkdir(0o700)
    _mount("/", f"{PLACE}/host", "", MS_BIND | MS_REC)
    _mount("/proc", f"{PLACE}/proc", "", MS_BIND | MS_REC)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    text = [word.encode() for word in (source, target, kind)]
    if libc.mount(*text, ctypes.c_ulong(flags), options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot mount {target}: {os.strerror(number)}")


def _confine() -> None:
    """Between fork and exec: the least of rights and urgency."""
    os.chroot(PLACE)
    os.chdir("/")
    os.umask(0o077)
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> int:
    """The exit code."""
    try:
        config_hash = json.loads(Path(ALLOWED).read_text())["config"]
        try:
            tools_hash = Path(TOOLS).read_text().strip()
        except FileNotFoundError:
            raise RefusedError("apply has named no tools yet") from None
        config, tools = taken(sys.stdin.buffer, config_hash, tools_hash)
    except RefusedError as error:
        subprocess.run(
            ["/usr/bin/logger", "-p", "auth.warning", "-t", "mastio-measure", f"refused: {error}"],
            check=False,
        )
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    told, database = measure(config, tools)
    sys.stdout.buffer.write(json.dumps(told).encode() + b"\n" + database)
    return 0


if __name__ == "__main__":
    sys.exit(main())
