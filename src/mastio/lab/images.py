"""The machines' disks before they are machines: one base of Debian 13, and a layer for each package list.

    CACHE/images/BASE/root             Debian 13 with systemd, networkd, sshd, python3
    CACHE/images/BASE/lists            the archive's package lists, and
    CACHE/images/BASE/sources.list     where they came from; neither is in the image
    CACHE/images/BASE/layers/LAYER     what installing packages changed: an overlay's upper side
    CACHE/debs                         every .deb ever fetched that the archive still has
    CACHE/roots/SITE.MACHINE           a link to each machine that stands on some of these

BASE and LAYER are digests of all that the result depends on: recipe, packages, debconf answers, and
the security archive's package index, so that a fix makes new images. An image is built aside and renamed:
what has its final name is whole. With the mirror away, what is cached is used.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import mastio
from mastio.errors import Exit, MastioError
from mastio.lab import command, mirror, paths
from mastio.lab.host import KEYRING
from mastio.lab.install import Job

SUITE = "trixie"
_PACKAGES = (
    "ca-certificates", "dbus", "iproute2", "iputils-ping", "less", "nftables", "openssh-server",
    "openssl", "procps", "python3", "systemd", "systemd-sysv",
)  # fmt: skip
"""What an administrator finds on a fresh Debian server that was installed with just ssh."""
_EXCLUDED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
_INCLUDED = (
    "/usr/share/doc/*/copyright",
    "/usr/share/doc/*/examples/*",
    "/usr/share/doc/*/example*",
)
_HOOKS = (
    # Only while building, which starts anew after a crash, dpkg need not wait for the disk.
    'sed -i /force-unsafe-io/d "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap',
    # Each machine gets a name, an identity and keys of its own (mastio.lab.bootstrap).
    'rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname "$1"/etc/machine-id',
    'rm -f "$1"/etc/resolv.conf; : > "$1"/etc/resolv.conf; : > "$1"/etc/apt/sources.list',
    'chroot "$1" systemctl --quiet enable systemd-networkd.service',
    # They cost boot time and need an internet that is not there.
    'chroot "$1" systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer',
    'chroot "$1" systemctl --quiet mask systemd-networkd-wait-online.service'
    " systemd-networkd-persistent-storage.service",
)
"""mmdebstrap runs these by sh with the new root as $1."""
BASE = {"packages": _PACKAGES, "excluded": _EXCLUDED, "included": _INCLUDED, "hooks": _HOOKS}
"""How a plain Debian is made, for whoever makes it elsewhere."""
_RECIPE = (SUITE, _PACKAGES, _EXCLUDED, _INCLUDED, _HOOKS)
_PATIENCE = 4
"""Seconds that the mirror has to answer before the cache must do."""
_UNUSED = 14 * 24 * 3600
"""Seconds after which a layer that nobody stands on goes."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is installed beside the base."""

    packages: tuple[str, ...]
    debconf: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """Keys of a base and a layer on it."""

    base: str
    layer: str

    @property
    def folder(self) -> Path:
        """The base's folder."""
        return paths.cache() / "images" / self.base

    @property
    def path(self) -> Path:
        """The layer's folder."""
        return self.folder / "layers" / self.layer

    def lowers(self) -> tuple[str, ...]:
        """The overlay's lower folders, the upmost first."""
        return str(self.path), str(self.folder / "root")


