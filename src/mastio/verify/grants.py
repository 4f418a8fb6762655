"""What the design grants a machine, should somebody have root there: the secrets that lie there and what they
can do about mail. Written by hand, a table per role; what machines *reach* is granted by `flows.POLICY`.

`breach` compares this with what is found. A row is an argument: the work that needs it stands beside it.
What is in no row of a machine's roles must not be there. Pure.
"""

from dataclasses import dataclass
from enum import StrEnum

from mastio.site.model import Clients, Role
from mastio.verify.model import Kind


class Whose(StrEnum):
    """Whose name the certificate of a private key must bear."""

    MACHINE = "the machine's name inside the site"
    MX = "the name of the MX"
    WEBMAIL = "the name of the webmail"
    PROGRAMS = "the name that mail programs look for"


class Power(StrEnum):
    """What can be done about mail."""

    STORED = "read stored mail"
    TRANSIT = "read mail on its way"
    LOGGING_IN = "read and send as users who log in meanwhile"
    PASSWORD = "read and send as a user whose password it has"  # noqa: S105 — a power
    GUESS = "guess passwords from their hashes"
    DELIVER = "put mail into any mailbox"
    SIGNED = "send as any user, signed"
    SEND = "send to the internet by itself"
    VERDICTS = "change what the filter thinks"
    PERIMETER = "let through what the perimeter holds back"
    KNOCK = "knock at ssh of other machines"
    SUPPLY = "withhold updates and time"
    LOGS = "read and change the kept logs"


@dataclass(frozen=True, slots=True)
class Lies:
    """Secrets of a kind may lie at `place` (a path with shell wildcards)."""

    kind: Kind
    place: str
    why: str
    whose: Whose | None = None


@dataclass(frozen=True, slots=True)
class May:
    """A power that comes with the work."""

    power: Power
    why: str
    clients: Clients | None = None
    """The policy that it belongs to; None: any."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one role grants its machine."""

    secrets: tuple[Lies, ...]
    powers: tuple[May, ...]


_K, _P = Kind, Power

EVERY_MACHINE = Grant(
    (
        Lies(_K.PRIVATE_KEY, "/etc/mastio/pki/host.key", "who it is inside the site", Whose.MACHINE),
        Lies(_K.PRIVATE_KEY, "/run/credentials/mastio-*.service/*key", "the same, for one service (systemd.exec(5))",
             Whose.MACHINE),
        Lies(_K.SSH_KEY, "/etc/ssh/ssh_host_*_key", "how administrators know it"),
        Lies(_K.LOGIN_KEY, "/etc/ssh/authorized_keys.d/root", "the administrators' keys, from the site file"),
        Lies(_K.LOGIN_KEY, "/etc/ssh/authorized_keys.d/inspection", "watch's key, for `mastio-look` alone"),
        Lies(_K.LOGIN_KEY, "/etc/ssh/authorized_keys.d/integrity", "watch's key, for `mastio-measure` alone"),
        Lies(_K.LOGIN_KEY, "/etc/ssh/authorized_keys.d/patching", "watch's key, for `mastio-patch` alone"),
        Lies(_K.LOGIN_KEY, "/etc/ssh/authorized_keys.d/certificates", "watch's key, for `mastio-certificate` alone"),
        Lies(_K.LOGIN_KEY, "/etc/ssh/authorized_keys.d/backup", "watch's key, for `mastio-backup` alone"),
        Lies(_K.LOGIN_KEY, "/etc/ssh/authorized_keys.d/restore", "watch's key, for `mastio-restore` alone"),
    ),
    (),
)  # fmt: skip

WITHOUT_PERIMETER = (
    Lies(
        _K.LOGIN_KEY,
        "/etc/ssh/authorized_keys.d/bans",
        "watch's key, for `mastio-ban` alone: it is its own perimeter",
    ),
    Lies(
        _K.WIREGUARD_KEY,
        "/etc/wireguard/mesh.conf",
        "who it is in the tunnels to the site's other machines",
    ),
)
"""What lies on a machine that stands on the internet by itself."""

