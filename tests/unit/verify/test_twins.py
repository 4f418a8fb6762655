"""Broken twins of what the lab cannot break: each check fires on one, and not on the sound one.

A3, T4, T9, T11, T12, N3, N4 (what the proxy may tell), N6, R7, H6.
"""

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from mastio.verify.checks import auth, host, network, tls
from mastio.verify.checks.relay import targets
from mastio.verify.probes import host as host_probe
from mastio.verify.probes import login, names, smtp
from mastio.verify.probes import tls as tls_probe
from mastio.verify.vantage import Vantage
from tests.unit.verify.fakes import Says, vantage


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Any]) -> None:
    """Every probe gives what `answer` says; it gets the function and its arguments."""
    monkeypatch.setattr(Vantage, "ask", lambda self, function, *args, **kw: answer(function, *args))


@pytest.mark.parametrize(("known", "unknown", "fires"), [
    ((3.0, "no"), (3.1, "no"), False),
    ((3.0, "no"), (5.0, "no"), True),
    ((5.0, "no"), (3.0, "no"), True),
    ((3.0, "no"), (3.0, "no such user"), True),
])  # fmt: skip
def test_a3(
    monkeypatch: pytest.MonkeyPatch,
    known: tuple[float, str],
    unknown: tuple[float, str],
    fires: bool,
) -> None:
    def answer(function: object, address: str, port: int, pairs: list[list[str]]) -> list[Any]:
        assert function in (login.imap, login.smtp)
        told = (unknown if user.startswith("nobody") else known for user, _ in pairs)
        return [{"in": False, "seconds": seconds, "words": words} for seconds, words in told]

    answering(monkeypatch, answer)
    assert bool(list(auth.same_answer(vantage("webmail")))) is fires


@pytest.mark.parametrize("busy", [
    lambda tried, at: ("454 for the moment", 3.0) if at == 5 else ("no", 3.0),  # one of an unknown user, each time
    lambda tried, at: ("454 for the moment" if at % 2 and tried < 3 else "no", 3.0),
    lambda tried, at: ("no", 5.0 if at % 2 and tried < 3 else 3.0),
    lambda tried, at: ("no", 5.0 if at % 2 == tried % 2 else 3.0),  # now these are slow, now the others
])  # fmt: skip
def test_a3_what_is_not_so_every_time_tells_nobody_apart(
    monkeypatch: pytest.MonkeyPatch, busy: Callable[[int, int], tuple[str, float]]
) -> None:
    tried = 0

    def answer(function: object, address: str, port: int, pairs: list[list[str]]) -> list[Any]:
        nonlocal tried
        tried += 1
        told = (busy(tried, at) for at in range(len(pairs)))
        return [{"in": False, "seconds": seconds, "words": words} for words, seconds in told]

    answering(monkeypatch, answer)
    assert not list(auth.same_answer(vantage("webmail")))


def certificate(key: Any, algorithm: Any, past: float = 0, left: float = 90) -> str:
    name = x509.Name([])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=past))
        .not_valid_after(now + timedelta(days=left))
        .sign(ec.generate_private_key(ec.SECP256R1()), algorithm)
    )  # fmt: skip
    return base64.b64encode(built.public_bytes(Encoding.DER)).decode()


@pytest.mark.parametrize(("key", "algorithm", "fires"), [
    (ec.generate_private_key(ec.SECP256R1()), hashes.SHA256(), False),
    (rsa.generate_private_key(65537, 2048), hashes.SHA256(), True),
    (ec.generate_private_key(ec.SECP224R1()), hashes.SHA256(), True),
    (ec.generate_private_key(ec.SECP256R1()), hashes.SHA224(), True),
])  # fmt: skip
def test_t4(monkeypatch: pytest.MonkeyPatch, key: Any, algorithm: Any, fires: bool) -> None:
    shown = certificate(key, algorithm)
    seen = {"shown": shown, "offers": "", "old": [], "weak": []}
    answering(monkeypatch, lambda function, doors: [seen for _ in doors])
    assert bool(list(tls.keys(vantage("webmail")))) is fires


