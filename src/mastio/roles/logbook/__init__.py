"""Logs that cannot be changed unseen, and signs of life.

    every machine: a timer ──logger──▶ its rsyslog ──▶ watch
    watch: timers ──▶ mastio.watch.logbook: seals the logs, packs and removes old ones; reads all again each night;
                                            listens for the signs

Signs are small on purpose: a number that counts, the boot's id, two clocks (mastio.logs.life tells why).
"""

from mastio.context import ALARMS, ARCHIVE, LOGS, Context
from mastio.site.model import Role
from mastio.state import Directory, File, HostState, Unit
from mastio.timers import Timer, timers

STATE = "/var/lib/mastio/logbook"
"""On watch: the chain of seals, the next key, and what was heard of the machines."""
ALIVE = "/usr/local/lib/mastio/alive"
MISSED = "mastio-missed"
"""The tag of lines in which a machine says again what its journald could not hand on."""
_FORWARD_MISSED = "0027229ca0644181a76c4e92458afa2e"
"""By this id journald says what it could not hand on (SD_MESSAGE_FORWARD_SYSLOG_MISSED, sd-messages.h)."""
_UNITS = "/etc/systemd/system"
LATE = 3 * 3600.0
"""Seconds without a seal after which sealing is no longer well."""
_LONG = 4
"""Hours that reading all logs may take."""
UNPROVEN = (26 + _LONG) * 3600.0
"""Seconds after which what was sealed should have been read again."""
_PATIENT = f"[Service]\nTimeoutStartSec={_LONG}h\nIOSchedulingClass=idle\n"
TIMERS = (
    Timer("seal", "the hourly seal", "hourly", active="1min"),
    Timer("proof", "whether all logs are as they were sealed", "*-*-* 04:40:00", active="3min"),
    Timer("life", "whether every machine gives signs of life", "*:0/2"),
)
"""What is done by itself."""


def build(ctx: Context) -> HostState:
    """A machine's part in it."""
    alive = ctx.render(__file__, "alive.j2", message=_FORWARD_MISSED, tag=MISSED)
    files = [File(ALIVE, alive, mode=0o755)]
    files += [
        File(
            f"{_UNITS}/mastio-alive.{kind}",
            ctx.render(__file__, f"alive.{kind}.j2", program=ALIVE),
        )
        for kind in ("service", "timer")
    ]
    units = [Unit("mastio-alive.timer", (f"{_UNITS}/mastio-alive.timer",))]
    if not ctx.machine.has(Role.WATCH):
        return HostState(files=tuple(files), units=tuple(units) if ctx.kit.awake else ())
    service = ctx.render(
        __file__, "logbook.service.j2", archive=ARCHIVE, folders=(LOGS, STATE, ALARMS)
    )
    files += [
        File(f"{_UNITS}/mastio-logbook@.service", service),
        File(f"{_UNITS}/mastio-logbook@proof.service.d/mastio.conf", _PATIENT),
    ]
    clocks, more = timers("mastio-logbook", "Logbook,", TIMERS)
    units += more
    return HostState(
        packages=("python3-cryptography", "python3-idna"),
        files=(*files, *clocks),
        directories=(Directory(STATE, mode=0o700),),
        units=tuple(units) if ctx.kit.awake else (),
    )
