#!/usr/bin/python3 -IS
"""Installs this machine's updates: the forced command of watch's key for that (authorized_keys, sshd(8)).

    mastio-patch update    fetch the lists, install what Debian-Security has (unattended-upgrade(8)), restart what
                           still runs old code; one line of JSON says what was done
    mastio-patch upgrade   the same with all that Debian has, as point releases bring it; nothing is removed for it
    mastio-patch reboot    reboot, if an update waits for that (/run/reboot-required)

All else is refused with exit code 77, and said in the log. So whoever holds the key can have installed what Debian
has signed, and have a reboot that is due; no more. Which code is old is read from /proc: a program or a library
that runs though its file was replaced. Standard library only.
"""

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

REFUSED = 77
DUE = Path("/run/reboot-required")
LOCK = Path("/run/mastio/patch.lock")
FETCH, INSTALL, RESTART = 600, 3600, 180
"""Seconds that the lists, the packages, and one unit may take."""
LAST = ("dovecot", "postfix", "nginx", "ssh")
"""Units by how their names begin, that restart after all others and in this order: what takes mail or users in finds
what it needs already there."""
NEVER = ("dbus.service", "dbus-broker.service", "user@", "mastio-patches@")
"""What cannot be restarted under a running system, or is who restarts."""
_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive",
}  # fmt: skip
_INFO = "/var/lib/dpkg/info"
_SECURITY = ["unattended-upgrade", "-v"]
# What would remove a package stays back: a person decides on that (apt-get(8)).
_ALL = ["apt-get", "-q", "-y", "--with-new-pkgs", "upgrade"]


class RefusedError(Exception):
    """Why nothing is done."""


def order(units: Iterable[str]) -> list[str]:
    """In which order units restart."""

    def rank(name: str) -> tuple[int, str]:
        found = [number for number, it in enumerate(LAST) if name.startswith(it)]
        return (found[0] + 1 if found else 0), name

    return sorted(units, key=rank)


def unit_of(cgroup: str) -> str:
    """The service in whose control group a process is (/proc/PID/cgroup, cgroups(7)); "" when in none."""
    found = re.search(r"/([^/\n]+\.service)(?:/|$)", cgroup, re.MULTILINE)
    return found[1] if found else ""


def is_old(program: str, maps: str) -> bool:
    """Whether a process runs code whose file is gone, from its /proc/PID/exe and maps (proc_pid_maps(5))."""
    return program.endswith(" (deleted)") or any(
        " r-xp " in line and line.endswith(" (deleted)") and ".so" in line
        for line in maps.splitlines()
    )


def old_units(proc: str = "/proc") -> set[str]:
    """The services that run old code; "" among them stands for the init process."""
    found = set()
    for folder in Path(proc).glob("[0-9]*"):
        if folder.name in _OURS:
            continue
        try:
            if not is_old(str((folder / "exe").readlink()), (folder / "maps").read_text()):
                continue
            unit = unit_of((folder / "cgroup").read_text())
        except OSError:
            continue  # it ended while we looked
        if unit or folder.name == "1":
            found.add(unit)
    return found


def _ours() -> frozenset[str]:
    """This process and whoever called it, up to a service's main process: they end by themselves."""
    found, pid = set(), os.getpid()
    while pid > 1:
        # After the name in parentheses, which may hold anything: state and parent (proc_pid_stat(5)).
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        if parent <= 1:
            break
        found.add(str(pid))
        pid = parent
    return frozenset(found)


def restart() -> tuple[list[str], list[str], list[str]]:
    """Restarts what runs old code, one after the other: the units, those that still do, and what went wrong."""
    old, done, wrong = old_units(), [], []
    if "" in old:
        _run(["systemctl", "daemon-reexec"], RESTART)
        done.append("init")
    for unit in order(old - {""}):
        if unit.startswith(NEVER) or not _restartable(unit):
            continue
        code, said = _run(["systemctl", "restart", unit], RESTART)
        if code:
            wrong.append(f"{unit} does not restart: {_last(said)}")
        done.append(unit)
    return done, order(old_units() - {""}), wrong


def _restartable(unit: str) -> bool:
    """Not what does its work and ends."""
    _, said = _run(["systemctl", "show", "-p", "Type,ActiveState", unit], RESTART)
    facts = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    return facts.get("Type") != "oneshot" and facts.get("ActiveState") in ("active", "reloading")


