"""D: what the site's names tell the world, as a stranger's resolver hears it."""

import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mastio.dns.zone import addresses
from mastio.roles.gateway import signing
from mastio.site.model import Role
from mastio.verify.model import Check, Family, Place, Severity
from mastio.verify.probes import host, names
from mastio.verify.vantage import Vantage, unknown

_MOST_LOOK_UPS = 10
_LEAST_RSA = 2048
_GRACE = 7
"""Days that a rotation may be late: the next keys must be seen in DNS before."""
_LISTS = ("zen.spamhaus.org", "bl.spamcop.net")
"""Lists that many receivers ask. Their codes in 127.255.255.0/24 say that they refuse to answer."""
_LOOK_UP = re.compile(r"(?:[?~+-]?(?:include:|a\b|mx\b|ptr\b|exists:)|redirect=)")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a resolver said."""

    code: int
    secure: bool
    texts: tuple[str, ...]


def ask(vantage: Vantage, name: str, kind: str) -> Answer:
    """What the vantage's resolver says; MastioError when it says nothing."""
    said = vantage.ask(names.look_up, name, kind)
    code, found = said["code"], said["answers"]
    if not isinstance(code, int) or not isinstance(found, list) or code not in (0, 3):
        raise unknown(f"the resolver does not answer for {name} {kind} (code {code})")
    return Answer(code, bool(said["secure"]), tuple(map(str, found)))


def tagged(vantage: Vantage, name: str, tag: str) -> tuple[str, ...]:
    """The TXT records at `name` that begin with `tag`."""
    return tuple(it for it in ask(vantage, name, "TXT").texts if it.lower().startswith(tag))


def mx(vantage: Vantage) -> Iterator[str]:
    """Each domain's mail comes to us, and the MX is found in both families."""
    site = vantage.site
    for domain in site.domains:
        if site.mx_host not in (found := ask(vantage, domain, "MX").texts):
            yield f"{domain}: MX is {', '.join(found) or 'missing'}, not {site.mx_host}"
    roles = {site.mx_host: Role.GATEWAY_IN, site.webmail_host: Role.WEBMAIL}
    for host_name, role in roles.items():
        known = {*ask(vantage, host_name, "A").texts, *ask(vantage, host_name, "AAAA").texts}
        if missing := [str(it) for it in addresses(site, role) if str(it) not in known]:
            yield f"{host_name}: no record for {', '.join(missing)}"


def spf(vantage: Vantage) -> Iterator[str]:
    """One SPF record that forbids the rest, within the limit of look-ups."""
    for domain in vantage.site.domains:
        found = tagged(vantage, domain, "v=spf1")
        if len(found) != 1:
            yield f"{domain}: {len(found)} SPF records: {' | '.join(found) or 'none'}"
            continue
        words = found[0].split()[1:]
        if not words or words[-1] not in ("-all", "~all"):
            yield f"{domain}: SPF does not end with -all: {found[0]}"
        if (many := sum(bool(_LOOK_UP.match(word)) for word in words)) > _MOST_LOOK_UPS:
            yield f"{domain}: SPF needs {many} look-ups: {found[0]}"


def dkim(vantage: Vantage) -> Iterator[str]:
    """The keys that each gateway signs with are published, and strong: RSA for all, Ed25519 beside it."""
    for gateway in vantage.site.carrying(Role.GATEWAY_OUT):
        text = vantage.at(gateway.name).ask(host.text, f"/etc/{signing.SETTINGS}")
        known = selectors(text)
        for domain in vantage.site.domains:
            if domain not in known:
                yield f"{gateway.name} signs nothing of {domain}"
                continue
            kinds: set[str] = set()
            for selector in known[domain]:
                yield from _dkim_key(vantage, f"{selector}._domainkey.{domain}", kinds)
            if "RSA" not in kinds:
                yield f"{domain}: no RSA key that {gateway.name} signs with is published"
            if "Ed25519" not in kinds:
                yield f"{domain}: no Ed25519 key that {gateway.name} signs with is published"


def selectors(text: str) -> dict[str, list[str]]:
    """The selectors of each domain in Rspamd's dkim_signing.conf."""
    found: dict[str, list[str]] = {}
    for domain, selector in re.findall(
        r'^\s*"([^"]+)"\s*\{|\bselector\s*=\s*"([^"]+)"', text, re.M
    ):
        if domain:
            found[domain] = []
        elif found:
            found[next(reversed(found))].append(selector)
    return found


def signing_since(text: str) -> dict[str, date]:
    """Since when the keys of each domain sign, in Rspamd's dkim_signing.conf as roles/gateway writes it."""
    found = re.findall(r'^\s*"([^"]+)"\s*\{\s*# These have signed since ([\d-]+)\.$', text, re.M)
    return {domain: date.fromisoformat(since) for domain, since in found}


def rotated(vantage: Vantage) -> Iterator[str]:
    """DKIM keys follow each other as the site file says."""
    text, days = vantage.ask(host.text, f"/etc/{signing.SETTINGS}"), vantage.site.policy.dkim_days
    since = signing_since(text)
    for domain in vantage.site.domains:
        if domain not in since:
            raise unknown(f"{vantage.name} does not say since when the keys of {domain} sign")
        age = (datetime.now(UTC).date() - since[domain]).days
        if age > days + _GRACE:
            yield f"the DKIM keys of {domain} have signed for {age} days; policy.dkim_days is {days}"


