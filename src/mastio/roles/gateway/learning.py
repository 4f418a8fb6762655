"""The filter's lessons: Bayes in Rspamd, and the door by which the store brings what users have judged.

    store ──learn──▶ stunnel (the store's certificate) ──▶ learnd ──▶ Rspamd's controller ──▶ Valkey
                                                                  └──── whom users wrote to ───▶

Only where mail from strangers is judged (gateway-in). A store that is broken into can teach the filter
nonsense, and whom not to delay; it cannot read, stop or configure it (see learnd.py).
"""

from pathlib import Path

from mastio import services
from mastio.context import PKI, Context
from mastio.roles.gateway.files import CONTROLLER, etc
from mastio.state import Directory, File, HostState, Unit

_PROGRAM = "/usr/local/lib/mastio/learnd"
_SOCKET = "/run/mastio-learn.sock"
_UNITS = "/etc/systemd/system"
_STUNNEL = "/etc/stunnel/mastio-learn.conf"


def build(ctx: Context) -> HostState:
    """Bayes and its teachers' door."""
    values = {
        "program": _PROGRAM,
        "socket": _SOCKET,
        "controller": CONTROLLER,
        "accept": [f"{address}:{services.LEARN.port}" for address in ctx.listen(services.LEARN)],
    }
    units = {
        "mastio-learn.socket": "learning/door.socket",
        "mastio-learn@.service": "learning/door.service",
        "mastio-learn-tls.service": "learning/tls.service",
    }
    return HostState(
        packages=("python3", "stunnel4"),
        files=(
            etc(ctx, "rspamd/local.d/classifier-bayes.conf"),
            etc(ctx, "rspamd/local.d/statistics_group.conf"),
            File(_PROGRAM, Path(__file__).with_name("learnd.py").read_text(), mode=0o755),
            etc(ctx, _STUNNEL.removeprefix("/etc/"), values, template="learning/stunnel.conf"),
            *(
                etc(ctx, f"systemd/system/{name}", values, template=template)
                for name, template in units.items()
            ),
        ),
        directories=(Directory("/etc/stunnel"),),
        units=(
            Unit("mastio-learn.socket", (f"{_UNITS}/mastio-learn.socket",)),
            Unit("mastio-learn-tls.service", (_STUNNEL, f"{PKI}/")),
            Unit("stunnel4.service", masked=True),  # Debian's, which would run our file as root
        ),
    )
