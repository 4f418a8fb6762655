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
from mastio.context import ALARMS, ARCHIVE, ON_WATCH, PKI, Context
from mastio.site import plain
from mastio.site.model import Role
from mastio.state import Check, Directory, File, HostState
from mastio.timers import Timer, timers

PAIR = "inspection/{}"
"""The key pair by which a watch comes to look."""
FOLDER = "/var/lib/mastio/verify"
"""What watch found: `history` and the newest reports."""
GLANCE = f"{FOLDER}/glance.json"
"""How every machine was when watch last had a glance at it."""
METRICS = "/var/lib/prometheus/node-exporter"
"""Where node-exporter looks for metrics of others (its Debian package's textfile collector)."""
SETTINGS, SITE = "/etc/mastio/inspection.json", "/etc/mastio/inspection-site.json"
_LOOK, _ALLOWED = "/usr/local/lib/mastio/mastio-look", "/etc/mastio/look.json"
_AUTHORITIES = "/etc/mastio/inspection-authorities.pem"
_UNITS = "/etc/systemd/system"
TIMERS = (
    Timer("fast", "each hour: the fast set", "hourly"),
    Timer("full", "each night: the full set", "*-*-* 02:30:00"),
    Timer("late", "whether verification still runs", "*:0/30"),
    Timer(
        "metrics",
        "every five minutes: how the machines are, for Prometheus and the digest",
        "*:2/5",
    ),
)
"""What is done by itself."""


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
    caller = bastion.caller(ctx, "inspection")
    name = ctx.machine.name
    calls = (*ctx.matrix.out_of(name), *ctx.matrix.inside(name))
    settings = {
        "machine": ctx.machine.name,
        "ssh": caller.ssh,
        "stores": [it.target for it in calls if it.service == services.DELIVERY],
        "gateways": [it.target for it in calls if it.service == services.RELAY],
        "authorities": _AUTHORITIES,
        "pki": PKI,
    }
    files = [
        File(SETTINGS, json.dumps(settings, indent=1) + "\n"),
        File(SITE, plain.record(ctx.site), mode=0o600),
        *caller.files,
        File(ARCHIVE, ctx.kit.package),
        File(ON_WATCH, ctx.render(__file__, "on_watch.j2", archive=ARCHIVE), mode=0o755),
        File(_AUTHORITIES, ctx.internet.authorities),
        File(
            f"{_UNITS}/mastio-verify@.service",
            ctx.render(
                __file__, "verify.service.j2", archive=ARCHIVE, folders=(FOLDER, ALARMS, METRICS)
            ),
        ),
    ]
    clocks, units = timers("mastio-verify", "Verification,", TIMERS, delay=120)
    return HostState(
        # What the checks and the page import, of Debian's own.
        packages=("python3-cryptography", "python3-idna", "python3-jinja2"),
        files=(*files, *clocks),
        directories=(
            Directory(FOLDER, mode=0o700),
            Directory(ALARMS, mode=0o700),
            Directory(METRICS),
        ),
        units=units if ctx.kit.awake else (),
        checks=(Check("verify", ("python3", "-m", "json.tool", SITE, "/dev/null"), reads=(SITE,)),),
    )
