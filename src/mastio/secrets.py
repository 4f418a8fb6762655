"""Which secrets a site needs, how each is made, and which machine may hold it.

| name | what |
|---|---|
| `ca/key`, `ca/cert` | the internal authority; its key never leaves the vault |
| `ca-next/key`, `ca-next/cert`, `ca-former/cert` | who follows it, and whom it followed (`mastio.renewal`) |
| `public-ca/key`, `public-ca/cert` | signs the names the internet sees until a public authority does |
| `host/<machine>/key`, `…/cert` | a machine's certificate inside the site |
| `public/<host name>/key`, `…/cert` | the certificate the internet sees |
| `public/<host name>/next` | the MX's next key, whose hash is in DNS before it is used (RFC 7671, 8.4) |
| `public/<host name>/request`, `…/next-request` | what an authority is asked with, for each of the two (`acme.*`) |
| `public/<host name>/given` | its certificate came from the administrator |
| `acme/tsig` | signs the updates of DNS that prove names |
| `dkim/<domain>/ring` | the generations of a domain's DKIM keys (`mastio.dns.rings`) |
| `dkim/<domain>/<selector>` | a DKIM key, RSA or Ed25519 (RFC 6376, RFC 8463) |
| `inspection/<watch>/key`, `…/cert` | by which a watch comes to look at the machines |
| `integrity/<watch>/key`, `…/cert` | by which a watch comes to measure them |
| `patching/<watch>/key`, `…/cert` | by which a watch has them install security updates |
| `certificates/<watch>/key`, `…/cert` | by which a watch brings them public certificates |
| `backup/<watch>/key`, `…/cert` | by which a watch has them archive what is kept |
| `copy/<watch>/key`, `…/cert` | by which a watch brings the second copy of backups to another host |
| `backup/<machine>/passphrase` | opens the machine's archives, and outlives it; it and watch have it |
| `restore/<watch>/key`, `…/cert` | by which a watch brings what was archived back |
| `vpn/key` | by which people's devices know the site's tunnel (`clients`) |
| `vpn/devices/<name>` | a device: its public key, a shared one, its addresses (`mastio.vpn`) |
| `mesh/<machine>/key` | by which a machine is known in the tunnels to others, where no firewall joins them |
| `<part>/<token>` | a random token that a role asks for |

`ensure` makes what is missing or about to expire; `rotate` makes what it is told anew, and
`rotate_dkim` lets the next generation of a domain's DKIM keys sign.
"""

import secrets as random
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase

from mastio import pki
from mastio.context import AUTHORITIES
from mastio.dns import rings
from mastio.errors import Exit, MastioError
from mastio.roles import backup, certificates, inspection, integrity, mesh, patching, restore, vpn
from mastio.roles.registry import KEPT, PARTS
from mastio.site.model import Challenge, Clients, Machine, Role, Site
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
        pairs[backup.PAIR.format(watch.name)] = ("ca", (f"backup.{name}",))
        pairs[restore.PAIR.format(watch.name)] = ("ca", (f"restore.{name}",))
        if site.backup.copied_by_ssh:
            pairs[backup.COPY_PAIR.format(watch.name)] = ("ca", (f"copy.{name}",))
        if site.acme.directory:
            pairs[certificates.PAIR.format(watch.name)] = ("ca", (f"certificates.{name}",))
    for host, dns_names in certificates.names(site).items():
        pairs[f"public/{host}"] = ("public-ca", dns_names)
    return pairs


def _requests(vault: Mapping[str, str], site: Site) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Each request that the site needs: the secret with its key, and its names."""
    found = {}
    for host, dns_names in certificates.names(site).items():
        if site.acme.directory and certificates.given(host) not in vault:
            found[certificates.request(host)] = (f"public/{host}/key", dns_names)
            found[certificates.request(host, following=True)] = (following(host), dns_names)
    return found


def following(host: str) -> str:
    """The name of a host's next key; the webmail has one only when an authority signs for it beforehand."""
    return f"public/{host}/next"


