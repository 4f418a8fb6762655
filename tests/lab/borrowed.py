"""Packages on a machine for a while: `with borrowed(lab, "watch", "ssh-audit"): …`."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mastio.lab import mirror, paths
from tests.lab.conftest import TheLab as Lab


def _debs(packages: tuple[str, ...]) -> Iterator[bytes]:
    """The packages' .deb files, from where the lab's images come from, and kept where theirs are."""
    found: dict[str, str] = {}
    indexes = paths.cache().glob("images/*/lists/*_trixie_main_binary-*_Packages")
    for index in sorted(indexes, key=lambda it: it.stat().st_mtime):
        name = ""
        for line in index.read_text().splitlines():
            key, _, value = line.partition(": ")
            if key == "Package":
                name = value
            elif key == "Filename" and name in packages:
                found[name] = value
    for package in packages:
        file = paths.cache() / "debs" / Path(found[package]).name
        if not file.exists():
            url = f"{mirror.find().archive}/{found[package]}"
            argv = [
                "/usr/lib/apt/apt-helper",
                "-o",
                "Acquire::Retries=2",
                "download-file",
                url,
                str(file),
            ]
            subprocess.run(argv, capture_output=True, check=True, timeout=120)
        yield file.read_bytes()


@contextmanager
def borrowed(lab: Lab, machine: str, *packages: str) -> Iterator[None]:
    """Installs them without what they depend on, and removes them afterwards."""
    try:
        for deb in _debs(packages):
            install = "cat >/run/borrowed.deb; dpkg --install --force-depends /run/borrowed.deb"
            done = lab.transport.run(machine, ["sh", "-euc", install], deb, 120)
            assert done.code == 0, done.stderr.decode()
        yield
    finally:
        lab.run(machine, ["dpkg", "--purge", "--force-depends", *packages])
        lab.run(machine, ["rm", "-f", "/run/borrowed.deb"])
