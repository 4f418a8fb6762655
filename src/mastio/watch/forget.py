"""A machine has left the site: what watch remembers of it, on watch: `python3 -m mastio.watch.forget MACHINE`.

Its integrity reference and its record of updates go, alarms about it are over. Its archives are removed, or set
aside with the passphrase that opens them. Logs stay: they are what happened. stdin: JSON, `archives` (keep, remove),
`passphrase`. Prints a line of JSON: `seal` (of integrity, before and after), `archives` (where they are), `alarms`.
"""

import json
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mastio.context import ALARMS
from mastio.errors import Exit, MastioError
from mastio.files import put
from mastio.integrity.place import Place
from mastio.roles.backup import FOLDER as BACKUP
from mastio.roles.inspection import SITE
from mastio.roles.integrity import FOLDER as INTEGRITY
from mastio.roles.patching import FOLDER as PATCHES
from mastio.site import plain
from mastio.watch import alarm
from mastio.watch.bell import Bell


def reference(folder: Path, machine: str) -> tuple[str, str]:
    """Forgets it; the seal before and after."""
    place = Place(folder)
    before = place.seal_digest()
    if (folder / machine).is_dir():
        with place.alone():
            shutil.rmtree(folder / machine)
            place.seal(machine)
    return before, place.seal_digest()


def archives(folder: Path, machine: str, passphrase: str, now: float, *, keep: bool) -> str:
    """Where they are now; "" when there are none."""
    repository = folder / machine
    if not repository.is_dir():
        return ""
    for known in (folder / "known").glob(f"{machine}.*"):
        known.unlink()
    shutil.rmtree(folder / "base" / machine, ignore_errors=True)
    if not keep:
        shutil.rmtree(repository)
        return ""
    aside = folder / "former" / f"{machine}-{time.strftime('%Y-%m-%d-%H%M%S', time.gmtime(now))}"
    aside.mkdir(mode=0o700, parents=True)
    repository.rename(aside / "repository")
    put(aside / "passphrase", passphrase, 0o600)
    return str(aside)


def alarms(bell: Bell, machine: str, now: float) -> list[str]:
    """What was wrong with it is over: what that was."""
    mine = [about for about in bell.book if machine in about.split()]
    for about in mine:
        one = bell.book[about].alarm
        words = f"[{one.site}] {machine} has left the site: {about}"
        bell.raise_(replace(one, subject=words, text=f"{words}\n", verdict=alarm.WELL, at=now), now)
    return mine


def run(machine: str, order: dict[str, Any]) -> dict[str, Any]:
    """All of it. MastioError when the site has the machine."""
    os.umask(0o077)
    site = plain.recall(Path(SITE).read_text())
    if machine in [it.name for it in site.machines]:
        raise MastioError(f"{machine} is a machine of the site", code=Exit.DATA)
    now = time.time()
    (Path(PATCHES) / f"{machine}.json").unlink(missing_ok=True)
    return {
        "seal": reference(Path(INTEGRITY), machine),
        "archives": archives(
            Path(BACKUP), machine, order["passphrase"], now, keep=order["archives"] == "keep"
        ),
        "alarms": alarms(Bell(Path(ALARMS), site), machine, now),
    }


def main(machine: str) -> int:
    """The exit code."""
    try:
        print(json.dumps(run(machine, json.load(sys.stdin))))
    except (MastioError, OSError, ValueError, KeyError) as error:
        known = isinstance(error, MastioError)
        words = (
            error.message if isinstance(error, MastioError) else f"{type(error).__name__}: {error}"
        )
        code = error.code if isinstance(error, MastioError) else Exit.FAILED
        print(json.dumps({"error": words, "hint": error.hint if known else "", "code": code}))  # type: ignore[union-attr]
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
