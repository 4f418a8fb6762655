"""Bans: repeated offences end at the machine that faces the internet, for a time that grows.

    gateway, webmail ──log──▶ watch: rsyslog ──FIFO──▶ counter ──ssh──▶ guard on the firewall ──▶ nftables

Two ends of one thing. *Watch* has all logs, so it counts there (`counter`, from the table `offences`). The
*guards* are the perimeter firewall, or without one every machine: there the program `guard` keeps the bans and
nftables' sets, and judges for itself whom it never bans. Both ends know each other by the keys of
their certificates inside the site, so there is no further secret; at a guard, watch's
key gets as far as the forced command goes.
"""

import json
from dataclasses import asdict
from ipaddress import ip_network
from pathlib import Path

from mastio import bastion
from mastio.context import PKI, Context
from mastio.firewall import BANS
from mastio.roles.bans.here import SOCKET as HERE_SOCKET
from mastio.roles.bans.offences import OFFENCES
from mastio.site.model import Machine, Role
from mastio.state import Directory, File, HostState, Unit, User

GUARD = "/usr/local/lib/mastio/mastio-ban"
"""The program on the machines that face the internet."""
FIFO = "/run/mastio-offences"
_USER = "mastio-bans"
_COUNTER = "/usr/local/lib/mastio/mastio-offences"
_KNOWN = "/etc/mastio/bans-known-hosts"
_SETTINGS = "/etc/mastio/bans-counter.json"
_HERE = "/usr/local/lib/mastio/mastio-ban-here"
_UNITS = "/etc/systemd/system"


def build(ctx: Context) -> HostState:
    """A machine's part in it; empty for one that neither faces the internet nor has the logs."""
    guards = [it.name for it in _guards(ctx)]
    guarding = _guarding(ctx) if ctx.machine.name in guards else HostState()
    counting = _counting(ctx) if ctx.machine.has(Role.WATCH) else HostState()
    both = ctx.machine.has(Role.WATCH) and ctx.machine.name in guards
    own = _ordering_here(ctx) if both else HostState()
    return HostState(
        files=(*guarding.files, *counting.files, *own.files),
        directories=(*guarding.directories, *counting.directories),
        users=counting.users,
        units=(*guarding.units, *counting.units, *own.units),
    )


def _guards(ctx: Context) -> tuple[Machine, ...]:
    return (ctx.matrix.firewall,) if ctx.matrix.firewall else ctx.site.machines


def _exempt(ctx: Context) -> list[str]:
    """Whom no ban may ever meet: this site, its administrators, and whom the site file names."""
    own = (
        [network for zone in ctx.site.zones for network in zone.networks]
        if ctx.matrix.firewall
        else []
    )
    addresses = [
        *ctx.site.public,
        *(it for machine in ctx.site.machines for it in (*machine.addresses, *machine.inner)),
        # Ours in the tunnel: so a device there is banned by itself, not with the whole /64.
        *(network[1] for network in ctx.site.vpn_networks),
    ]
    names = {
        str(ip_network(it))
        for it in (*own, *addresses, *ctx.site.admin_networks, *ctx.site.bans.never)
    }
    return sorted(names | {"127.0.0.0/8", "::1/128", "fe80::/10"})


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


def _guarding(ctx: Context) -> HostState:
    files = [
        File(GUARD, _beside("guard.py"), mode=0o755),
        File("/etc/mastio/bans.json", json.dumps({"exempt": _exempt(ctx)}, indent=1) + "\n"),
        File(
            f"{_UNITS}/mastio-bans.service",
            ctx.render(__file__, "sync.service.j2", program=GUARD, state=BANS),
        ),
        File(f"{_UNITS}/mastio-bans.timer", ctx.render(__file__, "sync.timer.j2")),
    ]
    units = [Unit("mastio-bans.timer", (f"{_UNITS}/mastio-bans.timer",))]
    if keys := bastion.authorized(ctx, "host/{}/cert", f"{GUARD} forced"):
        files.append(File("/etc/ssh/authorized_keys.d/bans", keys))
    return HostState(
        files=tuple(files),
        directories=(Directory(BANS, mode=0o700),),
        units=tuple(units),
    )


def _ordering_here(ctx: Context) -> HostState:
    """Where watch is a guard itself: a socket in the place of ssh."""
    unit, values = (
        f"{_UNITS}/mastio-ban-here",
        {"program": _HERE, "socket": HERE_SOCKET, "user": _USER, "state": BANS},
    )
    return HostState(
        files=(
            File(_HERE, _beside("here.py"), mode=0o755),
            File(f"{unit}.socket", ctx.render(__file__, "here.socket.j2", **values)),
            File(f"{unit}@.service", ctx.render(__file__, "here.service.j2", **values)),
        ),
        units=(Unit("mastio-ban-here.socket", (f"{unit}.socket",)),),
    )


def _counting(ctx: Context) -> HostState:
    guards = [it for it in _guards(ctx) if it != ctx.machine]
    here = [[_HERE]] if ctx.machine in _guards(ctx) else []
    limits = asdict(ctx.site.bans)
    offences = [it for it in OFFENCES if ctx.site.clients in it.clients]
    del limits["never"]
    config = {
        **limits,
        "exempt": _exempt(ctx),
        # %d: systemd.exec(5)
        "guards": [*here, *(bastion.call(ctx, it, _KNOWN, "%d/key") for it in guards)],
        "offences": [
            {
                "topic": it.topic, "weight": it.weight, "pattern": it.pattern,
                "machines": [machine.name for machine in ctx.site.carrying(*it.roles)],
            }
            for it in offences
        ],
    }  # fmt: skip
    units = {name: f"{_UNITS}/mastio-offences.{name}" for name in ("service", "socket")}
    words = dict.fromkeys(it.word for it in offences)
    return HostState(
        files=(
            File(_COUNTER, _beside("counter.py"), mode=0o755),
            File(_SETTINGS, json.dumps(config, indent=1) + "\n"),
            File(_KNOWN, bastion.known_hosts(ctx, guards)),
            File("/etc/rsyslog.d/10-offences.conf", ctx.render(__file__, "rsyslog.conf.j2", words=words, fifo=FIFO)),
            File(units["socket"], ctx.render(__file__, "counter.socket.j2", fifo=FIFO, user=_USER)),
            File(units["service"], ctx.render(__file__, "counter.service.j2", program=_COUNTER, user=_USER)),
        ),
        users=(User(_USER),),
        units=(
            Unit("mastio-offences.socket", (units["socket"],)),
            Unit(
                "mastio-offences.service",
                (units["service"], units["socket"], _COUNTER, _SETTINGS, _KNOWN, f"{PKI}/host.key", "/etc/hosts"),
            ),
        ),
    )  # fmt: skip
