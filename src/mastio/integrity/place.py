"""What watch keeps of measurements: a folder that only root may enter.

| there | what |
|---|---|
| `tools/*.gz` | AIDE, its libraries and their loader, as they are brought to machines |
| `MACHINE/reference.db.gz`, `reference.json` | what the machine is to be |
| `MACHINE/last.db.gz`, `last.json` | what it was found to be, and what differs |
| `seal.json` | SHA-256 of tools and references; written by what changes them, and by nothing else |
| `log.jsonl` | what was accepted, by whom, when, why; each line holds the SHA-256 of the line before |
| `status.json` | verdicts without details, for `mastio verify` |

AIDE signs nothing. An edit of a reference on watch's disk shows by the seal; an edit of the seal as well shows to the
administrator, whose site folder remembers the seal that apply or accept left (`mastio integrity status`). And each seal
that was ever set stands in watch's log, of which what came is signed each hour with a key that is then gone
(mastio.logs.chain): what the references were, nobody can change afterwards.
"""

import fcntl
import gzip
import hashlib
import json
import syslog
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Any

from mastio.files import put
from mastio.integrity import database
from mastio.integrity.database import Row
from mastio.integrity.difference import Difference, Kind
from mastio.roles.integrity.measure import digest

IDENT = "mastio-integrity"
"""The tag of what it logs."""
SEALED = "references are sealed:"
"""What the log says then, before the SHA-256 of `seal.json`."""


class Verdict(StrEnum):
    """How a machine was found."""

    CLEAN = "clean"
    DIFFERS = "differs"
    UNKNOWN = "could not be measured"


@dataclass(frozen=True, slots=True)
class Reference:
    """What a machine is to be."""

    at: float
    """When it was last taken or changed, in seconds since the epoch."""
    by: str
    facts: Mapping[str, list[str]]
    packages: Mapping[str, str]
    rows: Mapping[str, Row] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Last:
    """The last measurement of a machine."""

    at: float
    verdict: Verdict
    why: str = ""
    """Why it could not be measured."""
    differences: tuple[Difference, ...] = ()
    seconds: float = 0.0
    cpu: float = 0.0
    measured: float = 0.0
    """When it could last be measured."""
    tampered: bool = False
    """It could not be measured since what measuring stands on is not what it was."""


