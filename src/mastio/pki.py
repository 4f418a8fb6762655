"""The internal certificate authority and the other keys a site needs, by the `cryptography` library.

Nothing here touches a disk: keys and certificates come and go as PEM text, and `mastio.vault` keeps
them. Names in certificates are DNS names (RFC 9525: the common name is decoration, SAN decides).
"""

from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
"""Life of the internal authority, in days."""
LEAF_DAYS = 397
"""Life of a machine's certificate, in days (the CA/Browser Forum's limit for servers)."""
RENEW_DAYS = LEAF_DAYS // 3
"""A certificate with fewer days left is made anew."""
AUTHORITY_RENEW_DAYS = AUTHORITY_DAYS // 3
"""An authority with fewer days left gets a successor; more than the life of what it signs."""
_SKEW = timedelta(hours=1)  # a machine's clock may be a little behind ours


def fingerprint(pem: str) -> str:
    """SHA-256 of a certificate's public key, `AA:BB:…`, as Postfix takes it where it takes a certificate's.

    A renewed certificate has the same, so nobody has to be told of it at the same moment.
    """
    return bytes.fromhex(key_digest(pem)).hex(":").upper()


def ssh_public(pem: str) -> str:
    """The public key of a certificate as OpenSSH writes it: a machine is who it is, in TLS and in ssh."""
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    return key.public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    ).decode()


def names(pem: str) -> frozenset[str]:
    """The DNS names that a certificate is for."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return frozenset(extension.value.get_values_for_type(x509.DNSName))


def days_left(pem: str, now: datetime | None = None) -> float:
    """How long a certificate is still valid, in days; negative when it has expired."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    return (certificate.not_valid_after_utc - (now or datetime.now(UTC))) / timedelta(days=1)


def issued_by(pem: str, authority: str) -> bool:
    """Whether `authority` (a CA's certificate) signed this certificate."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.encode()))
    except Exception:  # the library raises three kinds, all meaning "no"
        return False
    return True


def _private(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def rsa_key(bits: int = 2048) -> str:
    """A new RSA private key, PKCS #8 PEM; 2048 bits is what DKIM needs (RFC 8301)."""
    return _private(rsa.generate_private_key(public_exponent=65537, key_size=bits))


def ed25519_key() -> str:
    """A new Ed25519 private key, PKCS #8 PEM, for DKIM (RFC 8463)."""
    return _private(ed25519.Ed25519PrivateKey.generate())


def server_key() -> str:
    """A new key as certificates here have it (EC P-256), PKCS #8 PEM."""
    return _private(ec.generate_private_key(ec.SECP256R1()))


def wireguard_key() -> str:
    """A new private key as wg(8) writes it."""
    return b64encode(x25519.X25519PrivateKey.generate().private_bytes_raw()).decode()


def wireguard_public(key: str) -> str:
    """The public key of a private one."""
    private = x25519.X25519PrivateKey.from_private_bytes(b64decode(key))
    return b64encode(private.public_key().public_bytes_raw()).decode()


def request(key_pem: str, *dns_names: str) -> str:
    """A certificate signing request (PKCS #10) for `dns_names`, PEM: what an authority may see of a key."""
    key = serialization.load_pem_private_key(key_pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError("a server's key is an EC or an RSA key")
    # Authorities may copy what they are asked, and names beside an empty subject would have to be critical (RFC 5280,
    # 4.2.1.6), which ACME's dehydrated cannot read. A common name has 64 characters at most (RFC 5280, A.1).
    subject = [
        x509.NameAttribute(x509.NameOID.COMMON_NAME, it) for it in dns_names[:1] if len(it) <= 64
    ]
    built = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(subject))
        .add_extension(x509.SubjectAlternativeName([*map(x509.DNSName, dns_names)]), critical=False)
    )
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def requested(pem: str) -> frozenset[str]:
    """The DNS names that a request is for."""
    asked = x509.load_pem_x509_csr(pem.encode())
    extension = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return frozenset(extension.value.get_values_for_type(x509.DNSName))


def key_digest(pem: str) -> str:
    """SHA-256 of the public key (SPKI) of a certificate, a request or a private key, in hex: as TLSA has it.

    Raises ValueError when it is none of them.
    """
    data = pem.encode()
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if "CERTIFICATE REQUEST" in pem:
        spki = x509.load_pem_x509_csr(data).public_key().public_bytes(*form)
    elif "CERTIFICATE" in pem:
        spki = x509.load_pem_x509_certificate(data).public_key().public_bytes(*form)
    else:
        spki = serialization.load_pem_private_key(data, None).public_key().public_bytes(*form)
    return sha256(spki).hexdigest()


def _builder(subject: str, issuer: x509.Name, last: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])]))
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _SKEW)
        .not_valid_after(last)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def authority(name: str, days: int = AUTHORITY_DAYS) -> tuple[str, str]:
    """A new certificate authority (EC P-256): its private key and self-signed certificate, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, subject, datetime.now(UTC) + timedelta(days=days))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return _private(key), certificate.public_bytes(serialization.Encoding.PEM).decode()


_TALKS = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
_SIGNS = (
    ExtendedKeyUsageOID.EMAIL_PROTECTION,
)  # what openssl-cms(1) wants of a signer; no door takes it


def issue(
    ca_key: str, ca_cert: str, *dns_names: str, days: int = LEAF_DAYS, key_pem: str = "",
    purposes: tuple[x509.ObjectIdentifier, ...] = _TALKS,
) -> tuple[str, str]:  # fmt: skip
    """A certificate for `dns_names`, server and client alike: its private key, and itself.

    The key is a new one unless `key_pem` gives it. None outlives its authority: one that nobody renews is
    seen on every door.
    """
    signer = serialization.load_pem_private_key(ca_key.encode(), None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise TypeError("the authority's key is not an EC key")
    issuer = x509.load_pem_x509_certificate(ca_cert.encode())
    key = serialization.load_pem_private_key((key_pem or server_key()).encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError("a server's key is an EC or an RSA key")
    last = min(datetime.now(UTC) + timedelta(days=days), issuer.not_valid_after_utc)
    certificate = (
        _builder(dns_names[0], issuer.subject, last)
        .public_key(key.public_key())
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in dns_names]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(purposes),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    return _private(key), certificate.public_bytes(serialization.Encoding.PEM).decode()


def sign(ca_key: str, ca_cert: str, signer: str, data: bytes) -> bytes:
    """A detached CMS signature (RFC 5652, DER) over `data` by a new key, which is then forgotten.

    The authority's certificate for it is in the signature, is good for signing alone, and lives as long as the
    authority: it is there to be looked at later.
    """
    key_pem, cert_pem = issue(ca_key, ca_cert, signer, days=AUTHORITY_DAYS, purposes=_SIGNS)
    key = serialization.load_pem_private_key(key_pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("a key made here is an EC key")
    builder = pkcs7.PKCS7SignatureBuilder().set_data(data)
    builder = builder.add_signer(
        x509.load_pem_x509_certificate(cert_pem.encode()), key, hashes.SHA256()
    )
    options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
    return builder.sign(serialization.Encoding.DER, options)
