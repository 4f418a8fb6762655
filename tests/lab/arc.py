"""Seals a message as a forwarder does (ARC, RFC 8617; canonicalisation of RFC 6376, 3.4)."""

import hashlib
import re
from base64 import b64encode
from email.message import EmailMessage

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

SIGNED = ("From", "To", "Subject", "Date", "Message-ID")


def sealed(mail: EmailMessage, domain: str, selector: str, key_pem: str, verdict: str) -> str:
    """The message's text with one ARC set, in which `domain` says `verdict`, such as `dmarc=pass`."""
    key = serialization.load_pem_private_key(key_pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    text = mail.as_string().replace("\r\n", "\n").replace("\n", "\r\n")
    body = text.partition("\r\n\r\n")[2]
    results = f"i=1; {domain}; {verdict}"
    digest = b64encode(hashlib.sha256(_body(body).encode()).digest()).decode()
    names = ":".join(name.lower() for name in SIGNED)
    signature = f"i=1; a=rsa-sha256; c=relaxed/relaxed; d={domain}; s={selector}; h={names}; bh={digest}; b="
    signed = [_header(name, str(mail[name])) for name in SIGNED]
    signature += _sign(key, [*signed, _header("ARC-Message-Signature", signature)])
    seal = f"i=1; a=rsa-sha256; cv=none; d={domain}; s={selector}; b="
    chain = [
        _header("ARC-Authentication-Results", results),
        _header("ARC-Message-Signature", signature),
    ]
    seal += _sign(key, [*chain, _header("ARC-Seal", seal)])
    head = (
        f"ARC-Seal: {seal}\r\nARC-Message-Signature: {signature}\r\n"
        f"ARC-Authentication-Results: {results}\r\n"
    )
    return head + text


def _sign(key: rsa.RSAPrivateKey, lines: list[str]) -> str:
    data = "\r\n".join(lines).encode()
    return b64encode(key.sign(data, padding.PKCS1v15(), hashes.SHA256())).decode()


def _header(name: str, value: str) -> str:
    folded = re.sub(r"[ \t\r\n]+", " ", value).strip()
    return f"{name.lower()}:{folded}"


def _body(text: str) -> str:
    lines = [re.sub(r"[ \t]+", " ", line).rstrip() for line in text.split("\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return "".join(f"{line}\r\n" for line in lines)
