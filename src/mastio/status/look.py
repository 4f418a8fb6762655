"""Looks at a site: every machine at once, one round trip each."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from mastio.bans import Bans
from mastio.digest import standing
from mastio.digest.standing import Section
from mastio.errors import MastioError
from mastio.flows import expand
from mastio.hearing import Result
from mastio.roles.inspection import GLANCE
from mastio.roles.restore import VERDICT
from mastio.site.model import Role, Site
from mastio.status import answer
from mastio.status.glance import Glance
from mastio.transport import Transport
from mastio.verify import scheduled
from mastio.verify.probes import glance
from mastio.verify.vantage import Ground, Vantage

SECONDS = 20.0
"""How long a machine may take to answer."""


def look(site: Site, transport: Transport, *, bans: bool = True) -> Glance:
    """What is so now; what cannot be asked is said, never raised. `bans`: whether to ask for them."""
    ground = Ground(site, expand(site), transport)

    def ask(machine: str) -> dict[str, Any] | str:
        try:
            said = Vantage(machine, ground, time.monotonic() + SECONDS).ask(glance.now)
        except MastioError as error:
            return error.message
        return said if answer.sensible(said) else "its answer makes no sense"

    def kept_out() -> int | None:
        try:
            return len(Bans(site, transport).all()) if bans else None
        except MastioError:
            return None

    def sets() -> dict[str, Any]:
        try:
            found = scheduled.newest(site, transport, time.time())
        except MastioError:  # watch's own row says so
            return {}
        return {
            name: it.report
            and {
                "verdict": it.report["verdict"],
                "age": it.age,
                "late": it.late,
                "bad": len(it.bad),
            }
            for name, it in found.items()
        }

    names = [it.name for it in site.machines]
    # One thread for all that watch is asked: its sshd takes ten that are not in yet at once (MaxStartups).
    with ThreadPoolExecutor(len(names) + 2) as pool:
        out = pool.submit(kept_out)
        told = pool.submit(lambda: (sets(), _drill(site, transport), _standing(site, transport)))
        machines = dict(zip(names, pool.map(ask, names), strict=True))
        nearly = site.alarms.disk_percent / 100
        reports, drill, stands = told.result()
        return Glance(site.name, machines, reports, out.result(), drill, stands, nearly=nearly)


def _drill(site: Site, transport: Transport) -> dict[str, Any] | None:
    for watch in site.carrying(Role.WATCH)[:1]:
        with suppress(MastioError, ValueError, KeyError):
            found = json.loads(transport.run(watch.name, ["cat", VERDICT]).stdout)
            late = time.time() - found["last_good"] > site.drill.overdue * 86_400
            return {"good": found["good"], "age": time.time() - found["at"], "late": late}
    return None


def _read(path: str, done: Result) -> dict[str, Any]:
    if done.code:
        return {}
    try:
        return {path: json.loads(done.stdout)}
    except ValueError:
        return {path: None}  # its part says that it makes no sense


def _standing(site: Site, transport: Transport) -> tuple[Section, ...]:
    """What watch's other parts found; without those that have found nothing yet (in the lab none runs by itself)."""
    found: dict[str, Any] = {}
    parts = [it for it in standing.PARTS if it.path not in (GLANCE, VERDICT)]
    for watch in site.carrying(Role.WATCH)[:1]:
        for part in parts:
            with suppress(MastioError):
                found |= _read(part.path, transport.run(watch.name, ["cat", part.path]))
    known = tuple(it for it in parts if it.path in found)
    return standing.sections(found, [it.name for it in site.machines], time.time(), known)
