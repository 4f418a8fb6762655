"""What waits for the store does not wait longer than the store is away: see flush.py, which runs once a minute."""

from pathlib import Path

from mastio import services
from mastio.context import Context
from mastio.roles.gateway.files import etc
from mastio.state import File, HostState, Unit

_PROGRAM = "/usr/local/lib/mastio/mastio-onward"
_UNITS = "/etc/systemd/system"


def build(ctx: Context) -> HostState:
    """The program and its timer."""
    values = {"program": _PROGRAM, "store": ctx.peers(services.DELIVERY)[0]}
    units = [
        etc(ctx, f"systemd/system/mastio-onward.{it}", values, template=f"onward/onward.{it}")
        for it in ("service", "timer")
    ]
    program = Path(__file__).with_name("flush.py").read_text()
    return HostState(
        files=(File(_PROGRAM, program, mode=0o755), *units),
        units=(Unit("mastio-onward.timer", (f"{_UNITS}/mastio-onward.timer",)),),
    )
