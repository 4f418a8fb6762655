"""The digest that watch makes of all logs: read every few minutes, mailed each morning.

    rsyslog ──▶ /var/log/remote ──timer──▶ mastio.watch.digest ──▶ FOLDER, and mail into the store

The program and the site are those that the role `inspection` puts on watch; so are the certificate and the way
into the store. What it reads, it can only read: its sandbox lets it write to its own folder alone.
"""

from mastio.context import ARCHIVE, Context
from mastio.state import Directory, File, HostState, Unit

FOLDER = "/var/lib/mastio/digest"
"""Summaries by hour, each day's digest, and mail that waits."""
UNIT = "mastio-digest@{}.service"
"""Reads (`read`), or also mails a digest: yesterday's (`mail`), or that of a day (`2026-11-24`)."""
_UNITS = "/etc/systemd/system"
TIMERS = {
    "read": ("*:0/5", "what the logs have more"),
    "mail": ("*-*-* 06:00:00", "yesterday's digest to the administrators"),
}
"""What is done by itself, when (systemd.time(7)), and in words."""


def build(ctx: Context) -> HostState:
    """The watch's part."""
    service = f"{_UNITS}/{UNIT.format('')}"
    files = [
        File(service, ctx.render(__file__, "digest.service.j2", archive=ARCHIVE, folder=FOLDER)),
        *(
            File(
                f"{_UNITS}/mastio-digest-{name}.timer",
                ctx.render(__file__, "digest.timer.j2", name=name, when=when, words=words),
            )
            for name, (when, words) in TIMERS.items()
        ),
    ]
    units = tuple(
        Unit(f"mastio-digest-{name}.timer", (f"{_UNITS}/mastio-digest-{name}.timer",))
        for name in TIMERS
    )
    return HostState(
        packages=("python3-jinja2",),
        files=tuple(files),
        directories=(Directory(FOLDER, mode=0o700),),
        units=units if ctx.kit.awake else (),
    )
