"""The second copy: each night the newest archive of each machine goes into another repository, elsewhere.

borg-export-tar(1) and borg-import-tar(1): the archive is read whole and written anew, so the copy shares neither
segments nor chunks with the first, and that the newest archive can be read is shown each night as well.
"""

import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

from mastio.errors import MastioError
from mastio.files import put
from mastio.roles.backup import KEYS
from mastio.site.model import Site
from mastio.watch.backing import Backing
from mastio.watch.borg import Archive, Distant, Repository, telling


def copy(backing: Backing, site: Site) -> None:
    """Copies the newest archive, unless it is there. Raises MastioError."""
    target = _target(site, backing.machine)
    _unlock(target, backing)
    source = backing.repository
    whole = [it for it in source.archives() if not it.name.endswith(".checkpoint")]
    if not whole:
        return
    newest = whole[-1]
    if newest.name not in {it.name for it in target.archives()}:
        _carry(source, target, newest)
    target.prune(site.backup)
    known = backing.known
    known.copied = newest.at
    backing.keep(known)


def _unlock(target: Repository, backing: Backing) -> None:
    """The copy is there, and its key locked by the passphrase that the site has now (`mastio secrets rotate`)."""
    wanted, locked = Path(KEYS, backing.machine).read_text(), backing.noted("copy-passphrase")
    if locked.exists() and (old := locked.read_text()) != wanted:
        try:
            target.relock(old, wanted)
        except MastioError as error:
            if "does not exist" not in error.message:  # the site file names another place now
                raise
    if not target.made():
        target.make()
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
    return Repository(machine, place / name)


def _carry(source: Repository, target: Repository, archive: Archive) -> None:
    name, when = archive.name, f"{datetime.fromtimestamp(archive.at, UTC):%Y-%m-%dT%H:%M:%S}"
    begin = time.monotonic()
    out = subprocess.Popen(
        ["borg", "export-tar", f"{source.name}::{name}", "-"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=source.environment,
    )  # fmt: skip
    done = subprocess.run(
        ["borg", "import-tar", "--timestamp", when, "--compression", "zstd,3", f"{target.name}::{name}", "-"],
        stdin=out.stdout, capture_output=True, text=True, check=False, env=target.environment,
    )  # fmt: skip
    said = out.communicate()[1].decode(errors="replace")
    if out.returncode or done.returncode:
        what = telling(said) if out.returncode else telling(done.stderr)
        raise MastioError(f"{name} was not copied ({time.monotonic() - begin:.0f} s): {what}")
