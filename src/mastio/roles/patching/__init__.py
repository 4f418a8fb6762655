"""Security updates: watch comes in a window, machine after machine, and has them install what Debian has signed.

    watch: timer ──▶ mastio.watch.patching ──ssh──▶ one machine at a time: the program `patch`

A *machine* holds `patch`, to which watch's key leads, and Debian's unattended-upgrades, told to take the security
archive alone. Debian's own timers are masked, so that nothing is installed outside the window. *Watch* decides who
is next, looks whether the machine is as well as before, and leaves the rest alone when it is not.
"""

import json
from pathlib import Path

from mastio import bastion
from mastio.context import ON_WATCH, Context
from mastio.site.model import Role
from mastio.state import Directory, File, HostState, Unit
from mastio.timers import Timer, timers

PAIR = "patching/{}"
"""The key pair by which a watch comes to install."""
FOLDER = "/var/lib/mastio/patches"
"""On watch: what was done, the tracker's data on vulnerabilities."""
KNOWN = f"{FOLDER}/known.json"
"""What is known of each machine, for the digest."""
SETTINGS = "/etc/mastio/patching.json"
PATCH = "/usr/local/lib/mastio/mastio-patch"
TRACKER = "security-tracker.debian.org"
"""Where Debian says what is vulnerable; fetched only when it is among the site's mirrors."""
PATIENCE = {True: 120.0, False: 10.0}
"""Seconds that services have after an update to be as well as before: clamd reads its signatures for half of it, in
the lab there are next to none."""
_UNITS = "/etc/systemd/system"
_DEBIANS_OWN = ("apt-daily.timer", "apt-daily-upgrade.timer", "unattended-upgrades.service")
_BROUGHT = ("/etc/apt/apt.conf.d/20auto-upgrades", "/etc/cron.d/debsecan", "/etc/default/debsecan")
"""What the packages would do by themselves."""


def build(ctx: Context) -> HostState:
    """A machine's part in it."""
    if not ctx.site.carrying(Role.WATCH):
        return HostState()
    patched = (
        File(PATCH, Path(__file__).with_name("patch.py").read_text(), mode=0o755),
        # After the package's own 50unattended-upgrades.
        File("/etc/apt/apt.conf.d/81-mastio-patches", ctx.render(__file__, "apt.conf.j2")),
    )
    masked = tuple(Unit(it, masked=True) for it in _DEBIANS_OWN)
    if ctx.machine.has(Role.WATCH):
        return _patching(ctx, patched, masked)
    keys = bastion.authorized(ctx, f"{PAIR}/cert", PATCH)
    return HostState(
        packages=("unattended-upgrades",),
        files=(*patched, File("/etc/ssh/authorized_keys.d/patching", keys)),
        removed=_BROUGHT[:1],
        units=masked,
    )


def _patching(ctx: Context, patched: tuple[File, ...], masked: tuple[Unit, ...]) -> HostState:
    caller = bastion.caller(ctx, "patching")
    asked = TRACKER in ctx.site.mirrors and not ctx.internet.offline
    settings = {
        "ssh": caller.ssh,
        "patience": PATIENCE[ctx.kit.awake],
        "tracker": f"https://{TRACKER}/tracker/debsecan/release/1/" if asked else "",
    }
    rows = (
        # What was missed is not made up for outside the window.
        Timer("window", "in their window", f"*-*-* {ctx.site.patches.at}:00", persistent=False),
        Timer("late", "whether they still come", "*:10/30"),
    )
    clocks, units = timers("mastio-patches", "Security updates,", rows, delay=120)
    files = [
        *patched,
        File(SETTINGS, json.dumps(settings, indent=1) + "\n"),
        *caller.files,
        File(
            f"{_UNITS}/mastio-patches@.service",
            ctx.render(__file__, "patches.service.j2", program=ON_WATCH),
        ),
    ]
    return HostState(
        packages=("debsecan", "distro-info-data", "unattended-upgrades"),
        files=(*files, *clocks),
        directories=(Directory(FOLDER, mode=0o700),),
        removed=_BROUGHT,
        units=(*masked, *(units if ctx.kit.awake else ())),
    )
