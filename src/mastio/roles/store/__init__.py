"""The store: keeps the mail. Dovecot (IMAP, Sieve, LMTP), Postfix (delivery, submission), the directory.

    gateway ──delivery──▶ Postfix ──LMTP──▶ Dovecot ──▶ /var/vmail/DOMAIN/USER
    webmail ──imaps, sieve──▶ Dovecot
    webmail ──submissions──▶ Postfix ──relay──▶ gateway ──▶ the internet, or back by delivery
    Dovecot ──Sieve's redirects and answers, in the user's name──▶ Postfix
    mastio-outbound ◀──policy── Postfix: how much one user may send
    webmail ──password──▶ stunnel ──▶ poppassd ──▶ directory

| module | what |
|---|---|
| `learning` | what users move into Junk and out of it, and whom they write to, goes to the gateways' filters |
| `holding` | what the gateway wants held back: the quarantine, apart from all mailboxes |

*Accounts* are rows of the SQLite directory, not configuration: Dovecot and Postfix ask it for each
login and each recipient, and only `mastio-directory`, the user that owns the file, writes it.
*Everything a user sends* (submission, Sieve redirects and answers) leaves through the gateway's filters,
even to a neighbour; the gateway hands it back by delivery, which alone expands aliases and forwards.
*Reports* about the site's mail (DMARC, TLS) go to a program that reads them (`mastio.reports`).
The machine asks no DNS and calls nobody but the gateway.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

from mastio import heldmail, services
from mastio.context import PKI, Context, bracketed
from mastio.instances import ONLY, Instance, of_store
from mastio.pki import fingerprint
from mastio.reports import read as report_reader
from mastio.roles.store import holding, learning, sieve_send
from mastio.services import Service
from mastio.site.model import DUTIES, REPORTS, Address, Clients, Role
from mastio.state import Check, Command, Directory, File, HostState, Kept, Unit, User

DIRECTORY = "/var/lib/mastio/directory/directory.sqlite"
"""The accounts: SQLite, owned by `OWNER`, readable by its group, journal_mode=DELETE."""
OUTBOUND = "/usr/local/lib/mastio/mastio-outbound"
"""The program that counts what users send, and lists, releases and drops what is held."""
_BOOK = f"{heldmail.PLACE}/mastio/roles/store/book.py"
COUNTER = "mastio-outbound"
"""The user as whom what users have sent is counted."""
_LIMITS = "/etc/mastio/outbound.json"
_COUNTS = "/var/lib/mastio/outbound"
OWNER = "mastio-directory"
"""The user and group that own the directory; the user is the only one beside root who may write it."""
VMAIL = "/var/vmail"
"""All mailboxes; they belong to the user vmail."""
REPORTER = "mastio-reports"
"""The user who reads other organisations' reports, and keeps what they say in `REPORT_FOLDER`."""
REPORT_FOLDER = "/var/lib/mastio/reports"
_REPORT_PROGRAM = "/usr/local/lib/mastio/take-report"
_LARGEST_REPORT = 12 * 1024 * 1024
_PASSWORD_SOCKET = "/run/mastio-password.sock"  # noqa: S105 — a path
_SCHEMA = "/usr/local/share/mastio/directory.sql"
_QUOTA_WARNING = "/usr/local/lib/mastio/mastio-quota-warning"
_SIEVE_SEND = "/usr/local/lib/mastio/mastio-sieve-send"
_PASSED_ON = str(Path(sieve_send.MEMORY).parent)
_SENDMAIL = "/usr/local/lib/mastio/sendmail-of-store"
_SIEVE = "/etc/dovecot/sieve/spam"
_UNITS = "/etc/systemd/system"
_MAPS = ("domains", "accounts", "disabled", "own", "aliases", "duties", "catch-all", "senders")

KEPT = Kept(
    (VMAIL, holding.FOLDER, REPORT_FOLDER), (DIRECTORY, f"{_COUNTS}/outbound.sqlite"),
    # What is on its way: for people, when the machine is gone.
    (("queue.json", ("postqueue", "-j")),),
)  # fmt: skip
"""Mail and accounts; what is held back, what others report, what users have sent."""

_NOBODY = (
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=4$"
    "ExQCOeiZcHsvjt5ZazzAGA$hqXlABNsU/aC26br4OLcnQy44wjscpbznaIf/8DPQmM"
)
"""The hash of 32 octets that were thrown away: no password leads to it."""


