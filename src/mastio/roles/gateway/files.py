"""How the gateway's templates become files: one place that knows where things stand."""

from collections.abc import Mapping
from types import MappingProxyType

from mastio.context import Context
from mastio.state import File, HostState

RECIPIENTS = "/var/lib/mastio/recipients"
"""Where `mastio` pushes the maps `domains` and `recipients` (accounts are data, not configuration)."""
LISTS = "/var/lib/mastio/filter"
"""Where `mastio greylist` pushes its lists."""
MILTER = "/run/rspamd/milter.sock"
CLAMD = "/run/clamav/clamd.ctl"
VALKEY = "/run/valkey/valkey.sock"
CONTROLLER = "/run/rspamd/controller.sock"
POLICY = "/run/mastio-tls-policy/policy.sock"
"""Where Postfix asks how to secure the way to a domain."""


NOTHING: Mapping[str, object] = MappingProxyType({})


def etc(
    ctx: Context, path: str, values: Mapping[str, object] = NOTHING, *, template: str = ""
) -> File:
    """The file `/etc/<path>`, from the template of the same path (or `template`) beside this module."""
    sockets = {"milter": MILTER, "clamd": CLAMD, "valkey": VALKEY}
    return File(f"/etc/{path}", ctx.render(__file__, f"{template or path}.j2", **sockets, **values))


def drop_in(ctx: Context, unit: str, values: Mapping[str, object] = NOTHING) -> File:
    """What tightens or changes Debian's `unit`: systemd.unit(5), drop-in files."""
    path = f"{drop_in_folder(unit)[5:]}mastio.conf"
    return etc(ctx, path, values, template=f"systemd/{unit}.conf")


def drop_in_folder(unit: str) -> str:
    """The prefix of a unit's drop-ins, for `Unit.reads`."""
    return f"/etc/systemd/system/{unit}.d/"


def together(*parts: HostState) -> HostState:
    """The union of parts that do not overlap."""
    return HostState(
        packages=tuple(it for part in parts for it in part.packages),
        debconf=tuple(it for part in parts for it in part.debconf),
        files=tuple(it for part in parts for it in part.files),
        directories=tuple(it for part in parts for it in part.directories),
        users=tuple(it for part in parts for it in part.users),
        units=tuple(it for part in parts for it in part.units),
        checks=tuple(it for part in parts for it in part.checks),
        commands=tuple(it for part in parts for it in part.commands),
    )
