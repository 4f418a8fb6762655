"""A scanner that hangs is restarted without hands: see revive.py, which runs once a minute."""

from pathlib import Path

from mastio import services
from mastio.context import Context
from mastio.roles.gateway.files import CLAMD, MILTER, VALKEY, etc
from mastio.state import File, HostState, Unit

YOUNG = 600
"""Seconds after its start in which a daemon is left alone: clamd reads signatures for minutes on a slow box."""
_PROGRAM = "/usr/local/lib/mastio/mastio-pulse"
_TIMER = "mastio-pulse.timer"


def build(ctx: Context) -> HostState:
    """The program and its timer."""
    asked = {
        "valkey-server.service": f"valkey:{VALKEY}",
        "clamav-daemon.service": f"clamd:{CLAMD}",
        "rspamd.service": f"milter:{MILTER}",
        "unbound.service": f"dns:{services.DNS.port}",
    }
    values = {"program": _PROGRAM, "young": YOUNG, "asked": asked}
    units = [
        etc(ctx, f"systemd/system/mastio-pulse.{it}", values, template=f"pulse/pulse.{it}")
        for it in ("service", "timer")
    ]
    program = Path(__file__).with_name("revive.py").read_text()
    timer = Unit(_TIMER, (f"/etc/systemd/system/{_TIMER}",))
    return HostState(
        files=(File(_PROGRAM, program, mode=0o755), *units),
        # In the lab tests stop daemons to see what mail does meanwhile.
        units=(timer,) if ctx.kit.awake else (),
    )