def build(ctx: Context) -> HostState:
    """Everything that is the store on its machine."""
    postfix = of_store(ctx.machine)
    lessons = learning.build(ctx, VMAIL, COUNTER)
    held = holding.build(ctx, DIRECTORY, OWNER)
    return HostState(
        packages=(
            "dovecot-core", "dovecot-flatcurve", "dovecot-imapd", "dovecot-lmtpd",
            "dovecot-managesieved", "dovecot-sieve", "dovecot-sqlite",
            "postfix", "postfix-sqlite", "python3", "sqlite3", "stunnel4",
        ),
        debconf=("postfix postfix/main_mailer_type select No configuration",),
        files=(
            *_directory(ctx), *_dovecot(ctx), *_postfix(ctx), *_outbound(ctx), *_password(ctx),
            _reports(), *lessons.files, *held.files,
        ),
        directories=(
            Directory(str(Path(DIRECTORY).parent), OWNER, OWNER, 0o750),
            Directory(VMAIL, "vmail", "vmail", 0o750),
            Directory(_COUNTS, COUNTER, COUNTER, 0o750),
            Directory(_PASSED_ON, "vmail", "vmail", 0o700),
            Directory(REPORT_FOLDER, REPORTER, REPORTER, 0o750),
            *_beside_the_gateway(postfix), *lessons.directories, *held.directories,
        ),
        users=(User("vmail", home=VMAIL), User(OWNER), User(COUNTER), User(REPORTER), *held.users),
        units=(
            Unit("mastio-directory.service", (_SCHEMA, f"{_UNITS}/mastio-directory.service")),
            Unit(
                "mastio-sieve.socket",
                (f"{_UNITS}/mastio-sieve.socket", f"{_UNITS}/mastio-sieve.service"),
            ),
            Unit(
                "dovecot.service",
                ("/etc/dovecot/dovecot.conf", f"{_UNITS}/dovecot.service.d/", f"{PKI}/"),
            ),
            Unit(
                postfix.unit,
                # its chroot has a copy of /etc/hosts, made at the start
                (f"{postfix.config}/", f"{_UNITS}/{postfix.unit}.d/", f"{PKI}/", "/etc/hosts",
                 OUTBOUND, _LIMITS),
            ),
            Unit("mastio-index.timer", (f"{_UNITS}/mastio-index.timer",)),
            Unit("mastio-outbound-notify.path", (f"{_UNITS}/mastio-outbound-notify.path",)),
            Unit("mastio-password.socket", (f"{_UNITS}/mastio-password.socket",)),
            Unit(
                "mastio-password-tls.service",
                ("/etc/stunnel/mastio-password.conf", f"{PKI}/"),
            ),
            Unit("stunnel4.service", masked=True),  # Debian's, which would run our file as root
            *lessons.units, *held.units,
        ),
        checks=(
            Check("dovecot", ("doveconf", "-n"), ("/etc/dovecot/", f"{PKI}/")),
            _check(postfix),
        ),
        commands=(
            Command(
                "compile the spam filter",
                ("sievec", f"{_SIEVE}.sieve"),
                reads=(f"{_SIEVE}.sieve",),
                creates=f"{_SIEVE}.svbin",
            ),
            *lessons.commands,
        ),
    )  # fmt: skip


def _file(ctx: Context, path: str, template: str, **values: object) -> File:
    postfix = of_store(ctx.machine)
    values = {
        "postfix": postfix,
        "postfix_is_only": postfix == ONLY,
        # Empty for the default instance, which needs no words.
        "sendmail": _SENDMAIL if postfix != ONLY else "/usr/sbin/sendmail",
        "postqueue_options": f" -c {postfix.config}" if postfix != ONLY else "",
        **values,
    }
    return File(path, ctx.render(__file__, template, **values))


def _sendmail(ctx: Context) -> tuple[File, ...]:
    if of_store(ctx.machine) == ONLY:
        return ()
    return (replace(_file(ctx, _SENDMAIL, "sendmail.j2"), mode=0o755),)


def _check(postfix: Instance) -> Check:
    reads = (f"{postfix.config}/",)
    if postfix == ONLY:
        return Check("postfix", ("postfix", "check"), reads)
    return Check("postfix of the store", ("postfix", "-c", postfix.config, "check"), reads)


