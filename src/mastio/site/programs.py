"""The site file's `clients`: which mail programs, beside the webmail, reach the mail, and where they stand.

clients = "vpn"

[vpn]
networks = ["10.99.0.0/16", "fd00:99::/64"]
"""

from dataclasses import dataclass

from mastio.site.layout import Layout
from mastio.site.model import Acme, Address, Challenge, Clients, Network, Role
from mastio.site.problems import did_you_mean
from mastio.site.read import Raw
from mastio.site.topology import default_networks
from mastio.site.tunnels import inside

NUMBER = 200
"""Of the tunnel's networks among the site's."""
_MOST_BITS = {4: 29, 6: 120}


@dataclass(frozen=True, slots=True)
class Programs:
    """What the site file says of people's mail programs."""

    clients: Clients = Clients.WEBMAIL_ONLY
    networks: tuple[Network, ...] = ()


def parse(
    raw: Raw,
    name: str,
    public: tuple[Address, ...],
    layout: Layout | None,
    acme: Acme,
    admins: tuple[Network, ...],
) -> Programs:
    """What is wrong is added to `raw.problems`."""
    clients = _clients(raw)
    both = [it for it in (layout.machines if layout else ()) if it.has(Role.GATEWAY_IN)]
    if clients is Clients.INTERNET and any(it.has(Role.STORE) for it in both):
        raw.problems.add(
            ("clients",),
            "the proxy of mail programs stands on the receiving gateway, which here is the store as well",
            "give the store a machine of its own",
        )
    if clients is not Clients.VPN:
        if raw.has("vpn", "networks"):
            raw.problems.add(
                ("vpn", "networks"), "there is no tunnel", f'write clients = "{Clients.VPN}"'
            )
        return Programs(clients)
    if layout and not any(it.has(Role.FIREWALL) for it in layout.machines):
        raw.problems.add(
            ("clients",),
            "the tunnel ends at the firewall machine, and there is none",
            "choose the topology separated or split",
        )
    if acme.directory and acme.challenge is Challenge.HTTP:
        raw.problems.add(
            ("acme", "challenge") if raw.has("acme", "challenge") else ("acme", "directory"),
            "the name of the store leads into the site, where no authority can ask",
            'with clients = "vpn" prove the names by DNS: challenge = "dns"',
        )
    return Programs(clients, _networks(raw, name, public, layout, admins))


def _clients(raw: Raw) -> Clients:
    if not raw.has("clients"):
        return Clients.WEBMAIL_ONLY
    text = raw.text("clients")
    if text not in list(Clients):
        raw.problems.add(("clients",), f"{text!r} is unknown", did_you_mean(text, list(Clients)))
        return Clients.WEBMAIL_ONLY
    return Clients(text)


def _networks(
    raw: Raw,
    name: str,
    public: tuple[Address, ...],
    layout: Layout | None,
    admins: tuple[Network, ...],
) -> tuple[Network, ...]:
    found = inside(raw, ("vpn", "networks"), default_networks(name, NUMBER), public, _MOST_BITS)
    zones = [
        (f"zone {zone.name}", it)
        for zone in (layout.zones if layout else ())
        for it in zone.networks
    ]
    taken = [*zones, *(("admins.networks", it) for it in admins)]
    path = ("vpn", "networks") if raw.has("vpn", "networks") else ("clients",)
    for network in found.values():
        for what, other in taken:
            if other.version == network.version and other.overlaps(network):
                raw.problems.add(
                    path,
                    f"{network} overlaps {what} ({other})",
                    "give devices a network of their own",
                )
        if any(it in network for it in public):
            raw.problems.add(path, f"{network} holds a public address", "take a private network")
    return tuple(found[it] for it in sorted(found))
