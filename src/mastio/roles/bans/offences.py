"""What counts as an offence: a line of a log, the machines that may say it, and how much it weighs.

The one table from which come the filter of watch's rsyslog and the patterns of the program that counts.
Lines read `MACHINE TAG: MESSAGE`, as the template in bans/rsyslog.conf.j2 writes them. A pattern is matched
from the line's start to its end, and what a client can write (names, greetings) never decides where
the address stands: it is the last one before words that only the daemon says.
"""

from dataclasses import dataclass

from mastio.site.model import Clients, Role


@dataclass(frozen=True, slots=True)
class Offence:
    """A kind of line."""

    topic: str
    """What an administrator reads as the reason of a ban."""
    roles: tuple[Role, ...]
    word: str
    """Something that stands in every such line: rsyslog's cheap filter."""
    pattern: str
    """What follows the machine's name, as a Python regular expression with ADDRESS for the client."""
    weight: float = 1.0
    clients: tuple[Clients, ...] = tuple(Clients)
    """Under which policy there are such lines."""


_POSTSCREEN = r"postfix/postscreen\[\d+\]: "
_SMTPD = r"postfix/smtpd\[\d+\]: "
_GATEWAY = (Role.GATEWAY_IN,)
_PROGRAMS = (Clients.VPN, Clients.INTERNET)
OFFENCES = (
    Offence("talks before its turn", _GATEWAY, "PREGREET ",
        _POSTSCREEN + r"PREGREET \d+ after \S+ from \[ADDRESS\]:\d+: .*"),
    Offence("SMTP abuse", _GATEWAY, "COMMAND ",
        _POSTSCREEN + r"(?:NON-SMTP COMMAND|COMMAND PIPELINING|COMMAND (?:COUNT|LENGTH) LIMIT) "
        r"from \[ADDRESS\]:\d+ .*"),
    Offence("SMTP abuse", _GATEWAY, "BARE NEWLINE ",
        _POSTSCREEN + r"BARE NEWLINE from \[ADDRESS\]:\d+ .*"),
    Offence("SMTP abuse", _GATEWAY, "improper command pipelining ",
        _SMTPD + r"improper command pipelining after \S+ from [^\[\s]+\[ADDRESS\](?::\d+)?: .*"),
    Offence("SMTP abuse", _GATEWAY, "non-SMTP command from ",
        _SMTPD + r"(?:warning: )?non-SMTP command from [^\[\s]+\[ADDRESS\](?::\d+)?: .*"),
    Offence("too many errors", _GATEWAY, "too many errors after ",
        _SMTPD + r"too many errors after \S+(?: \(\d+ bytes\))? from [^\[\s]+\[ADDRESS\](?::\d+)?", 2),
    # Where nobody may log in, trying to is no mistake of a user's.
    Offence("SMTP log-in", _GATEWAY, "auth=0/",
        _SMTPD + r"disconnect from [^\[\s]+\[ADDRESS\](?::\d+)? .*\bauth=0/\d+ .*", 2),
    # Unknown recipients and relaying, not content: an honest list server knows people who have left.
    Offence("refused recipients", _GATEWAY, "reject: RCPT from ",
        _SMTPD + r"NOQUEUE: reject: RCPT from [^\[\s]+\[ADDRESS\](?::\d+)?: 55\d 5\.[17]\.\d .*", 0.2),
    Offence("webmail log-ins", (Role.WEBMAIL,), "Failed login for ",
        r"roundcube(?:\[\d+\])?: .*Failed login for .* from ADDRESS in session \S+ \(error: -?\d+\)"),
    # One line for each attempt, by IMAP and by SMTP; the webmail's users come from its address, which is exempt.
    Offence("log-ins of mail programs", (Role.STORE,), "sql: Password mismatch",
        r"dovecot(?:\[\d+\])?: auth-worker\(.*,ADDRESS\)<\d+>(?:<[^<>]*>)?: request \[\d+\]: sql: Password mismatch",
        clients=_PROGRAMS),
    Offence("ssh", (Role.WATCH,), " [preauth]",
        r"sshd(?:-session)?\[\d+\]: (?:Connection (?:closed|reset) by|Disconnected from) "
        r"(?:authenticating|invalid) user .* ADDRESS port \d+ \[preauth\]"),
)  # fmt: skip
"""Every kind that counts, most telling first."""
