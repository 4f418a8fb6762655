"""The store's part of learning: a spool that users' moves fill, and a timer that empties it.

IMAP move into or out of Junk ──imap_sieve──▶ learn take ──▶ spool/GATEWAY ──▶ learn hand-over ──▶ gateways
"""

import json
from pathlib import Path

from mastio import services
from mastio.context import PKI, Context
from mastio.state import Command, Directory, File, HostState, Unit

SPOOL = "/var/spool/mastio-learn"
"""What waits for the gateways, a folder for each."""
PROGRAMS = "/usr/local/lib/mastio/sieve"
"""What Sieve scripts of ours may start: nothing else is in there."""
_SIEVE = "/etc/dovecot/sieve"
_UNITS = "/etc/systemd/system"
_VERDICTS = ("spam", "ham")


def build(ctx: Context, vmail: str) -> HostState:
    """Program, scripts, spool and units; dovecot.conf says when the scripts run."""
    program = f"{PROGRAMS}/learn"
    gateways = [peer.name for peer in ctx.peers(services.LEARN)]
    settings = {
        "spool": SPOOL,
        "gateways": gateways,
        "port": services.LEARN.port,
        "authority": f"{PKI}/ca.pem",
        "certificate": f"{PKI}/host.pem",
    }
    values = {"program": program, "spool": SPOOL, "vmail": vmail}
    units = ("mastio-learn.service", "mastio-learn.path", "mastio-learn.timer")
    return HostState(
        files=(
            File(program, Path(__file__).with_name("learn.py").read_text(), mode=0o755),
            File("/etc/mastio/learn.json", json.dumps(settings, indent=2) + "\n"),
            *(
                File(
                    f"{_SIEVE}/learn-{verdict}.sieve",
                    ctx.render(__file__, "learn.sieve.j2", verdict=verdict),
                )
                for verdict in _VERDICTS
            ),
            *(
                File(f"{_UNITS}/{name}", ctx.render(__file__, f"{name[7:]}.j2", **values))
                for name in units
            ),
        ),
        directories=(
            Directory(SPOOL, "vmail", "vmail", 0o700),
            *(Directory(f"{SPOOL}/{name}", "vmail", "vmail", 0o700) for name in gateways),
        ),
        units=(
            Unit("mastio-learn.path", (f"{_UNITS}/mastio-learn.path",)),
            Unit("mastio-learn.timer", (f"{_UNITS}/mastio-learn.timer",)),
        ),
        commands=tuple(
            Command(
                f"compile learn-{verdict}",
                # -c: else it asks the running Dovecot, whose settings are those of before
                (
                    "sievec",
                    "-c",
                    "/etc/dovecot/dovecot.conf",
                    f"{_SIEVE}/learn-{verdict}.sieve",
                ),
                reads=(f"{_SIEVE}/learn-{verdict}.sieve",),
                creates=f"{_SIEVE}/learn-{verdict}.svbin",
            )
            for verdict in _VERDICTS
        ),
    )
