"""The tunnels that join machines without a firewall: WireGuard from each to each with which it has to do.

    mail ──mesh (UDP, from public address to public address)──▶ webmail
         └ inside it: imaps, submissions, logs, time, packages …, from inner address to inner address

Which machines have one, and what it carries, the flow matrix says; ssh goes beside it, for it is the way by which it
is built and mended. A key of the vault for each machine, `mesh/MACHINE/key`; others learn its public half alone.
wg-quick(8) brings it up with what the kernel has; where that knows no WireGuard, as in a container on an old host or
in the lab, with wireguard-go. A peer that comes or goes is a reload, which disturbs no other.
"""

from collections.abc import Mapping

from mastio import pki
from mastio.context import Context, bracketed
from mastio.flows import MESH_INTERFACE
from mastio.services import MESH
from mastio.site.model import Site
from mastio.state import File, HostState, Unit

KEY = "mesh/{}/key"
"""The secret by which a machine is known to the others in the tunnels."""
_PUBLIC = "mesh/{}/public"
CONFIG = f"/etc/wireguard/{MESH_INTERFACE}.conf"
UNIT = f"wg-quick@{MESH_INTERFACE}.service"
KEEPALIVE = 25
"""Seconds between words of a machine that has nothing to say: so silence means that there is no tunnel."""
_DROP_IN = f"/etc/systemd/system/{UNIT}.d/mastio.conf"


def keys(site: Site) -> tuple[str, ...]:
    """The secrets that the site's tunnels need."""
    return tuple(KEY.format(it.name) for it in site.machines if it.inner)


def publics(vault: Mapping[str, str], site: Site) -> dict[str, str]:
    """What every machine may know of every machine's key."""
    return {
        _PUBLIC.format(it.name): pki.wireguard_public(vault[KEY.format(it.name)])
        for it in site.machines
        if KEY.format(it.name) in vault
    }


def public(ctx: Context, machine: str) -> str:
    """A machine's public key."""
    return ctx.secret(_PUBLIC.format(machine))


def build(ctx: Context) -> HostState:
    """A machine's ends of its tunnels."""
    peers = [
        {
            "name": it.name,
            "public": public(ctx, it.name),
            # Of both families one is enough; the first is there on both sides.
            "endpoint": f"{bracketed(it.addresses[0])}:{MESH.port}",
            "inner": it.inner,
        }
        for it in ctx.matrix.mesh(ctx.machine.name)
    ]
    if not peers:
        return HostState()
    key = ctx.secret(KEY.format(ctx.machine.name))
    config = ctx.render(
        __file__, "mesh.conf.j2", key=key, port=MESH.port, keepalive=KEEPALIVE, peers=peers
    )
    return HostState(
        packages=("wireguard-go", "wireguard-tools"),
        files=(
            File(CONFIG, config, mode=0o600, secret=True),
            File(_DROP_IN, ctx.render(__file__, "wg-quick.service.j2", peers=peers)),
        ),
        units=(Unit(UNIT, (CONFIG,), reload=True),),
    )
