"""What is said when another server does not do what it should."""

import imaplib
import ssl
from socket import gaierror

import pytest

from mastio.errors import Exit, MastioError
from mastio.importing.remote import Account, explained

ACCOUNT = Account("imap.old.test", "bob")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (gaierror(-2, "Name or service not known"), "there is no host imap.old.test"),
        (ConnectionRefusedError(111, "Connection refused"), "imap.old.test:993: nobody listens there"),
        (TimeoutError("timed out"), "imap.old.test:993: no answer"),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), "imap.old.test:993: no TLS"),
        (imaplib.IMAP4.abort("socket error: EOF"), "the connection broke: socket error: EOF"),
        (imaplib.IMAP4.error(b"FETCH  failed"), "imap.old.test:993: FETCH failed"),
        (OSError(113, "No route to host"), "imap.old.test:993: No route to host"),
    ],
)  # fmt: skip
def test_errors_say_what_and_where(error: Exception, said: str) -> None:
    found = explained(error, ACCOUNT)
    assert said in found.message and found.hint and found.code is Exit.UNAVAILABLE


def test_no_password_crosses_a_network_readable() -> None:
    with pytest.raises(MastioError, match="would cross the network for all to read"):
        Account("imap.old.test", "bob", tls="none")
    assert Account("127.0.0.1", "bob", tls="none").where == "127.0.0.1:143"
    assert Account("::1", "bob", 1143, "none").where == "::1:1143"


def test_a_pin_is_a_pin() -> None:
    with pytest.raises(MastioError, match="64 hexadecimal digits"):
        Account("imap.old.test", "bob", pin="abc")
    assert Account("imap.old.test", "bob", pin="0" * 64).where == "imap.old.test:993"
