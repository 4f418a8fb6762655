"""The site: an organisation's mail, as frozen data. `mastio.site.parse` makes it from the site file.

A site has *zones* (networks that the perimeter firewall keeps apart), *machines* (each in one zone,
carrying one or more *roles*), the *public* addresses that the internet sees, and the mail *domains*.
"""

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from mastio.site.alarms import Alarms as Alarms
from mastio.site.filter import Filter

DUTIES = ("postmaster", "abuse", "hostmaster", "root", "mailer-daemon")
"""What each domain owes the world (RFC 2142) and its machines: mail to these goes to `admin_mail`."""
DMARC_REPORTS, TLS_REPORTS = "dmarc-reports", "tls-reports"
"""At the main domain, where other organisations' reports come in (RFC 9990, RFC 8460)."""
REPORTS = (DMARC_REPORTS, TLS_REPORTS)
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
    SERVER = "server"
    """All machines are on one physical server, and a command gets to them through it."""


class Clients(StrEnum):
    """Which mail programs reach the mail, beside the webmail."""

    WEBMAIL_ONLY = "webmail-only"
    VPN = "vpn"
    """Those of devices that have a key to the site's tunnel."""
    INTERNET = "internet"
    """Everybody's, through a proxy on the receiving gateway."""


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
    memory: int = 0
    """The most it may take on a server that carries it, in MiB; 0: what its roles usually need."""
    inner: tuple[Address, ...] = ()
    """Its addresses in the tunnels that join machines without a firewall; none where there are none."""

    @property
    def inside(self) -> tuple[Address, ...]:
        """Where the site's other machines meet it."""
        return self.inner or self.addresses

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
    greylist_score: float = 3.0
    """From this Rspamd score on, mail from senders without a history is greylisted."""
    greylist_delay: int = 300
    """How long greylisted mail must wait before it is tried again, in seconds."""
    log_days: int = 90
    """How long watch keeps the machines' logs, in days."""
    quarantine_days: int = 30
    """How long mail in quarantine, or held on its way out, is kept, in days."""
    dkim_days: int = 180
    """How long a DKIM key signs before the next one takes over, in days."""


@dataclass(frozen=True, slots=True)
class Outbound:
    """How much one user may send before what follows is held for an administrator to look at."""

    messages_per_hour: int = 200
    recipients_per_hour: int = 500
    new_recipients_per_day: int = 200
    """People to whom the user has never written before."""
    bounces_per_day: int = 50
    """Messages that came back."""
    machine_messages_per_minute: int = 600
    """What the webmail as a whole may submit, and half of what any machine may hand over to be sent; what is more is
    told to come later."""
    exempt: tuple[str, ...] = ()
    """Users without limits, such as a newsletter's."""


@dataclass(frozen=True, slots=True)
class Bans:
    """When and for how long a client from the internet is shut out."""

    failures: int = 10
    """How many offences lead to a ban."""
    within_seconds: int = 600
    """Offences count together for so long."""
    first_seconds: int = 600
    """The first ban; each further one takes twice as long."""
    longest_seconds: int = 7 * 24 * 3600
    never: tuple[Network, ...] = ()
    """Networks that are never banned, beside the site's own and its administrators'."""


@dataclass(frozen=True, slots=True)
class Patches:
    """When security updates are installed, by themselves."""

    at: str = "04:30"
    """The time of day on watch's clock, HH:MM."""
    reboot: bool = True
    """Whether a machine is rebooted when an update waits for that."""


@dataclass(frozen=True, slots=True)
class Backup:
    """How often archives are made, and how long they are kept."""

    every_minutes: int = 15
    """From one archive of the store to the next; other machines' are made daily."""
    keep_hours: int = 48
    """For so long every archive is kept."""
    keep_days: int = 30
    """Then one a day,"""
    keep_weeks: int = 12
    """one a week,"""
    keep_months: int = 12
    """and one a month."""
    copy: str = ""
    """A second copy: a folder on watch, on a disk of another machine, or `ssh://USER@HOST/PATH`; empty: none."""
    copy_host_key: str = ""
    """The public ssh key of that HOST."""

    @property
    def copied_by_ssh(self) -> bool:
        """Whether the second copy is another organisation's or house's, reached by ssh."""
        return self.copy.startswith("ssh://")


@dataclass(frozen=True, slots=True)
class Drill:
    """How often restoring is tried, by itself."""

    days: int = 7
    """From one drill to the next."""
    overdue: int = 10
    """Days without a good one after which somebody must look."""
    mailboxes: int = 10
    """How many mailboxes are restored and read each time, chosen by chance; 0: all."""
    oldest_hours: int = 24
    """The age from which the newest archive is too old."""


