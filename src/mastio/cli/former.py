"""Machines that the site file does not name any more: what they were, and how commands reach them."""

from dataclasses import replace

from mastio.cli.common import App
from mastio.errors import Exit, MastioError
from mastio.roles.inspection import SITE
from mastio.site import plain
from mastio.site.model import Machine, Role, Site
from mastio.transport import Transport


def watch_of(site: Site) -> str:
    """The machine that watches; MastioError when there is none."""
    watches = site.carrying(Role.WATCH)
    if not watches:
        raise MastioError("no machine of this site watches", code=Exit.USAGE)
    return watches[0].name


def machines_before(app: App) -> tuple[Machine, ...]:
    """The machines as of the last apply: watch has the site. None, when it does not know."""
    return recorded(app.transport(), watch_of(app.site()))


def recorded(way: Transport, watch: str) -> tuple[Machine, ...]:
    """The machines of the site that a watch has on record."""
    done = way.run(watch, ["cat", SITE])
    if done.code:
        return ()
    try:
        return plain.recall(done.stdout.decode()).machines
    except ValueError:
        return ()


def way_to(app: App, machine: Machine, host: str | None) -> Transport:
    """How commands reach it, though the site file may not name it; `host`: as what OpenSSH knows it."""
    if app.in_lab:
        return app.transport()
    site = app.site()
    known = replace(machine, ssh=host) if host else machine
    others = tuple(it for it in site.machines if it.name != machine.name)
    return app.way(replace(site, machines=(*others, known)))
