"""Which secrets a site needs, how each is made, and which machine may hold it.

| name | what |
|---|---|
| `ca/key`, `ca/cert` | the internal authority; its key never leaves the vault |
| `public-ca/key`, `public-ca/cert` | signs the names the internet sees until a public authority does |
| `host/<machine>/key`, `…/cert` | a machine's certificate inside the site |
| `public/<host name>/key`, `…/cert` | the certificate the internet sees |
| `public/<host name>/next` | the MX's next key, whose hash is in DNS before it is used (RFC 7671, 8.4) |
| `dkim/<domain>/ring` | the generations of a domain's DKIM keys (`mastio.dns.rings`) |
| `dkim/<domain>/<selector>` | a DKIM key, RSA or Ed25519 (RFC 6376, RFC 8463) |
| `inspection/<watch>/key`, `…/cert` | by which a watch comes to look at the machines |
| `integrity/<watch>/key`, `…/cert` | by which a watch comes to measure them |
| `patching/<watch>/key`, `…/cert` | by which a watch has them install security updates |
| `<part>/<token>` | a random token that a role asks for |

`ensure` makes what is missing or about to expire; `rotate` makes what it is told anew, and
`rotate_dkim` lets the next generation of a domain's DKIM keys sign.
"""

import secrets as random
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase

from mastio import pki
from mastio.dns import rings, sts
from mastio.errors import Exit, MastioError
from mastio.roles import inspection, integrity, patching
from mastio.roles.registry import PARTS
from mastio.site.model import Machine, Role, Site
from mastio.vault import Vault


def _token() -> str:
    return random.token_urlsafe(24)  # 32 characters, 192 bits


def _pairs(site: Site) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Each certificate pair that the site needs: its authority and its DNS names."""
    pairs: dict[str, tuple[str, tuple[str, ...]]] = {}
    for machine in site.machines:
        pairs[f"host/{machine.name}"] = ("ca", (site.internal_name(machine.name),))
    for watch in site.carrying(Role.WATCH):
        name = site.internal_name(watch.name)
        pairs[inspection.PAIR.format(watch.name)] = ("ca", (f"inspection.{name}",))
        pairs[integrity.PAIR.format(watch.name)] = ("ca", (f"integrity.{name}",))
        pairs[patching.PAIR.format(watch.name)] = ("ca", (f"patching.{name}",))
    pairs[f"public/{site.mx_host}"] = ("public-ca", (site.mx_host,))
    web = (site.webmail_host, *(sts.host(domain) for domain in site.domains))
    pairs[f"public/{site.webmail_host}"] = ("public-ca", web)
    return pairs


def _next(site: Site) -> str:
    """The name of the MX's next key."""
    return f"public/{site.mx_host}/next"


def today() -> date:
    """The date, everywhere the same."""
    return datetime.now(UTC).date()


def _singles(site: Site) -> dict[str, Callable[[], str]]:
    singles: dict[str, Callable[[], str]] = {_next(site): pki.server_key}
    for part in PARTS:
        if site.carrying(*part.roles):
            singles |= dict.fromkeys(part.secrets, _token)
    return singles


def ensure(vault: Vault, site: Site) -> tuple[str, ...]:
    """Make what the site lacks, renew what soon expires, forget what it no longer needs.

    Returns the names that were made. The vault is changed in memory; `vault.save()` keeps it.
    """
    made: list[str] = []
    for authority in ("ca", "public-ca"):
        if f"{authority}/key" not in vault:
            title = (
                f"{site.organisation} {'internal' if authority == 'ca' else 'interim'} authority"
            )
            _put_pair(vault, authority, pki.authority(title))
            made.append(authority)
    pairs, singles = _pairs(site), _singles(site)
    for name, (authority, dns_names) in pairs.items():
        if _stale(vault, name, authority, dns_names):
            ca = vault[f"{authority}/key"], vault[f"{authority}/cert"]
            key = vault.get(f"{name}/next", "")
            _put_pair(vault, name, pki.issue(*ca, *dns_names, key_pem=key))
            vault.drop(f"{name}/next")
            made.append(name)
    for name, make in (singles | _dkim(vault, site)).items():
        if name not in vault:
            vault.put(name, make())
            made.append(name)
    wanted = {f"{pair}/{half}" for pair in (*pairs, "ca", "public-ca") for half in ("key", "cert")}
    for name in set(vault) - wanted - set(singles) - set(_dkim(vault, site)):
        vault.drop(name)
    return tuple(made)


def _dkim(vault: Vault, site: Site) -> dict[str, Callable[[], str]]:
    """The rings of the site's domains, and the keys that stand in them."""
    found: dict[str, Callable[[], str]] = {}
    for domain in site.domains:
        ring = ring_of(vault, domain)
        found[rings.name(domain)] = lambda ring=ring: rings.unparse(ring)  # type: ignore[misc]
        for generation in ring:
            found[rings.key(domain, generation.rsa)] = pki.rsa_key
            found[rings.key(domain, generation.ed25519)] = pki.ed25519_key
    return found


