"""What must stand on the server for it to carry a site's machines: files, as text. Pure.

| | job |
|---|---|
| /etc/systemd/nspawn/NAME.nspawn | the machine's box: users of its own, a wire into each of its zones |
| systemd-nspawn@NAME.service.d/mastio.conf | what it may take; its wires are plugged in once it runs |
| /etc/mastio-server/zones.net | a bridge for each zone, without an address: the server itself is in none |
| /etc/mastio-server/local.net | which table of addresses is asked first |
| /etc/mastio-server/NAME.net | where the machine's wires end |
| /etc/mastio-server/rules.nft | the server's own firewall, and the internet's way to the firewall machine |
| /etc/ssh/sshd_config.d/ | its own sshd takes keys alone |
| mastio-server.service | brings these into force at boot, before any machine |

The public address is on the server's own interface, and the firewall machine has it too. What comes for it is led
there as it came, so the client's address stays; the server keeps what it asked for itself, and administrators' ssh to
its own sshd. For that the server's table of local addresses is asked second (ip-rule(8)): what is marked goes to the
firewall machine.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address

from mastio.lab import internet, network
from mastio.roles.common import KEYS_ALONE
from mastio.site.model import Address, Machine, Role, Site
from mastio.state import HostState

FOLDER = "/etc/mastio-server"
UNIT = "mastio-server.service"
TABLE = "mastio_server"
KERNEL = "/etc/sysctl.d/60-mastio-server.conf"
SSHD = "/etc/ssh/sshd_config.d/10-mastio-server.conf"
LOADED = "/var/lib/mastio-server/rules.sha256"
"""A digest of the rules as they were loaded, with which those in force are compared."""
MARK = 0x6D61
"""On packets and conversations that are the firewall machine's."""
ROUTES = 27745
"""The number of the routing table that leads there."""
_OWN, _MARKED, _FIRST = 10, 5, 0
"""ip-rule(8) priorities: local addresses, what is marked, and where the kernel has local addresses before."""
WIRE = "mastio-out"
"""The server's end of the firewall machine's wire to the internet."""
ROUTERS: tuple[Address, ...] = (IPv4Address("169.254.77.1"), IPv6Address("fe80::1"))
"""The server on that wire (RFC 3927, RFC 4291: link-local)."""
_MEMORY = {
    Role.FIREWALL: 1024,
    Role.GATEWAY_IN: 4096,
    Role.GATEWAY_OUT: 3072,
    Role.STORE: 4096,
    Role.WEBMAIL: 1536,
    Role.WATCH: 3072,
}
_TASKS = 4096
_FAMILY = {4: ("ip", "ipv4"), 6: ("ip6", "ipv6")}


@dataclass(frozen=True, slots=True)
class Carried:
    """A machine as the server carries it."""

    name: str
    packages: tuple[str, ...]
    debconf: tuple[str, ...]
    files: Mapping[str, str]
    """What is written into a new one, by path."""


def memory(machine: Machine) -> int:
    """The most it may take, in MiB."""
    return machine.memory or max(_MEMORY[role] for role in machine.roles)


def carried(site: Site, states: Mapping[str, HostState]) -> tuple[Carried, ...]:
    """The machines; `states` has one for each."""
    found = []
    for machine in site.machines:
        state = states[machine.name]
        packages = tuple(sorted(state.packages))
        found.append(Carried(machine.name, packages, state.debconf, _inside(site, machine)))
    return tuple(found)


def files(site: Site, ports: tuple[int, ...]) -> dict[str, str]:
    """All files on the server by path; its own sshd listens on `ports`."""
    found = {
        f"/etc/systemd/system/{UNIT}": _unit(),
        f"{FOLDER}/rules.nft": rules(site, ports),
        f"{FOLDER}/zones.net": "".join(f"{line}\n" for line in _zones(site)),
        f"{FOLDER}/local.net": "".join(f"{line}\n" for line in _LOCAL_SECOND),
        # networkd(8) would take away what it does not know of.
        "/etc/systemd/networkd.conf.d/50-mastio-server.conf": "[Network]\nManageForeignRoutingPolicyRules=no\n"
        "ManageForeignRoutes=no\n",
        KERNEL: _KERNEL,
        SSHD: "".join(f"{key} {value}\n" for key, value in KEYS_ALONE.items()),
    }
    for machine in site.machines:
        found[f"/etc/systemd/nspawn/{machine.name}.nspawn"] = _nspawn(site, machine)
        found[f"/etc/systemd/system/systemd-nspawn@{machine.name}.service.d/mastio.conf"] = _limits(
            machine
        )
        found[f"{FOLDER}/{machine.name}.net"] = "".join(
            f"{line}\n" for line in _wires(site, machine)
        )
    return found


