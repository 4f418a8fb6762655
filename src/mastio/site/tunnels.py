"""The networks inside the site's tunnels, people's and machines': one for each address family that `public` has.

>>> inside(raw, ("vpn", "networks"), default_networks("demo", 200), public, {4: 29, 6: 120})
{4: IPv4Network('10.77.200.0/24'), 6: IPv6Network('fd…::/64')}
"""

from collections.abc import Iterable, Mapping

from mastio.site import networks
from mastio.site.model import Address, Network
from mastio.site.read import Raw


def inside(
    raw: Raw, path: tuple[str, ...], default: Iterable[Network], public: Iterable[Address], most_bits: Mapping[int, int]
) -> dict[int, Network]:  # fmt: skip
    """By IP version, those that `path` names, else the `default`; what is wrong is added to `raw.problems`.

    `most_bits` are the longest prefixes that have room enough.
    """
    families = {it.version for it in public}
    usual: dict[int, Network] = {it.version: it for it in default if it.version in families}
    return usual | networks.read(raw, path, families, most_bits, "tunnels have one")
