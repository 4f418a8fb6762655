"""The perimeter: routes between the zones and the internet, and lets pass what the flow matrix says.

The rules themselves are `mastio.firewall`, as on every machine; nothing listens here but sshd, for
watch. This part makes the machine a router, with the tool to see the conversations it knows.
"""

from mastio.context import Context
from mastio.state import File, HostState


def build(ctx: Context) -> HostState:
    """The firewall's part of a machine."""
    return HostState(
        packages=("conntrack",),
        files=(
            File("/etc/sysctl.d/81-mastio-router.conf", ctx.render(__file__, "sysctl.conf.j2")),
        ),
    )