_KERNEL = """\
# The server hands packets on to the firewall machine, and to nobody else: rules.nft says so.
net.ipv4.ip_forward = 1
net.ipv6.conf.all.forwarding = 1
# Handing on must not cost it what its own router tells (RFC 4861).
net.ipv6.conf.all.accept_ra = 2
net.ipv6.conf.default.accept_ra = 2
# Memory that runs out ends a program (roles/common, sysctl); the machines share this kernel and cannot say it.
-vm.overcommit_memory = 1
"""


def zones_of(site: Site, machine: Machine) -> tuple[str, ...]:
    """The zones in which a machine stands: a firewall in all."""
    return tuple(it.name for it in site.zones) if machine.has(Role.FIREWALL) else (machine.zone,)


def bridge(zone: str) -> str:
    """The server's bridge for a zone."""
    return f"mz-{zone}"


def wire(machine: str, zone: str) -> str:
    """The server's end of a machine's wire into a zone."""
    return f"mw-{sha256(f'{machine} {zone}'.encode()).hexdigest()[:10]}"


def _nspawn(site: Site, machine: Machine) -> str:
    lines = ["[Exec]", "Boot=yes", "PrivateUsers=pick", "ResolvConf=off", "Timezone=off", "LinkJournal=no",
             "", "[Files]", "PrivateUsersOwnership=auto",
             "", "[Network]", "Private=yes", "VirtualEthernet=no"]  # fmt: skip
    for zone in zones_of(site, machine):
        lines.append(f"VirtualEthernetExtra={wire(machine.name, zone)}:{network.interface(zone)}")
    if machine.has(Role.FIREWALL):
        lines.append(f"VirtualEthernetExtra={WIRE}:{internet.SEGMENT}")
    return "\n".join(lines) + "\n"


def _limits(machine: Machine) -> str:
    plugged = [f"/usr/sbin/ip -force -batch {FOLDER}/{machine.name}.net"]
    if machine.has(Role.FIREWALL):
        plugged += [f"/usr/sbin/sysctl -q -w {it}" for it in _SETTINGS]
    return f"""\
[Unit]
Requires={UNIT}
After={UNIT}

[Service]
# The machine's own network settings are its own to make.
Environment=SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
MemoryMax={memory(machine)}M
TasksMax={_TASKS}
Restart=on-failure
RestartSec=5
# What a killed nspawn leaves, and its next refuses to start beside.
ExecStartPre=-/usr/bin/umount --quiet /run/systemd/nspawn/unix-export/{machine.name}
{"".join(f"ExecStartPost={it}{_NL}" for it in plugged)}"""


_NL = "\n"
_SETTINGS = (
    # What the firewall machine sends has the server's own address.
    f"net.ipv4.conf.{WIRE}.accept_local=1",
    f"net.ipv4.conf.{WIRE}.rp_filter=0",
)


def _unit() -> str:
    batches = ("", "zones.net"), ("-4 ", "local.net"), ("-6 ", "local.net")
    bring = [f"/usr/sbin/nft -f {FOLDER}/rules.nft"]
    # What is there already is no error.
    bring += [f"-/usr/sbin/ip {family}-force -batch {FOLDER}/{name}" for family, name in batches]
    steps = "\n".join(f"{verb}={it}" for verb in ("ExecStart", "ExecReload") for it in bring)
    return f"""\
[Unit]
Description=What the machines of a mastio site stand on: zones, rules
Before=machines.target
After=systemd-sysctl.service nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
{steps}

[Install]
WantedBy=multi-user.target
RequiredBy=machines.target
"""


def _zones(site: Site) -> Iterator[str]:
    for zone in site.zones:
        yield f"link add name {bridge(zone.name)} type bridge"
        # Without an address of any kind the server is no neighbour of the machines.
        yield f"link set dev {bridge(zone.name)} addrgenmode none"
        yield f"link set dev {bridge(zone.name)} up"


_LOCAL_SECOND = (
    f"rule add pref {_OWN} from all lookup local",
    f"rule add pref {_MARKED} fwmark {MARK:#x} lookup {ROUTES}",
    f"rule del pref {_FIRST} from all lookup local",
)
"""For ip(8), of each address family."""


