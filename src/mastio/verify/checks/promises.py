"""D4, D5, D7, D10: what the site's names promise to senders and authorities, and whether it is kept."""

import re
from collections.abc import Iterator

from mastio import services
from mastio.dns import autoconfig, sts
from mastio.verify.checks.dnspolicy import ask, tagged
from mastio.verify.doors import doors
from mastio.verify.model import Check, Family, Place, Severity
from mastio.verify.probes import web
from mastio.verify.vantage import Vantage

_LONGEST_AGE = 31_557_600
_IDENTIFIER = re.compile(r"\bid\s*=\s*[A-Za-z0-9]{1,32}\s*(;|$)")


def strict_transport(vantage: Vantage) -> Iterator[str]:
    """Each domain has an MTA-STS policy that is served, enforced, and true of its MX."""
    for domain in vantage.site.domains:
        found = tagged(vantage, f"_mta-sts.{domain}", "v=stsv1")
        if len(found) != 1 or not _IDENTIFIER.search(found[0]):
            yield f"{domain}: the MTA-STS record is {' | '.join(found) or 'missing'}"
        host = sts.host(domain)
        for door in doors(vantage.matrix, vantage.name, services.HTTPS):
            page = vantage.ask(web.believed, str(door.address), door.port, host, sts.PATH)
            if "error" in page:
                yield f"{host} at {door.address}: {page['error']}"
            elif page["status"] != 200 or page["type"] != "text/plain":
                yield f"{host} at {door.address} shows no policy: {page['status']}, {page['type']}"
            else:
                mx = ask(vantage, domain, "MX").texts
                for words in policy_faults(page["body"], mx):
                    yield f"{host} at {door.address}: {words}"


def policy_faults(text: str, mx: tuple[str, ...]) -> Iterator[str]:
    """What is wrong with a policy for a domain whose mail goes to `mx` (RFC 8461, 3.2 and 4.1)."""
    pairs = [line.partition(":")[::2] for line in text.splitlines() if line.strip()]
    rows = [(key.strip(), value.strip()) for key, value in pairs]
    single = dict(rows)
    if single.get("version") != "STSv1":
        yield f"version is {single.get('version', 'missing')}, not STSv1"
    if single.get("mode") != "enforce":
        yield f"mode is {single.get('mode', 'missing')}, not enforce"
    age = single.get("max_age", "")
    if not age.isdecimal() or not 0 < int(age) <= _LONGEST_AGE:
        yield f"max_age is {age or 'missing'}, not up to {_LONGEST_AGE}"
    patterns = [value.lower() for key, value in rows if key == "mx"]
    for host in mx:
        if host not in patterns and f"*.{host.partition('.')[2]}" not in patterns:
            yield f"it does not name the MX {host}: senders would not deliver"


def reports_of_tls(vantage: Vantage) -> Iterator[str]:
    """Senders know where to report failures of TLS."""
    for domain in vantage.site.domains:
        found = tagged(vantage, f"_smtp._tls.{domain}", "v=tlsrptv1")
        if len(found) != 1 or not re.search(r";\s*rua\s*=\s*(mailto|https):", found[0]):
            yield f"{domain}: the TLS-RPT record is {' | '.join(found) or 'missing'}"


def authorities(vantage: Vantage) -> Iterator[str]:
    """Only the authorities that the site names may issue for its hosts."""
    site = vantage.site
    wanted = set(site.dns.caa)
    for host in (
        site.mx_host,
        site.webmail_host,
        *map(sts.host, site.domains),
        *autoconfig.hosts(site),
    ):
        issuers = _issuers(vantage, host)
        if not issuers:
            yield f"{host}: no CAA record: any authority may issue"
        elif wanted and issuers != wanted:
            yield f"{host}: CAA lets {', '.join(sorted(issuers))} issue, not {', '.join(sorted(wanted))}"


def _issuers(vantage: Vantage, host: str) -> set[str]:
    """Who may issue for `host`: the records of the closest name that has any (RFC 8659, 3)."""
    name = host
    while name:
        if found := [it.split(" ", 2) for it in ask(vantage, name, "CAA").texts]:
            issue = [value for _, tag, value in found if tag.lower() == "issue"]
            return {it.partition(";")[0].strip() or "nobody" for it in issue}
        name = name.partition(".")[2]
    return set()


def parked(vantage: Vantage) -> Iterator[str]:
    """Domains without mail say so, to whoever writes to them and to whoever is written to in their name."""
    for domain in vantage.site.dns.parked:
        if (mx := ask(vantage, domain, "MX").texts) != ("",):
            yield f"{domain}: MX is {', '.join(mx) or 'missing'}, not the null MX"
        if (spf := tagged(vantage, domain, "v=spf1")) != ("v=spf1 -all",):
            yield f"{domain}: SPF is {' | '.join(spf) or 'missing'}, not v=spf1 -all"
        dmarc = tagged(vantage, f"_dmarc.{domain}", "v=dmarc1")
        if len(dmarc) != 1 or not re.search(r";\s*p\s*=\s*reject\b", dmarc[0]):
            yield f"{domain}: DMARC is {' | '.join(dmarc) or 'missing'}, not p=reject"


_PUBLISH = (
    "`mastio dns` prints the records as they should be; publish them at the domain's name server"
)

CHECKS = (
    Check(
        "D4", Family.NAMES, "MTA-STS is enforced", (Place.OUTSIDE,), Severity.HIGH,
        "TXT of _mta-sts in each domain, and the policy at mta-sts.DOMAIN on each address, as a sender fetches it",
        f"one record; a believed certificate; mode enforce, every MX named, max_age up to {_LONGEST_AGE} s",
        "RFC 8461, 3", f"{_PUBLISH}. For the policy: set dns.mta_sts in the site file, then `mastio apply`.",
        strict_transport, seconds=60,
    ),
    Check(
        "D5", Family.NAMES, "Senders know where to report failures of TLS", (Place.OUTSIDE,), Severity.LOW,
        "TXT of _smtp._tls in each domain", "one record with a rua", "RFC 8460, 3", f"{_PUBLISH}.", reports_of_tls,
    ),
    Check(
        "D7", Family.NAMES, "Only named authorities may issue certificates", (Place.OUTSIDE,), Severity.MEDIUM,
        "CAA of the MX, the webmail and the policy hosts, or of the names above them",
        "it names the authorities of the site file (dns.caa), no other", "RFC 8659", f"{_PUBLISH}.", authorities,
    ),
    Check(
        "D10", Family.NAMES, "Parked domains take and send no mail", (Place.OUTSIDE,), Severity.MEDIUM,
        "MX, SPF and DMARC of each domain in dns.parked; of none, where there is none",
        "null MX, v=spf1 -all, p=reject", "RFC 7505; RFC 7208; M3AAWG, Parked Domains", f"{_PUBLISH}.", parked,
    ),
)  # fmt: skip
