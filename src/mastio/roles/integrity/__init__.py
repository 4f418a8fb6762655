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
from mastio.state import Directory, File, HostState, Unit

PAIR = "integrity/{}"
"""The key pair by which a watch comes to measure."""
FOLDER = "/var/lib/mastio/integrity"
"""On watch: the tools, the references, the last measurements, the log of what was accepted."""
SETTINGS, CONFIG = "/etc/mastio/integrity.json", "/etc/mastio/integrity-aide.conf"
MEASURE = "/usr/local/lib/mastio/mastio-measure"
ROOTS = ("/etc", "/usr", "/boot", "/opt", "/root", "/srv", "/var/spool/cron")
"""What is measured whole; mail, logs, databases and caches are not below them."""
_KEY, _KNOWN = "/etc/mastio/integrity.key", "/etc/mastio/integrity-known-hosts"
_UNITS = "/etc/systemd/system"
TIMERS = {
    "check": ("*:20", "each hour: all machines"),
    "deep": ("*-*-* 03:40:00", "each night: all machines, mail folders too"),
    "late": ("*:5/30", "whether measuring still runs"),
}
"""What is done by itself, when (systemd.time(7)), and in words."""
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
    others = [it for it in ctx.site.machines if it != ctx.machine]
    settings = {"ssh": {it.name: bastion.call(ctx, it, _KNOWN, _KEY) for it in others}}
    files = [
        *measured,
        File(SETTINGS, json.dumps(settings, indent=1) + "\n"),
        File(CONFIG, config, mode=0o600),
        File(_KNOWN, bastion.known_hosts(ctx, others)),
        File(_KEY, ctx.secret(f"{PAIR.format(ctx.machine.name)}/key"), mode=0o600, secret=True),
        File(
            f"{_UNITS}/mastio-integrity@.service",
            ctx.render(__file__, "integrity.service.j2", program=ON_WATCH, patient=ctx.kit.awake),
        ),
    ]
    for name, (when, words) in TIMERS.items():
        text = ctx.render(__file__, "integrity.timer.j2", name=name, when=when, words=words)
        files.append(File(f"{_UNITS}/mastio-integrity-{name}.timer", text))
    units = [
        Unit(f"mastio-integrity-{name}.timer", (f"{_UNITS}/mastio-integrity-{name}.timer",))
        for name in TIMERS
    ]
    return HostState(
        packages=("aide",),
        files=tuple(files),
        directories=(Directory(FOLDER, mode=0o700),),
        units=tuple(units) if ctx.kit.awake else (),
    )
