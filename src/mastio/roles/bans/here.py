#!/usr/bin/python3 -IS
"""A ban on the machine that counts: where no firewall stands, watch is a guard as well, and needs no ssh to itself.

    mastio-ban-here add ADDRESS SECONDS REASON…   asks, as the user who counts
    mastio-ban-here serve                         answers, as root, started by the socket

The socket is that user's alone, and leads to what watch's key leads to on other machines: `mastio-ban forced`, which
may only add and judges for itself whom it never bans. Standard library only.
"""

import json
import os
import shlex
import socket
import subprocess
import sys

SOCKET = "/run/mastio-ban.sock"
GUARD = ("/usr/local/lib/mastio/mastio-ban", "forced")
_MOST = 4096
_SECONDS = 30


def ask(words: list[str], path: str = SOCKET) -> int:
    """The guard's exit code; what it said is said here."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(path)
        connection.sendall(json.dumps(words).encode() + b"\n")
        answer = b""
        while some := connection.recv(_MOST):
            answer += some
    told = json.loads(answer)
    sys.stdout.write(told["out"])
    sys.stderr.write(told["err"])
    return int(told["code"])


def answer(line: str, guard: tuple[str, ...] = GUARD) -> str:
    """What the guard says to a line of words in JSON. Raises ValueError for anything else."""
    words = json.loads(line)
    if not isinstance(words, list) or not all(isinstance(it, str) for it in words):
        raise ValueError("no list of words")
    said = {**os.environ, "SSH_ORIGINAL_COMMAND": shlex.join(words)}
    done = subprocess.run(
        guard, env=said, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
    )  # fmt: skip
    return json.dumps({"code": done.returncode, "out": done.stdout, "err": done.stderr})


def main() -> int:
    """The exit code."""
    words = sys.argv[1:]
    if words == ["serve"]:
        print(answer(sys.stdin.readline(_MOST)), end="", flush=True)
        return 0
    try:
        return ask(words)
    except (OSError, ValueError) as error:
        print(f"the guard does not answer: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
