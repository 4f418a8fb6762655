"""A: who gets in."""

import math
import re
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import takewhile

from mastio import services
from mastio.bans import SPARED, Bans
from mastio.instances import of_store
from mastio.roles.common import KEYS_ALONE
from mastio.site.model import Role
from mastio.verify import commands
from mastio.verify.checks.delivery import Postfix, settings
from mastio.verify.doors import Door, doors
from mastio.verify.model import Check, Family, Place, Severity
from mastio.verify.probes import host, login, postfix, scan, smtp
from mastio.verify.vantage import Vantage, not_run, unknown

_USERS = ("postmaster", "admin", "root", "test", "info", "user")
_PASSWORDS = ("password", "123456", "changeme", "admin")
_WRONG = ("wrong-on-purpose", "wrong-once-more", "wrong-again")
_MOST_DIFFERENCE = 0.75
"""Seconds by which an unknown user may be answered sooner or later than a wrong password."""
_WEIGHT = 2
"""How much a try to log in by SMTP counts (roles/bans/offences.py), where nobody may."""
_SECONDS = 20.0
"""From the last try to the ban, through two machines' logs."""
_WANTED = {
    **KEYS_ALONE,
    "hostbasedauthentication": "no",
    "gssapiauthentication": "no",
    "authenticationmethods": "publickey",
}


def common_passwords(vantage: Vantage) -> Iterator[str]:
    """No mailbox opens with what everybody tries first."""
    site = vantage.site
    domain = site.domains[0]
    own = (domain.partition(".")[0], site.name)
    # Everything for the mailbox that is known outside, the likeliest for those that might be there.
    pairs = [[site.admin_mail, it] for it in (*_PASSWORDS, *own, site.admin_mail.partition("@")[0])]
    pairs += [[f"{user}@{domain}", user] for user in _USERS]
    for door in doors(vantage.matrix, vantage.name, services.IMAPS)[:1]:
        with vantage.ground.passwords:
            answers = vantage.ask(login.imap, str(door.address), door.port, pairs)
        for (user, word), answer in zip(pairs, answers, strict=True):
            if answer["in"]:
                yield f"{door.words} let {user} in with the password {word!r}"


def same_answer(vantage: Vantage) -> Iterator[str]:
    """A wrong password and an unknown user get the same words in the same time."""
    for door in doors(vantage.matrix, vantage.name, services.IMAPS, services.SUBMISSIONS):
        if door.address.version == 4:  # the same program answers both families
            tries = (_told_apart(vantage, door, it) for it in _WRONG)
            seen = [*takewhile(lambda it: it[0], tries)]
            # A busy machine is slow to anybody, or has no answer for once: what is seen every time is seen.
            if len(seen) == len(_WRONG) and len({sign for sign, _ in seen}) == 1:
                yield f"{door.words} {seen[-1][1]}, every time"


def _told_apart(vantage: Vantage, door: Door, password: str) -> tuple[str, str]:
    """By what known users are told from others, and that in words; "" when they are alike."""
    site = vantage.site
    who = (site.admin_mail, f"nobody-{site.name}-probe@{site.domains[0]}")
    function = login.imap if door.service is services.IMAPS else login.smtp
    with vantage.ground.passwords:
        pairs = [[user, password] for _ in range(3) for user in who]
        answers = vantage.ask(function, str(door.address), door.port, pairs)
    known, unknown_user = answers[::2], answers[1::2]
    words = [sorted({str(it["words"]) for it in half}) for half in (known, unknown_user)]
    # An answer that both get tells nobody apart.
    if not {*words[0]} & {*words[1]}:
        told = f"{words[0][0]} for a wrong password, {words[1][0]} for an unknown user"
        return "words", f"tells them apart: {told}"
    mine, others = ([float(it["seconds"]) for it in half] for half in (known, unknown_user))
    for whom, slow, quick in (("a known user", mine, others), ("an unknown user", others, mine)):
        if min(slow) - min(quick) > _MOST_DIFFERENCE and min(slow) > max(quick):
            return whom, f"keeps {whom} waiting for longer"
    return "", ""


def bans(vantage: Vantage) -> Iterator[str]:
    """Who guesses is shut out at the firewall, and let in again when the ban is lifted."""
    keeper = Bans(vantage.site, vantage.ground.transport)
    times = math.ceil(vantage.site.bans.failures / _WEIGHT) + 1
    never = (*vantage.site.bans.never, *vantage.site.admin_networks)
    spared = []
    for door in doors(vantage.matrix, vantage.name, services.SMTP):
        me = vantage.ask(scan.towards, [str(door.address)])[0]
        where = str(door.address), door.port
        if any(ip_address(me) in network for network in never if me):
            spared.append(me)
            continue
        if not vantage.ask(smtp.opens, *where, True, 0):
            raise unknown(f"{door.words} does not answer to begin with")
        keeper.spare([me], 0)
        try:
            # Right after a ban offences are part of it, and do not count: then once more.
            for more in range(2):
                vantage.ask(smtp.guessing, *where, times + more)
                if not vantage.ask(smtp.opens, *where, False, _SECONDS + more):
                    break
            else:
                yield f"{door.words} still answers {me} after {times} tries to log in, twice"
        finally:
            keeper.spare([me], SPARED)  # a ban on its way would come too late
        if not vantage.ask(smtp.opens, *where, True, _SECONDS):
            yield f"{door.words} stays shut for {me} although the ban is lifted"
    if spared and len(spared) == len(doors(vantage.matrix, vantage.name, services.SMTP)):
        raise not_run(f"{' and '.join(spared)} is never banned (admins.networks, bans.never)")