class Images:
    """The cache, held for one run: `with Images.held(note) as images: images.build(…)`."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._cache = paths.cache()
        self._mirror = mirror.find()

    @classmethod
    @contextmanager
    def held(cls, note: Callable[[str], None]) -> "Iterator[Images]":
        """The cache under its lock, cleared of what an interrupted build left."""
        images = cls(note)
        cache = images._cache
        for folder in ("images", "debs", "roots"):
            (cache / folder).mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                note("waiting for another mastio that builds images")
                fcntl.flock(lock, fcntl.LOCK_EX)
            for stale in cache.glob("making.*"):
                shutil.rmtree(stale)
            yield images

    def build(self, recipes: Collection[Recipe]) -> dict[Recipe, Image]:
        """An image for each recipe; what is not cached is built, layers side by side."""
        base = self._key(_RECIPE, self._digest)
        folder = self._cache / "images" / base
        fresh = not folder.exists()
        if fresh:
            self._note("Debian 13: the base")
            self._make(folder, self._bootstrap)
        images = {
            recipe: Image(base, self._key(base, sorted(recipe.packages), recipe.debconf))
            for recipe in recipes
        }
        lacking = {it: recipe for recipe, it in images.items() if not it.path.exists()}
        if lacking:
            if not fresh:
                self._refresh(base)
            self._note(f"{len(lacking)} package layer{'s' * (len(lacking) > 1)}")
            with ThreadPoolExecutor(max_workers=len(lacking)) as pool:
                made = [
                    pool.submit(self._make, image.path, self._layer(base, recipe))
                    for image, recipe in lacking.items()
                ]
            for each in made:
                each.result()
        for image in images.values():
            os.utime(image.path)
        self._prune(base)
        return images

    def add(self, image: Image, machine: Path, recipe: Recipe) -> None:
        """Installs packages into the machine in folder `machine`, which does not run; it keeps the rest."""
        making = self._cache / f"making.{machine.name}"
        self._refresh(image.base)
        upper, work = str(machine / "upper"), str(machine / "work")
        job = self._job(image.base, making, recipe)
        self._install(replace(job, lowers=image.lowers(), upper=upper, work=work))
        shutil.rmtree(making)

    def enlist(self, name: str, machine: Path) -> None:
        """Notes that the machine in folder `machine` stands on the images in its record."""
        link = self._cache / "roots" / name
        link.unlink(missing_ok=True)
        link.symlink_to(machine)

    # --- keys ---

    @staticmethod
    def _key(*parts: object) -> str:
        return sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @cached_property
    def _digest(self) -> str:
        """Digest of the security archive's package index, from the mirror or as last seen."""
        seen, release = self._cache / "security", self._cache / "InRelease"
        url = f"{self._mirror.security}/dists/{SUITE}-security/InRelease"
        argv = [
            "/usr/lib/apt/apt-helper", "-o", f"Acquire::http::Timeout={_PATIENCE}",
            "-o", "Acquire::Retries=0", "download-file", url, str(release),
        ]  # fmt: skip
        try:
            fetched = not subprocess.run(
                argv, capture_output=True, timeout=2 * _PATIENCE, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            fetched = False
        lines = release.read_text().splitlines() if fetched else []
        release.unlink(missing_ok=True)
        indexes = sorted(
            {it.strip() for it in lines if "main/binary-" in it and it.endswith("/Packages")}
        )
        if indexes:
            seen.write_text(self._key(indexes))
        elif not seen.exists():
            raise self._away(url)
        else:
            self._note(f"warning: {url} does not answer; what is cached will do")
        return seen.read_text()

    @staticmethod
    def _away(url: str) -> MastioError:
        return MastioError(
            f"{url} does not answer, and there is no image in the cache yet",
            hint=f"does `apt update` work on this box? {mirror.SETTING} sets another mirror's URL",
            code=Exit.UNAVAILABLE,
        )

    # --- building ---

    def _make(self, final: Path, work: Callable[[Path], Path]) -> None:
        """Lets `work` fill a folder and say which part of it becomes `final` when all is well."""
        making = self._cache / f"making.{final.name}"
        making.mkdir()
        try:
            work(making).rename(final)
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _bootstrap(self, making: Path) -> Path:
        base = making / "base"
        debs, lists = self._cache / "debs", base / "lists"
        lists.mkdir(parents=True)
        (base / "layers").mkdir()
        sources = making / "sources.list"
        sources.write_text(self._mirror.sources(SUITE, f"signed-by={KEYRING}"))
        archives = "/var/cache/apt/archives"
        hooks = [
            f"--customize-hook={it}"
            for it in (
                f"sync-out {archives} {debs}",
                f'rm -f "$1"{archives}/*.deb',
                f"sync-out /var/lib/apt/lists {lists}",
                *_HOOKS,
            )
        ]
        self._contained(
            [
                "mmdebstrap", "--mode=root", "--variant=apt", f"--include={','.join(_PACKAGES)}",
                "--skip=download/empty", "--skip=essential/unlink", "--skip=cleanup/apt/cache",
                f'--setup-hook=mkdir -p "$1"{archives}', f"--setup-hook=sync-in {debs} {archives}",
                *hooks, *(f"--aptopt={it}" for it in ('Acquire::Languages "none"', *self._settings)),
                "--dpkgopt=force-unsafe-io", *(f"--dpkgopt=path-exclude={it}" for it in _EXCLUDED),
                *(f"--dpkgopt=path-include={it}" for it in _INCLUDED),
                SUITE, str(base / "root"), str(sources),
            ],
            "the base image",
        )  # fmt: skip
        (base / "sources.list").write_text(self._mirror.sources(SUITE))
        return base

    def _layer(self, base: str, recipe: Recipe) -> Callable[[Path], Path]:
        def work(making: Path) -> Path:
            (making / "upper").mkdir()
            if recipe.packages:
                self._install(self._job(base, making, recipe))
            return making / "upper"

        return work

    def _refresh(self, base: str) -> None:
        """Brings the package lists up to date, and drops downloads that the archive no longer has."""
        making = self._cache / "making.refresh"
        # Lists belong to their mirror; with another one, these are new.
        (self._cache / "images" / base / "sources.list").write_text(self._mirror.sources(SUITE))
        try:
            self._install(self._job(base, making, Recipe(())))
        except MastioError as error:
            self._note(f"warning: {error.message}; what is cached will do")
        shutil.rmtree(making)

    def _job(self, base: str, making: Path, recipe: Recipe) -> Job:
        """A job on the base alone, whose upper side is MAKING/upper."""
        folder = self._cache / "images" / base
        return Job(
            str(making / "mnt"), (str(folder / "root"),), str(making / "upper"), str(making / "work"),
            str(folder / "lists"), str(self._cache / "debs"), str(folder / "sources.list"), tuple(self._settings),
            tuple(sorted(recipe.packages)), recipe.debconf,
        )  # fmt: skip

    def _install(self, job: Job) -> None:
        what = ", ".join(job.packages[:3]) + (", …" if len(job.packages) > 3 else "")
        self._contained(
            [sys.executable, "-m", "mastio.lab.install"],
            f"installing {what}" if what else "the package lists",
            job.text(),
        )

    @cached_property
    def _settings(self) -> list[str]:
        """The box's own proxy settings, which its mirror may need (apt-transport-http(1))."""
        lines = command.run(["apt-config", "dump", "Acquire"]).splitlines()
        return [line.rstrip(";") for line in lines if "::Proxy" in line.partition(" ")[0]]

    @staticmethod
    def _contained(argv: Sequence[str], what: str, stdin: str = "") -> None:
        """Runs `argv` in namespaces that die with it, and it with us, even by SIGKILL."""
        prefix = [
            "setpriv", "--pdeathsig", "KILL", "--",
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
        ]  # fmt: skip
        # `python -m` must find this very package, wherever it was started from.
        here = str(Path(mastio.__file__).parent.parent)
        try:
            command.run([*prefix, *argv], stdin, what=what, env={"PYTHONPATH": here})
        except MastioError as error:
            raise MastioError(
                error.message,
                hint="does `apt update` work on this box, and is its debian-archive-keyring current? "
                f"{mirror.SETTING} sets another mirror's URL",
                code=Exit.UNAVAILABLE,
            ) from None

    # --- cleaning ---

    def _prune(self, current: str) -> None:
        """Removes images that no machine stands on: superseded bases, and layers long unused."""
        kept = {current}
        for link in (self._cache / "roots").iterdir():
            record = link / "machine.json"
            if not record.exists():
                link.unlink()
                continue
            data = json.loads(record.read_text())
            kept |= {data["base"], data["layer"]}
        bases = [it for it in (self._cache / "images").iterdir() if it.name not in kept]
        layers = [
            it
            for it in (self._cache / "images" / current / "layers").iterdir()
            if it.name not in kept and time.time() - it.stat().st_mtime > _UNUSED
        ]
        for folder in (*bases, *layers):
            # Renamed first: half an image must never have an image's name.
            shutil.rmtree(folder.rename(self._cache / f"making.{folder.name}"))
