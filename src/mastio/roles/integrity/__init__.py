"""Integrity that cannot be fooled: what a machine is made of, compared with what watch remembers.

    watch: timer ──▶ mastio.watch.integrity ──ssh──▶ every machine: the program `measure`

*Watch* holds AIDE with all it needs to run, its configuration, and the references; it brings the first two along for
each run, takes the new database home and compares there. *A machine* holds nothing but `measure`, to which watch's
key leads, and the SHA-256 of what it may be asked to run. What AIDE does not see (listeners, programs that run from
deleted files, log-in keys in homes, SUID files elsewhere) is asked with the probes of verification.
"""

import hashlib
import json
from pathlib import Path

from mastio import bastion
from mastio.context import ON_WATCH, Context
from mastio.roles.integrity.measure import ALLOWED, TOOLS
from mastio.site.model import Role
from mastio.state import Directory, File, HostState
from mastio.timers import Timer, timers

PAIR = "integrity/{}"
"""The key pair by which a watch comes to measure."""
FOLDER = "/var/lib/mastio/integrity"
"""On watch: the tools, the references, the last measurements, the log of what was accepted."""
SETTINGS, CONFIG = "/etc/mastio/integrity.json", "/etc/mastio/integrity-aide.conf"
MEASURE = "/usr/local/lib/mastio/mastio-measure"
ROOTS = ("/etc", "/usr", "/boot", "/opt", "/root", "/srv", "/var/spool/cron")
"""What is measured whole; mail, logs, databases and caches are not below them."""
_UNITS = "/etc/systemd/system"
LATE = 3 * 3600.0
"""Seconds without a measurement of a machine after which something is wrong with measuring."""
TIMERS = (
    Timer("check", "each hour: all machines", "*:20"),
    Timer("deep", "each night: all machines, mail folders too", "*-*-* 03:40:00"),
    Timer("late", "whether measuring still runs", "*:5/30"),
)
"""What is done by itself."""
__all__ = ["ALLOWED", "TOOLS", "build"]


def build(ctx: Context) -> HostState:
    """A machine's part in it."""
    if not ctx.site.carrying(Role.WATCH):
        return HostState()
    config = ctx.render(__file__, "aide.conf.j2", roots=ROOTS)
    allowed = {"config": hashlib.sha256(config.encode()).hexdigest()}
    measured = (
        File(MEASURE, Path(__file__).with_name("measure.py").read_text(), mode=0o755),
        File(ALLOWED, json.dumps(allowed, indent=1) + "\n"),
    )
    if ctx.machine.has(Role.WATCH):
        return _measuring(ctx, config, measured)
    keys = bastion.authorized(ctx, f"{PAIR}/cert", MEASURE)
    return HostState(files=(*measured, File("/etc/ssh/authorized_keys.d/integrity", keys)))


def _measuring(ctx: Context, config: str, measured: tuple[File, ...]) -> HostState:
    caller = bastion.caller(ctx, "integrity")
    files = [
        *measured,
        File(SETTINGS, json.dumps({"ssh": caller.ssh}, indent=1) + "\n"),
        File(CONFIG, config, mode=0o600),
        *caller.files,
        File(
            f"{_UNITS}/mastio-integrity@.service",
            ctx.render(__file__, "integrity.service.j2", program=ON_WATCH, patient=ctx.kit.awake),
        ),
    ]
    clocks, units = timers("mastio-integrity", "Integrity,", TIMERS, delay=120)
    return HostState(
        packages=("aide",),
        files=(*files, *clocks),
        directories=(Directory(FOLDER, mode=0o700),),
        units=units if ctx.kit.awake else (),
    )
