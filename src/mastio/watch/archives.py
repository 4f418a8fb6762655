"""What watch has archived, as restoring and drills read it: which archives there are, what is in one, and it as tar.

    with reading("store") as archives:
        one = choose(archives.all(), at, "store")
        with archives.tar(one.name, paths) as stream: …

borg decrypts here, on watch, which has the keys; no machine needs one to get its own back.
"""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from mastio.errors import Exit, MastioError
from mastio.roles.backup import FOLDER
from mastio.watch.backing import Backing
from mastio.watch.borg import Archive, environment, telling

_SECONDS = 600
_CHUNK = 1 << 20


def choose(found: Sequence[Archive], at: float | None, machine: str) -> Archive:
    """The newest, or the newest that was begun by then. Raises MastioError when there is none."""
    fitting = [it for it in found if at is None or it.at <= at]
    if fitting:
        return max(fitting, key=lambda it: it.at)
    if not found:
        raise MastioError(
            f"{machine} has no archive yet", hint="`mastio backup now` makes one", code=Exit.DATA
        )
    first = datetime.fromtimestamp(min(it.at for it in found), UTC)
    raise MastioError(
        f"no archive of {machine} is that old: the first is of {first:%Y-%m-%d %H:%M:%S} UTC",
        hint="`mastio backup list` names all", code=Exit.DATA,
    )  # fmt: skip


class Archives:
    """A machine's repository on watch."""

    def __init__(self, machine: str, repository: str, environment: Mapping[str, str]) -> None:
        self.machine = machine
        self._repository = repository
        self._env = {**os.environ, **environment, "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def all(self) -> list[Archive]:
        """The archives, the oldest first."""
        rows = json.loads(self._run("list", "--json", self._repository))["archives"]
        return [
            Archive(it["name"], it["id"], datetime.fromisoformat(it["start"]).replace(tzinfo=UTC).timestamp())
            for it in rows
        ]  # fmt: skip

    def entries(self, archive: str, paths: Iterable[str]) -> list[tuple[str, int]]:
        """Regular files at or below `paths`, and their sizes."""
        said = self._run("list", "--json-lines", f"{self._repository}::{archive}", *paths)
        rows = (json.loads(line) for line in said.splitlines())
        return [(it["path"], it["size"]) for it in rows if it["type"] == "-"]

    def homes(self, archive: str, vmail: str) -> list[str]:
        """The addresses that have a mailbox in it."""
        said = self._run(
            "list", "--format", "{path}{NL}", f"{self._repository}::{archive}",
            "--pattern", f"+re:^{vmail}/[^/]+/[^/]+$", "--pattern", "!re:^.+/.+/.+/.+/.+$", "--pattern", "-re:.*",
        )  # fmt: skip
        rows = (line.removeprefix(f"{vmail}/").split("/") for line in said.splitlines())
        return sorted(f"{row[1]}@{row[0]}" for row in rows if len(row) == 2)

    @contextmanager
    def tar(
        self, archive: str, paths: Sequence[str], *, exact: bool = False
    ) -> Iterator[IO[bytes]]:
        """All at or below `paths` (`exact`: these files alone, however many), as a tar stream.

        Raises MastioError at its end when borg could not read it whole.
        """
        with ExitStack() as stack:
            patterns = stack.enter_context(tempfile.NamedTemporaryFile("w", prefix="patterns."))
            words = ["export-tar"]
            if exact:
                # Full paths cost no more to look up when there are a hundred thousand (borg patterns).
                patterns.writelines(f"+pf:{it}\n" for it in paths)
                patterns.write("-re:.*\n")
                patterns.flush()
                words += ["--patterns-from", patterns.name]
            else:
                # An argument is a pattern when it looks like one.
                paths = [f"pp:{it}" for it in paths]
            words += [f"{self._repository}::{archive}", "-", *(() if exact else paths)]
            complaints = stack.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(
                ["borg", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints,
                env=self._env,
            )  # fmt: skip
            assert process.stdout  # noqa: S101 — it is PIPE
            with process:
                try:
                    yield process.stdout
                    # Whoever reads a tar archive may stop at its end mark, before the last of its blocks.
                    while process.stdout.read(_CHUNK):
                        pass
                except BaseException:
                    process.kill()
                    raise
            if process.returncode > 1:
                complaints.seek(0)
                raise self._unreadable(complaints.read())

    def text(self, archive: str, paths: Sequence[str]) -> dict[str, str]:
        """The content of small files, by their paths."""
        if not paths:
            return {}
        found = {}
        with (
            self.tar(archive, paths, exact=True) as stream,
            tarfile.open(fileobj=stream, mode="r|") as files,
        ):
            for it in files:
                if it.isfile() and (inner := files.extractfile(it)):
                    found[it.name] = inner.read().decode(errors="replace")
        return found

    def _run(self, *words: str) -> str:
        try:
            done = subprocess.run(
                ["borg", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                timeout=_SECONDS, env=self._env,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise MastioError(
                f"borg did not answer within {_SECONDS} s", code=Exit.UNAVAILABLE
            ) from None
        if done.returncode > 1:
            raise self._unreadable(done.stderr.encode())
        return done.stdout

    def _unreadable(self, said: bytes) -> MastioError:
        return MastioError(
            f"the archives of {self.machine} cannot be read: {telling(said.decode(errors='replace'))}",
            hint="`mastio backup verify` tells more",
        )


@contextmanager
def reading(machine: str, patience: float = 900.0) -> Iterator[Archives]:
    """The machine's archives as they are now, for as long as it takes, without keeping backups from going on.

    Segments of a repository are written once and never changed: links to them are a copy that costs nothing, and that
    neither a new archive nor a compaction touches. It is made while no backup is at work, which is waited for,
    `patience` seconds at most.
    """
    repository, alone = Path(FOLDER) / machine, Backing(machine, ()).alone
    if not (repository / "config").exists():
        raise MastioError(
            f"{machine} has no archive yet", hint="`mastio backup now` makes one", code=Exit.DATA
        )
    for left in repository.parent.glob(f".reading-{machine}-*"):
        if not Path(f"/proc/{left.name.rpartition('-')[2]}").exists():
            shutil.rmtree(left, ignore_errors=True)  # its reader was cut short
    copy = repository.parent / f".reading-{machine}-{os.getpid()}"
    shutil.rmtree(copy, ignore_errors=True)
    end = time.monotonic() + patience
    while True:
        try:
            with alone():
                _linked(repository, copy / "repository")
            break
        except MastioError as error:
            if error.code is not Exit.LOCKED or time.monotonic() > end:
                raise
            time.sleep(2)
    try:
        yield Archives(
            machine,
            str(copy / "repository"),
            {**environment(machine), "BORG_BASE_DIR": str(copy / "base")},
        )
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _linked(repository: Path, copy: Path) -> None:
    """Data by links; what borg may write anew, and locks, not."""

    def one(source: str, target: str) -> None:
        if Path(source).parent.parent.name == "data":
            os.link(source, target)
        else:
            shutil.copy2(source, target)

    copy.parent.mkdir(mode=0o700)
    shutil.copytree(repository, copy, copy_function=one, ignore=shutil.ignore_patterns("lock.*"))