def _dkim_key(vantage: Vantage, name: str, kinds: set[str]) -> Iterator[str]:
    """What is wrong with the key at `name`; a good one's kind is added to `kinds`."""
    found = [it for it in ask(vantage, name, "TXT").texts if "p=" in it]
    tags = dict(re.findall(r"(\w+)\s*=\s*([^;]*)", found[0])) if len(found) == 1 else {}
    if len(found) != 1 or not tags.get("p"):
        yield f"{name}: {len(found)} keys are published"
        return
    try:
        data = b64decode(tags["p"])
        key = (
            ed25519.Ed25519PublicKey.from_public_bytes(data)
            if tags.get("k") == "ed25519"
            else load_der_public_key(data)
        )
    except ValueError:
        yield f"{name}: the published key cannot be read"
        return
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA:
        yield f"{name}: an RSA key of {key.key_size} bits"
    kinds.add("RSA" if isinstance(key, rsa.RSAPublicKey) else "Ed25519")


def dmarc(vantage: Vantage) -> Iterator[str]:
    """A DMARC policy that is enforced."""
    for domain in vantage.site.domains:
        found = tagged(vantage, f"_dmarc.{domain}", "v=dmarc1")
        tags = dict(re.findall(r"(\w+)\s*=\s*([^;\s]*)", found[0])) if len(found) == 1 else {}
        if tags.get("p") not in ("reject", "quarantine"):
            yield f"{domain}: DMARC is {' | '.join(found) or 'missing'}"


def dnssec(vantage: Vantage) -> Iterator[str]:
    """Domain and MX are signed, and validate."""
    site = vantage.site
    for name, kind in (*((domain, "MX") for domain in site.domains), (site.mx_host, "A")):
        answer = ask(vantage, name, kind)
        if answer.texts and not answer.secure:
            yield f"{name} {kind} does not validate"


def listed(vantage: Vantage) -> Iterator[str]:
    """No well-known list of spammers names the addresses that send mail (RFC 5782)."""
    for address in addresses(vantage.site, Role.GATEWAY_OUT):
        name = address.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")
        for zone in _LISTS:
            for answer in ask(vantage, f"{name}.{zone}", "A").texts:
                if answer.startswith("127.255.255."):
                    raise unknown(
                        f"{zone} does not answer this resolver ({answer}): ask by one of your own"
                    )
                yield f"{address} is on {zone}: {answer}"


def reverse(vantage: Vantage) -> Iterator[str]:
    """The addresses that send mail have a name that leads back to them, and it is the EHLO name."""
    site = vantage.site
    for address in addresses(site, Role.GATEWAY_OUT):
        if site.mx_host not in (found := ask(vantage, address.reverse_pointer, "PTR").texts):
            yield f"{address}: its PTR is {', '.join(found) or 'missing'}, not {site.mx_host}"


_AT = "at the registrar or name server of the domain"

CHECKS = (
    Check(
        "D0", Family.NAMES, "Mail and browsers find the site", (Place.OUTSIDE,), Severity.HIGH,
        "MX of each domain, A and AAAA of the MX and the webmail", "they name this site's hosts and addresses",
        "RFC 5321, 5.1", f"Publish the records {_AT}.", mx,
    ),
    Check(
        "D1", Family.NAMES, "SPF", (Place.OUTSIDE,), Severity.HIGH, "TXT of each domain",
        "one record that ends with -all or ~all and needs 10 look-ups at most", "RFC 7208, 3.2 and 4.6.4",
        f"Publish one SPF record {_AT}.", spf,
    ),
    Check(
        "D2", Family.NAMES, "DKIM keys are published", (Place.OUTSIDE,), Severity.HIGH,
        "the TXT record of each selector that the gateway signs with", "one key for each: RSA ≥ 2048 bits, and Ed25519",
        "RFC 6376, 3.6.1; RFC 8301; RFC 8463, 3", f"Publish the key {_AT}.", dkim,
    ),
    Check(
        "D12", Family.NAMES, "DKIM keys follow each other", (Role.GATEWAY_OUT,), Severity.MEDIUM,
        "since when the gateway signs with its keys", f"no longer than policy.dkim_days and {_GRACE} days",
        "RFC 6376, 3.1; M3AAWG DKIM Key Rotation Best Common Practices, 2019",
        "`mastio renew` (`--timer` prints units that do it each day) says what must be in DNS first.", rotated,
    ),
    Check(
        "D3", Family.NAMES, "DMARC is enforced", (Place.OUTSIDE,), Severity.HIGH, "TXT of _dmarc in each domain",
        "one record with p=quarantine or p=reject", "RFC 7489, 6.3", f"Publish one DMARC record {_AT}.", dmarc,
    ),
    Check(
        "D6", Family.NAMES, "Names are signed", (Place.OUTSIDE,), Severity.MEDIUM,
        "MX of each domain and A of the MX through a validating resolver", "the answers validate (AD)",
        "RFC 4035; RFC 7672 (DANE needs it)", f"Sign the zone and give the DS record to the registry, {_AT}.", dnssec,
    ),
    Check(
        "D8", Family.NAMES, "Senders have a reverse name", (Place.OUTSIDE,), Severity.MEDIUM,
        "PTR of each public address", "the EHLO name, which leads back (D0)", "RFC 5321, 4.1.3; RFC 1912, 2.1",
        "Ask the network's provider to set the PTR record.", reverse,
    ),
    Check(
        "D9", Family.NAMES, "Senders are on no block list", (Place.OUTSIDE,), Severity.HIGH,
        f"each address that sends mail in {' and '.join(_LISTS)}", "not listed", "RFC 5782, 2",
        "See on the list's own page why, mend the cause (`mastio outbound show`), "
        "then ask to be taken off.",
        listed,
    ),
)  # fmt: skip
