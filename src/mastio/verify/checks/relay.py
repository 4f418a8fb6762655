"""R1–R3, R9: who may send to whom."""

from collections.abc import Iterator

from mastio import services
from mastio.site.model import DUTIES, Role
from mastio.verify.doors import Door, doors
from mastio.verify.model import Check, Family, Place, Severity
from mastio.verify.probes import smtp
from mastio.verify.vantage import Vantage

STRANGER = "probe.example.com"
"""A domain that is nobody's (RFC 2606); the site must not send there for a stranger."""
_HIGHEST_TABLE_WORDS = ("table", "alias", "mailbox", "virtual", "relay", "map")


def _literal(door: Door) -> str:
    return f"[IPv6:{door.address}]" if door.address.version == 6 else f"[{door.address}]"


def targets(domain: str, host: str, literal: str) -> tuple[str, ...]:
    """The recipients by which open relays were ever found, pointing at a stranger."""
    far = STRANGER
    plain = (
        f"t@{far}", f'"t@{far}"', f'"t%{far}"', f"t%{far}@{host}", f"t%{far}@{literal}", f"t@{far}@{host}",
        f"t@{far}@{literal}", f'"t@{far}"@{literal}', f"@{host}:t@{far}", f"@{literal}:t@{far}", f"{far}!t",
        f"{far}!t@{host}", f"{far}!t@{literal}", f"t%{far}@{domain}", f't@{far}@{domain}', f'"t@{far}"@{domain}',
        f"@{domain}:t@{far}", f"{far}!t@{domain}",
    )  # fmt: skip
    return (*(f"<{it}>" for it in plain), f"t@{far}")


def senders(domain: str, host: str, literal: str) -> tuple[str, ...]:
    """Who an abuser claims to be."""
    return (
        "<>", "<a@example.com>", f"<a@{host}>", f"<a@{literal}>", f"<postmaster@{domain}>", "<a@localhost>",
        "<a>", f"<postmaster@{host}>",
    )  # fmt: skip


def open_relay(vantage: Vantage) -> Iterator[str]:
    """No door passes a stranger's mail on."""
    for door in doors(vantage.matrix, vantage.name, *_MAIL_DOORS):
        host, literal, domain = vantage.site.mx_host, _literal(door), vantage.site.domains[0]
        everyone, everywhere = senders(domain, host, literal), targets(domain, host, literal)
        # The fast set tries each sender and each recipient once with the likeliest partner.
        pairs = (
            [(everyone, everywhere)]
            if vantage.ground.full
            else [(everyone, everywhere[:1]), (everyone[1:2], everywhere[1:])]
        )
        tls = (
            "at once"
            if door.service is services.SUBMISSIONS
            else ""
            if vantage.is_outside
            else "starttls"
        )
        for who, whom in pairs:
            try:
                tried = vantage.ask(
                    smtp.relayed, str(door.address), door.port, list(who), list(whom), tls
                )
            except OSError:
                continue
            for sender, recipient, reply in tried:
                if not reply.startswith("5") and not (reply == "closed" and not vantage.is_outside):
                    if reply.startswith("4") and not vantage.is_outside:
                        continue  # inner doors defer whom they do not know: a queue waits for certificates
                    yield f"{door.words}: MAIL FROM:{sender} RCPT TO:{recipient} → {reply}"


_MAIL_DOORS = (services.SMTP, services.RELAY, services.DELIVERY, services.SUBMISSIONS)


def verify_commands(vantage: Vantage) -> Iterator[str]:
    """VRFY and EXPN tell nothing."""
    for door in doors(vantage.matrix, vantage.name, services.SMTP):
        lines = ["EHLO probe.test", "VRFY postmaster", "EXPN postmaster", "QUIT"]
        said = vantage.ask(smtp.dialogue, str(door.address), door.port, lines)
        if any(word in said[1].upper() for word in ("VRFY", "EXPN")):
            yield f"{door.words} advertises it: {said[1]}"
        for line, reply in zip(lines[1:3], said[2:4], strict=False):
            if not reply.startswith("50"):
                yield f"{door.words}: {line} → {reply}"


def unknown_recipient(vantage: Vantage) -> Iterator[str]:
    """An unknown recipient is refused at once, without telling in which table it was sought."""
    for door in doors(vantage.matrix, vantage.name, services.SMTP):
        address = f"nobody-{vantage.site.name}-probe@{vantage.site.domains[0]}"
        lines = ["EHLO probe.test", "MAIL FROM:<>", f"RCPT TO:<{address}>", "QUIT"]
        reply = vantage.ask(smtp.dialogue, str(door.address), door.port, lines)[3]
        if not reply.startswith("550"):
            yield f"{door.words}: an unknown recipient gets {reply}"
        elif words := [it for it in _HIGHEST_TABLE_WORDS if f" {it}" in reply.lower()]:
            yield f"{door.words} tells where it looked ({', '.join(words)}): {reply}"


def duties(vantage: Vantage) -> Iterator[str]:
    """postmaster, abuse and hostmaster of every domain take mail."""
    owed = [f"{name}@{domain}" for domain in vantage.site.domains for name in DUTIES[:3]]
    lines = ["EHLO probe.test", "MAIL FROM:<>", *(f"RCPT TO:<{it}>" for it in owed), "RSET", "QUIT"]
    for door in doors(vantage.matrix, vantage.name, services.SMTP):
        said = vantage.ask(smtp.dialogue, str(door.address), door.port, lines)
        for address, reply in zip(owed, said[3:], strict=False):
            if not reply.startswith("250"):
                yield f"{door.words}: {address} → {reply}"


CHECKS = (
    Check(
        "R1", Family.MAIL, "No open relay",
        (Place.OUTSIDE, Role.STORE, Role.WEBMAIL, Role.GATEWAY_IN, Role.GATEWAY_OUT), Severity.CRITICAL,
        "every sender an abuser claims × every way to write a stranger's address, a new connection each, at "
        "every mail door of the vantage, without certificate or login",
        "5xx from the internet; inside, 5xx, 4xx or no connection",
        "RFC 5321, 7.8; CVE-1999-0512; the forms of nmap's smtp-open-relay",
        "Set smtpd_relay_restrictions back to `reject_unauth_destination` and mynetworks to nothing "
        "(`mastio plan gateway` shows the change, `mastio apply` mends it). Then look for strangers' mail "
        "in the queue (`mailq`).",
        open_relay, seconds=90,
    ),
    Check(
        "R2", Family.MAIL, "VRFY and EXPN are off", (Place.OUTSIDE,), Severity.MEDIUM,
        "EHLO, VRFY postmaster, EXPN postmaster", "not advertised, 502 or 500", "RFC 5321, 7.3",
        "Set disable_vrfy_command back to yes.", verify_commands,
    ),
    Check(
        "R3", Family.MAIL, "Unknown recipients are refused at once and learn nothing", (Place.OUTSIDE,),
        Severity.HIGH, "RCPT to an address that is not there", "550 without a table's name",
        "RFC 5321, 3.3; backscatter (RFC 3834, 2)",
        "Set show_user_unknown_table_name back to no; if unknown recipients are accepted, run `mastio sync` "
        "and look at relay_recipient_maps.",
        unknown_recipient,
    ),
    Check(
        "R9", Family.MAIL, "postmaster, abuse and hostmaster take mail", (Place.OUTSIDE,), Severity.MEDIUM,
        "RCPT to each, in every domain", "250", "RFC 2142; RFC 5321, 4.5.1",
        "Run `mastio sync`, which gives the gateways their recipients; see that `admin` in the site file "
        "is a mailbox.",
        duties,
    ),
)  # fmt: skip
