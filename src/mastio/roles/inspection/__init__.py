"""Verification that watch does by itself: each hour the fast set, each night the full one.

    watch: timers ──▶ mastio.watch.schedule ──ssh──▶ every machine: the program `look`

Two ends of one thing. *Watch* has this very program, the site as data, and a key. On every *machine* the
key leads to `look` alone, which runs a probe only if apply has named it there: who breaks into watch can
ask what the checks ask, and no more. What is asked never answers with a secret.

Alarms go by mail straight into the store, so that they arrive when the gateway does not, and to a
webhook when the site file names one.
"""

import json
from pathlib import Path

from mastio import bastion, services
from mastio.context import ARCHIVE, PKI, Context
from mastio.site import plain
from mastio.site.model import Role
from mastio.state import Check, Directory, File, HostState, Unit

PAIR = "inspection/{}"
"""The key pair by which a watch comes to look."""
FOLDER = "/var/lib/mastio/verify"
"""What watch found: `history`, the newest reports, and alarms that wait."""
SETTINGS, SITE = "/etc/mastio/inspection.json", "/etc/mastio/inspection-site.json"
_LOOK, _ALLOWED = "/usr/local/lib/mastio/mastio-look", "/etc/mastio/look.json"
_KEY, _KNOWN = "/etc/mastio/inspection.key", "/etc/mastio/inspection-known-hosts"
_AUTHORITIES = "/etc/mastio/inspection-authorities.pem"
_UNITS = "/etc/systemd/system"
TIMERS = {
    "fast": ("hourly", "each hour: the fast set"),
    "full": ("*-*-* 02:30:00", "each night: the full set"),
    "late": ("*:0/30", "whether verification still runs"),
}
"""What is done by itself, when (systemd.time(7)), and in words."""


def build(ctx: Context) -> HostState:
    """A machine's part in it."""
    looked = _looked(ctx)
    looking = _looking(ctx) if ctx.machine.has(Role.WATCH) else HostState()
    return HostState(
        packages=looking.packages,
        files=(*looked, *looking.files),
        directories=looking.directories,
        units=looking.units,
        checks=looking.checks,
    )


def _looked(ctx: Context) -> tuple[File, ...]:
    keys = bastion.authorized(ctx, f"{PAIR}/cert", _LOOK)
    if not keys:
        return ()
    allowed = {"boot": ctx.kit.boot, "programs": ctx.kit.programs, "commands": ctx.kit.commands}
    return (
        File(_LOOK, Path(__file__).with_name("look.py").read_text(), mode=0o755),
        File(_ALLOWED, json.dumps(allowed, indent=1) + "\n"),
        File("/etc/ssh/authorized_keys.d/inspection", keys),
    )


def _looking(ctx: Context) -> HostState:
    others = [it for it in ctx.site.machines if it != ctx.machine]
    calls = ctx.matrix.out_of(ctx.machine.name)
    settings = {
        "machine": ctx.machine.name,
        "ssh": {it.name: bastion.call(ctx, it, _KNOWN, _KEY) for it in others},
        "stores": [it.target for it in calls if it.service == services.DELIVERY],
        "authorities": _AUTHORITIES,
        "pki": PKI,
    }
    files = [
        File(SETTINGS, json.dumps(settings, indent=1) + "\n"),
        File(SITE, plain.record(ctx.site), mode=0o600),
        File(_KNOWN, bastion.known_hosts(ctx, others)),
        File(_KEY, ctx.secret(f"{PAIR.format(ctx.machine.name)}/key"), mode=0o600, secret=True),
        File(ARCHIVE, ctx.kit.package),
        File(_AUTHORITIES, ctx.internet.authorities),
        File(
            f"{_UNITS}/mastio-verify@.service",
            ctx.render(__file__, "verify.service.j2", archive=ARCHIVE, folder=FOLDER),
        ),
    ]
    for name, (when, words) in TIMERS.items():
        text = ctx.render(__file__, "verify.timer.j2", name=name, when=when, words=words)
        files.append(File(f"{_UNITS}/mastio-verify-{name}.timer", text))
    units = [
        Unit(f"mastio-verify-{name}.timer", (f"{_UNITS}/mastio-verify-{name}.timer",))
        for name in TIMERS
    ]
    return HostState(
        # What the checks and the page import, of Debian's own.
        packages=("python3-cryptography", "python3-idna", "python3-jinja2"),
        files=tuple(files),
        directories=(Directory(FOLDER, mode=0o700),),
        units=tuple(units) if ctx.kit.awake else (),
        checks=(Check("verify", ("python3", "-m", "json.tool", SITE, "/dev/null"), reads=(SITE,)),),
    )