def _wires(site: Site, machine: Machine) -> Iterator[str]:
    for zone in zones_of(site, machine):
        end = wire(machine.name, zone)
        yield f"link set dev {end} addrgenmode none"
        yield f"link set dev {end} master {bridge(zone)} up"
    if machine.has(Role.FIREWALL):
        yield f"link set dev {WIRE} addrgenmode none up"
        for router in ROUTERS:
            if router.version in {it.version for it in site.public}:
                length = 64 if router.version == 6 else 32
                nodad = " nodad" if router.version == 6 else ""
                yield f"address replace {router}/{length} dev {WIRE}{nodad}"
        for address in site.public:
            yield f"route replace {address} dev {WIRE} table {ROUTES}"


def rules(site: Site, ports: tuple[int, ...]) -> str:
    """The server's nftables rules; others' tables are left alone."""
    ssh = ", ".join(map(str, ports)) or "0"
    lines = [
        "#!/usr/sbin/nft -f",
        f"table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
        "    chain arrival {",
        "        type filter hook prerouting priority mangle; policy accept;",
        f'        iifname "{WIRE}" ct state new ct mark set {MARK:#x} accept',
        f'        iifname "{WIRE}" accept',
    ]
    for address in site.public:
        family = _FAMILY[address.version][0]
        lines.append(f"        {family} daddr {address} jump public")
    lines += [
        "    }",
        "    chain public {",
        f"        ct mark {MARK:#x} meta mark set {MARK:#x} accept",
        "        ct state established,related accept",
        "        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept",
        "        # A conversation from before these rules is the server's own.",
        "        meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn accept",
        *(f"        {it} accept" for it in _admins(site, ssh)),
        f"        ct mark set {MARK:#x} meta mark set {MARK:#x}",
        "    }",
        "    chain input {",
        "        type filter hook input priority filter; policy drop;",
        "        ct state established,related accept",
        '        iifname "lo" accept',
        "        meta l4proto { icmp, ipv6-icmp } accept",
        "        # A conversation from before these rules was nobody's to follow.",
        "        meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn accept",
        *(f"        {it} accept" for it in _admins(site, ssh)),
        "    }",
        "    chain forward {",
        "        type filter hook forward priority filter; policy drop;",
        f'        iifname "{WIRE}" accept',
        "        # Within a zone, where the kernel shows bridges to these rules; between zones there is no route.",
        '        iifname "mz-*" oifname "mz-*" accept',
        f'        oifname "{WIRE}" meta mark {MARK:#x} accept',
        "    }",
        "}",
        "",
    ]
    return "\n".join(lines)


def _admins(site: Site, ssh: str) -> Iterator[str]:
    for version in (4, 6):
        nets = [str(it) for it in site.admin_networks if it.version == version]
        if nets:
            yield f"{_FAMILY[version][0]} saddr {{ {', '.join(nets)} }} tcp dport {{ {ssh} }}"


def _inside(site: Site, machine: Machine) -> dict[str, str]:
    """A new machine's name and networks."""
    found = {"etc/hostname": f"{machine.name}\n"}
    walled = machine.has(Role.FIREWALL)
    for zone in site.zones:
        if zone.name not in zones_of(site, machine):
            continue
        if walled:
            addresses = [f"{net[1]}/{net.prefixlen}" for net in zone.networks]
        else:
            lengths = {net.version: net.prefixlen for net in zone.networks}
            addresses = [f"{it}/{lengths[it.version]}" for it in machine.addresses]
        routers = () if walled else zone.routers
        found[_network(zone.name)] = _link(zone.name, addresses, routers)
    if walled:
        own = [f"{it}/{it.max_prefixlen}" for it in site.public]
        versions = {it.version for it in site.public}
        routers = tuple(it for it in ROUTERS if it.version in versions)
        found[_network(internet.SEGMENT)] = _link(internet.SEGMENT, own, routers)
    return found


def _network(segment: str) -> str:
    return f"etc/systemd/network/50-{network.interface(segment)}.network"


def _link(segment: str, addresses: list[str], routers: tuple[Address, ...]) -> str:
    """systemd.network(5)."""
    lines = ["[Match]", f"Name={network.interface(segment)}", "", "[Network]"]
    lines += ["IPv6AcceptRA=no", "LinkLocalAddressing=ipv6"]
    for address in addresses:
        lines += ["", "[Address]", f"Address={address}", "DuplicateAddressDetection=none"]
    for router in routers:
        lines += ["", "[Route]", f"Gateway={router}", "GatewayOnLink=yes"]
        if router.is_link_local and router.version == 4:
            source = next(it for it in addresses if ip_address(it.partition("/")[0]).version == 4)
            lines.append(f"PreferredSource={source.partition('/')[0]}")
    return "\n".join(lines) + "\n"
