"""C: what is in a message is looked at, before it is accepted."""

import base64
import io
import json
import re
import secrets
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mastio import services
from mastio.roles.gateway.files import CLAMD
from mastio.site.model import Reach, Role
from mastio.verify import commands
from mastio.verify.checks.delivery import settings
from mastio.verify.checks.smuggling import GTUBE, letter
from mastio.verify.doors import doors
from mastio.verify.model import Check, Family, Place, Severity
from mastio.verify.probes import host, smtp
from mastio.verify.vantage import Vantage, not_run, unknown

EICAR = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""Every virus scanner finds this harmless text (https://www.eicar.org)."""
SIGNATURES = "/var/lib/clamav"


def _zip(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        # A fixed date: the same question twice is asked once.
        archive.writestr(zipfile.ZipInfo(name, (2025, 1, 1, 0, 0, 0)), content)
    return file.getvalue()


def attachments() -> dict[str, tuple[str, bytes]]:
    """The test virus in its wrappings: what it is called → file name, content."""
    virus = EICAR.encode()
    # Harmless names: else points for the name alone would have the message greylisted, and what would
    # become of the virus remained unsaid.
    once = _zip("test.txt", virus)
    return {
        "as a file": ("test.txt", virus),
        "in a zip": ("test.zip", once),
        "in a zip in a zip": ("outer.zip", _zip("test.zip", once)),
    }


def _recipient(vantage: Vantage) -> str:
    """postmaster, by an address of its own each time: Rspamd defers again whom it deferred before."""
    return f"postmaster+{secrets.token_hex(6)}@{vantage.site.domains[0]}"


def _with_attachment(recipient: str, name: str, content: bytes) -> str:
    head = letter("probe@example.com", recipient, "mastio verify: virus test", "").rstrip("\n")
    return (
        f'{head}\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="part"\n\n--part\n'
        f"Content-Type: text/plain\n\nA test for {recipient}.\n--part\nContent-Type: application/octet-stream\n"
        f'Content-Disposition: attachment; filename="{name}"\nContent-Transfer-Encoding: base64\n\n'
        f"{base64.encodebytes(content).decode()}--part--\n"
    )


def _refused(vantage: Vantage, what: str, recipient: str, content: str) -> Iterator[str]:
    for door in doors(vantage.matrix, vantage.name, services.SMTP)[:1]:
        reply = vantage.ask(smtp.send, str(door.address), door.port, "", recipient, content)
        if reply.startswith("2"):
            yield f"{door.words} accepted {what}: {reply}"
        elif not reply.startswith("5"):
            # Greylisted, or a scanner is away: nothing passed, and nothing is proven.
            raise unknown(f"{door.words} has not decided about {what}: {reply}")


NO_ACTION = "A" + GTUBE[1:]
"""Rspamd takes this text for an order to do nothing, when its test patterns are all switched on."""


def no_way_around(vantage: Vantage) -> Iterator[str]:
    """Rspamd's own test pattern "do nothing" opens no door for a virus or for spam."""
    recipient = _recipient(vantage)
    name, content = attachments()["as a file"]
    virus = _with_attachment(recipient, name, content).replace(
        "A test for", f"{NO_ACTION}\nA test for"
    )
    yield from _refused(vantage, "the test virus beside the order to do nothing", recipient, virus)
    text = letter("probe@example.com", recipient, "mastio verify", f"{NO_ACTION}\n{GTUBE}")
    yield from _refused(vantage, "the test spam beside the order to do nothing", recipient, text)


def scanner_away(vantage: Vantage) -> Iterator[str]:
    """When the filter or its virus scanner is away, the sender tries again; nothing passes unseen."""
    said = vantage.output(*commands.FILTER)
    found = dict(zip(commands.FILTER_SECTIONS, _objects(said), strict=True))
    forced = found["force_actions"].get("rules", {}).values()
    scanners = {key: it for key, it in found["antivirus"].items() if isinstance(it, dict)}
    if found["antivirus"].get("enabled") is False or not scanners:
        yield f"{vantage.name}: Rspamd has no virus scanner"
    for name, scanner in scanners.items():
        failed = f"{scanner.get('symbol', name.upper())}_FAIL"
        if not any(defers(rule, failed) for rule in forced):
            yield f"{vantage.name}: no rule defers mail when {name} does not answer ({failed})"
    if found["options"].get("soft_reject_on_timeout") is not True:
        yield f"{vantage.name}: Rspamd lets mail pass when its time is up (soft_reject_on_timeout)"
    for where, value in settings(vantage).everywhere("milter_default_action").items():
        if value not in ("tempfail", "reject", "quarantine"):
            yield f"{vantage.name}: milter_default_action is {value or 'not set'} in {where}: mail passes unseen"
    if not settings(vantage).main.get("smtpd_milters"):
        yield f"{vantage.name}: Postfix asks no filter (smtpd_milters)"


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a text, one after the other."""
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        found, end = decoder.raw_decode(rest)
        yield found
        rest = rest[end:].lstrip()


def defers(rule: Mapping[str, Any], symbol: str) -> bool:
    """Whether a rule of Rspamd's force_actions turns mail with `symbol` away for now, though nothing else would."""
    sole = str(rule.get("expression", "")).strip() == symbol
    among = re.search(
        rf"(^|[|(]\s*){re.escape(symbol)}(\s*[|)]|$)", str(rule.get("expression", ""))
    )
    narrowed = rule.get("require_action", ["no action"])
    return (
        rule.get("enabled") is not False
        and rule.get("action") in ("soft reject", "reject")
        and bool(sole or among)
        and "no action" in narrowed
        and "no action" not in rule.get("honor_action", [])
    )


_OLDEST_DAILY = timedelta(days=3)
"""ClamAV's daily signatures come out once a day."""


_RELOADED = timedelta(hours=2)
"""freshclam tells clamd at once what has come, and each hour clamd looks by itself (SelfCheck)."""


def signatures(vantage: Vantage) -> Iterator[str]:
    """The virus scanner knows what is new."""
    site = vantage.site
    made = {name.partition(".")[0]: text for name, text in vantage.ask(host.signatures, SIGNATURES)}
    for name in ("main", "daily"):
        if name in made:
            continue
        if not made and site.reach is Reach.LAB:
            raise not_run(
                "the lab has no way to ClamAV's mirror: the scanner knows only the site's own signatures"
            )
        if not any("clamav" in it for it in site.mirrors):
            yield f"{vantage.name}: the scanner has no {name} signatures: no mirror of ClamAV's is named (mirrors)"
        else:
            yield f"{vantage.name}: the scanner has no {name} signatures in {SIGNATURES}"
    if "daily" in made:
        when = datetime.strptime(made["daily"], "%d %b %Y %H-%M %z")
        if (age := datetime.now(UTC) - when) > _OLDEST_DAILY:
            yield f"{vantage.name}: the daily signatures are {age.days} days old"
        version, seconds, loaded = vantage.ask(host.daily, SIGNATURES, CLAMD)
        # A scanner that does not answer, or is just beginning, is for C1 and the gateway's own pulse.
        if loaded is not None and loaded < version and seconds > _RELOADED.total_seconds():
            came = f"{version}, which came {seconds // 3600} h ago"
            yield f"{vantage.name}: the scanner has not loaded the daily signatures {came}"


def viruses(vantage: Vantage) -> Iterator[str]:
    """The test virus is refused however it is wrapped."""
    recipient = _recipient(vantage)
    for how, (name, content) in attachments().items():
        letter_with = _with_attachment(recipient, name, content)
        yield from _refused(vantage, f"the test virus {how}", recipient, letter_with)


def spam(vantage: Vantage) -> Iterator[str]:
    """The test spam is refused."""
    recipient = _recipient(vantage)
    text = letter("probe@example.com", recipient, "mastio verify", GTUBE)
    yield from _refused(vantage, "the test spam", recipient, text)


CHECKS = (
    Check(
        "C1", Family.CONTENT, "Viruses are refused", (Place.OUTSIDE,), Severity.CRITICAL,
        "the EICAR test file to postmaster: as it is, in a zip, in a zip in a zip", "5xx in the dialogue",
        "https://www.eicar.org; RFC 5321, 3.3",
        "See that clamav-daemon and rspamd run on the gateway, and `journalctl -u rspamd` for what failed.",
        viruses, seconds=90,
    ),
    Check(
        "C2", Family.CONTENT, "Spam is refused", (Place.OUTSIDE,), Severity.HIGH,
        "the GTUBE test text to postmaster", "5xx in the dialogue", "https://spamassassin.apache.org/gtube",
        "See that rspamd runs on the gateway, and its actions (`mastio plan gateway`).", spam,
    ),
    Check(
        "C3", Family.CONTENT, "No test pattern opens a door", (Place.OUTSIDE,), Severity.CRITICAL,
        "the test virus and the test spam to postmaster, each beside Rspamd's test pattern for \"no action\"",
        "5xx in the dialogue", "https://docs.rspamd.com, gtube_patterns",
        "Take `gtube_patterns = \"all\"` out of Rspamd's options (`mastio plan gateway`).",
        no_way_around, seconds=90,
    ),
    Check(
        "C4", Family.CONTENT, "Nothing passes while a scanner is away", (Role.GATEWAY_IN, Role.GATEWAY_OUT),
        Severity.HIGH,
        "the settings as Rspamd (rspamadm configdump) and Postfix (postconf) read them; no daemon is stopped",
        "a failed scan, a scan out of time and a missing filter each answer 4xx",
        "Rspamd, antivirus and force_actions; postconf(5), milter_default_action",
        "Set local.d/force_actions.conf, options.inc and milter_default_action back: `mastio apply`.",
        scanner_away, seconds=60,
    ),
    Check(
        "C5", Family.CONTENT, "Virus signatures are fresh", (Role.GATEWAY_IN, Role.GATEWAY_OUT), Severity.HIGH,
        f"the headers of the signature files in {SIGNATURES}, and what clamd says that it has loaded (VERSION)",
        f"main and daily are there, daily at most {_OLDEST_DAILY.days} days old, and loaded within "
        f"{_RELOADED.total_seconds() / 3600:.0f} hours", "freshclam(1); sigtool(1); clamd(8)",
        "See `journalctl -u clamav-freshclam` on the gateway, and watch's proxy.", signatures,
    ),
)  # fmt: skip
