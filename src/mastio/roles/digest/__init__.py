"""The digest that watch makes of all logs: read every few minutes, mailed each morning.

    rsyslog ──▶ /var/log/remote ──timer──▶ mastio.watch.digest ──▶ FOLDER, and mail into the store

The program and the site are those that the role `inspection` puts on watch; so are the certificate and the way
into the store. What it reads, it can only read: its sandbox lets it write to its own folder alone.
"""

from mastio.context import ARCHIVE, Context
from mastio.state import Directory, File, HostState
from mastio.timers import Timer, timers

FOLDER = "/var/lib/mastio/digest"
"""Summaries by hour, each day's digest, and mail that waits."""
UNIT = "mastio-digest@{}.service"
"""Reads (`read`), or also mails a digest: yesterday's (`mail`), or that of a day (`2026-11-24`)."""
_UNITS = "/etc/systemd/system"
TIMERS = (
    Timer("read", "what the logs have more", "*:0/5", active="1min"),
    Timer("mail", "yesterday's digest to the administrators", "*-*-* 06:00:00"),
)
"""What is done by itself."""


def build(ctx: Context) -> HostState:
    """The watch's part."""
    service = f"{_UNITS}/{UNIT.format('')}"
    text = ctx.render(__file__, "digest.service.j2", archive=ARCHIVE, folder=FOLDER)
    clocks, units = timers("mastio-digest", "Digest of the logs:", TIMERS, delay=30)
    return HostState(
        packages=("python3-jinja2", "python3-leather"),
        files=(File(service, text), *clocks),
        directories=(Directory(FOLDER, mode=0o700),),
        units=units if ctx.kit.awake else (),
    )
