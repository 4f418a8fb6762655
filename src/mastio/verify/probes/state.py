"""What a machine would do for an intruder that its system's files do not tell: for `mastio integrity`."""

from __future__ import annotations

import glob
import hashlib
import os
import pwd
import stat
import subprocess

_PSEUDO = frozenset(("/proc", "/sys", "/dev", "/run/mastio"))
_RUNTIME = ("/run/systemd/system", "/run/systemd/transient", "/run/systemd/user")
_KINDS = (".service", ".timer", ".socket", ".path")


def facts(measured: list[str], skipped: list[str]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Log-in keys in homes, files with SUID or capabilities but below `measured` and `skipped`, units of this boot,
    accounts; and the versions of all packages."""
    found = {
        "key": keys(measured),
        "suid": suid(measured, skipped),
        "unit": units(),
        "account": accounts(),
    }
    return found, versions()


def accounts() -> list[str]:
    """Who there is, and who is root by another name."""
    return sorted(f"{it.pw_name} (uid {it.pw_uid}, shell {it.pw_shell})" for it in pwd.getpwall())


def keys(measured: list[str]) -> list[str]:
    """Each log-in key (sshd(8), AUTHORIZED_KEYS) in homes that are not `measured`: file and digest."""
    found = set()
    homes = {it.pw_dir.rstrip("/") for it in pwd.getpwall()}
    for home in (
        it for it in homes if not f"{it}/".startswith(tuple(f"{top}/" for top in measured))
    ):
        for path in glob.glob(f"{glob.escape(home)}/.ssh/authorized_keys*"):
            try:
                with open(path, "rb") as file:
                    lines = file.read(1_000_000).splitlines()
            except OSError:
                continue  # no file, or gone while we looked
            for line in lines:
                if line.strip() and not line.lstrip().startswith(b"#"):
                    found.add(f"{path} {hashlib.sha256(line.strip()).hexdigest()[:16]}")
    return sorted(found)


def suid(measured: list[str], skipped: list[str], top: str = "/") -> list[str]:
    """Files that lend their owner's power, or capabilities (capabilities(7)), where nobody else looks. Other file
    systems are looked at too."""
    found, left = [], [top]
    out = {*measured, *skipped, *_PSEUDO}
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for it in entries:
                    if it.is_symlink() or it.path in out:
                        continue
                    if it.is_dir(follow_symlinks=False):
                        left.append(it.path)
                    elif it.is_file(follow_symlinks=False):
                        mode = it.stat(follow_symlinks=False).st_mode
                        if mode & stat.S_ISUID or (mode & stat.S_ISGID and mode & stat.S_IXGRP):
                            found.append(f"{it.path} {stat.S_IMODE(mode):04o}")
                        if mode & 0o111 and capable(it.path):
                            found.append(f"{it.path} with capabilities")
        except OSError:
            continue  # gone while we looked
    return sorted(found)


def capable(path: str) -> bool:
    """Whether who runs a file gets more than the own rights, without any SUID bit."""
    try:
        return bool(os.getxattr(path, "security.capability", follow_symlinks=False))
    except OSError:
        return False  # it has none, or is gone


def units() -> list[str]:
    """Units that somebody made for this boot alone (systemd-run(1), /run/systemd/system)."""
    return sorted(
        f"{folder}/{name}"
        for folder in _RUNTIME
        if os.path.isdir(folder)
        for name in os.listdir(folder)
        if name.endswith(_KINDS)
    )


def packages(names: list[str]) -> dict[str, list[object]]:
    """Those packages and all that they need, as far as installed: version, and files (dpkg-query(1))."""
    rows: dict[str, tuple[str, list[str]]] = {}
    provided: dict[str, set[str]] = {}
    asked = "${binary:Package}\t${Package}\t${Version}\t${Depends}, ${Pre-Depends}\t${Provides}\n"
    done = subprocess.run(
        ["dpkg-query", "--show", f"--showformat={asked}"], capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        full, name, version, needs, provides = line.split("\t")
        words = [
            it.split("(")[0].split(":")[0].strip() for it in needs.replace("|", ",").split(",")
        ]
        rows[full] = version, [it for it in words if it]
        for it in (name, *(it.split("(")[0].strip() for it in provides.split(","))):
            provided.setdefault(it, set()).add(full)
    left = list(names)
    found: set[str] = set()
    while left:
        for full in provided.get(left.pop(), set()) - found:
            found.add(full)
            left += rows[full][1]
    answer: dict[str, list[object]] = {}
    for full in sorted(found):
        files: list[str] = []
        for stem in (full, full.split(":")[0]):
            try:
                with open(f"/var/lib/dpkg/info/{stem}.list", errors="surrogateescape") as file:
                    files = file.read().splitlines()
                    break
            except FileNotFoundError:
                continue
        answer[full] = [rows[full][0], files]
    return answer


def versions() -> dict[str, str]:
    """All packages that are installed."""
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${binary:Package}\t${Version}\n"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return dict(line.split("\t") for line in done.stdout.splitlines())


def sources() -> list[list[str]]:
    """`[package, version, source package, its version]` of all that is installed (dpkg-query(1))."""
    shown = "${Package}\t${Version}\t${source:Package}\t${source:Version}\t${db:Status-Status}\n"
    done = subprocess.run(
        ["dpkg-query", "--show", f"--showformat={shown}"], capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    rows = (line.split("\t") for line in done.stdout.splitlines())
    return [row[:4] for row in rows if row[4] == "installed"]
