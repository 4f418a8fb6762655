"""One DNS record as text, and the builders of the kinds that mail needs.

>>> hosts("mx.fortress.test", (ip_address("203.0.113.1"),))
(Record('mx.fortress.test', 'A', '203.0.113.1'),)
"""

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from mastio import pki
from mastio.site.model import Address

_STRING = 255  # the longest character-string in a TXT record (RFC 1035, 3.3)


@dataclass(frozen=True, slots=True, order=True)
class Record:
    """One record: the owner's absolute name without the last dot, the type, and its data as text."""

    owner: str
    type: str
    data: str
    why: str = field(default="", compare=False)
    """What it is for, in a few words; no part of the record."""

    def because(self, why: str) -> "Record":
        """The same record with its reason."""
        return replace(self, why=why)


def text(value: str) -> str:
    """A TXT record's data, cut into character-strings."""
    parts = [value[start : start + _STRING] for start in range(0, len(value), _STRING)]
    return " ".join(f'"{part}"' for part in parts)


def hosts(name: str, addresses: Iterable[Address]) -> tuple[Record, ...]:
    """A and AAAA records of a host."""
    return tuple(
        Record(name, "A" if address.version == 4 else "AAAA", str(address)) for address in addresses
    )


def pointer(address: Address, name: str) -> Record:
    """The PTR record that leads from an address back to its name."""
    return Record(address.reverse_pointer, "PTR", f"{name}.")


def mx(domain: str, host: str) -> Record:
    """Where a domain's mail goes (RFC 5321, 5.1)."""
    return Record(domain, "MX", f"10 {host}.")


def spf(name: str, senders: Iterable[Address]) -> Record:
    """The addresses from which mail in this name leaves, and no others (RFC 7208); none: no mail."""
    sources = "".join(f"ip{address.version}:{address} " for address in senders)
    return Record(name, "TXT", text(f"v=spf1 {sources}-all"))


def dmarc(domain: str, policy: str, reports: str) -> Record:
    """What receivers do with mail that only pretends to come from here (RFC 7489, RFC 9989).

    `reports` is the address for aggregate reports; empty: none are wanted.
    """
    rua = f"; rua=mailto:{reports}" if reports else ""
    return Record(f"_dmarc.{domain}", "TXT", text(f"v=DMARC1; p={policy}; sp={policy}{rua}"))


def dkim(domain: str, selector: str, private_pem: str) -> Record:
    """The public half of a DKIM key: RSA (RFC 6376, 3.6.1) or Ed25519 (RFC 8463, 4.2)."""
    public = serialization.load_pem_private_key(private_pem.encode(), None).public_key()
    if isinstance(public, ed25519.Ed25519PublicKey):
        kind, octets = "ed25519", public.public_bytes_raw()
    else:
        kind, octets = "rsa", _spki(public)
    value = f"v=DKIM1; k={kind}; p={b64encode(octets).decode()}"
    return Record(f"{selector}._domainkey.{domain}", "TXT", text(value))


def tlsa(host: str, port: int, pem: str) -> Record:
    """The public key of a server (RFC 6698: DANE-EE, SPKI, SHA-256; RFC 7672 for mail).

    `pem` is its certificate or, of a key that is to come, its private key.
    """
    return Record(f"_{port}._tcp.{host}", "TLSA", f"3 1 1 {pki.key_digest(pem)}")


def caa(name: str, tag: str, value: str) -> Record:
    """Who may issue certificates for a name and all below it (RFC 8659)."""
    return Record(name, "CAA", f'0 {tag} "{value}"')


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
