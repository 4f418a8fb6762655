"""The tunnels that join machines without a firewall: where machines stand in them.

Machines that stand on the internet by themselves, at different providers perhaps, have nobody between them. As soon
as there are two, they talk inside WireGuard (`mastio.roles.mesh`), each at an address of its own that only the others
know.

[mesh]
networks = ["10.99.0.0/24", "fd00:99::/64"]
"""

from dataclasses import replace

from mastio.site.layout import Layout
from mastio.site.model import Address, Network, Role
from mastio.site.read import Raw
from mastio.site.server import NUMBER
from mastio.site.topology import FIRST_HOST, default_networks
from mastio.site.tunnels import inside

_MOST_BITS = {4: 27, 6: 120}
_PATH = ("mesh", "networks")


def join(
    raw: Raw,
    name: str,
    public: tuple[Address, ...],
    layout: Layout,
    admins: tuple[Network, ...],
) -> Layout:
    """`layout` with the machines' addresses in the tunnels; what is wrong is added to `raw.problems`."""
    machines = layout.machines
    if len(machines) < 2 or any(it.has(Role.FIREWALL) for it in machines):
        if raw.has(*_PATH):
            raw.problems.add(
                _PATH, "there are no tunnels between machines",
                "they join several machines without a firewall: leave it out",
            )  # fmt: skip
        return layout
    networks = _networks(raw, name, public, admins)
    return replace(
        layout,
        machines=tuple(
            replace(it, inner=tuple(network[FIRST_HOST + number] for network in networks))
            for number, it in enumerate(machines)
        ),
    )


def _networks(
    raw: Raw, name: str, public: tuple[Address, ...], admins: tuple[Network, ...]
) -> tuple[Network, ...]:
    found = inside(raw, _PATH, default_networks(name, NUMBER), public, _MOST_BITS)
    for network in found.values():
        for what, others in (("`public`", public), ("admins.networks", admins)):
            for other in others:
                same = other.version == network.version
                if same and (
                    other.overlaps(network) if isinstance(other, Network) else other in network
                ):
                    raw.problems.add(
                        _PATH, f"{network} and {other} of {what} meet",
                        "take a network that is nowhere else, such as 10.99.0.0/24",
                    )  # fmt: skip
    return tuple(found[it] for it in sorted(found))
