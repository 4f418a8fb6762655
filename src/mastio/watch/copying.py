"""The second copy: each night the newest archive of each machine goes into another repository, elsewhere.

borg-export-tar(1) and borg-import-tar(1): the archive is read whole and written anew, so the copy shares neither
segments nor chunks with the first, and that the newest archive can be read is shown each night as well. That may take
hours. Archives of the machine go on meanwhile: reading needs no lock of borg's, since nothing prunes before it ends.
"""

import os
import select
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from mastio.errors import MastioError
from mastio.files import put
from mastio.roles.backup import FOLDER, KEYS
from mastio.site.model import Site
from mastio.watch.backing import Backing
from mastio.watch.borg import Archive, Distant, Repository, telling

_PART = ".part"
"""What an archive is called while it comes."""
_OPENS = 600.0
"""Seconds in which borg begins to read an archive."""


def copy(backing: Backing, site: Site) -> None:
    """Copies the newest archive, unless it is there; holds the machine's lock for moments only. Raises MastioError."""
    target = _target(site, backing.machine)
    _unlock(target, backing)
    there = [it.name for it in target.archives()]
    for name in there:
        if name.endswith(_PART):  # a night that was cut short
            target.run("delete", f"{target.name}::{name}")
    source = backing.repository
    with backing.alone():
        whole = [it for it in source.archives() if not it.name.endswith(".checkpoint")]
        if not whole:
            return
        newest = whole[-1]
        coming = None if newest.name in there else _Export(source, newest)
    if coming:
        coming.into(target)
    target.prune(site.backup)
    with backing.alone():
        known = backing.known
        known.copied = newest.at
        backing.keep(known)


def _unlock(target: Repository, backing: Backing) -> None:
    """The copy is there, and its key locked by the passphrase that the site has now (`mastio secrets rotate`)."""
    wanted, locked = Path(KEYS, backing.machine).read_text(), backing.noted("copy-passphrase")
    place = backing.noted("copy-place")
    if locked.exists() and (old := locked.read_text()) != wanted:
        try:  # before it is asked for anything else, which the new passphrase would not open
            target.relock(old, wanted)
        except MastioError as error:
            if "does not exist" not in error.message:
                raise
    if not target.made():
        if place.exists() and place.read_text() == target.name:
            raise MastioError(
                f"{target.name}, where copies were, is gone",
                hint="bring its disk back; to begin anew, name another folder in `backup.copy`",
            )
        target.make()
    put(place, target.name)
    put(locked, wanted)


def _target(site: Site, machine: str) -> Repository:
    name = f"{site.name}-{machine}"
    if site.backup.copied_by_ssh:
        return Distant(machine, f"{site.backup.copy}/{name}")
    place = Path(site.backup.copy)
    if not place.is_dir():
        raise MastioError(
            f"the second copy's folder {place} is not there", hint="mount it on watch"
        )
    if place.stat().st_dev == Path(FOLDER).stat().st_dev:
        raise MastioError(
            f"the second copy's folder {place} stands on the same disk as the archives",
            hint="mount another machine's disk there",
        )
    return Repository(machine, place / name)


class _Export:
    """An archive that is being read, from the moment on when nothing else need wait for it."""

    def __init__(self, source: Repository, archive: Archive) -> None:
        self._archive, self._began = archive, time.monotonic()
        # Complaints go into a file: a pipe that nobody empties would stop borg.
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 — closed with the process
        self._process = subprocess.Popen(
            ["borg", "--bypass-lock", "export-tar", f"{source.name}::{archive.name}", "-"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._complaints, env=source.environment,
        )  # fmt: skip
        assert self._process.stdout  # noqa: S101 — it is PIPE
        select.select([self._process.stdout], [], [], _OPENS)

    def into(self, target: Repository) -> None:
        """Writes it there; it has its name when it is whole. Raises MastioError."""
        name, out = self._archive.name, self._process.stdout
        when = f"{datetime.fromtimestamp(self._archive.at, UTC):%Y-%m-%dT%H:%M:%S}"
        part = f"{target.name}::{name}{_PART}"
        with self._complaints, tempfile.TemporaryFile() as refusals:
            with subprocess.Popen(
                ["borg", "import-tar", "--timestamp", when, "--compression", "zstd,3", part, "-"],
                stdin=out, stdout=subprocess.DEVNULL, stderr=refusals, env=target.environment,
            ) as taking:  # fmt: skip
                # Only who takes it may have this end: then reading ends when taking does.
                assert out  # noqa: S101 — it is PIPE
                out.close()
                taken = taking.wait()
            read = self._process.wait()
            if taken or read:
                # Who takes nothing more ends the reading, too: its words are the ones that tell.
                what = telling(_text(refusals)) if taken else telling(_text(self._complaints))
                seconds = time.monotonic() - self._began
                raise MastioError(f"{name} was not copied ({seconds:.0f} s): {what}")
        target.run("rename", part, name)


def _text(file: IO[bytes]) -> str:
    """The end of what was complained of."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - 10_000))
    return file.read().decode(errors="replace")
