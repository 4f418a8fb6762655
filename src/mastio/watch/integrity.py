"""Integrity by itself, and when asked, on watch: `python3 -m mastio.watch.integrity WHAT [MACHINE]…`.

| | |
|---|---|
| `check`, `deep` | measure (`deep`: mail folders too), compare, keep, raise an alarm when something is news; with |
| | `--patient` only when it is still so two minutes later |
| `late` | raise one when a machine was not measured for too long: silence is no good news |
| `tools` | gather AIDE and its libraries when there are none; what identifies them |
| `settle` | after an apply: take first references, take over what the apply changed (stdin: `expected.of_apply`) |
| `accept`, `renew` | take over what an administrator accepts: named differences, or a machine whole (stdin) |
| `status` | what is known, without looking |

Each prints lines of JSON; the last one but errors has `seal`.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mastio.context import ALARMS
from mastio.errors import Exit, MastioError
from mastio.integrity.place import Place
from mastio.roles.inspection import SETTINGS as INSPECTION
from mastio.roles.inspection import SITE
from mastio.roles.integrity import FOLDER, SETTINGS
from mastio.site import plain
from mastio.site.model import Site
from mastio.watch.bell import Bell
from mastio.watch.judging import Work, overdue
from mastio.watch.measuring import Measurer, gather
from mastio.watch.settings import FromWatch, load

PATIENT = "--patient"
"""How a timer says that what differs anew is looked at twice."""
PAUSE = 120.0
"""Seconds between the two looks: longer than an apply needs from its first change to its last word here."""


def status(place: Place, site: Site) -> Iterable[dict[str, Any]]:
    """What is known of each machine."""
    entries, whole = place.entries()
    for machine in (it.name for it in site.machines):
        reference = place.reference(machine)
        last = place.last(machine)
        yield {
            "machine": machine,
            "reference": reference and {
                "at": reference.at, "by": reference.by, "files": len(reference.rows),
            },
            "last": last and asdict(last),
            "log": [it for it in entries if it["machine"] == machine][-5:],
        }  # fmt: skip
    yield {"broken": [*place.broken(), *(() if whole else ("log.jsonl",))]}


def say(what: Any) -> None:
    """A line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def run(what: str, machines: list[str], *, patient: bool) -> None:
    """One of them; MastioError says why not."""
    os.umask(0o077)
    place, site = Place(Path(FOLDER)), plain.recall(Path(SITE).read_text())
    settings, own = load(Path(INSPECTION)), json.loads(Path(SETTINGS).read_text())
    order = json.load(sys.stdin) if what in ("settle", "accept", "renew", "tools") else {}
    transport, bell = FromWatch(settings), Bell(Path(ALARMS), site)

    def work() -> Work:
        edited = any(it.startswith("tools/") for it in place.broken())
        tools = {} if edited else place.tools()
        measurer = Measurer(site, transport, own["ssh"], tools)
        return Work(place, site, measurer, say, lambda it: bell.raise_(it, time.time()))

    doubtful: list[str] = []
    with place.alone():
        if what in ("check", "deep"):
            known = [it.name for it in site.machines]
            if wrong := sorted({*machines} - {*known}):
                raise MastioError(
                    f"no such machine: {', '.join(wrong)}",
                    hint=f"this site has {', '.join(known)}", code=Exit.USAGE,
                )  # fmt: skip
            one = work()
            one.check(machines or known, deep=what == "deep", patient=patient)
            doubtful = one.doubtful
        else:
            _other(what, order, place, site, work, bell)
        if not doubtful:
            say({"seal": place.seal_digest(), "tools": place.tools_digest()})
    if doubtful:
        time.sleep(PAUSE)
        with place.alone():
            one = work()
            one.check(doubtful, deep=what == "deep")
            say({"seal": place.seal_digest(), "tools": place.tools_digest()})
    if what not in ("status", "tools"):
        for words in bell.ring(settings, time.time()):
            print(words, file=sys.stderr)


def _other(
    what: str,
    order: Mapping[str, Any],
    place: Place,
    site: Site,
    work: Callable[[], Work],
    bell: Bell,
) -> None:
    match what:
        case "tools":
            if order["anew"] or not (place.folder / "tools").exists():
                place.keep_tools(gather())
                place.seal("tools")
                place.log(
                    at=time.time(), by=order["by"], machine="", why=order["why"], what=["tools"]
                )
        case "late":
            for late in overdue(place, site, time.time(), Path(SITE).stat().st_mtime):
                bell.raise_(late, time.time())
        case "status":
            for row in status(place, site):
                say(row)
        case "settle" | "renew" | "accept":
            one = work()
            {"settle": one.settle, "renew": one.renew, "accept": one.accept}[what](order)


def main(what: str, machines: list[str]) -> int:
    """The exit code."""
    try:
        run(what, [it for it in machines if it != PATIENT], patient=PATIENT in machines)
    except (MastioError, OSError, ValueError) as error:
        message = (
            error.message if isinstance(error, MastioError) else f"{type(error).__name__}: {error}"
        )
        hint, code = (
            (error.hint, error.code) if isinstance(error, MastioError) else ("", Exit.FAILED)
        )
        say({"error": message, "hint": hint, "code": code})
        print(message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] not in [
        [it] for it in ("check", "deep", "late", "tools", "settle", "accept", "renew", "status")
    ]:
        sys.exit("check, deep, late, tools, settle, accept, renew or status?")
    sys.exit(main(sys.argv[1], sys.argv[2:]))
