"""How a machine is doing, in one look: what would be asked first when something is wrong."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from typing import Any

_PLACES = (
    "/",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/log/remote",
    "/var/vmail",
    "/var/spool/postfix",
    "/var/spool/postfix-store",
    "/tmp",
)
_POSTFIXES = ("/etc/postfix", "/etc/postfix-store")
_QUEUES = ("incoming", "active", "deferred", "hold")


def now() -> dict[str, Any]:
    """Uptime (s), load, memory and disks (octets), units that failed, the mail queue and the resolver if there is one.

    `disks` has each file system once, by the first of the usual places that lies on it. `queue` counts the
    messages by queue (Postfix's names) and has the age of the oldest in seconds; None without Postfix. `names` says
    whether the machine's own resolver can find out about a name; None without one.
    """
    return {
        "uptime": _uptime(),
        "load": os.getloadavg()[0],
        "processors": os.cpu_count() or 1,
        "memory": _memory(),
        "disks": _disks(),
        "failed": _failed(),
        "queue": _queue(),
        "names": _names(),
    }


def _uptime() -> float:
    """Since this machine's init began: a container shares the kernel's clock, not its start (proc(5))."""
    with open("/proc/1/stat") as file:
        began = int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return round(time.clock_gettime(time.CLOCK_BOOTTIME) - began, 1)


def _memory() -> dict[str, int]:
    with open("/proc/meminfo") as file:
        rows = dict(line.split(":", 1) for line in file)
    total, free = (int(rows[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    return {"total": total, "available": free}


def _disks() -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for path in _PLACES:
        if not os.path.isdir(path):
            continue
        device = os.stat(path).st_dev
        if device in found:
            continue
        size = os.statvfs(path)
        if not size.f_blocks:
            continue
        found[device] = {
            "path": path,
            "total": size.f_blocks * size.f_frsize,
            "available": size.f_bavail * size.f_frsize,
            # 0 where a file system makes inodes as it needs them
            "inodes": size.f_files,
            "inodes_free": size.f_favail,
        }
    return list(found.values())


def _failed() -> list[str]:
    # What waits for its next start fails again and again.
    argv = [
        "systemctl",
        "list-units",
        "--state=failed,auto-restart",
        "--plain",
        "--no-legend",
        "--no-pager",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise OSError(f"systemctl: {done.stderr.strip()[-200:]}")
    return sorted(line.split()[0] for line in done.stdout.splitlines() if line.split())


def _queue() -> dict[str, Any] | None:
    if not shutil.which("postqueue"):
        return None
    counts: dict[str, Any] = dict.fromkeys(_QUEUES, 0)
    # A machine that is gateway and store has a Postfix for each.
    own = [it for it in _POSTFIXES if os.path.isfile(f"{it}/main.cf")]
    oldest = max((_count(counts, it) for it in own), default=0.0)
    return {**counts, "oldest": round(oldest, 1)}


def _count(counts: dict[str, Any], config: str) -> float:
    """Counts what is in one Postfix's queues; the age of the oldest."""
    oldest = 0.0
    argv = ["postqueue", "-c", config, "-j"]
    # Addresses are as whoever sends wrote them: not always UTF-8.
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="backslashreplace"
    ) as done:
        for line in done.stdout or ():
            entry = json.loads(line)
            counts[entry["queue_name"]] = counts.get(entry["queue_name"], 0) + 1
            if entry["queue_name"] != "hold":
                oldest = max(oldest, time.time() - entry["arrival_time"])
        words = done.stderr.read().strip() if done.stderr else ""
    if done.returncode:
        raise OSError(f"postqueue: {words[-200:]}")
    return oldest


def _names() -> bool | None:
    with open("/etc/resolv.conf") as file:
        servers = [line.split()[1] for line in file if line.startswith("nameserver")]
    if not servers or not servers[0].startswith("127."):
        return None
    # A name that is in no cache, in a zone whose denials are none either (NSEC3 with opt-out, RFC 9276): whether
    # it is there does not matter, whether somebody could say so does. RFC 1035, 4.1.
    label = secrets.token_hex(8).encode()
    question = (
        b"\x4d\x41\x01\x00\x00\x01" + b"\x00" * 6 + b"\x10" + label + b"\x03com\x00\x00\x01\x00\x01"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(3)
        for _ in range(3):
            try:
                one.sendto(question, (servers[0], 53))
                answer = one.recv(1500)
            except OSError:
                time.sleep(0.5)
                continue
            if answer[3] & 15 in (0, 3):  # no error, or no such name
                return True
        return False
