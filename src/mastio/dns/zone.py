"""Everything that a site publishes: site + vault → records, each with its reason.

`records(site, vault)` is all of it; `grouped` sorts it by the zone that each record belongs into, as
far as mastio can know: the site's own domains, and hosts' names that are in none of them.
"""

from collections.abc import Iterable, Mapping

from mastio import services
from mastio.dns import autoconfig, rings, sts
from mastio.dns import records as make
from mastio.dns.records import Record
from mastio.site.model import DMARC_REPORTS, TLS_REPORTS, Address, Clients, Role, Site

_CLIENT_SERVICES = ("imap", "imaps", "pop3", "pop3s", "submission", "submissions", "sieve")
"""What mail programs look for (RFC 6186, RFC 8314, RFC 5804)."""
_OFFERED = (services.IMAPS, services.SUBMISSIONS)
"""What the internet is offered, where `clients` lets it."""


def records(site: Site, vault: Mapping[str, str]) -> tuple[Record, ...]:
    """All records of the site, the PTR records of its addresses among them.

    `vault` must hold what `secrets.ensure` makes.
    """
    found = list(_hosts(site, vault))
    for domain in site.domains:
        found += _domain(site, domain, vault)
    for domain in site.dns.parked:
        found += _parked(domain)
    for address in _pointed(site):
        found.append(
            make.pointer(*address).because("leads back to the name; receivers refuse mail without")
        )
    return tuple(dict.fromkeys(found))


def addresses(site: Site, role: Role) -> tuple[Address, ...]:
    """Where the internet meets `role`: at the perimeter, or at its own machines when there is none."""
    if site.carrying(Role.FIREWALL):
        return site.public
    return tuple(address for machine in site.carrying(role) for address in machine.addresses)


def apexes(site: Site) -> tuple[str, ...]:
    """The names whose zones the records go into."""
    domains = (*site.domains, *site.dns.parked)
    hosts = (site.mx_host, site.webmail_host, *_programs(site))
    return (*domains, *(host for host in hosts if not _under(host, domains)))


def grouped(site: Site, found: Iterable[Record]) -> dict[str, tuple[Record, ...]]:
    """The records by the closest of `apexes`; those of the reverse tree under ""."""
    names = apexes(site)
    groups: dict[str, list[Record]] = {name: [] for name in (*names, "")}
    for record in found:
        above = [it for it in names if _under(record.owner, (it,))]
        groups[max(above, key=len, default="")].append(record)
    return {name: tuple(group) for name, group in groups.items() if group}


def _programs(site: Site) -> tuple[str, ...]:
    """The name for mail programs, where there may be any."""
    return () if site.clients is Clients.WEBMAIL_ONLY else (site.imap_host,)


def _under(name: str, above: Iterable[str]) -> bool:
    return any(name == it or name.endswith(f".{it}") for it in above)


def _hosts(site: Site, vault: Mapping[str, str]) -> Iterable[Record]:
    mx, webmail = site.mx_host, site.webmail_host
    for record in make.hosts(mx, addresses(site, Role.GATEWAY_IN)):
        yield record.because("the gateway")
    yield make.spf(mx, addresses(site, Role.GATEWAY_OUT)).because(
        "for bounces, which have no other sender than the gateway's name (RFC 7208, 2.4)"
    )
    for pem, why in (
        (vault[f"public/{mx}/cert"], "the gateway's key; DANE needs a signed zone (RFC 7672)"),
        (vault[f"public/{mx}/next"], "its next key, known before it is used (RFC 7671, 8.4)"),
    ):
        yield make.tlsa(mx, services.SMTP.port, pem).because(why)
    for record in make.hosts(webmail, addresses(site, Role.WEBMAIL)):
        yield record.because("the webmail")
    if site.clients is Clients.VPN:
        inside = tuple(it for one in site.carrying(Role.STORE) for it in one.addresses)
        for record in make.hosts(site.imap_host, inside):
            yield record.because("the store, for devices in the tunnel; nobody else gets there")
    if site.clients is Clients.INTERNET:
        for record in make.hosts(site.imap_host, addresses(site, Role.GATEWAY_IN)):
            yield record.because("the proxy of mail programs, on the gateway")
        for service in _OFFERED:
            for half, why in (("cert", "the gateway's key"), ("next", "its next key")):
                yield make.tlsa(site.imap_host, service.port, vault[f"public/{mx}/{half}"]).because(
                    why
                )
    for host in (mx, webmail, *_programs(site)):
        if not _under(host, site.domains):
            yield from _caa(site, host)