def ring_of(vault: Mapping[str, str], domain: str) -> rings.Ring:
    """The generations of a domain's DKIM keys; a new domain's when the vault does not know it."""
    text = vault.get(rings.name(domain))
    return rings.begin(today()) if text is None else rings.parse(text)


def rotate_dkim(vault: Vault, site: Site, domain: str, *, compromised: bool = False) -> rings.Ring:
    """Let the next keys of a domain sign, publish those after them, and forget the long retired.

    A `compromised` key goes at once: what it signed and is still on its way will not verify.
    """
    ring = rings.rotate(ring_of(vault, domain), today(), compromised=compromised)
    vault.put(rings.name(domain), rings.unparse(ring))
    ensure(vault, site)
    return ring


def tidy_dkim(vault: Vault, site: Site, domain: str) -> bool:
    """Forget the keys of a domain that have been retired long enough; whether there were any."""
    ring = ring_of(vault, domain)
    left = rings.tidy(ring, today())
    vault.put(rings.name(domain), rings.unparse(left))
    ensure(vault, site)
    return left != ring


def _put_pair(vault: Vault, name: str, pair: tuple[str, str]) -> None:
    for half, value in zip(("key", "cert"), pair, strict=True):
        vault.put(f"{name}/{half}", value)


def _stale(vault: Vault, name: str, authority: str, dns_names: tuple[str, ...]) -> bool:
    cert = vault.get(f"{name}/cert")
    return (
        cert is None
        or f"{name}/key" not in vault
        or pki.names(cert) != frozenset(dns_names)
        or pki.days_left(cert) < pki.RENEW_DAYS
        or not pki.issued_by(cert, vault[f"{authority}/cert"])
    )


def select(names: Iterable[str], patterns: Iterable[str]) -> tuple[str, ...]:
    """The secrets that match any of `patterns` (shell wildcards; a pair by its name alone).

    Raises MastioError for a pattern that matches nothing.
    """
    # A next key is in DNS already: it takes over when its certificate is made anew, as it is.
    known = sorted(name for name in names if not name.endswith("/next"))
    chosen: set[str] = set()
    for pattern in patterns:
        hits = {n for n in known if fnmatchcase(n, pattern) or fnmatchcase(_stem(n), pattern)}
        if not hits:
            raise MastioError(
                f"no secret is called {pattern!r}",
                hint="`mastio secrets list` shows the names",
                code=Exit.USAGE,
            )
        chosen |= {n for n in known if _stem(n) in {_stem(hit) for hit in hits}}
    return tuple(sorted(chosen))


def _stem(name: str) -> str:
    return name.removesuffix("/key").removesuffix("/cert")


def rotate(vault: Vault, site: Site, patterns: Iterable[str]) -> tuple[str, ...]:
    """Make the matching secrets anew (and what hangs on them: a new authority signs all again).

    Raises MastioError for DKIM keys: one that replaces another under its name would leave a gap.
    """
    chosen = select(vault, patterns)
    if any(name.startswith("dkim/") for name in chosen):
        raise MastioError(
            "DKIM keys follow each other, with the next one in DNS before it signs",
            hint="`mastio dkim rotate`; with --compromised the old key is gone at once",
            code=Exit.USAGE,
        )
    for name in chosen:
        vault.drop(name)
    return ensure(vault, site)


def for_machine(vault: Mapping[str, str], site: Site, machine: Machine) -> dict[str, str]:
    """What one machine may know: all certificates, which are public, and only the keys it uses."""
    allowed = {name for name in vault if name.endswith("/cert")}
    allowed.add(f"host/{machine.name}/key")
    if machine.has(Role.WATCH):
        allowed.add(f"{inspection.PAIR.format(machine.name)}/key")
        allowed.add(f"{integrity.PAIR.format(machine.name)}/key")
        allowed.add(f"{patching.PAIR.format(machine.name)}/key")
    if machine.has(Role.GATEWAY_IN):
        allowed.add(f"public/{site.mx_host}/key")
    if machine.has(Role.WEBMAIL):
        allowed.add(f"public/{site.webmail_host}/key")
    if machine.has(Role.GATEWAY_OUT):
        for domain in site.domains:
            allowed.add(rings.name(domain))
            signing = rings.signing(ring_of(vault, domain))
            allowed |= {rings.key(domain, it) for it in signing.selectors}
    for part in PARTS:
        if machine.has(*part.roles):
            allowed |= set(part.secrets)
    return {name: value for name, value in vault.items() if name in allowed}