def _beside_the_gateway(postfix: Instance) -> tuple[Directory, ...]:
    """What Debian makes for its default instance alone; Postfix fills it itself (postfix(1), check)."""
    if postfix == ONLY:
        return ()
    return (Directory(postfix.queue), Directory(postfix.data, "postfix", "postfix", 0o700))


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
            directory=DIRECTORY, owner=OWNER, vmail=VMAIL, spam=f"{_SIEVE}.sieve", programs=learning.PROGRAMS,
            quarantine_lmtp=holding.LMTP, quarantine_user=holding.USER, nobody=_NOBODY, warning=_QUOTA_WARNING,
            sieve_send=_SIEVE_SEND,
            listen=sorted({*ctx.listen(services.IMAPS), *ctx.listen(services.SIEVE)}, key=str),
            programs_come=bool(ctx.peoples(services.IMAPS)),
            proxies=_proxies(ctx, services.IMAPS),
        ),
        replace(_file(ctx, _QUOTA_WARNING, "quota_warning.j2"), mode=0o755),
        *_sendmail(ctx),
        File(_SIEVE_SEND, _beside("sieve_send.py"), mode=0o755),
        *(
            _file(ctx, f"{_UNITS}/mastio-sieve.{kind}", f"sieve.{kind}.j2", door=sieve_send.DOOR)
            for kind in ("socket", "service")
        ),
        File(f"{_SIEVE}.sieve", _beside("spam.sieve")),
        _file(
            ctx, f"{_UNITS}/dovecot.service.d/mastio.conf", "dovecot.service.j2",
            vmail=VMAIL, spool=learning.SPOOL, passed_on=_PASSED_ON,
        ),
        *(
            _file(ctx, f"{_UNITS}/mastio-index.{kind}", f"index.{kind}.j2", vmail=VMAIL)
            for kind in ("service", "timer")
        ),
    )  # fmt: skip


def _proxies(ctx: Context, service: Service) -> tuple[Address, ...]:
    """Whose word on who is behind them is believed."""
    if ctx.site.clients is not Clients.INTERNET:
        return ()
    return tuple(
        address
        for it in ctx.callers(service)
        if ctx.site.machine(it.machine).has(Role.GATEWAY_IN)
        for address in it.addresses
    )


def _sockets(ctx: Context, service: Service) -> tuple[str, ...]:
    return tuple(f"{bracketed(address)}:{service.port}" for address in ctx.listen(service))


def _postfix(ctx: Context) -> tuple[File, ...]:
    config = of_store(ctx.machine).config
    trusted = [
        fingerprint(ctx.secret(f"host/{caller.machine}/cert"))
        for caller in ctx.callers(services.DELIVERY)
    ]
    gateways = ",".join(
        f"[{peer.name}]:{services.RELAY.port}" for peer in ctx.peers(services.RELAY)
    )
    return (
        _file(
            ctx, f"{config}/main.cf", "main.cf.j2",
            gateways=gateways, trusted=trusted, quarantine_user=holding.USER, report_names=REPORTS,
            reports=f"reports.{ctx.site.name}.internal", returned=f"returned.{ctx.site.name}.internal",
            answer=sieve_send.ANSWER,
        ),
        _file(
            ctx, f"{config}/master.cf", "master.cf.j2",
            delivery=_sockets(ctx, services.DELIVERY),
            submissions=_sockets(ctx, services.SUBMISSIONS),
            proxies=[bracketed(it) for it in _proxies(ctx, services.SUBMISSIONS)],
            peoples=[f"{bracketed(it)}:{port}" for it, port in ctx.peoples(services.SUBMISSIONS)],
            quarantine_user=holding.USER, quarantine_program=holding.PROGRAM,
            counter=COUNTER, outbound=OUTBOUND,
            reporter=REPORTER, report_program=_REPORT_PROGRAM, report_folder=REPORT_FOLDER,
            report_size=_LARGEST_REPORT,
        ),
        _file(ctx, f"{config}/header_checks", "header_checks.j2"),
        *(
            _file(
                ctx, f"{config}/directory/{name}.cf", "map.cf.j2",
                name=name, directory=DIRECTORY, duties=DUTIES,
            )
            for name in _MAPS
        ),
        _file(
            ctx, f"{_UNITS}/{of_store(ctx.machine).unit}.d/mastio.conf", "postfix.service.j2",
            directory=DIRECTORY, vmail=VMAIL, writable=(holding.FOLDER, _COUNTS, REPORT_FOLDER),
        ),
    )  # fmt: skip


def _outbound(ctx: Context) -> tuple[File, ...]:
    limits = {
        **asdict(ctx.site.outbound),
        "admin": ctx.site.admin_mail,
        "sender": f"postmaster@{ctx.site.domains[0]}",
        "queue": of_store(ctx.machine).queue,
    }
    unit = f"{_UNITS}/mastio-outbound-notify"
    return (
        File(OUTBOUND, _beside("outbound.py"), mode=0o755),
        File(_BOOK, _beside("book.py")),
        File(_LIMITS, json.dumps(limits, indent=1) + "\n"),
        _file(ctx, f"{unit}.path", "notify.path.j2", counts=_COUNTS),
        _file(ctx, f"{unit}.service", "notify.service.j2", program=OUTBOUND, counts=_COUNTS),
    )


def _reports() -> File:
    """The program to which Postfix hands reports: a module of ours that needs nothing else."""
    return File(_REPORT_PROGRAM, Path(report_reader.__file__).read_text(), mode=0o755)


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