GRANTS: dict[Role, Grant] = {
    Role.FIREWALL: Grant(
        (
            Lies(_K.LOGIN_KEY, "/etc/ssh/authorized_keys.d/bans", "watch's key, for `mastio-ban` alone"),
            Lies(_K.WIREGUARD_KEY, "/etc/wireguard/vpn.conf", "who it is to people's devices, where `clients` is vpn"),
        ),
        (
            May(_P.TRANSIT, "what others send without TLS passes it in clear; inside the site all is TLS"),
            May(_P.PERIMETER, "it is the perimeter; each machine's own firewall still stands"),
        ),
    ),
    Role.GATEWAY_IN: Grant(
        (
            Lies(_K.PRIVATE_KEY, "/etc/mastio/pki/public.key", "the MX's certificate", Whose.MX),
            Lies(_K.PRIVATE_KEY, "/run/dovecot/dovecot.conf.binary", "the same, as the proxy has read it",
                 Whose.MX),
            Lies(_K.PRIVATE_KEY, "/etc/ssl/private/ssl-cert-snakeoil.key", "ssl-cert made it; unused"),
            Lies(_K.QUEUED_MAIL, "/var/spool/postfix/*", "accepted and not yet handed on"),
        ),
        (
            May(_P.TRANSIT, "it scans all that comes in; what is delivered, it cannot fetch back"),
            May(_P.DELIVER, "it hands clean mail to the store"),
            May(_P.SIGNED, "bounces go out through the sending gateway"),
            May(_P.VERDICTS, "it is the filter"),
            May(_P.LOGGING_IN, "its proxy repeats the log-ins of mail programs", Clients.INTERNET),
            May(_P.PASSWORD, "the same; the store asks for each user's own", Clients.INTERNET),
        ),
    ),
    Role.GATEWAY_OUT: Grant(
        (
            Lies(_K.PRIVATE_KEY, "/etc/rspamd/dkim/*.key", "the keys that sign now (DKIM)"),
            Lies(_K.QUEUED_MAIL, "/var/spool/postfix/*", "on its way to the receivers"),
        ),
        (
            May(_P.TRANSIT, "it scans and signs all that goes out"),
            May(_P.DELIVER, "mail between users passes it and goes back to the store"),
            May(_P.SIGNED, "it signs"),
            May(_P.SEND, "it alone sends"),
            May(_P.VERDICTS, "it scans what users send"),
        ),
    ),
    Role.STORE: Grant(
        (
            Lies(_K.MAIL, "/var/vmail/*", "the mailboxes"),
            Lies(_K.MAIL, "/var/lib/mastio/quarantine/*", "what is held back"),
            Lies(_K.MAIL, "/var/spool/mastio-learn/*", "copies on their way to the filter"),
            Lies(_K.MAIL, "/var/lib/mastio/reports/*", "what other organisations report, as it was read"),
            Lies(_K.QUEUED_MAIL, "/var/spool/postfix/*", "on its way between mailboxes and gateway"),
            Lies(_K.QUEUED_MAIL, "/var/spool/postfix-store/*", "the same, on a machine that is the gateway too"),
            Lies(_K.PASSWORD_HASH, "/var/lib/mastio/directory/directory.sqlite*", "the accounts (Argon2id)"),
            Lies(_K.PASSWORD_HASH, "/etc/dovecot/dovecot.conf", "nobody's: unknown users take as long as known ones"),
            Lies(_K.PASSWORD_HASH, "/run/dovecot/dovecot.conf.binary", "the same, as Dovecot has read it"),
            Lies(_K.PRIVATE_KEY, "/run/dovecot/dovecot.conf.binary", "its certificate's, as Dovecot has read it",
                 Whose.MACHINE),
            Lies(_K.PRIVATE_KEY, "/etc/mastio/pki/public.key", "the certificate for people's mail programs",
                 Whose.PROGRAMS),
            Lies(_K.PRIVATE_KEY, "/run/dovecot/dovecot.conf.binary", "the same, as Dovecot has read it",
                 Whose.PROGRAMS),
            Lies(_K.PRIVATE_KEY, "/etc/ssl/private/ssl-cert-snakeoil.key", "the package ssl-cert made it; unused"),
        ),
        (
            May(_P.STORED, "mail is kept here"),
            May(_P.TRANSIT, "mail comes and goes through it"),
            May(_P.LOGGING_IN, "passwords come to it to be compared"),
            May(_P.GUESS, "accounts are kept here; each guess costs 64 MiB and three passes"),
            May(_P.DELIVER, "it fills the mailboxes"),
            May(_P.SIGNED, "it hands over what users submit; the gateway scans and limits it"),
            May(_P.VERDICTS, "users' verdicts, and whom not to delay; the filter judges by all else it knows as well"),
        ),
    ),
    Role.WEBMAIL: Grant(
        (
            Lies(_K.PRIVATE_KEY, "/etc/mastio/pki/public.key", "the webmail's certificate", Whose.WEBMAIL),
            Lies(_K.SESSION_KEY, "/etc/roundcube/config.inc.php", "locks the passwords of those who are logged in"),
            Lies(_K.SESSION_KEY, "/etc/roundcube/config.inc.php.ucf-dist", "Debian's own, unused"),
            Lies(_K.SESSION_KEY, "/var/lib/ucf/cache/:etc:roundcube:config.inc.php", "Debian's own, unused"),
            Lies(_K.SESSION, "/var/lib/mastio/webmail/roundcube.sqlite", "those who are logged in"),
            Lies(_K.MAIL, "/var/lib/mastio/webmail/temp/*", "attachments of messages being written"),
        ),
        (
            May(_P.LOGGING_IN, "they type their passwords here; whoever does not log in is out of its reach"),
            May(_P.PASSWORD, "the store asks for each user's own, and lets nobody write as another"),
        ),
    ),
    Role.WATCH: Grant(
        (
            Lies(_K.PRIVATE_KEY, "/etc/mastio/inspection.key", "opens `mastio-look` on the other machines"),
            Lies(_K.PRIVATE_KEY, "/etc/mastio/integrity.key", "opens `mastio-measure` on the other machines"),
            Lies(_K.PRIVATE_KEY, "/etc/mastio/patching.key", "opens `mastio-patch` on the other machines"),
            Lies(_K.PRIVATE_KEY, "/etc/mastio/certificates.key", "opens `mastio-certificate` on gateway and webmail"),
            Lies(_K.PRIVATE_KEY, "/var/lib/mastio/certificates/acme/accounts/*/account_key.pem",
                 "who the site is to the authority (ACME)"),
            Lies(_K.PRIVATE_KEY, "/etc/mastio/backup.key", "opens `mastio-backup` on the other machines"),
            Lies(_K.PRIVATE_KEY, "/etc/mastio/copy.key", "opens borg on the host of the second copy, if any"),
            Lies(_K.PRIVATE_KEY, "/etc/mastio/restore.key", "opens `mastio-restore` on the other machines"),
            Lies(_K.PRIVATE_KEY, "/etc/ssl/private/ssl-cert-snakeoil.key", "ssl-cert, which Dovecot's packages bring, "
                 "made it; unused"),
        ),
        (
            May(_P.LOGS, "logs are kept here, who wrote to whom among them; machines hold their own for a while"),
            May(_P.KNOCK, "administrators come through it; the keys that open stay with them, and its own "
                          "open `mastio-ban`, `mastio-look`, `mastio-measure`, `mastio-patch`, `mastio-backup` "
                          "and `mastio-restore` alone"),
            May(_P.DELIVER, "alarms go straight into the store, also when the gateway is away"),
            May(_P.SUPPLY, "packages and time come through it; packages are signed by Debian"),
        ),
    ),
}  # fmt: skip


def of_roles(roles: tuple[Role, ...], clients: Clients = Clients.WEBMAIL_ONLY) -> Grant:
    """What a machine with these roles is granted under a policy; a power of two roles has both reasons."""
    grants = (EVERY_MACHINE, *(GRANTS[role] for role in roles))
    reasons: dict[Power, list[str]] = {}
    for grant in grants:
        for row in (it for it in grant.powers if it.clients in (None, clients)):
            reasons.setdefault(row.power, []).append(row.why)
    return Grant(
        tuple(row for it in grants for row in it.secrets),
        tuple(May(power, "; ".join(whys)) for power, whys in reasons.items()),
    )
