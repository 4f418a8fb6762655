"""The site file's `[acme]`: where the public certificates come from.

[acme]
directory = "https://acme-v02.api.letsencrypt.org/directory"
challenge = "dns"
dns_server = "ns1.example.org"
"""

import re
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import TypeVar

from mastio.site import values
from mastio.site.model import Acme, Challenge, Machine, Role
from mastio.site.problems import did_you_mean
from mastio.site.read import Raw

_T = TypeVar("_T")


def parse(raw: Raw, machines: Sequence[Machine]) -> Acme:
    """What `[acme]` says; what is wrong is added to `raw.problems`."""
    default = Acme()
    days = raw.leaves.get(("acme", "alarm_days"), default.alarm_days)
    found = Acme(
        directory=_judged(raw, "directory", _directory) or "",
        challenge=_challenge(raw),
        dns_server=_judged(raw, "dns_server", server) or "",
        dns_key=_judged(raw, "dns_key", _key_name) or default.dns_key,
        authority=_judged(raw, "authority", _authority) or "",
        alarm_days=days if isinstance(days, int) else default.alarm_days,
    )
    if found.challenge is Challenge.DNS and not raw.has("acme", "dns_server"):
        raw.problems.add(
            ("acme", "challenge"),
            "nobody takes the records",
            "acme.dns_server names the server that does",
        )
    if found.directory and found.challenge is Challenge.HTTP and not _together(machines):
        raw.problems.add(
            ("acme", "directory"),
            "without a firewall machine the MX's name leads to another machine than the webmail's, which answers",
            'prove the names by DNS: challenge = "dns"',
        )
    return found


def _together(machines: Sequence[Machine]) -> bool:
    """Whether all public names lead to where the webmail answers: by a firewall, or on the gateway's own machine."""
    gateways = {it.name for it in machines if it.has(Role.GATEWAY_IN)}
    webmail = {it.name for it in machines if it.has(Role.WEBMAIL)}
    return gateways == webmail or any(it.has(Role.FIREWALL) for it in machines)


def _judged(raw: Raw, name: str, judge: Callable[[str], _T]) -> _T | None:
    if not raw.has("acme", name):
        return None
    try:
        return judge(raw.text("acme", name))
    except ValueError as error:
        raw.problems.add(("acme", name), str(error))
        return None


def _challenge(raw: Raw) -> Challenge:
    text = raw.text("acme", "challenge")
    if not text:
        return Acme().challenge
    try:
        return Challenge(text)
    except ValueError:
        raw.problems.add(
            ("acme", "challenge"), f"{text!r} is unknown", did_you_mean(text, Challenge)
        )
        return Acme().challenge


def _directory(text: str) -> str:
    # It stands in a file that a shell reads.
    if not re.fullmatch(r"[A-Za-z0-9:/._~%?&=+-]+", values.https_url(text)):
        raise ValueError(f"{values.shown(text)} has a character that no ACME directory has")
    return text


def server(text: str) -> str:
    """A host, by name or by address."""
    try:
        return str(ip_address(text))
    except ValueError:
        return values.domain(text)


def _key_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9.-]{0,62})", text):
        raise ValueError(
            f"{values.shown(text)} is no name of a key: lower-case letters, digits, dots and hyphens"
        )
    return text


def _authority(text: str) -> str:
    block = r"-----BEGIN CERTIFICATE-----\n(?:[A-Za-z0-9+/=]+\n)+-----END CERTIFICATE-----"
    found = re.findall(block, text)
    if not found or re.sub(block, "", text).strip():
        raise ValueError("not certificates in PEM form, and nothing else")
    return "".join(f"{it}\n" for it in found)