class Place:
    """The folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writing = Lock()
        """Held by threads while seal and log are written."""

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One at a time: waits for another that is at work (flock(2))."""
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    # --- tools ---

    def tools(self) -> dict[str, bytes]:
        """The tools by name; none before `mastio apply` has had them gathered. Only what is sealed can be trusted, or
        even be read."""
        folder = self.folder / "tools"
        found = {
            it.stem: gzip.decompress(it.read_bytes()) for it in sorted(folder.glob("[!.]*.gz"))
        }
        return dict(sorted(found.items()))

    def keep_tools(self, tools: Mapping[str, bytes]) -> None:
        """Instead of those that are there."""
        folder = self.folder / "tools"
        folder.mkdir(mode=0o700, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for name, data in tools.items():
            # Packed: verification looks for secrets by content, and a library has many patterns in it.
            put(folder / f"{name}.gz", gzip.compress(data, 6, mtime=0))

    # --- references ---

    def reference(self, machine: str) -> Reference | None:
        """None when none was taken yet; ValueError when it is not whole."""
        try:
            head = json.loads((self.folder / machine / "reference.json").read_text())
            rows = _rows(self.folder / machine / "reference.db.gz")
        except FileNotFoundError:
            return None
        try:
            return Reference(head["at"], head["by"], head["facts"], head["packages"], rows)
        except KeyError as error:
            raise ValueError(f"{machine}: the reference lacks {error}") from None

    def keep_reference(self, machine: str, it: Reference) -> None:
        """The seal must be set anew after this."""
        folder = self.folder / machine
        folder.mkdir(mode=0o700, exist_ok=True)
        put(folder / "reference.db.gz", _packed(it.rows))
        head = {"at": it.at, "by": it.by, "facts": it.facts, "packages": it.packages}
        put(folder / "reference.json", json.dumps(head, indent=1).encode())

    # --- measurements ---

    def last(self, machine: str) -> Last | None:
        """The last measurement; None when there was none."""
        try:
            data = json.loads((self.folder / machine / "last.json").read_text())
        except FileNotFoundError:
            return None
        found = tuple(
            Difference(it["what"], Kind(it["kind"]), it["words"]) for it in data["differences"]
        )
        return Last(**{**data, "verdict": Verdict(data["verdict"]), "differences": found})

    def last_seen(
        self, machine: str
    ) -> tuple[dict[str, Row], dict[str, list[str]], dict[str, str]]:
        """What was measured then: rows, facts, packages."""
        seen = json.loads((self.folder / machine / "seen.json").read_text())
        return _rows(self.folder / machine / "last.db.gz"), seen["facts"], seen["packages"]

    def keep_last(self, machine: str, last: Last) -> None:
        """How it was found."""
        (self.folder / machine).mkdir(mode=0o700, exist_ok=True)
        put(self.folder / machine / "last.json", json.dumps(asdict(last), indent=1).encode())

    def keep_seen(
        self, machine: str, rows: Mapping[str, Row], facts: Mapping[str, list[str]], packages: Mapping[str, str]
    ) -> None:  # fmt: skip
        """What was found, for who accepts it later."""
        folder = self.folder / machine
        folder.mkdir(mode=0o700, exist_ok=True)
        put(folder / "last.db.gz", _packed(rows))
        put(folder / "seen.json", json.dumps({"facts": facts, "packages": packages}).encode())

    # --- the seal ---

    def seal(self, part: str) -> None:
        """Says that `tools`, or a machine's reference, is as it should be; of the rest it says nothing new.

        The log (syslog(3)) gets what identifies the new seal.
        """
        sealed = {it: value for it, value in self._sealed().items() if it.split("/")[0] != part}
        now = {it: value for it, value in self._sums().items() if it.split("/")[0] == part}
        put(
            self.folder / "seal.json",
            json.dumps({**sealed, **now}, indent=1, sort_keys=True).encode(),
        )
        syslog.openlog(IDENT, facility=syslog.LOG_AUTH)
        syslog.syslog(syslog.LOG_NOTICE, f"{SEALED} {self.seal_digest()} ({part})")

    def seal_digest(self) -> str:
        """What identifies the seal."""
        try:
            return hashlib.sha256((self.folder / "seal.json").read_bytes()).hexdigest()
        except FileNotFoundError:
            return ""

    def broken(self) -> tuple[str, ...]:
        """What is not as it was sealed, as paths in the folder."""
        try:
            sealed = self._sealed()
        except ValueError:
            return ("seal.json",)
        now = self._sums()
        return tuple(
            it for it in sorted(sealed.keys() | now.keys()) if sealed.get(it) != now.get(it)
        )

    def _sealed(self) -> dict[str, str]:
        try:
            found = json.loads((self.folder / "seal.json").read_text())
        except FileNotFoundError:
            return {}
        if not isinstance(found, dict):
            raise ValueError("not a seal")
        return found

    def _sums(self) -> dict[str, str]:
        files = (*self.folder.glob("tools/[!.]*"), *self.folder.glob("*/reference.*"))
        return {
            str(it.relative_to(self.folder)): hashlib.sha256(it.read_bytes()).hexdigest()
            for it in sorted(files)
        }

    def tools_digest(self) -> str:
        """What identifies the tools; empty when there are none."""
        if any(it.startswith("tools/") for it in self.broken()):
            return ""
        tools = self.tools()
        return digest(tools) if tools else ""

    # --- the log ---

    def log(self, **entry: Any) -> None:
        """Adds what was accepted."""
        path = self.folder / "log.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        before = hashlib.sha256(lines[-1]).hexdigest() if lines else ""
        with path.open("a") as file:
            # Without spaces, lest a line looks like the header of a message (verify/probes/disk.py).
            file.write(json.dumps({**entry, "before": before}, separators=(",", ":")) + "\n")

    def entries(self) -> tuple[list[dict[str, Any]], bool]:
        """What was accepted, the oldest first, and whether each line follows the one before it."""
        path = self.folder / "log.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        found = [json.loads(it) for it in lines]
        sums = ["", *(hashlib.sha256(it).hexdigest() for it in lines)]
        return found, all(it["before"] == want for it, want in zip(found, sums, strict=False))


def _packed(rows: Mapping[str, Row]) -> bytes:
    return gzip.compress(database.render(rows).encode(), 6, mtime=0)


def _rows(path: Path) -> dict[str, Row]:
    try:
        return database.parse(gzip.decompress(path.read_bytes()).decode())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: {error}") from None
