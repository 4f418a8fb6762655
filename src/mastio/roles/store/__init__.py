"""The store: keeps the mail. Dovecot (IMAP, Sieve, LMTP), Postfix (delivery, submission), the directory.

    gateway ──delivery──▶ Postfix ──LMTP──▶ Dovecot ──▶ /var/vmail/DOMAIN/USER
    webmail ──imaps, sieve──▶ Dovecot
    webmail ──submissions──▶ Postfix ──relay──▶ gateway ──▶ the internet, or back by delivery
    webmail ──password──▶ stunnel ──▶ poppassd ──▶ directory

*Accounts* are rows of the SQLite directory, not configuration: Dovecot and Postfix ask it for each
login and each recipient, and only `mastio-directory`, the user that owns the file, writes it.
*Everything a user sends* (submission, Sieve redirects and answers) leaves through the gateway's filters,
even to a neighbour; the gateway hands it back by delivery, which alone expands aliases and forwards.
The machine asks no DNS and calls nobody but the gateway.
"""

from pathlib import Path

from mastio import services
from mastio.context import PKI, Context, bracketed
from mastio.pki import fingerprint
from mastio.services import Service
from mastio.site.model import DUTIES
from mastio.state import Check, Command, Directory, File, HostState, Unit, User

DIRECTORY = "/var/lib/mastio/directory/directory.sqlite"
"""The accounts: SQLite, owned by `OWNER`, readable by its group, journal_mode=DELETE."""
OWNER = "mastio-directory"
"""The user and group that own the directory; the user is the only one beside root who may write it."""
VMAIL = "/var/vmail"
"""All mailboxes; they belong to the user vmail."""
_PASSWORD_SOCKET = "/run/mastio-password.sock"  # noqa: S105 — a path
_SCHEMA = "/usr/local/share/mastio/directory.sql"
_SIEVE = "/etc/dovecot/sieve/spam"
_UNITS = "/etc/systemd/system"
_MAPS = ("domains", "accounts", "disabled", "own", "aliases", "duties", "catch-all", "senders")

_NOBODY = (
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=4$"
    "ExQCOeiZcHsvjt5ZazzAGA$hqXlABNsU/aC26br4OLcnQy44wjscpbznaIf/8DPQmM"
)
"""The hash of 32 octets that were thrown away: no password leads to it."""


def build(ctx: Context) -> HostState:
    """Everything that is the store on its machine."""
    return HostState(
        packages=(
            "dovecot-core", "dovecot-flatcurve", "dovecot-imapd", "dovecot-lmtpd",
            "dovecot-managesieved", "dovecot-sieve", "dovecot-sqlite",
            "postfix", "postfix-sqlite", "python3", "sqlite3", "stunnel4",
        ),
        debconf=("postfix postfix/main_mailer_type select No configuration",),
        files=(*_directory(ctx), *_dovecot(ctx), *_postfix(ctx), *_password(ctx)),
        directories=(
            Directory(str(Path(DIRECTORY).parent), OWNER, OWNER, 0o750),
            Directory(VMAIL, "vmail", "vmail", 0o750),
        ),
        users=(User("vmail", home=VMAIL), User(OWNER)),
        units=(
            Unit("mastio-directory.service", (_SCHEMA, f"{_UNITS}/mastio-directory.service")),
            Unit(
                "dovecot.service",
                ("/etc/dovecot/dovecot.conf", f"{_UNITS}/dovecot.service.d/", f"{PKI}/"),
            ),
            Unit(
                "postfix.service",
                # its chroot has a copy of /etc/hosts, made at the start
                ("/etc/postfix/", f"{_UNITS}/postfix.service.d/", f"{PKI}/", "/etc/hosts"),
            ),
            Unit("mastio-password.socket", (f"{_UNITS}/mastio-password.socket",)),
            Unit(
                "mastio-password-tls.service",
                ("/etc/stunnel/mastio-password", f"{_UNITS}/mastio-password-tls", f"{PKI}/"),
            ),
            Unit("stunnel4.service", masked=True),  # Debian's, which would run our file as root
        ),
        checks=(
            Check("dovecot", ("doveconf", "-n"), ("/etc/dovecot/", f"{PKI}/")),
            Check("postfix", ("postfix", "check"), ("/etc/postfix/",)),
        ),
        commands=(
            Command(
                "compile the spam filter",
                ("sievec", f"{_SIEVE}.sieve"),
                reads=(f"{_SIEVE}.sieve",),
                creates=f"{_SIEVE}.svbin",
            ),
        ),
    )  # fmt: skip


