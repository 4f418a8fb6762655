"""The store's part of learning: a spool that users' moves fill, and a timer that empties it; whom users write to.

IMAP move into or out of Junk ──imap_sieve──▶ learn take ──▶ spool/GATEWAY ──▶ learn hand-over ──▶ gateways
a user sends ──policy──▶ mastio-outbound ──▶ its database ──▶ learn tell ──▶ gateways
"""

import json
from pathlib import Path

from mastio import services
from mastio.context import PKI, Context
from mastio.roles.store import outbound
from mastio.state import Command, Directory, File, HostState, Unit

SPOOL = "/var/spool/mastio-learn"
"""What waits for the gateways, a folder for each."""
PROGRAMS = "/usr/local/lib/mastio/sieve"
"""What Sieve scripts of ours may start: nothing else is in there."""
_SIEVE = "/etc/dovecot/sieve"
_UNITS = "/etc/systemd/system"
_VERDICTS = ("spam", "ham")


def build(ctx: Context, vmail: str, counter: str) -> HostState:
    """Program, scripts, spool and units; dovecot.conf says when the scripts run.

    `counter` is the user as whom outbound.py keeps whom users have written to.
    """
    program = f"{PROGRAMS}/learn"
    gateways = [peer.name for peer in ctx.peers(services.LEARN)]
    settings = {
        "spool": SPOOL,
        "wrote": str(outbound.STATE),
        "news": str(outbound.NEWS),
        "gateways": gateways,
        "port": services.LEARN.port,
        "authority": f"{PKI}/ca.pem",
        "certificate": f"{PKI}/host.pem",
    }
    lessons = {
        "name": "learn", "what": "Train the spam filter with what users have judged",
        "user": "vmail", "verb": "hand-over", "folder": SPOOL,
    }  # fmt: skip
    people = {
        "name": "wrote", "what": "Tell the spam filter whom users have written to",
        "user": counter, "verb": "tell", "folder": str(outbound.NEWS.parent), "news": outbound.NEWS,
    }  # fmt: skip
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
                File(
                    f"{_UNITS}/mastio-{it['name']}.{kind}",
                    ctx.render(__file__, template, program=program, vmail=vmail, **it),
                )
                for it in (lessons, people)
                for kind, template in (
                    ("service", "learn.service.j2"),
                    ("path", f"{it['name']}.path.j2"),
                    ("timer", "learn.timer.j2"),
                )
            ),
        ),
        directories=(
            Directory(SPOOL, "vmail", "vmail", 0o700),
            *(Directory(f"{SPOOL}/{name}", "vmail", "vmail", 0o700) for name in gateways),
        ),
        units=tuple(
            Unit(f"mastio-{name}.{kind}", (f"{_UNITS}/mastio-{name}.{kind}",))
            for name in (lessons["name"], people["name"])
            for kind in ("path", "timer")
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
