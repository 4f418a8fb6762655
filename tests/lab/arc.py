"""Signs a message as its author's MTA does (DKIM, RFC 6376), or seals it as a forwarder does (ARC, RFC 8617)."""

import hashlib
import re
from base64 import b64encode
from email.message import EmailMessage

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

SIGNED = ("From", "To", "Subject", "Date", "Message-ID")


def signed(mail: EmailMessage, domain: str, selector: str, key_pem: str) -> str:
    """The message's text with a signature of `domain`."""
    key, text = _key(key_pem), _text(mail)
    signature = f"v=1; {_covering(text, domain, selector)}"
    return f"DKIM-Signature: {signature}{_sign(key, [*_covered(mail), _header('DKIM-Signature', signature)])}\r\n{text}"


def sealed(mail: EmailMessage, selector: str, key_pem: str, *sets: tuple[str, str]) -> str:
    """The message's text with an ARC set for each domain in turn, which says a verdict, such as `dmarc=pass`."""
    key, text = _key(key_pem), _text(mail)
    chain: list[str] = []
    head = ""
    for number, (domain, verdict) in enumerate(sets, 1):
        results = f"i={number}; {domain}; {verdict}"
        signature = f"i={number}; {_covering(text, domain, selector)}"
        signature += _sign(key, [*_covered(mail), _header("ARC-Message-Signature", signature)])
        valid = "pass" if chain else "none"
        seal = f"i={number}; a=rsa-sha256; cv={valid}; d={domain}; s={selector}; b="
        chain += [
            _header("ARC-Authentication-Results", results),
            _header("ARC-Message-Signature", signature),
        ]
        seal += _sign(key, [*chain, _header("ARC-Seal", seal)])
        chain.append(_header("ARC-Seal", seal))
        head = (
            f"ARC-Seal: {seal}\r\nARC-Message-Signature: {signature}\r\n"
            f"ARC-Authentication-Results: {results}\r\n{head}"
        )
    return head + text


def _key(pem: str) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def _text(mail: EmailMessage) -> str:
    return mail.as_string().replace("\r\n", "\n").replace("\n", "\r\n")


def _covered(mail: EmailMessage) -> list[str]:
    return [_header(name, str(mail[name])) for name in SIGNED]


def _covering(text: str, domain: str, selector: str) -> str:
    """The fields that signatures of both kinds have, up to the signature itself."""
    digest = hashlib.sha256(_body(text.partition("\r\n\r\n")[2]).encode()).digest()
    names = ":".join(name.lower() for name in SIGNED)
    where = f"a=rsa-sha256; c=relaxed/relaxed; d={domain}; s={selector}"
    return f"{where}; h={names}; bh={b64encode(digest).decode()}; b="


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
