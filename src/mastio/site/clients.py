"""The keys of who reads mail with a program of the own: `clients` and what belongs to it."""

from mastio.site.key import Key, Kind, names
from mastio.site.model import Clients, Site

_CLIENTS = Site.__dataclass_fields__["clients"].default

CLIENTS: tuple[Key, ...] = (
    Key(
        "clients",
        Kind.TEXT,
        f"Which mail programs reach the mail: {names(Clients)}. `vpn`: IMAP and submission for devices that have a key "
        "to the site's tunnel (WireGuard, at the firewall machine); `mastio vpn` gives and takes them. `internet`: "
        "from everywhere, through a proxy on the receiving gateway.",
        f"`{_CLIENTS}`",
    ),
    Key(
        "imap",
        Kind.TEXT,
        "The name by which these programs find the mail.",
        "`imap.` and the first domain",
    ),
    Key(
        "vpn.networks",
        Kind.TEXTS,
        "Where devices stand in the tunnel: a network for each address family that `public` has.",
        "`10.77.200.0/24`, and the /64 number 200 of the site's unique local prefix",
    ),
)
