"""The machine `outside`: the simulated internet that stands beside a site in the lab.

It answers for every name (a signed root, the site's domains, its own domain, the reverse zones), and
it is an organisation of its own with users, an MTA that shares no software with the site's, and a
client's tools. Nothing in it trusts the site: it looks up the site's names through DNSSEC, checks SPF
and DKIM of what it receives, and writes what it found into `Authentication-Results`.

Beside its own domain it has some that test how the site sends: see `domains`.

`build` gives its state, which the same agent applies as everywhere; `internet` gives what the site
must know to live in this internet; `ensure` makes the keys that both need. Its addresses are in
`mastio.lab.internet`, its names here, its records in `zones`.
"""

from collections.abc import Mapping

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from mastio import pki, services
from mastio.context import Context, Internet, bracketed
from mastio.dns import records as make
from mastio.dns import zone
from mastio.dns.records import Record
from mastio.flows import FlowMatrix
from mastio.lab import internet as segment
from mastio.lab.outside import authority, domains, zones
from mastio.roles.certificates import TSIG
from mastio.services import Service
from mastio.site.model import Address, Challenge, Clients, Machine, Site
from mastio.state import Check, Command, Directory, File, HostState, Listener, Unit, User
from mastio.transport import OUTSIDE

MACHINE = OUTSIDE
DOMAIN = "outside.test"
MX = f"mx.{DOMAIN}"
NS = f"ns.{DOMAIN}"
RESOLVER = f"resolver.{DOMAIN}"
STRANGER = f"stranger.{DOMAIN}"
"""A host that is in no SPF record: what it sends in others' names is forged."""
ADMIN = f"admin.{DOMAIN}"
AUTHORITY = f"acme.{DOMAIN}"
"""A certificate authority, where the site asks one (`acme.directory`)."""
PLAIN = "plain.test"
"""A domain whose owner publishes no policy at all: anybody may write in its name."""
CAUTIOUS = "cautious.test"
"""A domain whose DMARC policy is `quarantine`, and from which nobody may send."""
SILENT = f"silent.{PLAIN}"
"""A domain that takes no mail (RFC 7505)."""
USER = "carol"
"""Gets all mail to the domain, in the Maildir `MAILDIR`."""
HOME = f"/home/{USER}"
MAILDIR = f"{HOME}/Maildir"

_SELECTOR = "m1"
_DNSSEC, _DKIM, _CERT, _KEY = (
    f"{MACHINE}/{name}" for name in ("dnssec", f"dkim/{_SELECTOR}", "cert", "key")
)
_AUTHORITY = "public-ca"
_EXIM, _KNOT, _NGINX, _UNBOUND = "/etc/exim4", "/etc/knot", "/etc/nginx", "/etc/unbound"
TRUSTED = "/usr/local/share/ca-certificates/internet.crt"
"""Where the public authority of the lab stands on `outside`."""
_PACKAGES = (
    "bind9-dnsutils", "borgbackup", "ca-certificates", "curl", "exim4-daemon-heavy", "knot", "knot-dnssecutils",
    "libnet-ssleay-perl", "nginx-light", "nmap", "openssl", "python3", "socat", "swaks", "unbound",
)  # fmt: skip

_PROGRAMS = {
    Clients.WEBMAIL_ONLY: (),
    Clients.INTERNET: ("isync", "msmtp"),
    Clients.VPN: ("isync", "msmtp", "wireguard-go", "wireguard-tools"),
}
"""What people read and write mail with, by the site's policy."""


def below(site: Site) -> str:
    """A subdomain of the site's domain whose mail is the user's here: somebody else's, for all that its name says."""
    return f"lists.{site.domains[0]}"


def ensure(secrets: Mapping[str, str]) -> dict[str, str]:
    """The secrets of `outside` that `secrets` lacks, or whose authority has changed, made anew.

    `secrets` must hold the pair `public-ca`, which signs the names of the lab's internet.
    """
    made: dict[str, str] = {}
    if _DNSSEC not in secrets:
        made[_DNSSEC] = (
            ed25519.Ed25519PrivateKey.generate()
            .private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            .decode()
        )
    if _DKIM not in secrets:
        made[_DKIM] = pki.rsa_key()
    authority = secrets[f"{_AUTHORITY}/cert"]
    certificate = secrets.get(_CERT)
    if (
        certificate is None
        or _KEY not in secrets
        or pki.days_left(certificate) < pki.RENEW_DAYS
        or not pki.issued_by(certificate, authority)
        or pki.names(certificate) != {MX, AUTHORITY, *domains.certified()}
    ):
        ca = secrets[f"{_AUTHORITY}/key"], authority
        made[_KEY], made[_CERT] = pki.issue(*ca, MX, AUTHORITY, *domains.certified())
    return made


