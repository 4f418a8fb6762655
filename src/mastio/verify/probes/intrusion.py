"""Whether somebody listens on the firewall, and whether what is said is heard."""

from __future__ import annotations

import contextlib
import glob
import os
import socket
import time


def listening(pid_file: str) -> int:
    """On how many segments the process listens whose number is in the file; 0 when there is none (packet(7))."""
    try:
        with open(pid_file) as file:
            folder = f"/proc/{int(file.read())}/fd"
        held = {os.readlink(f"{folder}/{it}") for it in os.listdir(folder)}
    except (OSError, ValueError):
        return 0
    with open("/proc/net/packet") as file:
        return sum(f"socket:[{line.split()[8]}]" in held for line in list(file)[1:])


def say(address: str, port: int, words: str, patience: float) -> str:
    """Says something and hears the beginning of the answer, if one comes."""
    with socket.create_connection((address, port), timeout=patience) as client:
        client.sendall(words.encode())
        with contextlib.suppress(OSError):
            return client.recv(200).decode(errors="replace")
    return ""


def ends(folder: str) -> dict[str, int]:
    """The newest log files of a folder and how long they are."""
    return {path: os.stat(path).st_size for path in sorted(glob.glob(f"{folder}/*.log"))[-2:]}


def heard(folder: str, since: dict[str, int], words: str, patience: float) -> bool:
    """Whether a line with `words` has come since `ends`, or comes within `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        for path in ends(folder):
            with open(path, "rb") as file:
                file.seek(since.get(path, 0))
                if words.encode() in file.read():
                    return True
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
