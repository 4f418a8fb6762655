"""Which secrets a site needs, how each is made, and which machine may hold it.

| name | what |
|---|---|
| `ca/key`, `ca/cert` | the internal authority; its key never leaves the vault |
| `public-ca/key`, `public-ca/cert` | signs the names the internet sees until a public authority does |
| `host/<machine>/key`, `…/cert` | a machine's certificate inside the site |
| `public/<host name>/key`, `…/cert` | the certificate the internet sees |
| `dkim/<domain>/<selector>` | a DKIM signing key (RFC 6376) |
| `<part>/<token>` | a random token that a role asks for |

`ensure` makes what is missing or about to expire; `rotate` makes what it is told anew.
"""

import secrets as random
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from mastio import pki
from mastio.errors import Exit, MastioError
from mastio.roles.gateway.scanners import DKIM_SELECTOR
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
    for name in (site.mx_host, site.webmail_host):
        pairs[f"public/{name}"] = ("public-ca", (name,))
    return pairs


def _singles(site: Site) -> dict[str, Callable[[], str]]:
    singles: dict[str, Callable[[], str]] = {
        f"dkim/{domain}/{DKIM_SELECTOR}": pki.rsa_key for domain in site.domains
    }
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
            _put_pair(vault, name, pki.issue(*ca, *dns_names))
            made.append(name)
    for name, make in singles.items():
        if name not in vault:
            vault.put(name, make())
            made.append(name)
    wanted = {f"{pair}/{half}" for pair in (*pairs, "ca", "public-ca") for half in ("key", "cert")}
    for name in set(vault) - wanted - set(singles):
        vault.drop(name)
    return tuple(made)


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
    known = sorted(names)
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
    """Make the matching secrets anew (and what hangs on them: a new authority signs all again)."""
    for name in select(vault, patterns):
        vault.drop(name)
    return ensure(vault, site)


def for_machine(vault: Mapping[str, str], site: Site, machine: Machine) -> dict[str, str]:
    """What one machine may know: all certificates, which are public, and only the keys it uses."""
    allowed = {name for name in vault if name.endswith("/cert")}
    allowed.add(f"host/{machine.name}/key")
    if machine.has(Role.GATEWAY_IN):
        allowed.add(f"public/{site.mx_host}/key")
    if machine.has(Role.WEBMAIL):
        allowed.add(f"public/{site.webmail_host}/key")
    if machine.has(Role.GATEWAY_OUT):
        allowed |= {name for name in vault if name.startswith("dkim/")}
    for part in PARTS:
        if machine.has(*part.roles):
            allowed |= set(part.secrets)
    return {name: value for name, value in vault.items() if name in allowed}