def ssh_keys_only(vantage: Vantage) -> Iterator[str]:
    """sshd takes keys and nothing else."""
    said = dict(
        line.lower().partition(" ")[::2] for line in vantage.output(*commands.SSHD).splitlines()
    )
    for key, value in _WANTED.items():
        if key in said and said[key] != value:
            yield f"sshd on {vantage.name}: {key} is {said[key]}, not {value}"


def system_accounts(vantage: Vantage) -> Iterator[str]:
    """No account of the operating system opens with a password, and only root is root."""
    for words in vantage.ask(host.passwords):
        yield f"{vantage.name}: {words}"
    for name in vantage.ask(host.superusers):
        yield f"{vantage.name}: {name} has user id 0"


_OWN_SENDER = ("reject_authenticated_sender_login_mismatch", "reject_sender_login_mismatch")


def own_address(vantage: Vantage) -> Iterator[str]:
    """A user writes from addresses that the directory gives to that user, and from no other."""
    found = settings(vantage, of_store(vantage.site.machine(vantage.name)))
    ports = {
        place
        for place, name, value in found.services
        if (name, value) == ("smtpd_sasl_auth_enable", "yes") and _offers_a_log_in(found, place)
    }
    for port in sorted(ports):
        rules = re.split(r"[,\s]+", found.of(port, "smtpd_sender_restrictions"))
        refuses = [rules.index(it) for it in _OWN_SENDER if it in rules]
        lets = [at for at, it in enumerate(rules) if it.startswith("permit")]
        if not refuses:
            yield f"{vantage.name} {port}: smtpd_sender_restrictions lets users write from any address"
        elif lets and min(lets) < min(refuses):
            yield f"{vantage.name} {port}: {rules[min(lets)]} stands before {rules[min(refuses)]}"
        # A table that knows an owner for everybody's address is as good as none.
        admin, table = vantage.site.admin_mail, found.of(port, "smtpd_sender_login_maps")
        said = vantage.ask(postfix.answer, table, admin) if table else {"found": ""}
        if "error" in said:
            raise unknown(f"{vantage.name}: {table}: {said['error']}")
        owners = str(said["found"])
        if table and not owners:
            # The administrator's mailbox may be anywhere, and a new site has none.
            raise not_run(
                f"{admin} is no mailbox here, so nobody writes as it: `mastio user add` makes one, if it shall be"
            )
        if owners.lower() != admin.lower():
            yield f"{vantage.name} {port}: smtpd_sender_login_maps lets {owners or 'nobody'} write as {admin}"


def _offers_a_log_in(found: Postfix, place: str) -> bool:
    """Not where there is no TLS and a password needs it: at the door for what Sieve sends, which keeps the senders of
    what it passes on."""
    needs_tls = found.of(place, "smtpd_tls_auth_only") == "yes"
    return not (needs_tls and found.of(place, "smtpd_tls_security_level") == "none")


CHECKS = (
    Check(
        "A1", Family.LOGIN, "No default or common passwords", (Role.WEBMAIL,), Severity.CRITICAL,
        "the usual users × the passwords everybody tries first, by IMAP", "none is let in",
        "OWASP ASVS 2.1.7; MITRE ATT&CK T1110",
        "Give that user another password: `mastio user change ADDRESS --password`.",
        common_passwords, full=True, seconds=60,
    ),
    Check(
        "A2", Family.LOGIN, "Who guesses passwords is shut out", (Place.OUTSIDE,), Severity.HIGH,
        "trying to log in by SMTP until it should be enough, in each address family; then the ban is lifted",
        f"silence within {_SECONDS:g} s, and an answer again after the ban",
        "NIST SP 800-63B, 5.2.2; MITRE ATT&CK T1110",
        "See on watch whether the lines arrived and the ban was ordered (`journalctl -u mastio-offences`), and "
        "whether it is in force (`mastio ban list`).",
        bans, full=True, seconds=150, alone=True,
    ),
    Check(
        "A3", Family.LOGIN, "Unknown users and wrong passwords look alike", (Role.WEBMAIL,), Severity.MEDIUM,
        "three of each by IMAP and by submission", f"the same words; nobody waits {_MOST_DIFFERENCE:g} s longer, twice",
        "CWE-204, CWE-208", "Set auth_failure_delay back in dovecot.conf; `mastio plan store` shows changes.",
        same_answer, seconds=60,
    ),
    Check(
        "A4", Family.LOGIN, "ssh takes keys only", (Place.EVERY_MACHINE,), Severity.CRITICAL,
        "sshd -T: the configuration as sshd understands it", "publickey is the only method",
        "sshd_config(5); CIS Debian Linux Benchmark, 5.1",
        "Remove what stands beside mastio's file in /etc/ssh/sshd_config.d (`mastio plan` shows what of its own was "
        "changed).",
        ssh_keys_only,
    ),
    Check(
        "A5", Family.LOGIN, "Users write from their own addresses", (Role.STORE,), Severity.HIGH,
        "for each port where users log in: Postfix's rules on senders, and whom its table lets write as the "
        "administrator (no mail is sent; the gateway looks at From: too)",
        "a mismatch is refused before anything is permitted; the administrator alone", "RFC 6409, 6.1; postconf(5)",
        "Set submission_sender_restrictions and smtpd_sender_login_maps back; `mastio plan` shows changes.",
        own_address,
    ),
    Check(
        "A6", Family.LOGIN, "No passwords on the machines", (Place.EVERY_MACHINE,), Severity.HIGH,
        "/etc/shadow and /etc/passwd", "no account has a password or lacks one; only root has user id 0",
        "shadow(5); CIS Debian Linux Benchmark, 7.2", "Lock it: `passwd --lock NAME`, or remove it: `deluser NAME`.",
        system_accounts,
    ),
)  # fmt: skip
