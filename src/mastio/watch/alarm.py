"""Alarms: a word to the administrators by mail, and to a webhook when the site file names one.

An alarm is written down first and struck out when it has gone, so that none is lost while the store or
the network is away: `waiting` goes on with what an earlier run could not send.
"""

import json
import smtplib
import ssl
import urllib.request
from dataclasses import asdict, dataclass
from email.message import EmailMessage, Message
from email.utils import formatdate, make_msgid
from pathlib import Path

from mastio import services
from mastio.site.model import Site
from mastio.watch.settings import Settings

_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that an administrator must hear of."""

    site: str
    subject: str
    text: str
    verdict: str
    """As a machine reads it."""
    at: float
    """Seconds since the epoch."""


def raise_(folder: Path, alarm: Alarm) -> None:
    """Writes an alarm down."""
    place = folder / "alarms"
    place.mkdir(mode=0o700, exist_ok=True)
    for way in ("mail", "webhook"):
        making = place / f"{alarm.at:.6f}.{way}.new"
        making.write_text(json.dumps(asdict(alarm)))
        making.rename(making.with_suffix(""))


def send(folder: Path, site: Site, settings: Settings) -> list[str]:
    """Sends what is written down, the oldest first; what could not be sent, in words."""
    failed = []
    for path in sorted((folder / "alarms").glob("*")):
        if path.suffix not in (".mail", ".webhook"):
            continue
        alarm = Alarm(**json.loads(path.read_text()))
        try:
            if path.suffix == ".mail":
                _mail(alarm, site, settings)
            elif site.verify_webhook:
                _call(alarm, site.verify_webhook, settings)
        except (OSError, smtplib.SMTPException) as error:
            failed.append(f"the alarm {alarm.subject!r} waits ({path.suffix[1:]}): {error}")
        else:
            path.unlink()
    return failed


def message(alarm: Alarm, site: Site) -> EmailMessage:
    """The alarm as mail (RFC 5322); Auto-Submitted keeps holiday notices away (RFC 3834)."""
    mail = EmailMessage()
    mail["From"] = f"mastio <postmaster@{site.domains[0]}>"
    mail["To"] = site.admin_mail
    mail["Subject"] = alarm.subject
    mail["Date"] = formatdate(alarm.at)
    mail["Message-ID"] = make_msgid(domain=site.domains[0])
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(alarm.text)
    return mail


def _mail(alarm: Alarm, site: Site, settings: Settings) -> None:
    deliver(message(alarm, site), site, settings)


def deliver(mail: Message, site: Site, settings: Settings) -> None:
    """Mail to the administrators, straight into the store, as the gateway does.

    Over TLS in which both sides prove who they are.
    """
    context = ssl.create_default_context(cafile=f"{settings.pki}/ca.pem")
    context.load_cert_chain(f"{settings.pki}/host.pem", f"{settings.pki}/host.key")
    name = site.internal_name(settings.store)
    with smtplib.SMTP(
        name, services.DELIVERY.port, site.internal_name(settings.machine), _SECONDS
    ) as server:
        server.starttls(context=context)
        server.send_message(mail, f"postmaster@{site.domains[0]}", [site.admin_mail])


def _call(alarm: Alarm, url: str, settings: Settings) -> None:
    context = ssl.create_default_context()
    if Path(settings.authorities).stat().st_size:
        context.load_verify_locations(settings.authorities)
    request = urllib.request.Request(  # noqa: S310 — the site file takes https alone
        url, json.dumps(asdict(alarm)).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_SECONDS, context=context):  # noqa: S310
        pass
