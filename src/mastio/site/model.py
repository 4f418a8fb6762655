"""The site: an organisation's mail, as frozen data. `mastio.site.parse` makes it from the site file.

A site has *zones* (networks that the perimeter firewall keeps apart), *machines* (each in one zone,
carrying one or more *roles*), the *public* addresses that the internet sees, and the mail *domains*.
"""

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

DUTIES = ("postmaster", "abuse", "hostmaster", "root", "mailer-daemon")
"""What each domain owes the world (RFC 2142) and its machines: mail to these goes to `admin_mail`."""
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Role(StrEnum):
    """What a machine does. `gateway-in` and `gateway-out` are usually one machine."""

    FIREWALL = "firewall"
    GATEWAY_IN = "gateway-in"
    GATEWAY_OUT = "gateway-out"
    STORE = "store"
    WEBMAIL = "webmail"
    WATCH = "watch"


class Topology(StrEnum):
    """How the roles are spread over machines when the site file does not say."""

    SINGLE = "single"
    WEBMAIL = "webmail"
    SEPARATED = "separated"
    SPLIT = "split"


class Reach(StrEnum):
    """How a command gets to a machine."""

    LAB = "lab"
    SSH = "ssh"


@dataclass(frozen=True, slots=True)
class Zone:
    """A network of its own; `networks` has at most one of each address family."""

    name: str
    networks: tuple[Network, ...]

    @property
    def routers(self) -> tuple[Address, ...]:
        """The firewall's own address in the zone: the first host of each network."""
        return tuple(network[1] for network in self.networks)


@dataclass(frozen=True, slots=True)
class Machine:
    """A Debian machine. A firewall's `zone` and `addresses` are those by which watch reaches it."""

    name: str
    roles: tuple[Role, ...]
    zone: str
    addresses: tuple[Address, ...]
    ssh: str = ""
    """The name under which OpenSSH reaches it (an ssh_config Host); empty: its first address."""

    def has(self, *roles: Role) -> bool:
        """Whether the machine carries any of `roles`."""
        return any(role in self.roles for role in roles)


@dataclass(frozen=True, slots=True)
class Policy:
    """What an administrator may tune; every field has a safe default."""

    message_size: int = 50
    """Largest message, in MiB (RFC 1870)."""
    quota: int = 5 * 1024
    """A mailbox's quota unless its account says otherwise, in MiB."""
    spam_junk_score: float = 6.0
    """From this Rspamd score on, mail is filed in Junk."""
    spam_reject_score: float = 15.0
    """From this Rspamd score on, mail is refused in the SMTP dialogue."""
    greylist_score: float = 4.0
    """From this Rspamd score on, mail is greylisted."""
    log_days: int = 90
    """How long watch keeps the machines' logs, in days."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A failing check that the administrator lives with, for a reason and until a date."""

    check: str
    reason: str
    until: date


@dataclass(frozen=True, slots=True)
class Site:
    """A whole site. Everything later is computed from it."""

    name: str
    """A short label (letters, digits, hyphens) that names files, namespaces and internal hosts."""
    organisation: str
    domains: tuple[str, ...]
    """Mail domains in ASCII form (RFC 5890 A-labels), the main one first."""
    topology: Topology
    reach: Reach
    public: tuple[Address, ...]
    """The addresses that the internet sees."""
    zones: tuple[Zone, ...]
    machines: tuple[Machine, ...]
    mx_host: str
    """The name in the MX records."""
    webmail_host: str
    """The name in the browser's address bar."""
    admin_mail: str
    """Who gets postmaster's mail and alarms."""
    admin_networks: tuple[Network, ...] = ()
    """From where administrators may reach watch by ssh."""
    admin_keys: tuple[str, ...] = ()
    """OpenSSH public keys of the administrators."""
    ssh_config: str = ""
    """An ssh_config(5) file to use instead of the administrator's own."""
    mirrors: tuple[str, ...] = ("deb.debian.org", "security.debian.org", "database.clamav.net")
    """Hosts that watch's proxy lets machines fetch from."""
    policy: Policy = field(default_factory=Policy)
    verify_outside: str = ""
    """The ssh name of a machine on the internet from which `verify` looks; empty: there is none."""
    accepted: tuple[Accepted, ...] = ()
    """Failing checks that are known and accepted for a time."""

    def machine(self, name: str) -> Machine:
        """The machine called `name`; KeyError when there is none."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise KeyError(name)

    def zone(self, name: str) -> Zone:
        """The zone called `name`; KeyError when there is none."""
        for zone in self.zones:
            if zone.name == name:
                return zone
        raise KeyError(name)

    def carrying(self, *roles: Role) -> tuple[Machine, ...]:
        """The machines that carry any of `roles`, in the site's order."""
        return tuple(machine for machine in self.machines if machine.has(*roles))

    def internal_name(self, machine: str) -> str:
        """The machine's name inside the site (`.internal` is reserved for private use by ICANN)."""
        return f"{machine}.{self.name}.internal"
