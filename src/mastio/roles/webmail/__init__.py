"""The webmail: the only IMAP client of a site, and the only machine that speaks HTTP to the internet.

nginx ends TLS and serves what never changes; php-fpm runs Roundcube as a user of its own
(`mastio-webmail`), reachable through a unix socket that only nginx may open. Roundcube keeps
preferences, sessions and address books in SQLite; it holds no mail and no account. Users' passwords
go to the store over TLS whose certificate is checked against the site's authority; a change of
password goes through a mutual-TLS tunnel (stunnel), so that only this machine can ask for one.

It also serves the MTA-STS policies of the site's domains (RFC 8461), under names of their own, and how mail programs
are set up, where the site lets in those on the internet (`mastio.dns.autoconfig`).

    browser ─443→ nginx ─unix→ php-fpm: Roundcube ─┬─ imaps, submissions, sieve ──→ store
                                                   └─unix→ stunnel ── password ──→ store

In: a `Context`. Out: the packages, files, units and checkers of this part of the machine.
"""

import html
from dataclasses import replace
from datetime import timedelta

from cryptography import x509

from mastio import pki, services
from mastio.context import CHALLENGES, PKI, Context, Peer, bracketed, public_chain
from mastio.dns import autoconfig, sts
from mastio.site.model import Challenge, Role
from mastio.state import Check, Directory, File, HostState, Kept, Unit, User

SECRETS = ("webmail/des-key",)
"""Encrypts the users' passwords inside their sessions (AES-256: exactly 32 characters)."""

USER = "mastio-webmail"
STATE = "/var/lib/mastio/webmail"
"""Roundcube's database and the attachments of messages that are being written."""
WWW = "/var/www/mastio"
"""The few static pages that are ours: logo, errors, security.txt."""
PHP = "8.4"
PHP_SOCKET = "/run/mastio-webmail/php.sock"
TUNNEL = "mastio-password-tunnel"
TUNNEL_SOCKET = f"/run/{TUNNEL}/socket"

_NGINX = "/etc/nginx/nginx.conf"
_PUBLIC = (f"{PKI}/public.pem", f"{PKI}/public.key")
_FPM = f"/etc/php/{PHP}/fpm/php-fpm.conf"
_POOL = f"/etc/php/{PHP}/fpm/pool.d/webmail.conf"
_ROUNDCUBE = "/etc/roundcube/config.inc.php"
_STUNNEL = "/etc/stunnel/password.conf"
KEPT = Kept(databases=(f"{STATE}/roundcube.sqlite",))
"""What users have set in the webmail, and their address books."""


def build(ctx: Context) -> HostState:
    """The webmail's part of a machine; MastioError when the flow matrix does not declare it."""
    shown = tuple(dict.fromkeys((*_PUBLIC, public_chain(ctx.site))))
    return HostState(
        packages=(
            "libnginx-mod-http-headers-more-filter", "nginx", "php-fpm", "php-intl", "php-sqlite3",
            "php-zip", "roundcube-core", "roundcube-plugins", "roundcube-sqlite3", "stunnel4",
        ),
        debconf=(
            # the database is ours (schema.service); Debian's web server snippets are not used
            "roundcube-core roundcube/dbconfig-install boolean false",
            "roundcube-core roundcube/reconfigure-webserver multiselect",
        ),
        users=(User(USER, home=STATE),),
        directories=(
            Directory(STATE, USER, USER, 0o700),
            Directory(f"{STATE}/temp", USER, USER, 0o700),
            Directory(WWW),
            Directory(f"{WWW}/site"),
        ),
        files=_files(ctx),
        removed=(
            "/etc/nginx/sites-enabled/default",
            f"/etc/php/{PHP}/fpm/pool.d/www.conf",
            "/etc/apache2/conf-available/roundcube.conf",
        ),
        units=(
            Unit(f"{TUNNEL}.service", (_STUNNEL, PKI, f"/etc/systemd/system/{TUNNEL}.service")),
            Unit(
                f"php{PHP}-fpm.service",
                (
                    f"/etc/php/{PHP}/fpm", _ROUNDCUBE, f"{PKI}/ca.pem",
                    f"/etc/systemd/system/php{PHP}-fpm.service.d",
                    "/etc/systemd/system/mastio-webmail-schema.service",
                ),
            ),
            Unit(
                "nginx.service",
                (_NGINX, *shown, "/etc/systemd/system/nginx.service.d"),
            ),
            Unit("stunnel4.service", masked=True),  # Debian's, which would run our file as root
            Unit("roundcube-gc.timer"),
            Unit("roundcube-cleandb.timer"),
        ),
        checks=(
            Check("nginx", ("/usr/sbin/nginx", "-t", "-q"), (_NGINX, *shown)),
            Check("php-fpm", (f"/usr/sbin/php-fpm{PHP}", "-t", "-y", _FPM), (_FPM, _POOL)),
            Check("roundcube", (f"/usr/bin/php{PHP}", "-l", _ROUNDCUBE), (_ROUNDCUBE,)),
        ),
    )  # fmt: skip


