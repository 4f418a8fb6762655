"""Zones, machines and their addresses: the topology's defaults, and what the site file changes of them.

Three steps, each on the result of the one before: which machine has which roles and stands where;
which networks the zones have; which address each machine has. With a firewall, machines stand behind
it in zones of their own; without, they stand on the internet with the public addresses.
"""

from dataclasses import dataclass
from itertools import combinations

from mastio.site import networks, values
from mastio.site import topology as defaults
from mastio.site.model import Address, Machine, Network, Role, Topology, Zone
from mastio.site.problems import did_you_mean
from mastio.site.read import Raw
from mastio.site.topology import FIRST_HOST, PUBLIC_ZONE

_RESERVED = ("internet", "admin", "vpn", "outside", "site", "localhost", "lo")
_LONGEST_ZONE = 12
"""Zones name network interfaces, which have 15 characters (IFNAMSIZ) and may get a prefix."""
_LONGEST_MACHINE = 32
_ONE_OF = (Role.FIREWALL, Role.STORE, Role.WEBMAIL, Role.WATCH)
_MOST_BITS = {4: 28, 6: 112}
"""The longest prefixes that have room for the firewall and some machines."""
_FAMILY = {4: "IPv4", 6: "IPv6"}


@dataclass(frozen=True, slots=True)
class Place:
    """A machine before it has addresses."""

    name: str
    roles: tuple[Role, ...]
    zone: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything stands."""

    zones: tuple[Zone, ...]
    machines: tuple[Machine, ...]


def lay_out(
    raw: Raw,
    site: str,
    topology: Topology,
    public: tuple[Address, ...],
    admins: tuple[Network, ...],
) -> Layout:
    """The zones and machines; what is wrong with them goes to `raw.problems`."""
    return _LayOut(raw, site, public, admins).run(topology)


class _LayOut:
    def __init__(
        self, raw: Raw, site: str, public: tuple[Address, ...], admins: tuple[Network, ...]
    ) -> None:
        self.raw = raw
        self.problems = raw.problems
        self.site = site
        self.public = public
        self.admins = admins
        self.families = sorted({address.version for address in public})

    def run(self, topology: Topology) -> Layout:
        places = self.places(topology)
        walled = any(Role.FIREWALL in place.roles for place in places)
        self.check_roles(places)
        on_internet = {} if walled else self.public_addresses(places)
        zones = self.zones(places, on_internet)
        self.check_networks(zones, walled)
        if walled:
            addresses = self.inner_addresses(places, zones)
        else:
            addresses = on_internet
            self.check_inside(addresses, places, zones)
        self.check_twice(addresses)
        machines = tuple(
            Machine(
                it.name,
                it.roles,
                it.zone,
                addresses.get(it.name, ()),
                self.ssh(it.name),
                self.memory(it.name),
            )
            for it in places
        )
        return Layout(zones, machines)

    # --- machines and roles

    def places(self, topology: Topology) -> tuple[Place, ...]:
        declared = self.raw.tables["machines"]
        for name in declared:
            self.judge_name(("machines", name), name, _LONGEST_MACHINE)
        for name in self.raw.tables["zones"]:
            self.judge_name(("zones", name), name, _LONGEST_ZONE)
        free = any(self.raw.has("machines", name, "roles") for name in declared)
        if free:
            found = {name: self.roles(name) for name in declared}
        else:
            found = defaults.machines(topology)
            for name in declared:
                if name not in found:
                    self.problems.add(
                        ("machines", name),
                        f"topology {topology} has no such machine",
                        f"{did_you_mean(name, found)}; to place roles freely, give all machines theirs",
                    )
        walled = any(Role.FIREWALL in roles for roles in found.values())
        return tuple(
            Place(name, roles, self.zone_of(name) or defaults.usual_zone(roles, walled=walled))
            for name, roles in found.items()
        )

    def judge_name(self, path: tuple[str, ...], name: str, longest: int) -> None:
        try:
            values.label(name, longest)
        except ValueError as error:
            self.problems.add(path, str(error))
        if name in _RESERVED:
            self.problems.add(path, f"{name!r} has a meaning of its own", "choose another name")

    def roles(self, machine: str) -> tuple[Role, ...]:
        path = ("machines", machine, "roles")
        if not self.raw.texts(*path):
            self.problems.add(path, "is missing", "other machines say their roles: all must")
        found: list[Role] = []
        for number, text in enumerate(self.raw.texts(*path)):
            if text not in list(Role):
                self.problems.add(
                    (*path, number), f"{text!r} is no role", did_you_mean(text, list(Role))
                )
            elif text in found:
                self.problems.add((*path, number), f"{text!r} stands here twice", "keep one")
            else:
                found.append(Role(text))
        return tuple(found)

    def zone_of(self, machine: str) -> str:
        path = ("machines", machine, "zone")
        name = self.raw.text(*path)
        known = (*defaults.DEFAULT_ZONES, *self.raw.tables["zones"])
        if self.raw.has(*path) and name not in (*known, PUBLIC_ZONE):
            self.problems.add(
                path,
                f"there is no zone {name!r}",
                f"{did_you_mean(name, known)} or write [zones.{name}]",
            )
            return ""
        return name

    def check_roles(self, places: tuple[Place, ...]) -> None:
        for role in Role:
            carriers = [place.name for place in places if role in place.roles]
            if not carriers and role is not Role.FIREWALL:
                self.problems.add(
                    ("machines",), f"no machine carries the role {role}", "give it to one of them"
                )
            if len(carriers) > 1 and role in _ONE_OF:
                for name in carriers[1:]:
                    self.problems.add(
                        ("machines", name, "roles"),
                        f"{carriers[0]} carries the role {role} already",
                        f"a site has one {role}",
                    )
        for place in places:
            if Role.FIREWALL in place.roles and len(place.roles) > 1:
                self.problems.add(
                    ("machines", place.name, "roles"),
                    "a firewall does nothing else",
                    "give its other roles to another machine",
                )

    def ssh(self, machine: str) -> str:
        name = self.raw.text("machines", machine, "ssh")
        if name and (name.startswith("-") or not name.isprintable() or " " in name):
            self.problems.add(
                ("machines", machine, "ssh"), f"{name!r} is no host of ssh_config", "one word"
            )
        return name

    def memory(self, machine: str) -> int:
        return int(str(self.raw.leaves.get(("machines", machine, "memory"), 0)))

    # --- zones and networks

    def zones(
        self, places: tuple[Place, ...], on_internet: dict[str, tuple[Address, ...]]
    ) -> tuple[Zone, ...]:
        declared = self.raw.tables["zones"]
        used = {place.zone for place in places}
        names = [
            it for it in (*defaults.DEFAULT_ZONES, PUBLIC_ZONE) if it in used or it in declared
        ]
        others = [name for name in declared if name not in names]
        found = []
        for name in (*names, *others):
            outer = [
                address
                for place in places
                if place.zone == name
                for address in on_internet.get(place.name, ())
            ]
            number = (*defaults.DEFAULT_ZONES, PUBLIC_ZONE, *others).index(name) + 1
            path = ("zones", name, "networks")
            given = networks.read(self.raw, path, self.families, _MOST_BITS, "a zone has one")
            usual = {it.version: it for it in defaults.default_networks(self.site, number)}
            for version in self.families:
                if mine := tuple(it for it in outer if it.version == version):
                    usual[version] = defaults.around(mine)
            its = (given.get(version, usual[version]) for version in self.families)
            found.append(Zone(name, tuple(its)))
        return tuple(found)

    def check_networks(self, zones: tuple[Zone, ...], walled: bool) -> None:
        all_ = [(zone.name, network) for zone in zones for network in zone.networks]
        for (one, first), (other, second) in combinations(all_, 2):
            if one != other and first.version == second.version and first.overlaps(second):
                # speak of the one that is written; of two, of the later one
                here, there = sorted(
                    ((one, first), (other, second)), key=lambda it: self.written_at(it[0])
                )[::-1]
                self.problems.add(
                    ("zones", here[0], "networks"),
                    f"{here[1]} overlaps {self.problems.place(('zones', there[0]))}",
                    "give each zone a network of its own",
                )
        if not walled:
            return
        for zone, network in all_:
            path = ("zones", zone, "networks")
            for address in self.public:
                if address in network:
                    self.problems.add(path, f"{network} holds the public address {address}",
                                      "zones stand behind the firewall: take private addresses")  # fmt: skip
            for admin in self.admins:
                if admin.version == network.version and admin.overlaps(network):
                    self.problems.add(("admins", "networks"), f"{admin} overlaps zones.{zone} ({network})",
                                      "administrators come from outside the site")  # fmt: skip

    def written_at(self, zone: str) -> int:
        """The line of a zone's networks; 0 for the default."""
        path = ("zones", zone, "networks")
        return self.problems.line(path) if self.raw.has(*path) else 0

    # --- addresses

    def given(self, machine: str) -> dict[int, Address]:
        found: dict[int, Address] = {}
        path = ("machines", machine, "addresses")
        for number, text in enumerate(self.raw.texts(*path)):
            here = (*path, number)
            try:
                address = values.address(text)
            except ValueError as error:
                self.problems.add(here, str(error))
                continue
            family = _FAMILY[address.version]
            if address.version not in self.families:
                self.problems.add(here, f"{address}: the site has no {family} address in `public`",
                                  f"add one there, or leave {family} out here")  # fmt: skip
            elif address.version in found:
                self.problems.add(here, f"{address} is a second {family} address",
                                  "a machine has one of each family")  # fmt: skip
            else:
                found[address.version] = address
        return found

    def public_addresses(self, places: tuple[Place, ...]) -> dict[str, tuple[Address, ...]]:
        given = {place.name: self.given(place.name) for place in places}
        taken = {address for addresses in given.values() for address in addresses.values()}
        for version in self.families:
            free = [it for it in self.public if it.version == version and it not in taken]
            wanting = [it.name for it in places if version not in given[it.name]]
            for name, address in zip(wanting, free, strict=False):
                given[name][version] = address
            if left := wanting[len(free) :]:
                self.problems.add(
                    ("public",),
                    f"no {_FAMILY[version]} address is left for machine {', '.join(left)}",
                    "without a firewall each machine needs a public address of its own; a machine with the "
                    "role firewall joins them behind one",
                )
        return {name: tuple(found[it] for it in sorted(found)) for name, found in given.items()}

    def inner_addresses(
        self, places: tuple[Place, ...], zones: tuple[Zone, ...]
    ) -> dict[str, tuple[Address, ...]]:
        networks = {(zone.name, it.version): it for zone in zones for it in zone.networks}
        given = {place.name: self.given(place.name) for place in places}
        for place in places:
            if Role.FIREWALL in place.roles and given[place.name]:
                self.problems.add(("machines", place.name, "addresses"), "a firewall's are known",
                                  "it has the first host of each zone's network")  # fmt: skip
                given[place.name] = {}
        taken = {address for addresses in given.values() for address in addresses.values()}
        found: dict[str, tuple[Address, ...]] = {}
        for place in places:
            mine = []
            for version in self.families:
                network = networks.get((place.zone, version))
                if network is None:
                    continue
                if Role.FIREWALL in place.roles:
                    address: Address | None = network[1]
                elif address := given[place.name].get(version):
                    self.check_host(place, address, network)
                else:
                    address = _next(network, taken)
                if address is None:
                    self.problems.add(("zones", place.zone, "networks"),
                                      f"{network} is too small for its machines",
                                      f"they start at host number {FIRST_HOST}")  # fmt: skip
                    continue
                taken.add(address)
                mine.append(address)
            found[place.name] = tuple(mine)
        return found

    def check_host(self, place: Place, address: Address, network: Network) -> None:
        path = ("machines", place.name, "addresses")
        if address not in network:
            self.problems.add(
                path, f"{address} is outside zone {place.zone}", f"its network is {network}"
            )
        elif address in (network[0], network[1], *([network[-1]] if network.version == 4 else [])):
            self.problems.add(path, f"{address} is the network's, the firewall's or the broadcast address",
                              f"take another of {network}")  # fmt: skip

    def check_inside(
        self,
        addresses: dict[str, tuple[Address, ...]],
        places: tuple[Place, ...],
        zones: tuple[Zone, ...],
    ) -> None:
        networks = {(zone.name, it.version): it for zone in zones for it in zone.networks}
        for place in places:
            for address in addresses[place.name]:
                network = networks.get((place.zone, address.version))
                if network and address not in network:
                    written = self.raw.has("machines", place.name, "addresses")
                    self.problems.add(
                        ("machines", place.name, "addresses") if written else ("public",),
                        f"{address} of machine {place.name} is outside zone {place.zone}",
                        f"its network is {network}",
                    )

    def check_twice(self, addresses: dict[str, tuple[Address, ...]]) -> None:
        owners: dict[Address, str] = {}
        for name, mine in addresses.items():
            for address in mine:
                if (owner := owners.setdefault(address, name)) != name:
                    self.problems.add(("machines", name, "addresses"),
                                      f"{address} is the address of {owner} already",
                                      "each machine has its own")  # fmt: skip


def _next(network: Network, taken: set[Address]) -> Address | None:
    """The first free host from FIRST_HOST on; None when the network is full (a /28 holds five)."""
    for number in range(FIRST_HOST, min(network.num_addresses - 1, FIRST_HOST + 200)):
        if network[number] not in taken:
            return network[number]
    return None
