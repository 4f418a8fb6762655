"""Public certificates from an authority on the internet (RFC 8555), renewed by watch.

    authority ◀──https── watch: timer ──▶ mastio.watch.certificates ──ssh──▶ gateway, webmail: the program `certificate`

Nobody but the vault and the machine that uses a private key ever has it: watch is given certificate *requests*
(PKCS #10), which the vault makes, carries them to the authority and brings the chains home. On each *machine* watch's
key leads to `certificate` alone, which takes no chain that strangers would not believe for its key and its names, and
looks whether the servers show it. *Proofs* that a name is the site's lie on the webmail for the time of an order, or
are put into DNS by signed updates.

The key stays the same from renewal to renewal, so that the TLSA records stay true (`docs/decisions/0040`).
"""

import json
from pathlib import Path

from mastio import bastion, services
from mastio.context import CERTIFICATE, CHALLENGES, ON_WATCH, PKI, Context, public_chain
from mastio.dns import autoconfig, sts
from mastio.services import Service
from mastio.site.model import Challenge, Clients, Machine, Role, Site
from mastio.state import Command, Directory, File, HostState
from mastio.timers import Timer, timers

PAIR = "certificates/{}"
"""The key pair by which a watch comes to bring certificates."""
TSIG = "acme/tsig"
"""The secret that signs updates of DNS."""
FOLDER = "/var/lib/mastio/certificates"
"""On watch: the chains, the ACME account, how the last renewal went."""
SETTINGS = "/etc/mastio/certificates.json"
PROGRAM = "/usr/local/lib/mastio/mastio-certificate"
_OWN = "/etc/mastio/certificate.json"
_AUTHORITIES = "/etc/mastio/certificate-authorities.pem"
_REQUESTS = "/etc/mastio/certificate-requests"
_CLIENT, _HOOK = "/etc/mastio/certificates-client.conf", "/usr/local/lib/mastio/mastio-acme-hook"
_TSIG_FILE = "/etc/mastio/certificates-tsig.key"
_UNITS = "/etc/systemd/system"
_SERVERS: dict[Role, tuple[Service, str, list[str]]] = {
    Role.GATEWAY_IN: (services.SMTP, "smtp", ["postfix", "reload"]),
    Role.WEBMAIL: (services.HTTPS, "", ["systemctl", "reload", "nginx.service"]),
    # Postfix beside it reads certificates anew with each process, which serves a hundred clients at most.
    Role.STORE: (services.IMAPS, "", ["doveadm", "reload"]),
}
"""What shows a public certificate: the service, what is said before TLS, how it is told of a new one."""
_UNIT = {
    Role.GATEWAY_IN: "postfix.service", Role.WEBMAIL: "nginx.service", Role.STORE: "dovecot.service",
}  # fmt: skip
# At hours that few others choose; each goes off up to an hour late.
TIMERS = (Timer("renew", "twice a day", "*-*-* 04,16:23:00"),)


def hosts(site: Site) -> dict[str, tuple[Machine, ...]]:
    """Each name in public certificates' first place, and the machines that show it."""
    gateways = site.carrying(Role.GATEWAY_IN)
    shown = {site.mx_host: gateways}
    if site.web_certificate == site.webmail_host:
        shown[site.webmail_host] = site.carrying(Role.WEBMAIL)
    if site.clients is Clients.VPN and site.imap_certificate == site.imap_host:
        shown[site.imap_host] = site.carrying(Role.STORE)
    return shown


def names(site: Site) -> dict[str, tuple[str, ...]]:
    """All names in the certificate of each host."""
    web = (site.webmail_host, *map(sts.host, site.domains), *autoconfig.hosts(site))
    # Mail programs on the internet meet the gateway, by a name of their own: it stays when the policy is another.
    also = (site.imap_host,) if site.clients is Clients.INTERNET else ()
    wanted = [(site.mx_host, (site.mx_host, *also)), (site.web_certificate, web)]
    if site.clients is Clients.VPN:
        wanted.append((site.imap_certificate, (site.imap_host,)))
    found: dict[str, tuple[str, ...]] = {}
    for host, more in wanted:
        found[host] = (*found.get(host, ()), *more)
    return found


def given(host: str) -> str:
    """The secret that says: an administrator gave this host's certificate, no authority is asked."""
    return f"public/{host}/given"


def request(host: str, *, following: bool = False) -> str:
    """The secret that holds the request for a host's key, or for the key that will follow it."""
    return f"public/{host}/{'next-request' if following else 'request'}"


def build(ctx: Context) -> HostState:
    """A machine's part in it."""
    if not ctx.site.acme.directory or not ctx.site.carrying(Role.WATCH):
        return HostState()
    showing = [host for host, its in hosts(ctx.site).items() if ctx.machine in its]
    shown = _showing(ctx, showing[0]) if showing else HostState()
    if not ctx.machine.has(Role.WATCH):
        return shown
    bringing = _bringing(ctx)
    return HostState(
        packages=tuple(dict.fromkeys((*shown.packages, *bringing.packages))),
        files=tuple(dict.fromkeys((*shown.files, *bringing.files))),
        directories=(*shown.directories, *bringing.directories),
        commands=shown.commands,
        units=bringing.units,
    )


def _authorities(ctx: Context) -> File:
    return File(_AUTHORITIES, ctx.internet.authorities + ctx.site.acme.authority)


