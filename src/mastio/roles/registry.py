"""Which module builds which role. The registry is this list; nothing is discovered."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mastio.context import Context
from mastio.roles import (
    backup,
    bans,
    certificates,
    common,
    digest,
    firewall,
    gateway,
    ids,
    inspection,
    integrity,
    logbook,
    mesh,
    patching,
    proxy,
    resolver,
    restore,
    store,
    vpn,
    watch,
    webmail,
)
from mastio.site.model import Role
from mastio.state import HostState, Kept


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a machine: for which roles it is built, how, and the tokens that it needs."""

    name: str
    roles: tuple[Role, ...]
    build: Callable[[Context], HostState]
    secrets: tuple[str, ...] = ()


KEPT: dict[Role, Kept] = {
    Role.STORE: store.KEPT,
    Role.GATEWAY_IN: gateway.KEPT,
    Role.GATEWAY_OUT: gateway.KEPT,
    Role.WEBMAIL: webmail.KEPT,
}
"""What backups keep of a machine, by its roles."""

PARTS: tuple[Part, ...] = (
    Part("common", tuple(Role), common.build),
    Part("firewall", (Role.FIREWALL,), firewall.build),
    Part("vpn", (Role.FIREWALL,), vpn.build),
    Part("mesh", tuple(Role), mesh.build),
    Part("ids", (Role.FIREWALL,), ids.build),
    Part("resolver", (Role.GATEWAY_IN, Role.GATEWAY_OUT, Role.WATCH), resolver.build),
    Part("gateway", (Role.GATEWAY_IN, Role.GATEWAY_OUT), gateway.build),
    Part("proxy", (Role.GATEWAY_IN,), proxy.build),
    Part("store", (Role.STORE,), store.build),
    Part("webmail", (Role.WEBMAIL,), webmail.build, webmail.SECRETS),
    Part("watch", (Role.WATCH,), watch.build),
    Part("bans", tuple(Role), bans.build),
    Part("logbook", tuple(Role), logbook.build),
    Part("inspection", tuple(Role), inspection.build),
    Part("integrity", tuple(Role), integrity.build),
    Part("digest", (Role.WATCH,), digest.build),
    Part("patching", tuple(Role), patching.build),
    Part(
        "certificates",
        (Role.GATEWAY_IN, Role.STORE, Role.WEBMAIL, Role.WATCH),
        certificates.build,
    ),
    Part("backup", tuple(Role), partial(backup.build, kept=KEPT)),
    Part("restore", tuple(Role), restore.build),
)
