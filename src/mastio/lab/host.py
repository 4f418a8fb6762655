"""What the lab needs of the box, asked before anything is done.

Each thing that lacks is one `MastioError` that says what to do. Debian packages that lack are
installed: `missing` names them, so that the command line can say so first, and `install` does it.
"""

import os
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from mastio.errors import Exit, MastioError
from mastio.lab import cage, command

NEEDED_GIB = 4
"""Free disk space that images, packages and machines need at first, in GiB."""
LOOPBACK = "127.0.0.1"

_PROGRAMS: Mapping[str, str] = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nft": "nftables",
    "socat": "socat",
    "dot": "graphviz",
    "ssh": "openssh-client",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "setsid": "util-linux",
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def require_root(uid: int | None = None) -> None:
    """Only root may make namespaces and mounts."""
    if (os.geteuid() if uid is None else uid) != 0:
        raise MastioError(
            "the lab boots machines, which only root may do",
            hint="run the same command with sudo, or as root",
            code=Exit.NOPERM,
        )


def missing() -> tuple[str, ...]:
    """The Debian packages whose programs the lab needs and does not find on PATH."""
    wanted = {package for program, package in _PROGRAMS.items() if not shutil.which(program)}
    if not KEYRING.exists():
        wanted.add("debian-archive-keyring")
    return tuple(sorted(wanted))


def install(packages: tuple[str, ...]) -> None:
    """Installs `packages` on the box; MastioError when they, or their programs, are not there then."""
    by_hand = f"apt install {' '.join(packages)}"
    if not shutil.which("apt-get"):
        raise MastioError(
            f"the lab needs {', '.join(packages)}, and there is no apt-get to install them",
            hint="run the lab on a Debian 12 or 13 machine (a virtual one will do)",
            code=Exit.CANT_CREATE,
        )
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    # Somebody else may be installing just now, such as Debian's own upgrades.
    argv = [
        "apt-get",
        "-qq",
        "-y",
        "-o",
        "DPkg::Lock::Timeout=120",
        "--no-install-recommends",
        "install",
        *packages,
    ]
    try:
        if not command.succeeds(["env", *(f"{key}={it}" for key, it in quiet.items()), *argv]):
            command.run(["apt-get", "-qq", "update"], env=quiet)
            command.run(argv, env=quiet)
    except MastioError as error:
        raise MastioError(
            f"the lab needs {', '.join(packages)}, which could not be installed: {error.message}",
            hint=f"install them by hand: {by_hand}",
            code=Exit.CANT_CREATE,
        ) from error
    if still := missing():
        raise MastioError(
            f"{', '.join(still)}: installed, yet the programs are not on PATH",
            hint=f"put /usr/sbin and /usr/bin on PATH, or try: {by_hand}",
            code=Exit.CANT_CREATE,
        )


def require_kernel() -> None:
    """cgroup2 must be mounted, and overlayfs be there."""
    if not cage.hierarchy():
        raise MastioError(
            "cgroup2 is not mounted on this box, so machines could not be kept apart",
            hint="mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified, or boot with systemd",
            code=Exit.CANT_CREATE,
        )
    known = Path("/proc/filesystems").read_text().split()
    if "overlay" not in known and not command.succeeds(["modprobe", "overlay"]):
        raise MastioError(
            "this kernel has no overlayfs, on which the machines' disks stand",
            hint="run the lab on a kernel with CONFIG_OVERLAY_FS, as Debian's is",
            code=Exit.CANT_CREATE,
        )


def free_bytes(path: Path) -> int:
    """Free space on the file system that holds `path`, or would."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def require_space(*paths: Path, free: Callable[[Path], int] = free_bytes) -> None:
    """Each of `paths` must have `NEEDED_GIB` left."""
    for path in paths:
        if (left := free(path)) < NEEDED_GIB << 30:
            raise MastioError(
                f"{path}: {left / (1 << 30):.1f} GiB left, and the lab needs {NEEDED_GIB}",
                hint="make room, or point MASTIO_CACHE and MASTIO_STATE at a larger disk",
                code=Exit.CANT_CREATE,
            )


def require_port(port: int) -> None:
    """Nobody may listen on the loopback port that is to lead to the webmail."""
    with socket.socket() as probe:
        # As servers do: connections that ended a moment ago are not in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise MastioError(
                f"{LOOPBACK}:{port}: {error.strerror or error}",
                hint="choose another with --port",
                code=Exit.CANT_CREATE,
            ) from None