def _domain(site: Site, domain: str, vault: Mapping[str, str]) -> Iterable[Record]:
    main = site.domains[0]
    yield make.mx(domain, site.mx_host).because("mail comes to the gateway")
    yield make.spf(domain, addresses(site, Role.GATEWAY_OUT)).because(
        "mail leaves by the gateway only (RFC 7208)"
    )
    for generation in rings.parse(vault[rings.name(domain)]):
        for selector in generation.selectors:
            yield make.dkim(domain, selector, vault[rings.key(domain, selector)]).because(
                f"DKIM key, {generation.state}"
            )
    yield make.dmarc(domain, site.dns.dmarc, f"{DMARC_REPORTS}@{main}").because(
        "what receivers do with forgeries, and where they report (RFC 9989)"
    )
    if domain != main:
        yield Record(f"{domain}._report._dmarc.{main}", "TXT", make.text("v=DMARC1")).because(
            f"{main} takes the reports of {domain} (RFC 9990, 4)"
        )
    yield Record(
        f"_mta-sts.{domain}", "TXT", make.text(f"v=STSv1; id={sts.identifier(site)}")
    ).because("there is a policy: deliver over verified TLS (RFC 8461)")
    for record in make.hosts(sts.host(domain), addresses(site, Role.WEBMAIL)):
        yield record.because("serves that policy")
    yield Record(
        f"_smtp._tls.{domain}", "TXT", make.text(f"v=TLSRPTv1; rua=mailto:{TLS_REPORTS}@{main}")
    ).because("where senders report failures of TLS (RFC 8460)")
    yield from _caa(site, domain)
    offered = {it.name: it for it in _OFFERED} if site.clients is Clients.INTERNET else {}
    for name, service in offered.items():
        data = f"0 1 {service.port} {site.imap_host}."
        yield Record(f"_{name}._tcp.{domain}", "SRV", data).because(
            "where mail programs find it (RFC 6186, RFC 8314)"
        )
    if offered:
        for record in make.hosts(autoconfig.host(domain), addresses(site, Role.WEBMAIL)):
            yield record.because("tells programs the same that do not ask for SRV records")
    for other in (it for it in _CLIENT_SERVICES if it not in offered):
        yield Record(f"_{other}._tcp.{domain}", "SRV", "0 0 0 .").because(
            f"not offered{_NOT_OFFERED[site.clients]} (RFC 6186, 3.4)"
        )


_NOT_OFFERED = {
    Clients.INTERNET: "",
    Clients.VPN: ": devices find the store inside the tunnel alone",
    Clients.WEBMAIL_ONLY: ": users read mail in the webmail only",
}


def _caa(site: Site, name: str) -> Iterable[Record]:
    for authority in site.dns.caa:
        yield make.caa(name, "issue", authority).because("who may issue certificates (RFC 8659)")
    if site.dns.caa:
        yield make.caa(name, "iodef", f"mailto:hostmaster@{site.domains[0]}").because(
            "whom an authority tells of attempts"
        )


def _parked(domain: str) -> Iterable[Record]:
    yield Record(domain, "MX", "0 .").because("takes no mail (RFC 7505)")
    yield make.spf(domain, ()).because("sends no mail")
    yield Record(f"*._domainkey.{domain}", "TXT", make.text("v=DKIM1; p=")).because(
        "signs nothing (RFC 6376, 3.6.1)"
    )
    yield make.dmarc(domain, "reject", "").because("so all mail from it is forged")


def _pointed(site: Site) -> Iterable[tuple[Address, str]]:
    """Each public address and its name: mail servers look, browsers do not, so the MX goes first."""
    names: dict[Address, str] = {}
    for role, name in (
        (Role.GATEWAY_IN, site.mx_host),
        (Role.GATEWAY_OUT, site.mx_host),
        (Role.WEBMAIL, site.webmail_host),
    ):
        for address in addresses(site, role):
            names.setdefault(address, name)
    return names.items()
