"""The internal authority: what it signs, for whom, how long."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from mastio import pki

CA = pki.authority("Fortress Ltd internal authority")
OTHER = pki.authority("Somebody else")


def test_a_certificate_is_for_its_names_and_by_its_authority() -> None:
    _, cert = pki.issue(*CA, "store.demo.internal")
    assert pki.names(cert) == {"store.demo.internal"}
    assert pki.issued_by(cert, CA[1])
    assert not pki.issued_by(cert, OTHER[1])


def test_the_days_left_are_counted() -> None:
    _, cert = pki.issue(*CA, "a.internal", days=10)
    assert 9.9 < pki.days_left(cert) <= 10
    assert pki.days_left(cert, datetime.now(UTC) + timedelta(days=11)) < 0


def test_the_authority_may_sign_no_further_authorities() -> None:
    cert = x509.load_pem_x509_certificate(CA[1].encode())
    assert cert.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_a_leaf_is_no_authority() -> None:
    cert = x509.load_pem_x509_certificate(pki.issue(*CA, "a.internal")[1].encode())
    assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_fingerprints_are_written_as_postfix_writes_them() -> None:
    print_ = pki.fingerprint(CA[1])
    assert len(print_.split(":")) == 32
    assert print_ == print_.upper()


def test_an_authority_with_an_rsa_key_is_refused() -> None:
    with pytest.raises(TypeError):
        pki.issue(pki.rsa_key(), CA[1], "a.internal")