@dataclass(frozen=True, slots=True)
class Intrusion:
    """Intrusion detection on the perimeter firewall."""

    enabled: bool = True
    """Whether there is any; it takes memory and some of a processor."""
    rules: str = "https://rules.emergingthreats.net/open/suricata-7.0/emerging.rules.tar.gz"
    """An https URL of further rules (a tar archive); empty: only those of the flow matrix."""
    groups: tuple[str, ...] = (
        "emerging-attack_response", "emerging-coinminer", "emerging-exploit", "emerging-smtp", "emerging-worm",
    )  # fmt: skip
    """Which of them, by the names of their files. None about DNS: a filter asks about all that is in spam."""

    @property
    def host(self) -> str:
        """The host of `rules`; empty when there is none."""
        return urlsplit(self.rules).hostname or "" if self.enabled else ""


class Dmarc(StrEnum):
    """What receivers are asked to do with mail that only pretends to be from the site."""

    REJECT = "reject"
    QUARANTINE = "quarantine"
    NONE = "none"


class MtaSts(StrEnum):
    """What senders are asked to do when TLS with the gateway cannot be verified."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Dns:
    """What the site publishes beyond what follows from the rest."""

    dmarc: Dmarc = Dmarc.REJECT
    mta_sts: MtaSts = MtaSts.ENFORCE
    caa: tuple[str, ...] = ("letsencrypt.org",)
    """Authorities that may issue certificates for the site's names; empty: no word on it."""
    parked: tuple[str, ...] = ()
    """Domains of the organisation that neither send nor take mail."""


class Challenge(StrEnum):
    """How the site proves to an authority that a name is its own (RFC 8555, 8)."""

    HTTP = "http"
    DNS = "dns"


@dataclass(frozen=True, slots=True)
class Acme:
    """Public certificates from an authority on the internet (RFC 8555)."""

    directory: str = ""
    """The authority's directory, an https URL; empty: the site's own interim authority signs."""
    challenge: Challenge = Challenge.HTTP
    dns_server: str = ""
    """The name server that takes the site's updates (RFC 2136), a name or an address."""
    dns_key: str = "mastio-acme"
    """What that server calls the key by which it knows them (RFC 8945)."""
    authority: str = ""
    """PEM certificates of an authority that is in nobody's list: an organisation's own, or a test's."""
    alarm_days: int = 14
    """With fewer days left to a certificate there is an alarm."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A failing check that the administrator lives with, for a reason and until a date."""

    check: str
    reason: str
    until: date
    only: tuple[str, ...] = ()
    """Words of the sentences that are accepted; what else the check finds still fails. Empty: all it finds."""


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
    server: str = ""
    """The ssh name of the one physical server that carries all machines; empty: there is none."""
    mirrors: tuple[str, ...] = (
        "deb.debian.org", "security.debian.org", "security-tracker.debian.org", "database.clamav.net",
    )  # fmt: skip
    """Hosts that watch's proxy lets machines fetch from."""
    policy: Policy = field(default_factory=Policy)
    outbound: Outbound = field(default_factory=Outbound)
    bans: Bans = field(default_factory=Bans)
    patches: Patches = field(default_factory=Patches)
    backup: Backup = field(default_factory=Backup)
    drill: Drill = field(default_factory=Drill)
    ids: Intrusion = field(default_factory=Intrusion)
    dns: Dns = field(default_factory=Dns)
    acme: Acme = field(default_factory=Acme)
    filter: Filter = field(default_factory=Filter)
    verify_outside: str = ""
    """The ssh name of a machine on the internet from which `verify` looks; empty: there is none."""
    alarms: Alarms = field(default_factory=Alarms)
    accepted: tuple[Accepted, ...] = ()
    """Failing checks that are known and accepted for a time."""
    clients: Clients = Clients.WEBMAIL_ONLY
    imap: str = ""
    """The name by which mail programs find the site; empty: the usual one."""
    vpn_networks: tuple[Network, ...] = ()
    """Where people's devices stand in the tunnel; none without one."""

    @property
    def imap_host(self) -> str:
        """The name in mail programs, where `clients` lets there be any."""
        return self.imap or f"imap.{self.domains[0]}"

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

    @property
    def web_certificate(self) -> str:
        """Whose public certificate the webmail shows: on a gateway's machine the MX's, which then has its names too."""
        together = any(it.has(Role.GATEWAY_IN) for it in self.carrying(Role.WEBMAIL))
        return self.mx_host if together else self.webmail_host

    @property
    def imap_certificate(self) -> str:
        """Whose public certificate mail programs are shown: a machine shows one, with the names of all its roles."""
        stores = self.carrying(Role.STORE)
        if any(it.has(Role.GATEWAY_IN) for it in stores):
            return self.mx_host
        return (
            self.web_certificate if any(it.has(Role.WEBMAIL) for it in stores) else self.imap_host
        )

    def internal_name(self, machine: str) -> str:
        """The machine's name inside the site (`.internal` is reserved for private use by ICANN)."""
        return f"{machine}.{self.name}.internal"
