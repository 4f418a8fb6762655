"""R4–R8: one message must stay one message, one dialogue one dialogue, and a sender who he is."""

from collections.abc import Iterator
from email.utils import formatdate, make_msgid

from mastio import services
from mastio.verify.doors import doors
from mastio.verify.model import Check, Family, Place, Severity
from mastio.verify.probes import smtp
from mastio.verify.vantage import Vantage

ENDINGS = {
    "LF.LF": r"\n.\n", "LF.CR": r"\n.\r", "CR.LF": r"\r.\n", "CR.CR": r"\r.\r", "LF.CRLF": r"\n.\r\n",
    "CR.CRLF": r"\r.\r\n", "CRLF.LF": r"\r\n.\n", "CRLF.CR": r"\r\n.\r", "CRLF NUL.CRLF": r"\r\n\0.\r\n",
    "CRLF.NUL CRLF": r"\r\n.\0\r\n", "CRLF.CR CRLF": r"\r\n.\r\r\n", "CR CRLF.CR CRLF": r"\r\r\n.\r\r\n",
}  # fmt: skip
"""What some servers took for the end of a message; only CRLF.CRLF is."""
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""Every spam filter refuses this text (https://spamassassin.apache.org/gtube): nothing is delivered."""


def letter(sender: str, recipient: str, subject: str, body: str) -> str:
    """A small message."""
    return (
        f"From: <{sender}>\nTo: <{recipient}>\nSubject: {subject}\nDate: {formatdate()}\n"
        f"Message-ID: {make_msgid(domain='probe.test')}\n\n{body}\n"
    )


def smuggling(vantage: Vantage) -> Iterator[str]:
    """None of the false endings ends a message."""
    recipient = f"postmaster@{vantage.site.domains[0]}"
    for door in doors(vantage.matrix, vantage.name, services.SMTP)[:1]:
        content = letter("", recipient, "mastio verify", GTUBE)
        found = vantage.ask(
            smtp.smuggled, str(door.address), door.port, "", recipient, content, ENDINGS
        )
        for name, replies in found.items():
            if len(replies) > 1:
                yield f"{door.words} takes {name} for the end of a message: {' | '.join(replies[:4])}"
            elif replies and replies[0].startswith("2"):
                yield f"{door.words} accepted a test message that it must refuse: {replies[0]}"
                return  # once is enough: each is in somebody's mailbox


def pipelining(vantage: Vantage) -> Iterator[str]:
    """Who sends commands before it may is cut off."""
    for door in doors(vantage.matrix, vantage.name, services.SMTP):
        said = vantage.ask(smtp.pipelined, str(door.address), door.port, "")
        if len(said) > 1 and said[1].startswith("2"):
            yield f"{door.words} went on: {' | '.join(said)}"


def injection(vantage: Vantage) -> Iterator[str]:
    """A command that came in the clear is not answered inside TLS."""
    for door in doors(vantage.matrix, vantage.name, services.SMTP)[:1]:
        if said := vantage.ask(smtp.injected, str(door.address), door.port):
            yield f"{door.words} answered a command from before TLS: {said}"


def forged(vantage: Vantage) -> Iterator[str]:
    """Mail in our own name, which we did not send, is refused whatever its envelope says."""
    domain = vantage.site.domains[0]
    own = f"postmaster@{domain}"
    for envelope in (own, "probe@example.com", ""):
        for door in doors(vantage.matrix, vantage.name, services.SMTP)[:1]:
            text = letter(own, own, "mastio verify: forged", "This message must have been refused.")
            reply = vantage.ask(smtp.send, str(door.address), door.port, envelope, own, text)
            if not reply.startswith("5"):
                # Who is only deferred comes back, and is let in.
                what = "accepted" if reply.startswith("2") else "only deferred"
                yield f"{door.words} {what} From: {own} in an envelope from <{envelope}>: {reply}"


CHECKS = (
    Check(
        "R4", Family.MAIL, "No SMTP smuggling", (Place.OUTSIDE,), Severity.CRITICAL,
        "a message that is refused anyway, with each of 12 false endings and a second envelope behind it",
        "one reply: the second envelope is text", "CVE-2023-51764; https://smtpsmuggling.com",
        "Set smtpd_forbid_bare_newline back to `reject` and smtpd_forbid_unauth_pipelining to `yes`.",
        smuggling, seconds=60,
    ),
    Check(
        "R6", Family.MAIL, "No talking out of turn", (Place.OUTSIDE,), Severity.MEDIUM,
        "EHLO, MAIL and RSET in one packet", "refused", "RFC 2920, 3.1; postconf(5), smtpd_forbid_unauth_pipelining",
        "Set smtpd_forbid_unauth_pipelining back to yes.", pipelining,
    ),
    Check(
        "R7", Family.MAIL, "No command slips into TLS", (Place.OUTSIDE,), Severity.HIGH,
        "STARTTLS and NOOP in one packet", "nothing is answered after the handshake", "CVE-2011-0411",
        "Update the mail server: this is a defect of the software, not of its settings.", injection,
    ),
    Check(
        "R8", Family.MAIL, "Nobody outside writes in our name", (Place.OUTSIDE,), Severity.HIGH,
        "messages from our own postmaster in three envelopes, from an address that is in no SPF record",
        "5xx", "RFC 7489, 6.6; espoofer (USENIX Security 2020)",
        "See that Rspamd runs, and that the domain publishes DMARC `p=reject` (or `quarantine`).",
        forged, seconds=90,
    ),
)  # fmt: skip