def _file(ctx: Context, path: str, template: str, **values: object) -> File:
    return File(path, ctx.render(__file__, template, **values))


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


def _directory(ctx: Context) -> tuple[File, ...]:
    return (
        File(_SCHEMA, _beside("directory.sql")),
        _file(
            ctx, f"{_UNITS}/mastio-directory.service", "directory.service.j2",
            directory=DIRECTORY, owner=OWNER, schema=_SCHEMA,
        ),
    )  # fmt: skip


def _dovecot(ctx: Context) -> tuple[File, ...]:
    # Dovecot has one listen line for all its protocols; the policy gives both the same machine.
    return (
        _file(
            ctx, "/etc/dovecot/dovecot.conf", "dovecot.conf.j2",
            directory=DIRECTORY, owner=OWNER, vmail=VMAIL, spam=f"{_SIEVE}.sieve", nobody=_NOBODY,
            listen=sorted({*ctx.listen(services.IMAPS), *ctx.listen(services.SIEVE)}, key=str),
        ),
        File(f"{_SIEVE}.sieve", _beside("spam.sieve")),
        _file(
            ctx, f"{_UNITS}/dovecot.service.d/mastio.conf", "dovecot.service.j2",
            vmail=VMAIL,
        ),
    )  # fmt: skip


def _sockets(ctx: Context, service: Service) -> tuple[str, ...]:
    return tuple(f"{bracketed(address)}:{service.port}" for address in ctx.listen(service))


def _postfix(ctx: Context) -> tuple[File, ...]:
    trusted = [
        fingerprint(ctx.secret(f"host/{caller.machine}/cert"))
        for caller in ctx.callers(services.DELIVERY)
    ]
    gateways = ",".join(
        f"[{peer.name}]:{services.RELAY.port}" for peer in ctx.peers(services.RELAY)
    )
    return (
        _file(
            ctx, "/etc/postfix/main.cf", "main.cf.j2",
            gateways=gateways, trusted=trusted,
        ),
        _file(
            ctx, "/etc/postfix/master.cf", "master.cf.j2",
            delivery=_sockets(ctx, services.DELIVERY),
            submissions=_sockets(ctx, services.SUBMISSIONS),
        ),
        _file(ctx, "/etc/postfix/header_checks", "header_checks.j2"),
        *(
            _file(
                ctx, f"/etc/postfix/directory/{name}.cf", "map.cf.j2",
                name=name, directory=DIRECTORY, duties=DUTIES,
            )
            for name in _MAPS
        ),
        _file(
            ctx, f"{_UNITS}/postfix.service.d/mastio.conf", "postfix.service.j2",
            directory=DIRECTORY, vmail=VMAIL,
        ),
    )  # fmt: skip


def _password(ctx: Context) -> tuple[File, ...]:
    program = "/usr/local/lib/mastio/poppassd"
    return (
        File(program, _beside("poppassd.py"), mode=0o755),
        _file(
            ctx, "/etc/stunnel/mastio-password.conf", "stunnel.conf.j2",
            accept=[f"{address}:{services.PASSWORD.port}" for address in ctx.listen(services.PASSWORD)],
            socket=_PASSWORD_SOCKET,
        ),
        _file(
            ctx, f"{_UNITS}/mastio-password.socket", "password.socket.j2",
            socket=_PASSWORD_SOCKET,
        ),
        _file(
            ctx, f"{_UNITS}/mastio-password@.service", "password.service.j2",
            program=program, owner=OWNER, directory=DIRECTORY,
        ),
        _file(ctx, f"{_UNITS}/mastio-password-tls.service", "password-tls.service.j2"),
    )  # fmt: skip
