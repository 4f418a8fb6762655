"""The tunnel of people's devices: WireGuard on the perimeter firewall, where `clients` is `vpn`.

    device ──wireguard──▶ firewall ──imaps, submissions──▶ store

What a device may reach is no part of this: the flow matrix has its rows, like any others. A device is a
secret of the vault, `vpn/devices/NAME`: JSON without the device's private key, which nobody keeps but the device.
wg-quick(8) brings the tunnel up with what the kernel has; a lab's kernel may have none, there wireguard-go serves.
A device that comes or goes is a reload, which disturbs no other.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from ipaddress import ip_address

from mastio.context import Context
from mastio.services import WIREGUARD
from mastio.site.model import Address, Clients, Reach, Site
from mastio.state import File, HostState, Unit

KEY = "vpn/key"
"""The secret by which devices know the site."""
DEVICES = "vpn/devices/"
"""Where the vault has the devices."""
INTERFACE = "vpn"
CONFIG = f"/etc/wireguard/{INTERFACE}.conf"
UNIT = f"wg-quick@{INTERFACE}.service"
_DROP_IN = f"/etc/systemd/system/{UNIT}.d/mastio.conf"


@dataclass(frozen=True, slots=True)
class Device:
    """What the site knows of a device."""

    name: str
    user: str
    """Whose it is, for people; the tunnel does not care."""
    since: str
    public: str
    shared: str
    """A second key that both sides have: who can one day compute private keys from public ones lacks it."""
    addresses: tuple[Address, ...]

    def text(self) -> str:
        """As the vault keeps it."""
        return json.dumps({**asdict(self), "addresses": [str(it) for it in self.addresses]})


def devices(vault: Mapping[str, str]) -> tuple[Device, ...]:
    """The devices in a vault, by name."""
    found = []
    for name in sorted(vault):
        if name.startswith(DEVICES):
            data = json.loads(vault[name])
            found.append(Device(**{**data, "addresses": tuple(map(ip_address, data["addresses"]))}))
    return tuple(found)


def own(site: Site) -> tuple[Address, ...]:
    """The firewall's addresses in the tunnel."""
    return tuple(network[1] for network in site.vpn_networks)


def build(ctx: Context) -> HostState:
    """The firewall's part in it."""
    if ctx.site.clients is not Clients.VPN:
        return HostState()
    interfaces = [
        f"{address}/{network.prefixlen}"
        for address, network in zip(own(ctx.site), ctx.site.vpn_networks, strict=True)
    ]
    config = ctx.render(
        __file__, "wireguard.conf.j2", key=ctx.secret(KEY), interfaces=interfaces, port=WIREGUARD.port,
        devices=devices(ctx.secrets(DEVICES)),
    )  # fmt: skip
    in_lab = ctx.site.reach is Reach.LAB
    return HostState(
        packages=("wireguard-tools", *(("wireguard-go",) if in_lab else ())),
        files=(
            File(CONFIG, config, mode=0o600, secret=True),
            File(_DROP_IN, ctx.render(__file__, "wg-quick.service.j2", interfaces=interfaces)),
        ),
        units=(Unit(UNIT, (CONFIG,), reload=True),),
    )
