"""T: every door that speaks TLS speaks it well, and shows the certificate it was given."""

from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding

from mastio import services
from mastio.context import PKI, public_chain
from mastio.flows import Protection
from mastio.verify.doors import Door, doors, published, secure
from mastio.verify.model import Check, Family, Place, Severity
from mastio.verify.probes import host, tls
from mastio.verify.vantage import Vantage, unknown

_LEAST_RSA, _LEAST_EC = 3072, 256
_EARLY, _LAST = 21, 3
"""A certificate with fewer days left was not renewed in time; will surprise somebody."""


def _survey(vantage: Vantage) -> Iterator[tuple[Door, dict[str, Any]]]:
    """Every TLS door of a vantage with what it agrees to, asked once for all checks."""
    found = secure(vantage.matrix, vantage.name)
    if not found:
        return
    asked = [[str(it.address), it.port, it.opening] for it in found]
    for door, seen in zip(found, vantage.ask(tls.survey, asked), strict=True):
        if "error" in seen:
            raise unknown(f"{door.words}: {seen['error']}")
        yield door, seen


def old_versions(vantage: Vantage) -> Iterator[str]:
    """No door agrees to TLS 1.0 or 1.1."""
    for door, seen in _survey(vantage):
        for agreed in seen["old"]:
            yield f"{door.words} agrees to {agreed}"


def weak_ciphers(vantage: Vantage) -> Iterator[str]:
    """No door agrees to a cipher without forward secrecy or without authenticated encryption."""
    for door, seen in _survey(vantage):
        for agreed in seen["weak"]:
            yield f"{door.words} agrees to {agreed}"


def shown(vantage: Vantage) -> Iterator[tuple[Door, x509.Certificate]]:
    """Every TLS door of a vantage with the certificate it shows."""
    for door, seen in _survey(vantage):
        yield door, x509.load_der_x509_certificate(b64decode(seen["shown"]))


def keys(vantage: Vantage) -> Iterator[str]:
    """Keys and signatures of the shown certificates are strong."""
    for door, certificate in shown(vantage):
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA:
            yield f"{door.words} shows an RSA key of {key.key_size} bits"
        elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < _LEAST_EC:
            yield f"{door.words} shows a {key.curve.name} key"
        signed = certificate.signature_hash_algorithm
        if signed and not isinstance(signed, SHA256 | SHA384 | SHA512):
            yield f"{door.words} shows a certificate signed with {signed.name}"


def _margin(certificate: x509.Certificate, days: int) -> timedelta:
    """The days, or less for a certificate of short life, which is rightly renewed later."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return min(timedelta(days=days), life * (days / (_EARLY * 5)))


def _worn(vantage: Vantage) -> Iterator[tuple[str, x509.Certificate]]:
    """What each door of a vantage shows, and what the vantage shows where it calls: the firewall has no door."""
    for door, certificate in shown(vantage):
        yield f"{door.words} shows", certificate
    if not vantage.is_outside:
        text = vantage.ask(host.text, f"{PKI}/host.pem")
        yield (
            f"{vantage.name}, where it calls, shows",
            x509.load_pem_x509_certificate(text.encode()),
        )


def about_to_expire(vantage: Vantage) -> Iterator[str]:
    """No certificate shown is about to expire."""
    now = datetime.now(UTC)
    for words, certificate in _worn(vantage):
        left = certificate.not_valid_after_utc - now
        if left < _margin(certificate, _LAST):
            yield f"{words} a certificate with {left / timedelta(hours=1):.0f} hours left"


def own_certificate(vantage: Vantage) -> Iterator[str]:
    """The certificate shown is the one on the machine's disk, and in date."""
    now = datetime.now(UTC)
    for words, certificate in _worn(vantage):
        left = certificate.not_valid_after_utc - now
        if left < timedelta(0):
            yield f"{words} a certificate that expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        elif left < _margin(certificate, _EARLY):
            yield f"{words} a certificate that expires on {certificate.not_valid_after_utc:%Y-%m-%d}"
        if now < certificate.not_valid_before_utc:
            yield f"{words} a certificate that is valid from {certificate.not_valid_before_utc:%Y-%m-%d}"
    for door, certificate in shown(vantage):
        public = vantage.is_outside or door.service in (services.SMTP, services.HTTPS)
        name = "public" if public else "host"
        path = public_chain(vantage.site) if name == "public" else f"{PKI}/{name}.pem"
        text = vantage.at(door.target).ask(host.text, path)
        disk = x509.load_pem_x509_certificate(text.encode())
        if disk.public_bytes(Encoding.DER) != certificate.public_bytes(Encoding.DER):
            yield f"{door.words} shows another certificate than {path} on {door.target}"


def believed(vantage: Vantage) -> Iterator[str]:
    """Strangers believe the published certificates: chain and name."""
    names = published(vantage.site)
    for door in doors(vantage.matrix, vantage.name, *names):
        name = names[door.service]
        if why := vantage.ask(tls.believed, str(door.address), door.port, door.opening, name):
            yield f"{door.words}: not believed for {name}: {why}"


def groups(vantage: Vantage) -> Iterator[str]:
    """No door agrees to a weak group; what strangers reach agrees to the hybrid one."""
    for door, seen in _survey(vantage):
        for agreed in seen["groups"]:
            yield f"{door.words} agrees to the group {agreed}"
        if vantage.is_outside and not seen["hybrid"]:
            yield f"{door.words} does not agree to X25519MLKEM768"


def handshake(vantage: Vantage) -> Iterator[str]:
    """TLS 1.2 as it was mended: nothing is compressed, and a handshake is bound to its connection."""
    for door, seen in _survey(vantage):
        # Who has no TLS 1.2 has none of its faults.
        if hello := seen["hello"]:
            if hello["compresses"]:
                yield f"{door.words} compresses"
            if not hello["renegotiates"]:
                yield f"{door.words} does not know secure renegotiation"
            if not hello["binds"]:
                yield f"{door.words} does not know the extended master secret"


