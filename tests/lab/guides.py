"""A guide followed to the letter: its code blocks in order, typed at a terminal on a machine of the lab.

    for block in blocks("two-vps.md"):
        desk.type(filled(block, {"git clone …": "git clone /srv/mastio"}), answers)

What a person must fill in comes from a table. Nothing else is changed: a guide that says it wrong fails its test.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path

from mastio.lab import paths
from mastio.lab.internet import SEGMENT
from mastio.lab.model import LabMachine, Link
from mastio.lab.transport import NspawnTransport

REPOSITORY = Path(__file__).parent.parent.parent
GUIDES = REPOSITORY / "docs" / "guides"
DESK_PACKAGES = ("ca-certificates", "git", "openssh-client", "python3-venv")
"""What the guides ask of the administrator's own machine."""
PERSON = "you"
"""Who sits at it; nobody special."""
_WHEELS = "/srv/wheels"
_SOURCE = "/srv/mastio"
TYPED_LIMIT = 1800
"""Seconds after which what is typed is given up: a site is built in some of these blocks, on a busy box."""
GIT = f"git clone {_SOURCE}"
"""Where a new user gets mastio."""

# A terminal and somebody at it: waits for each question, and answers it. Two lists in PAYLOAD: argv, answers.
_TYPIST = """
import json, os, pty, select, sys, time
argv, answers = json.loads(PAYLOAD)
child, terminal = pty.fork()
if not child:
    os.execvp(argv[0], argv)
said, seen = b"", 0
while True:
    try:
        piece = os.read(terminal, 65536)
    except OSError:
        break
    if not piece:
        break
    said += piece
    for question, answer in answers:
        if question.encode() in said[seen:]:
            seen = len(said)
            time.sleep(0.3)  # whoever asks for a password throws away what was typed before
            os.write(terminal, answer.encode() + b"\\n")
            break
sys.stdout.buffer.write(said.replace(b"\\r\\n", b"\\n"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
# Folder and environment stay from one block to the next, as at one terminal. A command that fails ends it; 2 is what
# `mastio plan` says of changes.
_SHELL = """
cd "$(cat ~/.where 2>/dev/null || echo ~)"; [ ! -e ~/.exported ] || . ~/.exported
trap 'code=$?; [ $code = 2 ] || exit $code' ERR
{block}
pwd >~/.where; export -p >~/.exported
"""


@dataclass(frozen=True)
class Typed:
    """How a block went."""

    code: int
    said: str
    """All that the terminal showed."""


@dataclass(frozen=True)
class Desk:
    """The administrator's own machine, called `desk`."""

    machines: NspawnTransport

    def type(
        self, block: str, answers: Mapping[str, str] | None = None, timeout: float = TYPED_LIMIT
    ) -> Typed:
        """A block typed by `PERSON`; `answers` to what is asked meanwhile, by a part of the question."""
        argv = [
            "su",
            "-",
            PERSON,
            "-s",
            "/bin/bash",
            "--session-command",
            _SHELL.replace("{block}", block),
        ]
        done = self.machines.run_python("desk", _TYPIST, _order(argv, answers), timeout)
        return _typed(done.code, done.stdout + done.stderr)

    def carry(self, source: Path, target: str) -> None:
        """A folder of this box, read by everybody there; without environments and histories."""
        argv = [
            "tar",
            "-C",
            str(source),
            "--exclude=.git",
            "--exclude=.venv*",
            "--exclude=*.making",
            "-c",
            ".",
        ]
        tar = subprocess.run(argv, capture_output=True, check=True).stdout
        unpack = f"mkdir -p {target}; tar -xC {target} --no-same-owner"
        assert self.machines.run("desk", ["sh", "-euc", unpack], tar, TYPED_LIMIT).code == 0

    def furnish(self) -> str:
        """Somebody with an ssh key, and what the world has for them: mastio's source, Python's packages.

        The public key.
        """
        self.carry(REPOSITORY, _SOURCE)
        self.carry(_wheels(), _WHEELS)
        script = (
            f"useradd -m -s /bin/bash {PERSON}; cd {_SOURCE}; git init -q; git add -A; "
            "git -c user.name=x -c user.email=x@y.test commit -qm x; "
            f"git config --system --add safe.directory {_SOURCE}/.git; "
            f"printf '[global]\\nno-index = true\\nfind-links = {_WHEELS}\\n' >/etc/pip.conf; "
            f"su {PERSON} -c 'ssh-keygen -q -t ed25519 -N \"\" -f ~/.ssh/id_ed25519'; cat ~{PERSON}/.ssh/id_ed25519.pub"
        )
        done = self.machines.run("desk", ["sh", "-euc", script], timeout=TYPED_LIMIT)
        assert done.code == 0, done.stderr.decode()
        return done.stdout.decode()


@dataclass(frozen=True)
class Here:
    """This box as an administrator's own machine, in a home of its own, which is where it begins."""

    home: Path
    hosts: Mapping[str, str]
    """What its /etc/hosts says: name → address."""
    environment: Mapping[str, str]

    def type(
        self, block: str, answers: Mapping[str, str] | None = None, timeout: float = TYPED_LIMIT
    ) -> Typed:
        """A block typed there, as `Desk` has it."""
        known = self.home / ".hosts"
        known.write_text("".join(f"{it} {name}\n" for name, it in self.hosts.items()))
        order = _order(["bash", "-c", _SHELL.replace("{block}", block)], answers)
        own = ["unshare", "-m", "sh", "-euc", 'mount --bind "$0" /etc/hosts; exec "$@"', str(known)]
        done = subprocess.run(
            [*own, sys.executable, "-I", "-"], input=f"PAYLOAD = {order!r}\n{_TYPIST}".encode(), cwd=self.home,
            env={**os.environ, "HOME": str(self.home), **self.environment}, capture_output=True, timeout=timeout,
        )  # fmt: skip
        return _typed(done.returncode, done.stdout + done.stderr)


def _order(argv: Sequence[str], answers: Mapping[str, str] | None) -> bytes:
    return json.dumps([argv, list((answers or {}).items())]).encode()


def _typed(code: int, shown: bytes) -> Typed:
    return Typed(code, re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()))


def blocks(guide: str) -> tuple[str, ...]:
    """The fenced blocks of a guide in docs/guides, in order, without the indentation of the lists that they are in."""
    found: list[list[str]] = []
    inside, margin = False, 0
    for line in (GUIDES / guide).read_text().splitlines():
        if line.lstrip().startswith("```"):
            inside, margin = not inside, len(line) - len(line.lstrip())
            if inside:
                found.append([line.strip().removeprefix("```")])
        elif inside:
            found[-1].append(line[margin:])
    return tuple("\n".join(it) for it in found)


def filled(block: str, table: Mapping[str, str]) -> str:
    """The block with what a person puts in its place."""
    for blank, text in table.items():
        block = block.replace(blank, text)
    assert "…" not in block, f"nobody has filled in: {block}"
    return block


def on_internet(name: str, packages: tuple[str, ...], *addresses: str) -> LabMachine:
    """A machine among strangers."""
    links = tuple(ip_interface(f"{it}/24") for it in addresses)
    # A kernel without WireGuard has its tunnel done by a program, which needs this.
    return LabMachine(name, name, packages, (), (Link(SEGMENT, links),), ("/dev/net/tun",))


def _wheels() -> Path:
    """mastio's Python packages for Debian 13's Python, from where this box has its own; fetched once."""
    folder, lock = paths.cache() / "wheels", REPOSITORY / "requirements.lock"
    argv = ["pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:",
            "--python-version=3.13", f"--dest={folder}", f"--requirement={lock}"]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder
