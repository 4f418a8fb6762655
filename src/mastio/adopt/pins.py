"""The host keys by which a site knows its machines: `known_hosts` in the site folder, in OpenSSH's format.

Each machine stands there by its name in the site, so addresses may change; a machine that is there is never believed
with another key (`transport.SshTransport`). `adopted.json` beside it says which are reached through watch.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from mastio.files import put
from mastio.transport import KNOWN_HOSTS, Pins

_ADOPTED = "adopted.json"


def fingerprint(key: str) -> str:
    """SHA-256 of a public key line's blob, as ssh-keygen(1) prints it. Raises ValueError."""
    words = key.split()
    if len(words) < 2:
        raise ValueError("not a public key")
    digest = hashlib.sha256(base64.b64decode(words[1], validate=True)).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def read(folder: Path) -> dict[str, str]:
    """The key of each machine that is pinned."""
    try:
        lines = (folder / KNOWN_HOSTS).read_text().splitlines()
    except FileNotFoundError:
        return {}
    rows = (line.split(" ", 1) for line in lines if line.strip() and not line.startswith("#"))
    return {row[0]: row[1].strip() for row in rows if len(row) > 1}


def write(folder: Path, pins: Mapping[str, str]) -> None:
    """All pins, sorted by machine."""
    text = "# The host keys of this site's machines, as `mastio adopt` was told to believe them.\n"
    text += "".join(f"{machine} {pins[machine]}\n" for machine in sorted(pins))
    put(folder / KNOWN_HOSTS, text, 0o644)


def through(folder: Path) -> frozenset[str]:
    """The machines that are reached through watch."""
    return frozenset(name for name, row in _adopted(folder).items() if row["through_watch"])


def remember(folder: Path, machine: str, *, through_watch: bool) -> None:
    """How a machine is reached from now on."""
    _keep(folder, {**_adopted(folder), machine: {"through_watch": through_watch}})


def old_doors(folder: Path) -> frozenset[str]:
    """The machines that may still have root's keys of before they were adopted."""
    return frozenset(name for name, row in _adopted(folder).items() if not row.get("old_keys_gone"))


def closed(folder: Path, machine: str) -> None:
    """Those keys are gone."""
    found = _adopted(folder)
    found[machine]["old_keys_gone"] = True
    _keep(folder, found)


def _adopted(folder: Path) -> dict[str, dict[str, bool]]:
    """What is remembered of each machine that was adopted."""
    try:
        found: dict[str, dict[str, bool]] = json.loads((folder / _ADOPTED).read_text())
    except FileNotFoundError:
        return {}
    return found


def _keep(folder: Path, found: Mapping[str, Mapping[str, bool]]) -> None:
    put(folder / _ADOPTED, json.dumps(found, indent=1, sort_keys=True) + "\n", 0o644)


def load(folder: Path) -> Pins:
    """What the transport needs of it; nothing when no machine was adopted."""
    known = frozenset(read(folder))
    return Pins(str(folder / KNOWN_HOSTS), known, through(folder) & known) if known else Pins()