def _files(ctx: Context) -> tuple[File, ...]:
    values = {
        "user": USER, "state": STATE, "www": WWW, "php": PHP, "php_socket": PHP_SOCKET,
        "tunnel": TUNNEL, "tunnel_socket": TUNNEL_SOCKET, "store": _store(ctx),
        "bracketed": bracketed, "literal": _php_literal, "escape": html.escape,
        "security_expires": _security_expires(ctx), "sts": sts, "autoconfig": autoconfig,
        "challenges": CHALLENGES if _answers(ctx) else "",
    }  # fmt: skip

    def file(path: str, template: str) -> File:
        return File(path, ctx.render(__file__, template, **values))

    def unit(name: str, template: str) -> File:
        return file(f"/etc/systemd/system/{name}", template)

    return (
        file(_NGINX, "nginx.conf.j2"),
        file(_FPM, "php-fpm.conf.j2"),
        file(f"/etc/php/{PHP}/fpm/conf.d/90-mastio.ini", "php.ini.j2"),
        file(_POOL, "pool.conf.j2"),
        replace(file(_ROUNDCUBE, "config.inc.php.j2"), group=USER, mode=0o640, secret=True),
        file(_STUNNEL, "stunnel.conf.j2"),
        file(f"{WWW}/error.html", "error.html.j2"),
        file(f"{WWW}/security.txt", "security.txt.j2"),
        File(f"{WWW}/mta-sts.txt", sts.policy(ctx.site)),
        *(
            (File(f"{WWW}/autoconfig.xml", autoconfig.document(ctx.site)),)
            if autoconfig.hosts(ctx.site)
            else ()
        ),
        file(f"{WWW}/site/blank.html", "blank.html.j2"),
        file(f"{WWW}/site/logo.svg", "logo.svg.j2"),
        unit(f"{TUNNEL}.service", "tunnel.service.j2"),
        unit("mastio-webmail-schema.service", "schema.service.j2"),
        unit("nginx.service.d/mastio.conf", "nginx.service.j2"),
        unit(f"php{PHP}-fpm.service.d/mastio.conf", "php-fpm.service.j2"),
        unit("roundcube-gc.service.d/mastio.conf", "housekeeping.service.j2"),
        unit("roundcube-cleandb.service.d/mastio.conf", "housekeeping.service.j2"),
    )


def _answers(ctx: Context) -> bool:
    """Whether authorities look here for a proof that a name is the site's."""
    return bool(ctx.site.acme.directory) and ctx.site.acme.challenge is Challenge.HTTP


def _store(ctx: Context) -> Peer:
    """The store, which may be this very machine (then no flow leads there)."""
    if ctx.machine.has(Role.STORE):
        return Peer(ctx.machine.name, ctx.fqdn, ctx.machine.inside)
    return ctx.peers(services.IMAPS)[0]


def _php_literal(text: str) -> str:
    """`text` as a single-quoted PHP string, in which only backslash and quote are special."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _security_expires(ctx: Context) -> str:
    """When security.txt goes stale (RFC 9116, 2.5.5): when the public certificate is due for renewal.

    A date that follows from the vault keeps the build deterministic, and renewal renews it as well.
    """
    pem = ctx.secret(f"public/{ctx.site.web_certificate}/cert")
    end = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
    return (end - timedelta(days=pki.RENEW_DAYS)).strftime("%Y-%m-%dT%H:%M:%SZ")
