"""People's devices in the site's tunnel: given and taken in the vault, and what a device must be told.

    device, private = add(vault, site, "alice-phone", "alice@fortress.test")
    configuration(vault, site, device, private)     what WireGuard on the device reads
    revoke(vault, site, "alice-phone")

The private key is made here, given once, and not kept. The vault is changed in memory; an apply of the firewall lets a
device in, or ends it.
"""

import re
import secrets as random
from base64 import b64encode
from collections.abc import Mapping

from mastio import pki
from mastio.errors import Exit, MastioError
from mastio.roles.vpn import DEVICES, KEY, Device, devices, own
from mastio.secrets import today
from mastio.services import IMAPS, SUBMISSIONS, WIREGUARD
from mastio.site.model import Address, Clients, Role, Site
from mastio.vault import Vault

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_KEEPALIVE = 25
"""Seconds; a firewall on the way forgets a silent conversation after half a minute (WireGuard's own advice)."""


def must_be_wanted(site: Site) -> None:
    """MastioError unless the site file has a tunnel."""
    if site.clients is not Clients.VPN:
        raise MastioError(
            f"this site has no tunnel: clients is {site.clients}",
            hint=f'write clients = "{Clients.VPN}" into the site file, then `mastio apply`',
            code=Exit.DATA,
        )


def add(vault: Vault, site: Site, name: str, user: str = "") -> tuple[Device, str]:
    """A new device, and its private key."""
    must_be_wanted(site)
    if not _NAME.fullmatch(name):
        raise MastioError(
            f"{name!r} is no name for a device",
            hint="up to 40 small letters, digits and hyphens, such as alice-phone",
            code=Exit.USAGE,
        )
    known = devices(vault)
    if any(it.name == name for it in known):
        raise MastioError(
            f"there is a device {name} already",
            hint=f"choose another name, or `mastio vpn revoke {name}` first",
            code=Exit.DATA,
        )
    private = pki.wireguard_key()
    device = Device(
        name, user, today().isoformat(), pki.wireguard_public(private), b64encode(random.token_bytes(32)).decode(),
        _free(site, known),
    )  # fmt: skip
    vault.put(f"{DEVICES}{name}", device.text())
    return device, private


def _free(site: Site, known: tuple[Device, ...]) -> tuple[Address, ...]:
    """The first addresses that no device has; one number in all families."""
    taken = {*own(site), *(address for it in known for address in it.addresses)}
    smallest = min(network.num_addresses for network in site.vpn_networks)
    for number in range(2, smallest - 1):
        found = tuple(network[number] for network in site.vpn_networks)
        if not taken & {*found}:
            return found
    raise MastioError(
        "the tunnel's network is full",
        hint="revoke what nobody uses (`mastio vpn list`), or give vpn.networks a larger one",
        code=Exit.DATA,
    )


def revoke(vault: Vault, site: Site, name: str) -> Device:
    """Takes a device out; what it was."""
    must_be_wanted(site)
    for device in devices(vault):
        if device.name == name:
            vault.drop(f"{DEVICES}{name}")
            return device
    raise MastioError(
        f"there is no device {name}", hint="`mastio vpn list` names them", code=Exit.DATA
    )


def configuration(vault: Mapping[str, str], site: Site, device: Device, private: str) -> str:
    """What the device must know (wg-quick(8)): only the store is behind the tunnel."""

    def alone(addresses: tuple[Address, ...]) -> str:
        return ", ".join(f"{it}/{it.max_prefixlen}" for it in addresses)

    store = tuple(it for one in site.carrying(Role.STORE) for it in one.addresses)
    return "\n".join(
        (
            f"# {device.name}: mail of {site.organisation}",
            f"# IMAP {site.imap_host}, port {IMAPS.port}; SMTP the same, port {SUBMISSIONS.port}; both TLS.",
            "[Interface]",
            f"PrivateKey = {private}",
            f"Address = {alone(device.addresses)}",
            "",
            "[Peer]",
            f"PublicKey = {pki.wireguard_public(vault[KEY])}",
            f"PresharedKey = {device.shared}",
            f"Endpoint = {site.mx_host}:{WIREGUARD.port}",
            f"AllowedIPs = {alone(store)}",
            f"PersistentKeepalive = {_KEEPALIVE}",
            "",
        )
    )
