"""What mastio's gateway is compared with: three machines in a lab of their own, on the same box.

`client` sends; `mx` has Postfix, with SpamAssassin and MIMEDefang as its milter when asked; `box` has
Dovecot, which takes mail by LMTP over TCP. No firewall, no TLS, no postscreen, no greylisting, no virus
scanner, no address verification, no limits, no full-text index: all that lacks makes them faster.
SpamAssassin runs inside MIMEDefang's warm Perl workers, without Bayes and without look-ups.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_interface

from bench.common import Quiet, must

from mastio.lab.model import LabMachine, Link
from mastio.lab.provider import Lab
from mastio.lab.transport import NspawnTransport
from mastio.transport import Transport

LAB = "benchpeers"
CLIENT, MX, BOX = "client", "mx", "box"
ADDRESSES = {CLIENT: "10.78.0.10", MX: "10.78.0.20", BOX: "10.78.0.30"}
DOMAIN = "bench.test"
RECIPIENT = f"alice@{DOMAIN}"
FOLDER = "/var/vmail/alice"
MILTER = "inet:127.0.0.1:10997"
_LMTP = 24
_PACKAGES = {
    CLIENT: (),
    MX: ("mimedefang", "postfix", "spamassassin"),
    BOX: ("dovecot-core", "dovecot-lmtpd"),
}
_DEBCONF = ("postfix postfix/main_mailer_type select No configuration",)
_MAIN_CF = f"""\
compatibility_level = 3.10
myhostname = mx.{DOMAIN}
mydestination =
mynetworks = {ADDRESSES[CLIENT]}
inet_protocols = ipv4
relay_domains = {DOMAIN}
relay_transport = lmtp:[{ADDRESSES[BOX]}]:{_LMTP}
lmtp_destination_concurrency_limit = 8
alias_maps =
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtpd_client_event_limit_exceptions = $mynetworks
milter_default_action = tempfail
# Dialogues wait for a free worker of MIMEDefang.
milter_content_timeout = 600s
"""
_DOVECOT = f"""\
dovecot_config_version = 2.4.1
dovecot_storage_version = 2.4.1
protocols = lmtp
listen = {ADDRESSES[BOX]}
ssl = no
log_path = syslog
mail_driver = maildir
mail_home = /var/vmail/%{{user | username}}
mail_path = ~/Maildir
mail_uid = mail
mail_gid = mail
first_valid_uid = 1
first_valid_gid = 1
passdb static {{
  password = {{PLAIN}}unused
}}
userdb static {{
  fields {{
    uid = mail
    gid = mail
    home = /var/vmail/%{{user | username}}
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {_LMTP}
  }}
}}
"""
# Its network tests have no network here, and without Bayes it is faster.
_SPAMASSASSIN = """\
use_bayes 0
skip_rbl_checks 1
dns_available no
"""
_MIMEDEFANG = """\
SOCKET=inet:10997@127.0.0.1
MX_USER=defang
MX_EMBED_PERL=yes
MX_MINIMUM={workers}
MX_MAXIMUM={workers}
MX_WORKER_DELAY=0
MX_BUSY=600
MX_QUEUE_SIZE=100
MX_QUEUE_TIMEOUT=300
ALLOW_NEW_CONNECTIONS_TO_QUEUE=yes
MD_ALLOW_GROUP_ACCESS=no
LOOPBACK_RESERVED_CONNECTIONS=0
"""


@dataclass(frozen=True)
class Peers:
    """The machines, ready."""

    transport: Transport

    def milter(self, *, on: bool) -> None:
        """MIMEDefang with SpamAssassin scans what `mx` accepts, or nothing does."""
        must(self.transport, MX, "postconf", "-e", f"smtpd_milters={MILTER if on else ''}")
        must(self.transport, MX, "systemctl", "restart" if on else "stop", "mimedefang")
        must(self.transport, MX, "postfix", "reload")

    def empty(self) -> None:
        """All delivered mail goes."""
        must(self.transport, BOX, "rm", "-rf", FOLDER)


@contextmanager
def peers(workers: int) -> Iterator[Peers]:
    """Makes the machines, and takes them away; `workers` scanners are kept warm by MIMEDefang."""
    lab = Lab(LAB)
    machines = [
        LabMachine(
            name, name, packages, _DEBCONF if name == MX else (),
            (Link("peers", (ip_interface(f"{ADDRESSES[name]}/24"),)),),
        )
        for name, packages in _PACKAGES.items()
    ]  # fmt: skip
    try:
        lab.up(machines, Quiet())
        transport = NspawnTransport(lab.site)
        files = {
            (MX, "/etc/postfix/main.cf"): _MAIN_CF,
            (MX, "/etc/default/mimedefang"): _MIMEDEFANG.format(workers=workers),
            (BOX, "/etc/dovecot/dovecot.conf"): _DOVECOT,
        }
        for (machine, path), text in files.items():
            must(transport, machine, "tee", path, stdin=text.encode())
        for path in ("/etc/spamassassin/local.cf", "/etc/mail/sa-mimedefang.cf"):
            must(transport, MX, "tee", "-a", path, stdin=_SPAMASSASSIN.encode())
        must(transport, BOX, "install", "-d", "-o", "mail", "-g", "mail", "/var/vmail")
        must(transport, BOX, "systemctl", "restart", "dovecot")
        must(transport, MX, "systemctl", "restart", "postfix")
        yield Peers(transport)
    finally:
        lab.down(purge=True)
