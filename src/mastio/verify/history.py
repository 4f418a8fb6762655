"""What former verifications found: one small JSON file for each, in the site's folder `history`.

    history/2026-11-24T151204Z.json

Only verdicts are kept, and for how long it took: what a report compares with. The newest `KEPT` stay.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mastio.errors import Exit, MastioError
from mastio.verify.model import Run, Verdict

FOLDER = "history"
KEPT = 500


@dataclass(frozen=True, slots=True)
class Past:
    """A former run: its verdicts by `CHECK@vantage`."""

    began: datetime
    seconds: float
    full: bool
    verdicts: Mapping[str, Verdict]

    def count(self, verdict: Verdict) -> int:
        """How many findings had a verdict."""
        return sum(it is verdict for it in self.verdicts.values())


@dataclass(frozen=True, slots=True)
class Change:
    """A finding that is not what it was the last time it was looked for."""

    key: str
    was: Verdict
    now: Verdict


def past(run: Run) -> Past:
    """What is kept of a run."""
    verdicts = {it.key: it.verdict for it in run.findings}
    return Past(run.began, run.seconds, run.full, verdicts)


def load(folder: Path) -> tuple[Past, ...]:
    """All former runs, the oldest first. A file that cannot be read is left out."""
    found = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            found.append(_read(json.loads(path.read_text())))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # half a file of a run that was killed tells nothing
    return tuple(found)


def save(folder: Path, run: Run) -> None:
    """Keeps a run; MastioError when the folder cannot be written."""
    one = past(run)
    data = {
        "began": one.began.isoformat(),
        "seconds": round(one.seconds, 2),
        "full": one.full,
        "verdicts": {key: str(verdict) for key, verdict in one.verdicts.items()},
    }
    place = folder / FOLDER
    try:
        place.mkdir(exist_ok=True)
        path = place / f"{one.began:%Y-%m-%dT%H%M%S.%fZ}.json"
        path.with_suffix(".new").write_text(json.dumps(data) + "\n")
        path.with_suffix(".new").rename(path)
        for old in sorted(place.glob("*.json"))[:-KEPT]:
            old.unlink()
    except OSError as error:
        raise MastioError(
            f"{place}: {error.strerror}", hint="the site's folder must be writable to keep a history",
            code=Exit.CANT_CREATE,
        ) from error  # fmt: skip


def changes(run: Run, before: tuple[Past, ...]) -> tuple[Change, ...]:
    """What differs from the last time each finding was looked for; new checks are no change."""
    last: dict[str, Verdict] = {}
    for one in before:
        last.update(one.verdicts)
    return tuple(
        Change(it.key, last[it.key], it.verdict)
        for it in run.findings
        if it.key in last and last[it.key] is not it.verdict
    )


def _read(data: Mapping[str, Any]) -> Past:
    verdicts = {key: Verdict(value) for key, value in data["verdicts"].items()}
    began = datetime.fromisoformat(data["began"])
    return Past(began, float(data["seconds"]), bool(data["full"]), verdicts)