def internet(site: Site, secrets: Mapping[str, str]) -> Internet:
    """What the site must know of this internet: its root, the root's key, the public authority."""
    return Internet(
        root_hints=zones.hints(_server(site)),
        trust_anchor=zones.anchor(secrets[_DNSSEC]),
        authorities=secrets[f"{_AUTHORITY}/cert"],
        offline=True,
    )


def zone_texts(site: Site, secrets: Mapping[str, str]) -> Mapping[str, str]:
    """Every zone of this internet, signed, by its name without the last dot ("" is the root).

    The site's records are what `mastio dns` prints, to the letter.
    """
    own = segment.mta(site)
    records = [
        *zone.records(site, secrets),
        make.mx(DOMAIN, MX),
        make.spf(DOMAIN, own),
        make.dmarc(DOMAIN, "reject", f"postmaster@{DOMAIN}"),
        make.dkim(DOMAIN, _SELECTOR, secrets[_DKIM]),
        make.tlsa(MX, services.SMTP.port, secrets[_CERT]),
        *domains.records(own),
    ]
    records += (make.mx(below(site), MX), make.spf(below(site), own))
    # Domains of strangers: one that says nothing of itself, one that asks for caution, one that takes no mail.
    records += (make.mx(PLAIN, MX), make.mx(CAUTIOUS, MX), Record(SILENT, "MX", "0 ."))
    records += (
        make.spf(CAUTIOUS, ()),
        make.dmarc(CAUTIOUS, "quarantine", f"postmaster@{CAUTIOUS}"),
        make.dkim(CAUTIOUS, _SELECTOR, secrets[_DKIM]),
    )
    for name, addresses in (
        (MX, own),
        (NS, segment.nameserver(site)),
        (RESOLVER, segment.resolver(site)),
        (AUTHORITY, segment.authority(site)[:1]),
        (STRANGER, segment.stranger(site)),
        (ADMIN, segment.admin(site)),
    ):
        records += make.hosts(name, addresses)
        records += (make.pointer(address, name) for address in addresses)
    apexes = {
        DOMAIN,
        PLAIN,
        CAUTIOUS,
        *zone.apexes(site),
        *(zones.reverse_zone(net) for net in segment.networks(site)),
    }
    return zones.zones(apexes, records, _server(site), secrets[_DNSSEC])


def build(site: Site, secrets: Mapping[str, str]) -> HostState:
    """The state of `outside`. `secrets` holds the site's and those that `ensure` makes.

    It has no firewall: the internet has none.
    """
    machine = Machine(MACHINE, (), "internet", segment.outside(site))
    ctx = Context(site, FlowMatrix(site, ()), machine, internet(site, secrets), secrets)
    names, mail, web = _names(ctx, zone_texts(site, secrets)), _mail(ctx), _web(ctx)
    acme = authority.build(ctx, _CERT, _KEY) if site.acme.directory else HostState()
    return HostState(
        packages=(*_PACKAGES, *acme.packages, *_PROGRAMS[site.clients]),
        files=(
            *names.files,
            *mail.files,
            *web.files,
            *acme.files,
            File(TRUSTED, ctx.internet.authorities),
        ),
        directories=mail.directories,
        users=mail.users,
        units=(*names.units, *mail.units, *web.units, *acme.units),
        checks=(*names.checks, *mail.checks, *web.checks),
        commands=(Command("trust the public authority", ("update-ca-certificates",), (TRUSTED,)),),
        listeners=(*names.listeners, *mail.listeners, *web.listeners, *acme.listeners),
    )


