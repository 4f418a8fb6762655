"""Restoring, and the drill that proves it: watch brings what was archived, an administrator puts it in place.

    watch: borg ──tar──▶ ssh ──▶ store: the program `door`, into a folder that an administrator has made for it
    watch: borg ──tar──▶ a Dovecot of its own, shut in ──▶ what it says, compared with what the store says now

*The store* holds `door`, to which watch's key leads. *Watch* holds `scratch`: a store for some minutes, started by a
socket, with a user, a /tmp and a network of its own; the package's own Dovecot there is masked, nothing listens.
"""

import json
from pathlib import Path

from mastio import bastion
from mastio.context import ON_WATCH, Context
from mastio.site.model import Role
from mastio.state import Directory, File, HostState, Unit, User
from mastio.timers import Timer, timers

PAIR = "restore/{}"
"""The key pair by which a watch comes to bring, and to ask for digests."""
FOLDER = "/var/lib/mastio/drill"
"""On watch: what drills found."""
VERDICT = f"{FOLDER}/verdict.json"
"""The last drill without details, for verification, status and digest: `at`, `good`, `last_good` (seconds since the
epoch; 0: never), `wrong`, how much was, and `overdue`, the days after which somebody must look."""
SETTINGS = "/etc/mastio/restore.json"
DOOR = "/usr/local/lib/mastio/mastio-restore"
SOCKET = "/run/mastio-scratch.sock"
"""Where the store for some minutes is had."""
_SCRATCH, _USER = "/usr/local/lib/mastio/mastio-scratch", "mastio-scratch"
_UNITS = "/etc/systemd/system"
_DEBIANS_OWN = ("dovecot.service", "dovecot.socket")
TIMERS = (
    Timer("scheduled", "each night, when one is due", "*-*-* 01:20:00"),
    Timer("late", "whether drills still come", "*:15/30"),
)
"""What is done by itself."""


def build(ctx: Context) -> HostState:
    """A machine's part in it."""
    if not ctx.site.carrying(Role.WATCH):
        return HostState()
    door = File(DOOR, _beside("door.py"), mode=0o755)
    if ctx.machine.has(Role.WATCH):
        return _bringing(ctx, door)
    keys = File("/etc/ssh/authorized_keys.d/restore", bastion.authorized(ctx, f"{PAIR}/cert", DOOR))
    return HostState(files=(door, keys))


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


def _bringing(ctx: Context, door: File) -> HostState:
    caller = bastion.caller(ctx, "restore")
    serves = ctx.machine.roles != (Role.WATCH,)
    own = {ctx.machine.name: [DOOR]} if serves else {}
    unit = f"{_UNITS}/mastio-scratch"
    files = [
        *((door,) if serves else ()),
        File(SETTINGS, json.dumps({"ssh": {**caller.ssh, **own}}, indent=1) + "\n"),
        *caller.files,
        File(_SCRATCH, _beside("scratch.py"), mode=0o755),
        File(f"{unit}.socket", ctx.render(__file__, "scratch.socket.j2", socket=SOCKET)),
        File(
            f"{unit}@.service",
            ctx.render(__file__, "scratch.service.j2", program=_SCRATCH, user=_USER),
        ),
        File(
            f"{_UNITS}/mastio-drill@.service",
            ctx.render(__file__, "drill.service.j2", program=ON_WATCH),
        ),
    ]
    clocks, units = timers("mastio-drill", "Drill,", TIMERS, delay=300)
    masked = (
        () if ctx.machine.has(Role.STORE) else tuple(Unit(it, masked=True) for it in _DEBIANS_OWN)
    )
    return HostState(
        packages=("dovecot-imapd", "dovecot-sqlite"),
        files=(*files, *clocks),
        directories=(Directory(FOLDER, mode=0o700),),
        users=(User(_USER),),
        units=(
            *masked,
            Unit("mastio-scratch.socket", (f"{unit}.socket",)),
            *(units if ctx.kit.awake else ()),
        ),
    )
