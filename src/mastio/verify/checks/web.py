"""W: the webmail as a browser gets it, and no older way to the mail beside it."""

import re
from collections.abc import Iterator

from mastio import services
from mastio.site.model import Role
from mastio.verify import commands
from mastio.verify.doors import doors
from mastio.verify.model import Check, Family, Place, Severity
from mastio.verify.probes import web
from mastio.verify.vantage import Vantage

_LEAST_HSTS = 31_536_000
_CSP = {
    "script-src": {"'self'", "'unsafe-inline'", "'unsafe-eval'"},
    "style-src": {"'self'", "'unsafe-inline'"},
    "object-src": {"'none'"},
    "base-uri": {"'self'", "'none'"},
    "form-action": {"'self'"},
    "frame-ancestors": {"'self'", "'none'"},
    "default-src": {"'self'", "'none'"},
}
"""The widest policy that is accepted. Roundcube needs inline and evaluated script; nothing else does."""
_ROUNDCUBE = dict(zip(commands.ROUNDCUBE_KEYS, ("true", "Strict", "0", "false", "5"), strict=True))


def _pages(vantage: Vantage, path: str = "/") -> Iterator[tuple[str, dict[str, str], int, str]]:
    """The webmail's page at each address: words for the place, headers, status, body."""
    for door in doors(vantage.matrix, vantage.name, services.HTTPS):
        page = vantage.ask(
            web.get, str(door.address), door.port, vantage.site.webmail_host, path, True
        )
        yield door.words, page["headers"], page["status"], page["body"]


def hsts(vantage: Vantage) -> Iterator[str]:
    """Browsers stay with https, and are led there."""
    for where, headers, _, _ in _pages(vantage):
        value = headers.get("strict-transport-security", "")
        age = re.search(r"max-age=(\d+)", value)
        if not age or int(age[1]) < _LEAST_HSTS:
            yield f"{where}: Strict-Transport-Security is {value or 'missing'}"
    for door in doors(vantage.matrix, vantage.name, services.HTTP):
        page = vantage.ask(
            web.get, str(door.address), door.port, vantage.site.webmail_host, "/", False
        )
        target = page["headers"].get("location", "")
        if page["status"] not in (301, 308) or not target.startswith(
            f"https://{vantage.site.webmail_host}"
        ):
            yield f"{door.words}: {page['status']} {target or 'and no way to https'}"


def headers(vantage: Vantage) -> Iterator[str]:
    """Headers that keep a page to itself, and a way to report holes."""
    for where, found, status, _ in _pages(vantage):
        if status != 200:
            yield f"{where}: the log-in page answers {status}"
        if found.get("x-frame-options", "").upper() not in ("SAMEORIGIN", "DENY"):
            yield f"{where}: X-Frame-Options is {found.get('x-frame-options', 'missing')}"
        if found.get("x-content-type-options", "").lower() != "nosniff":
            yield f"{where}: X-Content-Type-Options is {found.get('x-content-type-options', 'missing')}"
        if found.get("referrer-policy", "") not in ("no-referrer", "same-origin", "strict-origin"):
            yield f"{where}: Referrer-Policy is {found.get('referrer-policy', 'missing')}"
        for name in ("server", "x-powered-by"):
            if name in found:
                yield f"{where}: {name} tells {found[name]}"
        for cookie in found.get("set-cookie", "").splitlines():
            words = {part.strip().lower().partition("=")[0] for part in cookie.split(";")[1:]}
            if not {"secure", "httponly", "samesite"} <= words and "-del-" not in cookie:
                yield f"{where}: the cookie {cookie.partition('=')[0]} lacks Secure, HttpOnly or SameSite"
    for where, _, status, body in _pages(vantage, "/.well-known/security.txt"):
        if status != 200 or "Contact:" not in body or "Expires:" not in body:
            yield f"{where}: no security.txt with Contact and Expires ({status})"


def policy(vantage: Vantage) -> Iterator[str]:
    """A content security policy not wider than Roundcube needs."""
    for where, found, _, _ in _pages(vantage):
        # Several policies all apply: the strictest one counts.
        policies = [
            it for it in found.get("content-security-policy", "").splitlines() if it.strip()
        ]
        lacks = [_wider(it) for it in policies] or [["there is none"]]
        if all(lacks):
            least = min(lacks, key=lambda it: len(it))
            yield f"{where}: Content-Security-Policy: {'; '.join(least)}"


def _wider(text: str) -> list[str]:
    rules = {words[0]: set(words[1:]) for part in text.split(";") if (words := part.split())}
    found = []
    for name, allowed in _CSP.items():
        given = rules.get(name)
        if given is None:
            found.append(f"{name} is missing")
        elif more := given - allowed:
            found.append(f"{name} allows {' '.join(sorted(more))}")
    return found


def roundcube(vantage: Vantage) -> Iterator[str]:
    """Roundcube's own switches, as PHP reads them."""
    said = dict(
        line.partition(" ")[::2] for line in vantage.output(*commands.ROUNDCUBE).splitlines()
    )
    for key, value in _ROUNDCUBE.items():
        if said.get(key) != value:
            yield f"{key} is {said.get(key, 'missing')}, not {value}"


def no_pop3(vantage: Vantage) -> Iterator[str]:
    """Dovecot speaks no POP3, and no IMAP in the clear."""
    said = vantage.output(*commands.PROTOCOLS).split("\n")
    spoken = {line.partition("=")[0].strip() for line in said if line.strip().endswith("yes")} or {
        word for line in said for word in line.split()
    }
    for name in sorted(spoken & {"pop3", "submission"}):
        yield f"Dovecot on {vantage.name} speaks {name}"


CHECKS = (
    Check(
        "W1", Family.WEB, "Browsers stay with https", (Place.OUTSIDE,), Severity.MEDIUM,
        "Strict-Transport-Security of the log-in page; the answer to plain http",
        "max-age of a year or more; a permanent redirect to https", "RFC 6797; Mozilla web security guidelines",
        "`mastio plan webmail` shows what was changed in nginx.conf.", hsts,
    ),
    Check(
        "W2", Family.WEB, "Pages keep to themselves", (Place.OUTSIDE,), Severity.MEDIUM,
        "headers and cookies of the log-in page; /.well-known/security.txt",
        "frame options, nosniff, referrer policy; cookies Secure, HttpOnly, SameSite; no product named",
        "OWASP Secure Headers; RFC 6265bis; RFC 9116", "`mastio plan webmail` shows what was changed in nginx.conf.",
        headers,
    ),
    Check(
        "W3", Family.WEB, "A strict content security policy", (Place.OUTSIDE,), Severity.MEDIUM,
        "Content-Security-Policy of the log-in page",
        "everything from the site itself; inline and evaluated script, which Roundcube needs, and no more",
        "W3C CSP 3", "`mastio plan webmail` shows what was changed in nginx.conf.", policy,
    ),
    Check(
        "W4", Family.WEB, "Roundcube's switches", (Role.WEBMAIL,), Severity.MEDIUM,
        "the configuration as PHP reads it", ", ".join(f"{key} = {value}" for key, value in _ROUNDCUBE.items()),
        "/etc/roundcube/defaults.inc.php", "`mastio plan webmail` shows the change, `mastio apply` mends it.",
        roundcube,
    ),
    Check(
        "W5", Family.WEB, "No POP3", (Role.STORE,), Severity.HIGH, "Dovecot's protocols", "no pop3, no submission",
        "the design: webmail is the only client", "`mastio plan store` shows the change, `mastio apply` mends it.",
        no_pop3,
    ),
)  # fmt: skip
