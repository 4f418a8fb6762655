"""The watch: keeps the other machines' logs, gives them the time, and fetches their packages.

| part | for |
|---|---|
| rsyslog | the logs of all, over mutual TLS; one folder per machine, one file per day |
| chrony | the site's clock, also when the internet is away |
| tinyproxy | packages, signatures and rules, from the hosts that the site file names and from nowhere else |
| tinyproxy again | MTA-STS policies (RFC 8461) for the sending gateway, from hosts called mta-sts.* |

Whose log a line is says the door it came in by, never the line itself: each machine has one, to which only its
address is led and where only its certificate is taken. So root on another machine, on the firewall too, which can
wear any address, cannot write in its name (decision 0032). The program `doors` closes some before the disk is full.
"""

import json
from pathlib import Path

from mastio import intrusion, services
from mastio.context import LOGS, Context, Peer
from mastio.roles.watch import doors
from mastio.services import Service
from mastio.state import Directory, File, HostState, Unit

TIME = ("2.debian.pool.ntp.org",)
"""Time servers on the internet (Debian's own default)."""
_DOORS = "/usr/local/lib/mastio/mastio-doors"


def build(ctx: Context) -> HostState:
    """The watch's part of a machine."""
    files = [
        File("/etc/rsyslog.d/20-receive.conf", _receiver(ctx)),
        File("/etc/chrony/chrony.conf", _clock(ctx)),
    ]
    units: list[Unit] = []
    packages = ["openssh-client"]
    if _offers(ctx, services.SYSLOG):
        guard = _guard(ctx)
        files += guard.files
        units += guard.units
    if _offers(ctx, services.PROXY):
        rules = (ctx.site.ids.host,) if intrusion.watched(ctx.matrix) and ctx.site.ids.host else ()
        hosts = dict.fromkeys((*ctx.site.mirrors, *rules))
        allowed = ctx.render(__file__, "allowed.j2", hosts=hosts)
        proxy = _proxy(ctx, "tinyproxy", services.PROXY, "/etc/tinyproxy/allowed", allowed)
        packages.append("tinyproxy")
        files += proxy.files
        units += proxy.units
    if _offers(ctx, services.POLICIES):
        name = "mastio-policies"
        proxy = _proxy(ctx, name, services.POLICIES, "/etc/tinyproxy/policies", "^mta-sts\\.\n")
        unit = ctx.render(__file__, "policies.service.j2", config=f"/etc/tinyproxy/{name}.conf")
        files += (*proxy.files, File(f"/etc/systemd/system/{name}.service", unit))
        units += proxy.units
    return HostState(
        packages=tuple(packages),
        files=tuple(files),
        directories=(Directory(LOGS, group="adm", mode=0o750),),
        units=tuple(units),
    )


def _proxy(ctx: Context, name: str, service: Service, filter_: str, allowed: str) -> HostState:
    """A tinyproxy of its own, with its configuration, filter and sandbox."""
    config = f"/etc/tinyproxy/{name}.conf"
    unit = f"/etc/systemd/system/{name}.service"
    values = {"name": name, "service": service, "filter": filter_}
    return HostState(
        files=(
            File(config, ctx.render(__file__, "tinyproxy.conf.j2", **values)),
            File(filter_, allowed),
            File(f"{unit}.d/mastio.conf", ctx.render(__file__, "tinyproxy.service.j2", **values)),
        ),
        units=(Unit(f"{name}.service", (config, filter_, "/etc/resolv.conf")),),
    )


def _offers(ctx: Context, service: Service) -> bool:
    """Whether anyone may call: the one machine of a small site serves only itself."""
    return any(it.service == service for it in ctx.matrix.into(ctx.machine.name))


def _doors(ctx: Context) -> tuple[tuple[Peer, int], ...]:
    """Who logs here, and the port that is its door."""
    callers = ctx.callers(services.SYSLOG) if _offers(ctx, services.SYSLOG) else ()
    return tuple((it, ctx.door(services.SYSLOG, it)) for it in callers)


def _guard(ctx: Context) -> HostState:
    """What closes doors while there is no room."""
    unit, config = "/etc/systemd/system/mastio-doors.service", str(doors.CONFIG)
    known = {"logs": LOGS, "doors": {it.machine: port for it, port in _doors(ctx)}}
    return HostState(
        files=(
            File(_DOORS, Path(__file__).with_name("doors.py").read_text(), mode=0o755),
            File(config, json.dumps(known, indent=1) + "\n"),
            File(unit, ctx.render(__file__, "doors.service.j2", program=_DOORS)),
        ),
        units=(Unit("mastio-doors.service", (unit, config, _DOORS)),),
    )


def _receiver(ctx: Context) -> str:
    return ctx.render(
        __file__, "receive.conf.j2", logs=LOGS, doors=_doors(ctx),
        addresses=ctx.listen(services.SYSLOG) if _offers(ctx, services.SYSLOG) else (),
    )  # fmt: skip


def _clock(ctx: Context) -> str:
    offered = _offers(ctx, services.NTP)
    return ctx.render(
        __file__, "chrony.conf.j2", time=() if ctx.internet.offline else TIME,
        addresses=ctx.listen(services.NTP) if offered else (),
        callers=ctx.callers(services.NTP) if offered else (),
    )  # fmt: skip