def _serves(ctx: Context, role: Role) -> bool:
    """A store shows it to people's own programs alone."""
    return role is not Role.STORE or ctx.site.clients is Clients.VPN


def _showing(ctx: Context, host: str) -> HostState:
    """Where servers show a public certificate."""
    roles = [it for it in _SERVERS if ctx.machine.has(it) and _serves(ctx, it)]
    proxy = ctx.machine.has(Role.GATEWAY_IN) and ctx.site.clients is Clients.INTERNET
    units = [*(_UNIT[it] for it in roles), *(("dovecot.service",) if proxy else ())]
    # one command for all
    reload = _SERVERS[roles[0]][2] if len(units) == 1 else ["systemctl", "reload", *units]
    own = {
        "names": list(names(ctx.site)[host]),
        "key": f"{PKI}/public.key",
        "fallback": f"{PKI}/public.pem",
        "live": public_chain(ctx.site),
        "stored": f"{CERTIFICATE}/chains",
        "challenges": CHALLENGES if _answers(ctx) else "",
        "authorities": _AUTHORITIES,
        "reload": reload,
        "doors": [
            [str(it), service.port, opening]
            for service, opening, _ in (_SERVERS[role] for role in roles)
            for it in ctx.listen(service)
        ]
        + [[str(it), services.IMAPS.port, ""] for it in ctx.machine.addresses if proxy],
    }
    keys = bastion.authorized(ctx, f"{PAIR}/cert", PROGRAM)
    return HostState(
        packages=("ca-certificates",),
        files=(
            File(PROGRAM, Path(__file__).with_name("certificate.py").read_text(), mode=0o755),
            File(_OWN, json.dumps(own, indent=1) + "\n"),
            _authorities(ctx),
            # Servers start with it before the first chain has come, and when the key is another.
            File(
                public_chain(ctx.site),
                ctx.secret(f"public/{host}/cert"),
                beside=f"{PKI}/public.key",
            ),
            *((File("/etc/ssh/authorized_keys.d/certificates", keys),) if keys else ()),
        ),
        directories=(
            Directory(CERTIFICATE),
            Directory(f"{CERTIFICATE}/chains"),
            *((Directory(CHALLENGES),) if _answers(ctx) else ()),
        ),
        commands=(
            Command(
                "certificate",
                (PROGRAM, "settle"),
                reads=(
                    f"{PKI}/public.key",
                    f"{PKI}/public.pem",
                    public_chain(ctx.site),
                    _OWN,
                    PROGRAM,
                ),
            ),
        ),
    )


def _answers(ctx: Context) -> bool:
    return ctx.machine.has(Role.WEBMAIL) and ctx.site.acme.challenge is Challenge.HTTP


def _bringing(ctx: Context) -> HostState:
    """On watch."""
    acme, caller = ctx.site.acme, bastion.caller(ctx, "certificates")
    by_dns = acme.challenge is Challenge.DNS
    requests = {host: _asked(ctx, host) for host in hosts(ctx.site)}
    settings = {
        "ssh": {it: argv for it, argv in caller.ssh.items() if it in _all(ctx.site)},
        "program": PROGRAM,
        "client": ["dehydrated", "--config", _CLIENT],
        "hosts": {
            host: {
                "machines": [it.name for it in its],
                "requests": [it.path for it in requests[host]],
            }
            for host, its in hosts(ctx.site).items()
            if its and requests[host]
        },
        "webmail": ctx.site.carrying(Role.WEBMAIL)[0].name,
        "tsig": _TSIG_FILE if by_dns else "",
        "dns_server": acme.dns_server,
        "directory": acme.directory,
    }
    values = {"folder": FOLDER, "hook": _HOOK, "authorities": _AUTHORITIES, "by_dns": by_dns}
    files = [
        File(SETTINGS, json.dumps(settings, indent=1) + "\n"),
        *caller.files,
        *(it for its in requests.values() for it in its),
        _authorities(ctx),
        File(_CLIENT, ctx.render(__file__, "client.conf.j2", **values)),
        File(_HOOK, ctx.render(__file__, "hook.j2", program=ON_WATCH), mode=0o755),
        File(
            f"{_UNITS}/mastio-certificates@.service",
            ctx.render(__file__, "certificates.service.j2", program=ON_WATCH),
        ),
    ]
    if by_dns:
        text = ctx.render(__file__, "tsig.key.j2", secret=ctx.secret(TSIG))
        files.append(File(_TSIG_FILE, text, mode=0o600, secret=True))
    clocks, units = timers("mastio-certificates", "Public certificates,", TIMERS, delay=3600)
    return HostState(
        packages=("dehydrated", *(("bind9-dnsutils",) if by_dns else ())),
        files=(*files, *clocks),
        directories=(Directory(FOLDER, mode=0o700), Directory(_REQUESTS)),
        units=units if ctx.kit.awake else (),
    )


def _all(site: Site) -> set[str]:
    return {it.name for its in hosts(site).values() for it in its} | {
        it.name for it in site.carrying(Role.WEBMAIL)
    }


def _asked(ctx: Context, host: str) -> tuple[File, ...]:
    """The requests for a host's certificate: for its key, and for that which will follow it. None: it is given."""
    found = []
    for following in (False, True):
        try:
            text = ctx.secret(request(host, following=following))
        except KeyError:
            continue
        found.append(File(f"{_REQUESTS}/{host}{'.next' * following}.csr", text))
    return tuple(found)
