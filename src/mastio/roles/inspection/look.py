#!/usr/bin/python3
"""What watch may have done here by itself: look. The forced command of its key (authorized_keys, sshd(8)).

It runs a command line that look.json names, or a program whose SHA-256 stands there, handed over as
mastio's transport does: two lengths, a line each, then the program and its payload. All else is refused
with exit code 77, and said in the log. Standard library only.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

ALLOWED = Path("/etc/mastio/look.json")
REFUSED = 77
MOST = 4_000_000
"""Octets of program and payload together."""


class RefusedError(Exception):
    """Why something is not run."""


def judged(words: list[str], stdin: BinaryIO, allowed: dict[str, Any]) -> bytes:
    """What the command `words` is to read; raises RefusedError when it may not run."""
    if words in allowed["commands"]:
        return b""
    if words != allowed["boot"]:
        raise RefusedError("not a command that may be run")
    try:
        sizes = [int(stdin.readline(20)) for _ in range(2)]
    except ValueError:
        raise RefusedError("not a program") from None
    if min(sizes) < 0 or sum(sizes) > MOST:
        raise RefusedError("too long")
    program, payload = (stdin.read(size) for size in sizes)
    if hashlib.sha256(program).hexdigest() not in allowed["programs"]:
        raise RefusedError("not a program that may be run")
    return b"%d\n%d\n%b%b" % (len(program), len(payload), program, payload)


def main() -> int:
    """The command that ssh was given; its exit code."""
    allowed = json.loads(ALLOWED.read_text())
    try:
        words = shlex.split(os.environ.get("SSH_ORIGINAL_COMMAND", ""))
        given = judged(words, sys.stdin.buffer, allowed)
    except (RefusedError, ValueError) as error:
        subprocess.run(
            ["logger", "-p", "auth.warning", "-t", "mastio-look", f"refused: {error}"], check=False
        )
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    try:
        return subprocess.run(words, input=given, check=False).returncode
    except FileNotFoundError:
        return 127


if __name__ == "__main__":
    sys.exit(main())
