"""C: what is in a message is looked at, before it is accepted."""

import base64
import io
import secrets
import zipfile
from collections.abc import Iterator

from mastio import services
from mastio.verify.checks.smuggling import GTUBE, letter
from mastio.verify.doors import doors
from mastio.verify.model import Check, Family, Place, Severity
from mastio.verify.probes import smtp
from mastio.verify.vantage import Vantage, unknown

EICAR = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""Every virus scanner finds this harmless text (https://www.eicar.org)."""


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
)  # fmt: skip