def no_login_in_clear(vantage: Vantage) -> Iterator[str]:
    """No door offers to log in before TLS has begun."""
    for door, seen in _survey(vantage):
        # Dovecot takes a connection from the machine's own address for one that is secured: it passes no wire.
        if door.service is services.SIEVE and door.target == vantage.name:
            continue
        for line in str(seen["offers"]).splitlines():
            word = line.upper().replace("250-", "").replace("250 ", "").replace('"', "").split()
            if len(word) > 1 and word[0] in ("AUTH", "SASL"):
                yield f"{door.words} offers, in the clear: {line}"


def mutual(vantage: Vantage) -> Iterator[str]:
    """Doors of machines refuse a client without a certificate of the site."""
    for door in doors(vantage.matrix, vantage.name):
        if door.protection is Protection.MUTUAL_TLS and not door.opening:
            said = vantage.ask(tls.stranger, str(door.address), door.port)
            if said != "refused":
                yield f"{door.words}, without a certificate: {said}"


_ALL = (Place.OUTSIDE, Place.EVERY_MACHINE)
_MEND = "`mastio plan` shows what was changed by hand, `mastio apply` mends it."

CHECKS = (
    Check(
        "T1", Family.TLS, "TLS 1.2 and 1.3 only", _ALL, Severity.HIGH,
        "a handshake with TLS 1.0 and one with 1.1 at every door that speaks TLS", "refused",
        "RFC 8996", f"Set the server's protocols back to TLS 1.2 or newer. {_MEND}", old_versions,
    ),
    Check(
        "T2", Family.TLS, "Forward secrecy and authenticated encryption only", _ALL, Severity.HIGH,
        "TLS 1.2 handshakes that offer only ciphers without ECDHE, then only CBC ciphers", "refused",
        "RFC 9325, 4.1 and 4.2", f"Set the cipher list back to ECDHE with AES-GCM or ChaCha20. {_MEND}",
        weak_ciphers,
    ),
    Check(
        "T4", Family.TLS, "Strong keys and signatures", _ALL, Severity.HIGH,
        "the certificate that each door shows", "EC ≥ 256 bits or RSA ≥ 3072 bits, signed with SHA-2",
        "RFC 9325, 4.5; NIST SP 800-57", "Make the certificate anew: `mastio secrets rotate`, then `mastio apply`.",
        keys,
    ),
    Check(
        "T3", Family.TLS, "Key exchange by strong groups", _ALL, Severity.HIGH,
        "TLS 1.2 and 1.3 hellos that offer only finite fields, short or unused curves; from outside also one that "
        "offers only X25519MLKEM768",
        "weak groups are refused; the internet's doors agree to X25519MLKEM768",
        "RFC 9325, 4.2 and 7.4; draft-ietf-tls-ecdhe-mlkem", f"Set the server's list of groups back. {_MEND}", groups,
    ),
    Check(
        "T5", Family.TLS, "TLS 1.2 as it was mended", _ALL, Severity.MEDIUM,
        "a TLS 1.2 hello that offers compression", "no compression; secure renegotiation and extended master secret",
        "RFC 9325, 3.3 to 3.5; RFC 5746; RFC 7627",
        f"Take options that turn these off out of the server's settings. {_MEND}", handshake,
    ),
    Check(
        "T7", Family.TLS, "Nobody logs in without TLS", _ALL, Severity.CRITICAL,
        "what SMTP and ManageSieve doors offer before STARTTLS (a machine's own ManageSieve tells nothing: Dovecot "
        "offers more to the own address)", "no AUTH, no SASL mechanism",
        "RFC 8314, 3.3; RFC 5804, 1.1", f"Set smtpd_tls_auth_only and Dovecot's auth_allow_cleartext back. {_MEND}",
        no_login_in_clear,
    ),
    Check(
        "T9", Family.TLS, "Each door shows its own certificate, in date", _ALL, Severity.HIGH,
        "the certificate shown against the file on the machine's disk; what a machine shows where it calls",
        f"the same; valid now and for {_EARLY} days more (a fifth of a short life)", "RFC 5280, 4.1.2.5",
        "A service that shows an old certificate has not been restarted since: `mastio apply` does it. One that "
        "expires: `mastio renew` (`mastio renew --timer` has it done by itself); the MX's and the webmail's from an "
        "authority on the internet: `mastio certificates`.",
        own_certificate,
    ),
    Check(
        "T12", Family.TLS, "No certificate is about to expire", _ALL, Severity.CRITICAL,
        "the certificate that each door shows, and each machine where it calls",
        f"valid for {_LAST} days more (a 35th of a short life)", "RFC 5280, 4.1.2.5",
        "`mastio renew` now: without certificates that are in date mail waits in queues. The MX's and the webmail's "
        "from an authority on the internet: `mastio certificates renew`.",
        about_to_expire,
    ),
    Check(
        "T10", Family.TLS, "Machines refuse whoever has no certificate of the site",
        (Place.EVERY_MACHINE,), Severity.HIGH,
        "a TLS connection without a client's certificate to each door that is for machines (mail's: see R1)",
        "refused", "RFC 8446, 4.4.2.4", f"Set the door's demand for a client certificate back. {_MEND}", mutual,
    ),
    Check(
        "T11", Family.TLS, "Strangers believe the published certificates", (Place.OUTSIDE,), Severity.MEDIUM,
        "the MX's and the webmail's certificate against the public authorities, with their names",
        "chain and name are good", "RFC 9525",
        "Get the certificates from a public authority; see which name they have.", believed,
    ),
)  # fmt: skip
