"""Installs packages into an overlay: `python -m mastio.lab.install`, its job as JSON on stdin.

It runs in mount and PID namespaces of its own, which end with it, killed or not: it leaves no mount
and no process. Nothing is started while packages install (policy-rc.d, Debian Policy 9.3.3.1). The
box's names work inside, and the given package lists, downloads and sources are there only meanwhile.

`Job` with `packages` installs them; without, it fetches the package lists anew and drops downloads
that the archive no longer has.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_BLOCK = "#!/bin/sh\nexit 101\n"
_APT = (
    "apt-get", "-qq", "-y", "-o", "APT::Keep-Downloaded-Packages=true", "-o", "Dpkg::Use-Pty=0",
    "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o", "Acquire::Languages=none",
    "-o", "Dpkg::Options::=--force-unsafe-io", "-o", "Dpkg::Options::=--force-confold",
)  # fmt: skip
_ENV = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND": "noninteractive",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
}


@dataclass(frozen=True, slots=True)
class Job:
    """What to install where. Paths are the box's."""

    root: str
    """An empty folder to mount the overlay on."""
    lowers: tuple[str, ...]
    upper: str
    work: str
    lists: str
    """/var/lib/apt/lists of the release."""
    downloads: str
    """.deb files: used when there, kept when fetched. Several jobs may share it."""
    sources: str
    """A sources.list(5) file."""
    settings: tuple[str, ...]
    """apt.conf(5) settings as for `apt-get -o`."""
    packages: tuple[str, ...]
    debconf: tuple[str, ...]

    def text(self) -> str:
        """The job as stdin."""
        return json.dumps(asdict(self))


def overlay(name: str, root: Path, lowers: Sequence[str], upper: Path, work: Path) -> None:
    """Mounts an overlay without syncs, called `name` in the mount table.

    The kernel marks such a work folder, to refuse it after a crash of the box (overlayfs, "Volatile
    mount"). It marks clean ends as well, so the mark goes: a lab is not worth a refusal.
    """
    for path in (root, upper, work):
        path.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work / "work" / "incompat", ignore_errors=True)
    options = f"lowerdir={':'.join(lowers)},upperdir={upper},workdir={work},volatile"
    _run("mount", "-t", "overlay", "-o", options, name, str(root))


def main() -> None:
    """Does the job; the exit code is that of the step that failed."""
    job = Job(**json.load(sys.stdin))
    root = Path(job.root)
    overlay("mastio-install", root, job.lowers, Path(job.upper), Path(job.work))
    mounts = [
        ("-t", "proc", "proc", "proc"), ("--rbind", "/dev", "dev"),
        ("-t", "tmpfs", "tmpfs", "run"), ("-t", "tmpfs", "tmpfs", "tmp"),
        ("--bind", job.lists, "var/lib/apt/lists"), ("--bind", job.sources, "etc/apt/sources.list"),
        ("--bind", "/etc/hosts", "etc/hosts"), ("--bind", "/etc/resolv.conf", "etc/resolv.conf"),
    ]  # fmt: skip
    for *how, where in mounts:
        _run("mount", *how, str(root / where))
    if job.packages:
        _install(root, job)
    else:
        _run("mount", "--bind", job.downloads, str(root / "var/cache/apt/archives"))
        _chroot(root, _apt(job, "update"))
        _chroot(root, _apt(job, "autoclean"))


def _install(root: Path, job: Job) -> None:
    # apt locks its folder of downloads: each job has its own, with the same files by hard links.
    shared, own = Path(job.downloads), Path(f"{job.work}.debs")
    (own / "partial").mkdir(parents=True)
    for deb in shared.glob("*.deb"):
        os.link(deb, own / deb.name)
    _run("mount", "--bind", str(own), str(root / "var/cache/apt/archives"))
    blocker = root / "usr/sbin/policy-rc.d"
    blocker.write_text(_BLOCK)
    blocker.chmod(0o755)
    if job.debconf:
        _chroot(root, ["debconf-set-selections"], "".join(f"{line}\n" for line in job.debconf))
    _chroot(root, _apt(job, "--no-install-recommends", "install", *job.packages))
    blocker.unlink()
    for deb in own.glob("*.deb"):
        if not (shared / deb.name).exists():
            os.link(deb, shared / f"{deb.name}.{os.getpid()}.part")
            (shared / f"{deb.name}.{os.getpid()}.part").replace(shared / deb.name)
    shutil.rmtree(own)


def _apt(job: Job, *arguments: str) -> list[str]:
    return [*_APT, *(word for it in job.settings for word in ("-o", it)), *arguments]


def _chroot(root: Path, argv: Sequence[str], stdin: str = "") -> None:
    _run("chroot", str(root), *argv, stdin=stdin, env=_ENV)


def _run(*argv: str, stdin: str = "", env: dict[str, str] | None = None) -> None:
    done = subprocess.run(argv, input=stdin, text=True, env=env, capture_output=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        telling = [line for line in lines if line.startswith("E:")]
        raise OSError(f"{argv[0]}: {(telling or lines or ['failed'])[0]}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(str(error))