def today() -> date:
    """The date, everywhere the same."""
    return datetime.now(UTC).date()


def _singles(site: Site) -> dict[str, Callable[[], str]]:
    hosts = certificates.names(site) if site.acme.directory else (site.mx_host,)
    singles: dict[str, Callable[[], str]] = dict.fromkeys(map(following, hosts), pki.server_key)
    if site.acme.directory and site.acme.challenge is Challenge.DNS:
        singles[certificates.TSIG] = lambda: b64encode(random.token_bytes(32)).decode()
    if site.clients is Clients.VPN:
        singles[vpn.KEY] = pki.wireguard_key
    singles |= dict.fromkeys(mesh.keys(site), pki.wireguard_key)
    for part in PARTS:
        if site.carrying(*part.roles):
            singles |= dict.fromkeys(part.secrets, _token)
    for machine in backup.backed_up(site, KEPT):
        singles[backup.TOKEN.format(machine.name)] = _token
    return singles


def ensure(vault: Vault, site: Site) -> tuple[str, ...]:
    """Make what the site lacks, renew what soon expires, forget what it no longer needs.

    Returns the names that were made. The vault is changed in memory; `vault.save()` keeps it.
    """
    made: list[str] = []
    for authority in ("ca", "public-ca"):
        # What the interim one signs nobody believes by name: it needs no successor (`mastio.renewal`).
        old = authority == "public-ca" and _left(vault, authority) < pki.AUTHORITY_RENEW_DAYS
        if f"{authority}/key" not in vault or old:
            title = (
                f"{site.organisation} {'internal' if authority == 'ca' else 'interim'} authority"
            )
            _put_pair(vault, authority, pki.authority(title))
            made.append(authority)
    pairs, singles = _pairs(site), _singles(site)
    for name, (authority, dns_names) in pairs.items():
        if _stale(vault, name, authority, dns_names):
            ca = vault[f"{authority}/key"], vault[f"{authority}/cert"]
            # Renewal keeps the key, by which others know it in ssh and DNS; `rotate` has dropped it.
            key = vault.get(f"{name}/key") or vault.get(f"{name}/next", "")
            _put_pair(vault, name, pki.issue(*ca, *dns_names, key_pem=key))
            if key == vault.get(f"{name}/next"):
                vault.drop(f"{name}/next")
            made.append(name)
    for name, make in (singles | _dkim(vault, site)).items():
        if name not in vault:
            vault.put(name, make())
            made.append(name)
    asked = _requests(vault, site)
    for name, (secret, dns_names) in asked.items():
        if not _fits(vault.get(name, ""), vault[secret], dns_names):
            vault.put(name, pki.request(vault[secret], *dns_names))
            made.append(name)
    marks = {certificates.given(host) for host in certificates.names(site)}
    # Devices are somebody's: a policy that is tried for a day must not lose them.
    marks |= {name for name in vault if name.startswith(vpn.DEVICES)}
    # Archives outlive their machine: without its passphrase nobody could read them.
    marks |= {name for name in vault if fnmatchcase(name, backup.TOKEN.format("*"))}
    wanted = {f"{pair}/{half}" for pair in (*pairs, "ca", "public-ca") for half in ("key", "cert")}
    wanted |= {"ca-next/key", *AUTHORITIES}
    for name in set(vault) - wanted - set(singles) - set(_dkim(vault, site)) - set(asked) - marks:
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


def _fits(request: str, key: str, dns_names: tuple[str, ...]) -> bool:
    return (
        bool(request)
        and pki.key_digest(request) == pki.key_digest(key)
        and pki.requested(request) == frozenset(dns_names)
    )


def _left(vault: Vault, name: str) -> float:
    """Days; 0 when there is none."""
    cert = vault.get(f"{name}/cert")
    return 0 if cert is None else pki.days_left(cert)