def update(installer: list[str] = _SECURITY) -> dict[str, Any]:
    """What was done."""
    begin, wrong = time.monotonic(), []
    before, files = versions(), listed()
    code, said = _run(["apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"], FETCH)
    if code:
        wrong.append(f"the lists of packages cannot be fetched: {_last(said)}")
    else:
        code, said = _run(installer, INSTALL)
        if code:
            wrong.append(f"{installer[0]} failed: {_last(said)}")
    after = versions()
    updated = changes(before, after)
    restarted, left, failed = restart() if updated else ([], order(old_units() - {""}), [])
    if any(it.startswith(NEVER[:2]) for it in left):
        DUE.touch()
    _, audit = _run(["dpkg", "--audit"], FETCH)
    if audit.strip():
        wrong.append(f"packages are half installed: {_last(audit)}")
    return {
        "updated": updated, "gone": gone(files, listed(), updated), "restarted": restarted, "left": left,
        "reboot": DUE.exists(), "error": "; ".join([*wrong, *failed]),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "seconds": round(time.monotonic() - begin, 1),
    }  # fmt: skip


def changes(before: dict[str, str], after: dict[str, str]) -> list[list[str]]:
    """`[package, old version, new version]`; "" where there was or is none."""
    names = sorted(before.keys() | after.keys())
    rows = [[name, before.get(name, ""), after.get(name, "")] for name in names]
    return [row for row in rows if row[1] != row[2]]


def gone(
    before: dict[str, set[str]], after: dict[str, set[str]], rows: list[list[str]]
) -> list[str]:
    """Files that updated packages had, and that no package has any more."""
    had = {path for name, *_ in rows for path in before.get(name, ())}
    return sorted(had - {path for paths in after.values() for path in paths}) if had else []


def versions() -> dict[str, str]:
    """Installed packages (dpkg-query(1))."""
    asked = "--showformat=${binary:Package}\\t${Version}\\t${db:Status-Status}\\n"
    _, said = _run(["dpkg-query", "--show", asked], FETCH)
    rows = (line.split("\t") for line in said.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 3 and row[2] != "config-files"}


def listed() -> dict[str, set[str]]:
    """The files of each package, under both of its names (libc6, libc6:amd64)."""
    found: dict[str, set[str]] = {}
    for path in Path(_INFO).glob("*.list"):
        paths = {*path.read_text(errors="surrogateescape").splitlines()}
        found[path.stem] = found[path.stem.partition(":")[0]] = paths
    return found


def reboot() -> dict[str, Any]:
    """In some seconds, so that the answer still arrives. RefusedError when none is due."""
    if not DUE.exists():
        raise RefusedError("no reboot is due")
    argv = ["systemd-run", "--quiet", "--on-active=5", "systemctl", "reboot"]
    code, said = _run(argv, RESTART)
    return {"error": _last(said) if code else ""}


WORDS = {"update": update, "upgrade": lambda: update(_ALL), "reboot": reboot}


def judged(words: list[str]) -> str:
    """The one word; RefusedError for all else."""
    if len(words) != 1 or words[0] not in WORDS:
        raise RefusedError("not update, upgrade or reboot")
    return words[0]


def _run(argv: list[str], seconds: float) -> tuple[int, str]:
    """Exit code, and all that was said."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            timeout=seconds, env=_ENV, cwd="/", errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return -1, f"{argv[0]} did not end within {seconds:.0f} s"
    except FileNotFoundError:
        return 127, f"{argv[0]} is not installed"
    return done.returncode, done.stdout


def _last(said: str) -> str:
    """apt's first error, or else the last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith("E: ")]
    return (telling[:1] or lines[-1:] or ["no word"])[0][:300]


_OURS = _ours()


def main() -> int:
    """The exit code."""
    try:
        word = judged(sys.argv[1:] or shlex.split(os.environ.get("SSH_ORIGINAL_COMMAND", "")))
        # Whoever asked may go away: what has begun is ended.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        LOCK.parent.mkdir(parents=True, exist_ok=True)
        with LOCK.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RefusedError("another update is at work") from None
            answer = WORDS[word]()
    except (RefusedError, ValueError) as error:
        words = f"refused: {error}"
        _run(["logger", "-p", "auth.warning", "-t", "mastio-patch", words], RESTART)
        print(words, file=sys.stderr)
        return REFUSED
    rows = [" ".join(row) for row in answer.get("updated", ())]
    words = f"{word}: {answer['error'] or 'done'}" + (f"; {', '.join(rows)}" if rows else "")
    _run(["logger", "-t", "mastio-patch", words[:900]], RESTART)
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