def _names(ctx: Context, texts: Mapping[str, str]) -> HostState:
    """Knot serves the zones; unbound resolves for `outside` itself."""
    stored = [(f"{name}.", f"{_KNOT}/zones/{name or 'root'}.zone") for name in texts]
    resolver, nameserver = segment.resolver(ctx.site), segment.nameserver(ctx.site)
    takes = ctx.site.acme.challenge is Challenge.DNS
    values = {
        "addresses": nameserver, "zones": stored,
        "tsig": ctx.secret(TSIG) if takes else "",
    }  # fmt: skip
    return HostState(
        files=(
            File(
                f"{_KNOT}/knot.conf", ctx.render(__file__, "knot.conf.j2", **values),
                group="knot", mode=0o640, secret=takes,
            ),
            *(File(path, text) for (_, path), text in zip(stored, texts.values(), strict=True)),
            File(
                f"{_UNBOUND}/unbound.conf",
                ctx.render(
                    __file__, "unbound.conf.j2", addresses=resolver,
                    networks=segment.networks(ctx.site), folder=_UNBOUND,
                ),
            ),
            File(f"{_UNBOUND}/root.hints", ctx.internet.root_hints),
            File(f"{_UNBOUND}/root.key", ctx.internet.trust_anchor),
            File(
                "/etc/resolv.conf",
                "".join(f"nameserver {address}\n" for address in resolver)
                # the MTA believes the resolver's word that an answer was validated (resolv.conf(5))
                + "options edns0 trust-ad\n",
            ),
        ),
        units=(Unit("knot.service", (_KNOT,)), Unit("unbound.service", (_UNBOUND,))),
        checks=(
            Check("knot", ("knotc", "-c", f"{_KNOT}/knot.conf", "conf-check"), (_KNOT,)),
            *(Check(f"zone {name}", ("kzonecheck", "-d", "on", "-o", name, path), (path,)) for name, path in stored),
            Check("unbound", ("unbound-checkconf", f"{_UNBOUND}/unbound.conf"), (_UNBOUND,)),
        ),
        listeners=_listeners(services.DNS, (*nameserver, *resolver)),
    )  # fmt: skip


def _mail(ctx: Context) -> HostState:
    """Exim: an MTA with another history, another TLS library and its own view of SPF and DKIM."""
    addresses = segment.mta(ctx.site)
    configuration = ctx.render(
        __file__, "exim4.conf.j2", addresses=addresses, domain=DOMAIN, mx=MX, user=USER,
        others=(*domains.ALL, below(ctx.site)), maildir=MAILDIR, selector=_SELECTOR, folder=_EXIM,
    )  # fmt: skip
    return HostState(
        files=(
            File(f"{_EXIM}/exim4.conf", configuration, group="Debian-exim", mode=0o640),
            File(f"{_EXIM}/tls.pem", ctx.secret(_CERT)),
            _private(f"{_EXIM}/tls.key", ctx.secret(_KEY)),
            _private(f"{_EXIM}/dkim.key", ctx.secret(_DKIM)),
            # A greylisted message is tried again while a test waits for it.
            File("/etc/default/exim4", "EXIMSERVICE='-bdf -q10s'\n"),
        ),
        directories=(Directory(HOME, USER, USER, 0o700),),
        users=(User(USER, HOME),),
        units=(Unit("exim4.service", (_EXIM, "/etc/default/exim4")),),
        checks=(Check("exim", ("exim4", "-bV"), (_EXIM,)),),
        listeners=_listeners(services.SMTP, addresses),
    )


def _web(ctx: Context) -> HostState:
    """nginx serves the MTA-STS policies of the test domains."""
    addresses = segment.mta(ctx.site)
    return HostState(
        files=(
            File(
                f"{_NGINX}/nginx.conf",
                ctx.render(
                    __file__, "nginx.conf.j2", addresses=[bracketed(it) for it in addresses],
                    certificate=f"{_EXIM}/tls.pem", key=f"{_EXIM}/tls.key",
                    policies=domains.policies(),
                ),
            ),
        ),
        units=(Unit("nginx.service", (_NGINX, _EXIM)),),
        checks=(Check("nginx", ("nginx", "-t", "-q"), (_NGINX, _EXIM)),),
        listeners=_listeners(services.HTTPS, addresses),
    )  # fmt: skip


def _private(path: str, content: str) -> File:
    return File(path, content, group="Debian-exim", mode=0o640, secret=True)


def _listeners(service: Service, addresses: tuple[Address, ...]) -> tuple[Listener, ...]:
    return tuple(
        Listener(address, service.port, transport)
        for address in addresses
        for transport in service.transports
    )


def _server(site: Site) -> zones.Server:
    return zones.Server(NS, segment.nameserver(site))