def _stale(vault: Vault, name: str, authority: str, dns_names: tuple[str, ...]) -> bool:
    cert = vault.get(f"{name}/cert")
    if f"{name}/given" in vault and cert is not None and f"{name}/key" in vault:
        return False
    return (
        cert is None
        or f"{name}/key" not in vault
        or pki.names(cert) != frozenset(dns_names)
        # One that ends with its authority would not last longer if it were made anew.
        or pki.days_left(cert) < min(pki.RENEW_DAYS, _left(vault, authority) - 1)
        or not pki.issued_by(cert, vault[f"{authority}/cert"])
    )


def select(names: Collection[str], patterns: Iterable[str]) -> tuple[str, ...]:
    """The secrets that match any of `patterns` (shell wildcards; a pair by its name alone).

    A next key is in DNS already, and takes over when its host's is made anew: only its whole name means it.
    Raises MastioError for a pattern that matches nothing.
    """
    known = sorted(name for name in names if not name.endswith(_FOLLOWING))
    chosen: set[str] = set()
    for pattern in patterns:
        if pattern.endswith("/next") and pattern in names:
            chosen.add(pattern)
            continue
        hits = {n for n in known if fnmatchcase(n, pattern) or fnmatchcase(_stem(n), pattern)}
        if not hits:
            raise MastioError(
                f"no secret is called {pattern!r}",
                hint="`mastio secrets list` shows the names",
                code=Exit.USAGE,
            )
        chosen |= {n for n in known if _stem(n) in {_stem(hit) for hit in hits}}
    return tuple(sorted(chosen))


_FOLLOWING = ("/next", "request", "/given")


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
    if "ca/key" in chosen:  # who has read one key of the vault has read its successor
        for name in ("ca-next/key", *AUTHORITIES):
            vault.drop(name)
    for name in chosen:
        vault.drop(name)
        vault.drop(f"{_stem(name)}/given")
    return ensure(vault, site)


def for_machine(vault: Mapping[str, str], site: Site, machine: Machine) -> dict[str, str]:
    """What one machine may know: all certificates, which are public, and only the keys it uses."""
    allowed = {name for name in vault if name.endswith("/cert")}
    allowed |= {f"host/{machine.name}/key", backup.TOKEN.format(machine.name)}
    allowed.add(mesh.KEY.format(machine.name))
    if machine.has(Role.WATCH):
        allowed.add(f"{inspection.PAIR.format(machine.name)}/key")
        allowed.add(f"{integrity.PAIR.format(machine.name)}/key")
        allowed.add(f"{patching.PAIR.format(machine.name)}/key")
        allowed.add(f"{certificates.PAIR.format(machine.name)}/key")
        allowed.add(certificates.TSIG)
        allowed |= {name for name in vault if name.endswith("request")}
        allowed.add(f"{backup.PAIR.format(machine.name)}/key")
        allowed.add(f"{backup.COPY_PAIR.format(machine.name)}/key")
        allowed |= {backup.TOKEN.format(it.name) for it in backup.backed_up(site, KEPT)}
        allowed.add(f"{restore.PAIR.format(machine.name)}/key")
    if machine.has(Role.GATEWAY_IN):
        allowed.add(f"public/{site.mx_host}/key")
    if machine.has(Role.WEBMAIL):
        allowed.add(f"public/{site.web_certificate}/key")
    if machine.has(Role.STORE):
        allowed.add(f"public/{site.imap_host}/key")
    if machine.has(Role.FIREWALL):
        allowed |= {name for name in vault if name == vpn.KEY or name.startswith(vpn.DEVICES)}
    if machine.has(Role.GATEWAY_OUT):
        for domain in site.domains:
            allowed.add(rings.name(domain))
            signing = rings.signing(ring_of(vault, domain))
            allowed |= {rings.key(domain, it) for it in signing.selectors}
    for part in PARTS:
        if machine.has(*part.roles):
            allowed |= set(part.secrets)
    known = {name: value for name, value in vault.items() if name in allowed}
    return known | mesh.publics(vault, site)