@pytest.mark.parametrize(("past", "left", "early", "last"), [
    (0, 397, False, False), (375, 22, False, False), (377, 20, True, False), (395, 2, True, True),
    (400, -1, True, True),
    # Of six days a third is left when it is renewed.
    (4, 2, False, False), (5, 1, True, False), (5.9, 0.1, True, True),
])  # fmt: skip
def test_t9_and_t12_know_how_long_a_certificate_lasts(
    monkeypatch: pytest.MonkeyPatch, past: float, left: float, early: bool, last: bool
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    shown = certificate(key, hashes.SHA256(), past, left)
    der = base64.b64decode(shown)
    disk = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()
    seen = {"shown": shown, "offers": "", "old": [], "weak": []}

    def answer(function: object, *args: Any) -> Any:
        return disk if function is host_probe.text else [seen for _ in args[0]]

    answering(monkeypatch, answer)
    assert bool(list(tls.own_certificate(vantage("webmail")))) is early
    assert bool(list(tls.about_to_expire(vantage("webmail")))) is last


@pytest.mark.parametrize(
    ("left", "early", "last"), [(22, False, False), (20, True, False), (2, True, True)]
)
def test_t9_and_t12_know_what_a_machine_without_a_door_shows(
    monkeypatch: pytest.MonkeyPatch, left: float, early: bool, last: bool
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    der = base64.b64decode(certificate(key, hashes.SHA256(), 397 - left, left))
    disk = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()
    answering(monkeypatch, lambda function, *args: disk if function is host_probe.text else [])
    monkeypatch.setattr(tls, "secure", lambda *args: [])
    assert bool(list(tls.own_certificate(vantage("firewall")))) is early
    assert bool(list(tls.about_to_expire(vantage("firewall")))) is last


@pytest.mark.parametrize("why", ["", "self-signed certificate"])
def test_t11(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    answering(monkeypatch, lambda function, *args: why)
    assert bool(list(tls.believed(vantage("outside")))) is bool(why)
    assert tls_probe.believed


@pytest.mark.parametrize(("said", "fires"), [
    ("No OS matches for host\n", False),
    ("Aggressive OS guesses: HP printer (80%), Linux 5.0 (78%)\n", False),
    ("Aggressive OS guesses: Linux 4.15 - 5.19 (97%), Linux 4.19 (95%)\n", True),
    ("Aggressive OS guesses: IPFire 2.27 (Linux 5.15 - 6.1) (92%), Linux 4.15 (91%)\n", True),
    ("OS details: Linux 5.0 - 5.14\n", True),
])  # fmt: skip
def test_n3(said: str, fires: bool) -> None:
    assert bool(list(network.system(vantage("outside", Says(said))))) is fires


@pytest.mark.parametrize(("ports", "fires"), [
    ("25/open/tcp//smtp///, 465/open/tcp//ssl|smtps?///, 993/open/tcp//ssl|imap//Dovecot imapd/", False),
    ("993/open/tcp//ssl|imap//Dovecot imapd 2.0.11/", True),
    ("993/open/tcp//ssl|imap//Dovecot imapd (Ubuntu)/", True),
    ("993/open/tcp//ssl|imap//Courier Imapd/", True),
    ("465/open/tcp//ssl|smtp//Dovecot imapd/", True),
    ("25/open/tcp//smtp//Postfix smtpd/", True),
])  # fmt: skip
def test_n4(ports: str, fires: bool) -> None:
    said = f"Host: 203.0.113.1 ()\tPorts: {ports}\tIgnored State: closed (1)\n"
    assert bool(list(network.products(vantage("outside", Says(said))))) is fires


@pytest.mark.parametrize(("code", "fires"), [(-1, False), (5, False), (0, True), (3, True)])
def test_n6(monkeypatch: pytest.MonkeyPatch, code: int, fires: bool) -> None:
    def answer(function: object, questions: list[Any], *_: object) -> list[Any]:
        assert function is names.look_up_all
        return [{"code": code, "secure": False, "answers": []} for _ in questions]

    answering(monkeypatch, answer)
    assert bool(list(network.no_names(vantage("outside")))) is fires


@pytest.mark.parametrize(("offset", "leap", "fires"), [
    ("0.000012", "Normal", False), ("7.2", "Normal", True), ("0.0", "Not synchronised", True),
])  # fmt: skip
def test_h6(offset: str, leap: str, fires: bool) -> None:
    said = f"0A4D040A,10.77.4.10,3,1769.5,{offset},0,0,0,0,0,0,0,64.2,{leap}\n"
    assert bool(list(host.clock(vantage("store", Says(said))))) is fires


@dataclass
class Server:
    """A mail server on loopback that answers each line by what `reply` says."""

    port: int


@contextmanager
def serving(talk: Callable[[socket.socket], None]) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            # The probe may hang up first: it has heard enough.
            with connection, suppress(OSError):
                talk(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Server(listener.getsockname()[1])
        thread.join(5)


def test_r7_hears_an_answer_from_before_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handshake is taken away: what counts is what the server says after it."""

    def talk(connection: socket.socket, answers: bool) -> None:
        connection.sendall(b"220 mx\r\n")
        connection.recv(100)
        connection.sendall(b"250-mx\r\n250 STARTTLS\r\n")
        connection.recv(100)
        connection.sendall(b"220 go\r\n")
        time.sleep(0.1)
        if answers:
            connection.sendall(b"250 OK\r\n")
        connection.recv(100)

    monkeypatch.setattr(smtp, "_wrap", lambda plain: plain)
    for answers in (True, False):
        with serving(lambda it, answers=answers: talk(it, answers)) as server:  # type: ignore[misc]
            assert smtp.injected("127.0.0.1", server.port) == ("250 OK" if answers else "")


def test_the_forms_of_relaying_all_point_at_a_stranger() -> None:
    forms = targets("ours.test", "mx.ours.test", "[203.0.113.1]")
    assert len(set(forms)) == len(forms) >= 19
    assert all("probe.example.com" in it for it in forms)
