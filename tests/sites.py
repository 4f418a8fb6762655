"""Sites that the tests share, made by hand from the model: every fact is in sight, no parser is involved.

`demo_site()` is the default topology, dual-stack: firewall, gateway, store, webmail and watch, each in
a zone of its own behind the firewall. `split_site`, `webmail_site` and `single_site` are the other
topologies, `v4_site` knows no IPv6.
"""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from mastio.site.model import Machine, Reach, Role, Site, Topology, Zone

PUBLIC4 = IPv4Address("203.0.113.1")
PUBLIC6 = IPv6Address("2001:db8:113::1")
ADMIN_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3W1l8Y3mVbN0c0m2G6Vd1q0l0s8Xx7Yw0y8n6l0Q2b admin@demo"
)


def zone(name: str, number: int) -> Zone:
    """The zone `number` of the demo: 10.77.N.0/24 and the /64 number N of its ULA prefix."""
    return Zone(
        name,
        (IPv4Network(f"10.77.{number}.0/24"), IPv6Network(f"fd6d:6173:7469:{number}::/64")),
    )


def machine(name: str, roles: tuple[Role, ...], where: Zone, host: int = 10) -> Machine:
    """A machine with host number `host` in each network of its zone."""
    return Machine(name, roles, where.name, tuple(network[host] for network in where.networks))


MAIL, WEB, CORE, MGMT, OUT = (
    zone(name, number) for number, name in enumerate(("mail", "web", "core", "mgmt", "out"), 1)
)


def demo_site() -> Site:
    """The lab's demonstration site: topology `separated`."""
    return Site(
        name="demo",
        organisation="Fortress Test",
        domains=("fortress.test",),
        topology=Topology.SEPARATED,
        reach=Reach.LAB,
        public=(PUBLIC4, PUBLIC6),
        zones=(MAIL, WEB, CORE, MGMT),
        machines=(
            machine("firewall", (Role.FIREWALL,), MGMT, 1),
            machine("gateway", (Role.GATEWAY_IN, Role.GATEWAY_OUT), MAIL),
            machine("store", (Role.STORE,), CORE),
            machine("webmail", (Role.WEBMAIL,), WEB),
            machine("watch", (Role.WATCH,), MGMT),
        ),
        mx_host="mx.fortress.test",
        webmail_host="mail.fortress.test",
        admin_mail="alice@fortress.test",
        admin_networks=(IPv4Network("198.51.100.0/28"), IPv6Network("2001:db8:5100::/64")),
        admin_keys=(ADMIN_KEY,),
    )


def split_site() -> Site:
    """As the demo, with the receiving and the sending gateway apart."""
    site = demo_site()
    firewall, _, *rest = site.machines
    return replace(
        site,
        topology=Topology.SPLIT,
        zones=(*site.zones, OUT),
        machines=(
            firewall,
            machine("gateway-in", (Role.GATEWAY_IN,), MAIL),
            machine("gateway-out", (Role.GATEWAY_OUT,), OUT),
            *rest,
        ),
    )


def single_site() -> Site:
    """One machine, which stands on the internet by itself."""
    public = Zone("public", (IPv4Network("203.0.113.0/28"), IPv6Network("2001:db8:113::/64")))
    roles = tuple(role for role in Role if role is not Role.FIREWALL)
    return replace(
        demo_site(),
        topology=Topology.SINGLE,
        zones=(public,),
        machines=(Machine("mail", roles, "public", (PUBLIC4, PUBLIC6)),),
    )


def webmail_site() -> Site:
    """Two machines on the internet: the webmail, and all the rest."""
    site = single_site()
    mail = site.machines[0]
    second = (IPv4Address("203.0.113.2"), IPv6Address("2001:db8:113::2"))
    tunnels = zone("tunnels", 201)
    return replace(
        site,
        topology=Topology.WEBMAIL,
        public=(*site.public, *second),
        machines=(
            replace(
                mail,
                roles=tuple(role for role in mail.roles if role is not Role.WEBMAIL),
                inner=machine("mail", (), tunnels, 10).addresses,
            ),
            Machine(
                "webmail",
                (Role.WEBMAIL,),
                "public",
                second,
                inner=machine("webmail", (), tunnels, 11).addresses,
            ),
        ),
    )


def v4_site() -> Site:
    """The demo without IPv6."""
    site = demo_site()
    return replace(
        site,
        public=(PUBLIC4,),
        zones=tuple(replace(it, networks=it.networks[:1]) for it in site.zones),
        machines=tuple(replace(it, addresses=it.addresses[:1]) for it in site.machines),
        admin_networks=site.admin_networks[:1],
    )


def all_sites() -> tuple[Site, ...]:
    """Every site above."""
    return demo_site(), split_site(), single_site(), webmail_site(), v4_site()
