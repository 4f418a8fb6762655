"""The networks that a key of the site file names: one for each address family that `public` has.

>>> read(raw, ("zones", "dmz", "networks"), (4, 6), {4: 28, 6: 112}, "a zone has one")
{4: IPv4Network('10.77.1.0/24')}
"""

from collections.abc import Container, Mapping

from mastio.site import values
from mastio.site.model import Network
from mastio.site.read import Raw


def read(
    raw: Raw, path: tuple[str, ...], families: Container[int], most_bits: Mapping[int, int], one: str
) -> dict[int, Network]:  # fmt: skip
    """By IP version; what is wrong is added to `raw.problems`.

    `most_bits` are the longest prefixes that have room enough, `one` says that there is one of each family.
    """
    found: dict[int, Network] = {}
    for number, text in enumerate(raw.texts(*path)):
        here: tuple[str | int, ...] = (*path, number)
        try:
            network = values.network(text)
        except ValueError as error:
            raw.problems.add(here, str(error))
            continue
        family = f"IPv{network.version}"
        if network.version not in families:
            raw.problems.add(here, f"{network}: the site has no {family} address in `public`",
                             f"add one there, or leave {family} out here")  # fmt: skip
        elif network.version in found:
            raw.problems.add(here, f"{network} is a second {family} network", one)
        elif network.prefixlen > (most := most_bits[network.version]):
            raw.problems.add(here, f"{network} is too small", f"/{most} or larger")
        else:
            found[network.version] = network
    return found
