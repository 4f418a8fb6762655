"""An alarm, and its ways to people: mail straight into the store; mail to other organisations by the sending
gateway; and a webhook. The last two when the site file names them. And the heartbeat, which is none: its silence is.

Who is told, and when, is decided in `book.py`; `bell.py` keeps the book and what waits to be sent.
"""

import json
import smtplib
import ssl
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from email.message import EmailMessage, Message
from email.utils import formatdate, make_msgid
from http.client import HTTPException
from pathlib import Path
from typing import Any

from mastio import guide, services
from mastio.foreign import printable
from mastio.site.model import Site
from mastio.verify.model import Severity
from mastio.watch.settings import Settings

_SECONDS = 30
_LONGEST_SUBJECT, _LONGEST_TEXT = 500, 200_000
"""In characters: what is longer no mailbox need take, and no alarm may wait for ever."""
WELL = "passed"
"""The verdict that ends an alarm."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that an administrator must hear of.

    Its words may be an intruder's. Whatever they are, it can be written as mail: the subject is one line, and both are
    printable and no longer than a mailbox takes.
    """

    site: str
    about: str
    """What it is about, the same each time: `verify fast`, `integrity store`."""
    severity: Severity
    subject: str
    text: str
    verdict: str
    """As a machine reads it; `passed` says that all is well again."""
    at: float
    """Seconds since the epoch."""
    detail: str = ""
    """What the subject does not name, of several things that may be wrong: with another one it is told anew."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "about", printable(self.about))
        object.__setattr__(self, "subject", _cut(printable(self.subject), _LONGEST_SUBJECT))
        object.__setattr__(self, "text", _cut(printable(self.text, keep="\n"), _LONGEST_TEXT))

    @property
    def well(self) -> bool:
        """Whether it says that nothing is wrong any more."""
        return self.verdict == WELL

    @property
    def words(self) -> tuple[str, str, str]:
        """What makes it the same alarm."""
        return self.subject, self.verdict, self.detail

    @staticmethod
    def of(plain: Mapping[str, Any]) -> "Alarm":
        """The alarm that `dataclasses.asdict` made plain. Raises TypeError, KeyError and ValueError."""
        return Alarm(**{**plain, "severity": Severity(plain["severity"])})


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most - 1]}…"


def message(alarm: Alarm, site: Site, to: Sequence[str]) -> EmailMessage:
    """The alarm as mail (RFC 5322); Auto-Submitted keeps holiday notices away (RFC 3834)."""
    mail = EmailMessage()
    mail["From"] = f"mastio <postmaster@{site.domains[0]}>"
    mail["To"] = ", ".join(to)
    mail["Subject"] = alarm.subject
    mail["Date"] = formatdate(alarm.at)
    mail["Message-ID"] = make_msgid(domain=site.domains[0])
    mail["Auto-Submitted"] = "auto-generated"
    more = "" if alarm.well else f"\nWhat to do: {guide.of_alarm(alarm.about)}\n"
    mail.set_content(alarm.text + more)
    return mail


def mail(alarm: Alarm, site: Site, settings: Settings, to: Sequence[str]) -> None:
    """Sends an alarm by mail. Raises OSError and SMTPException."""
    deliver(message(alarm, site, to), site, settings, to)


def deliver(mail: Message, site: Site, settings: Settings, to: Sequence[str]) -> None:
    """Mail straight into the store, as the gateway does: over TLS in which both sides prove who they are.

    Raises OSError and SMTPException.
    """
    _hand_over(mail, site, settings, to, settings.store, services.DELIVERY.port)


def outside(alarm: Alarm, site: Site, settings: Settings, to: Sequence[str]) -> None:
    """Sends an alarm by a sending gateway to those elsewhere. Raises OSError and SMTPException."""
    failed = ""
    for gateway in settings.gateways:
        try:
            _hand_over(message(alarm, site, to), site, settings, to, gateway, services.RELAY.port)
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError):
            raise  # another gateway would say the same
        except (OSError, smtplib.SMTPException) as error:
            failed += f"{gateway}: {error}; "
        else:
            return
    raise OSError(failed.removesuffix("; ") or "no other machine of this site sends mail outside")


def _hand_over(
    mail: Message, site: Site, settings: Settings, to: Sequence[str], machine: str, port: int
) -> None:
    context = ssl.create_default_context(cafile=f"{settings.pki}/ca.pem")
    context.load_cert_chain(f"{settings.pki}/host.pem", f"{settings.pki}/host.key")
    with smtplib.SMTP(
        site.internal_name(machine), port, site.internal_name(settings.machine), _SECONDS
    ) as server:
        server.starttls(context=context)
        refused = server.send_message(mail, f"postmaster@{site.domains[0]}", [*to])
    if refused:
        raise smtplib.SMTPRecipientsRefused(refused)


def call(alarm: Alarm, url: str, settings: Settings) -> None:
    """The webhook: the alarm as JSON, by POST. Raises OSError."""
    told = json.dumps({**asdict(alarm), "guide": guide.of_alarm(alarm.about)}).encode()
    _ask(url, settings, told, {"Content-Type": "application/json"})


def beat(url: str, settings: Settings) -> None:
    """The heartbeat: watch is there, by GET. Whoever runs that URL tells people when it stays away. Raises OSError."""
    _ask(url, settings)


def _ask(
    url: str,
    settings: Settings,
    data: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    context = ssl.create_default_context()
    if Path(settings.authorities).stat().st_size:
        context.load_verify_locations(settings.authorities)
    request = urllib.request.Request(url, data, {**(headers or {})})  # noqa: S310 — the site file takes https alone
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS, context=context):  # noqa: S310
            pass
    except HTTPException as error:
        # What is no HTTP is a way that does not work, as no answer is.
        raise OSError(f"no answer of HTTP: {error!r}") from error
