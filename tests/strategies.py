"""Hypothesis strategies: valid sites of every topology, with roles placed freely too."""

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

from hypothesis import strategies as st

from mastio.site.model import Address, Machine, Network, Reach, Role, Site, Topology, Zone
from tests import sites

_LABEL = st.text("abz09", min_size=1, max_size=8).map("s{}".format)
_SERVING = tuple(role for role in Role if role is not Role.FIREWALL)


@st.composite
def _groups(draw: st.DrawFn) -> list[tuple[Role, ...]]:
    """The serving roles, partitioned: each group is one machine. Some roles stand twice."""
    count = draw(st.integers(1, len(_SERVING)))
    where = [draw(st.integers(0, count - 1)) for _ in _SERVING]
    groups = [
        tuple(role for role, at in zip(_SERVING, where, strict=True) if at == number)
        for number in range(count)
    ]
    doubled = draw(st.sampled_from([(), (Role.GATEWAY_IN,), (Role.WEBMAIL,)]))
    return [group for group in (*groups, doubled) if group]


def _addresses(networks: tuple[Network, ...], host: int) -> tuple[Address, ...]:
    return tuple(network[host] for network in networks)


@st.composite
def free_sites(draw: st.DrawFn) -> Site:
    """A site whose roles are spread over machines in any way, behind a firewall or not."""
    groups = draw(_groups())
    walled = draw(st.booleans())
    on_firewall = walled and draw(st.booleans()) and len(groups) > 1
    families = draw(st.sampled_from([(4,), (4, 6), (6,)]))
    numbers = draw(
        st.lists(st.integers(0, 255), min_size=len(groups), max_size=len(groups), unique=True)
    )
    everywhere = draw(st.booleans())  # all machines share one zone, or each has its own

    def zone(index: int) -> Zone:
        number = numbers[0 if everywhere else index]
        both: tuple[Network, ...] = (
            IPv4Network(f"10.9.{number}.0/24"), IPv6Network(f"fd00:9:9:{number}::/64"),
        )  # fmt: skip
        return Zone(f"zone{number}", tuple(net for net in both if net.version in families))

    zones = tuple(dict.fromkeys(zone(index) for index in range(len(groups))))
    machines = [
        Machine(f"m{index}", roles, zone(index).name, _addresses(zone(index).networks, 10 + index))
        for index, roles in enumerate(groups)
    ]
    if walled:
        first = machines[0]
        roles = (Role.FIREWALL, *first.roles) if on_firewall else (Role.FIREWALL,)
        firewall = Machine("firewall", roles, zones[0].name, _addresses(zones[0].networks, 1))
        machines = [firewall, *(machines[1:] if on_firewall else machines)]
    if not walled and len(machines) > 1:
        inner = [IPv4Network("10.9.1.0/24"), IPv6Network("fd00:9:9:1::/64")]
        mesh = tuple(it for it in inner if it.version in families)
        machines = [
            replace(it, inner=_addresses(mesh, 10 + number)) for number, it in enumerate(machines)
        ]
    every = tuple(it for it in (sites.PUBLIC4, sites.PUBLIC6) if it.version in families)
    public = every if walled else tuple(it for each in machines for it in each.addresses)
    admins = draw(st.sampled_from([(), sites.demo_site().admin_networks]))
    return Site(
        name=draw(_LABEL),
        organisation="Generated",
        domains=("example.test",),
        topology=draw(st.sampled_from(Topology)),
        reach=draw(st.sampled_from(Reach)),
        public=public,
        zones=zones,
        machines=tuple(machines),
        mx_host="mx.example.test",
        webmail_host="mail.example.test",
        admin_mail="postmaster@example.test",
        admin_networks=tuple(it for it in admins if it.version in families),
        admin_keys=(sites.ADMIN_KEY,),
    )


def separated_sites() -> st.SearchStrategy[Site]:
    """A site of the topologies that keep the roles apart, behind a firewall."""
    return st.sampled_from([sites.demo_site(), sites.split_site(), sites.v4_site()])


def any_sites() -> st.SearchStrategy[Site]:
    """Any valid site."""
    return st.one_of(st.sampled_from(sites.all_sites()), free_sites())
