"""What is known of installed packages: vulnerabilities, from Debian's tracker by debsecan(1); end of support.

The tracker's data are a file per release in `tracker/`, packed as the tracker serves it. Watch fetches it when the
site file lets it; a copy put there by hand does as well (`docs/decisions/0029`). How old it is is always told.
"""

import csv
import re
import subprocess
import time
import urllib.request
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from mastio.errors import Exit, MastioError
from mastio.files import put

OLDEST = 3 * 86400.0
"""Seconds after which the tracker's data say too little about today."""
URGENCIES = ("high", "medium", "low", "none yet")
"""As the tracker sees it, the worst first; new entries have none."""
RELEASES = Path("/usr/share/distro-info/debian.csv")
_MOST = 64_000_000
_SECONDS = 120
_LINE = re.compile(r"(?P<name>[A-Z]+-\S+) (?P<package>\S+)(?: \((?P<notes>[^)]*)\))?")


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """One in one installed package."""

    name: str
    """CVE-…, or the tracker's own TEMP-…."""
    package: str
    urgency: str
    remote: bool
    """Whether it is known that it can be used from afar."""
    fixed: bool
    """Whether Debian has a fix for this release."""


def status(rows: Iterable[Sequence[str]]) -> str:
    """Packages as dpkg's status file has them, as far as debsecan reads it; rows as `probes.state.sources` has them."""
    return "".join(
        f"Package: {name}\nStatus: install ok installed\nVersion: {version}\nSource: {source} ({built})\n\n"
        for name, version, source, built in rows
    )


def parse(said: str) -> list[Vulnerability]:
    """What `debsecan --format summary` says, the worst first."""
    found = set()
    for line in said.splitlines():
        if match := _LINE.fullmatch(line.strip()):
            notes = {it.strip() for it in (match["notes"] or "").split(",")}
            urgency = next((it for it in URGENCIES if f"{it} urgency" in notes), URGENCIES[-1])
            remote = "remotely exploitable" in notes
            found.add(
                Vulnerability(match["name"], match["package"], urgency, remote, "fixed" in notes)
            )
    return sorted(
        found, key=lambda it: (URGENCIES.index(it.urgency), not it.fixed, it.name, it.package)
    )


def vulnerabilities(folder: Path, release: str, installed: str, work: Path) -> list[Vulnerability]:
    """Those of packages in `installed` (a status file's text); MastioError when they cannot be told."""
    file = work / "status"
    file.write_text(installed)
    source = (folder / "tracker").as_uri()
    argv = [
        "debsecan",
        "--suite",
        release,
        "--source",
        source,
        "--status",
        str(file),
        "--format",
        "summary",
    ]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=_SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise MastioError("debsecan is not installed on watch", code=Exit.UNAVAILABLE) from None
    except subprocess.TimeoutExpired:
        raise MastioError("debsecan does not end", code=Exit.UNAVAILABLE) from None
    if done.returncode:
        words = (done.stderr.strip() or "no word").splitlines()[-1]
        raise MastioError(
            f"the tracker's data on {release} cannot be read: {words}",
            hint=f"put a fresh copy at {folder / 'tracker' / release} on watch", code=Exit.UNAVAILABLE,
        )  # fmt: skip
    return parse(done.stdout)


def age(folder: Path, release: str) -> float | None:
    """Seconds since the tracker's data on a release were fetched; None when there are none."""
    try:
        return max(0.0, time.time() - (folder / "tracker" / release).stat().st_mtime)
    except FileNotFoundError:
        return None


def fetch(folder: Path, release: str, url: str) -> None:
    """The tracker's data anew; OSError or ValueError when it gives none, and the old ones stay."""
    with urllib.request.urlopen(url + release, timeout=_SECONDS) as answer:  # noqa: S310 — https, by the role
        data = answer.read(_MOST)
    try:
        known = zlib.decompress(data).startswith(b"VERSION 1\n")
    except zlib.error:
        known = False
    if not known:
        raise ValueError("not the tracker's data")
    place = folder / "tracker"
    place.mkdir(mode=0o700, exist_ok=True)
    put(place / release, data)


@dataclass(frozen=True, slots=True)
class Support:
    """Until when a release gets fixes, each an ISO date; "" when nobody has said."""

    release: str
    security: str
    """From Debian's security team."""
    long: str
    """From Debian's long-term support."""

    def over(self, today: date) -> bool:
        """Whether nobody at Debian mends it any more."""
        last = self.long or self.security
        return bool(last) and date.fromisoformat(last) < today


def support(release: str, table: str) -> Support:
    """What distro-info-data's table says of a release, by its codename."""
    for row in csv.DictReader(table.splitlines()):
        if row["series"] == release:
            return Support(release, row.get("eol") or "", row.get("eol-lts") or "")
    return Support(release, "", "")


def codename(os_release: str) -> str:
    """The release that a machine runs, from its /etc/os-release (os-release(5)); "" when it does not say."""
    found = re.search(r"^VERSION_CODENAME=\"?([a-z]+)\"?$", os_release, re.MULTILINE)
    return found[1] if found else ""


def counts(found: Iterable[Vulnerability]) -> dict[str, dict[str, int]]:
    """How many of each urgency, and how many of those have a fix."""
    table = {it: {"all": 0, "fixed": 0} for it in URGENCIES}
    for one in found:
        table[one.urgency]["all"] += 1
        table[one.urgency]["fixed"] += one.fixed
    return table


def summary(table: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """The same in words."""
    for urgency, row in table.items():
        if row["all"]:
            yield f"{row['all']} {urgency} ({row['fixed']} with a fix)"
