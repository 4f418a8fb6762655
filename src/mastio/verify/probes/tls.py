"""TLS as the doors of a site speak it: what they agree to, which certificate they show."""

from __future__ import annotations

import base64
import socket
import ssl
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_OUTDATED = ("1.0", "1.1")
_WEAK = (
    "ALL:!ECDHE",  # no forward secrecy, or one of finite fields (RFC 9325, 4.1)
    "ECDHE+AES:!AESGCM:!AESCCM",  # CBC mode: Lucky Thirteen (RFC 9325, 4.2)
)
_VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
}


def survey(doors: list[list[Any]]) -> list[dict[str, Any]]:
    """For each [address, port, opening], all side by side: all that the functions below find out.

    `{"old": […], "weak": […], "shown": DER in base64, "offers": text}`, or `{"error": words}`.
    """

    def one(door: list[Any]) -> dict[str, Any]:
        address, port, opening = door
        try:
            return {
                "shown": shown(address, port, opening),
                "offers": capabilities(address, port, opening) if opening else "",
                "old": [
                    it
                    for version in _OUTDATED
                    if (it := agreed(address, port, opening, version, "ALL"))
                ],
                "weak": [
                    it
                    for ciphers in _WEAK
                    if (it := agreed(address, port, opening, "1.2", ciphers))
                ],
            }
        except (OSError, ValueError) as error:
            return {"error": f"{door[0]}:{door[1]}: {error}"}

    with ThreadPoolExecutor(len(doors)) as pool:
        return list(pool.map(one, doors))


def agreed(address: str, port: int, opening: str, version: str, ciphers: str) -> str:
    """The version and cipher that a server agrees to when offered no others; "" when it refuses.

    `version` is one of 1.0, 1.1, 1.2; `ciphers` is an OpenSSL list (ciphers(1)).
    """
    context = _context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = _VERSIONS[version]
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    connection = _open(address, port, opening)
    try:
        with context.wrap_socket(connection) as secure:
            name = secure.cipher()
            return f"{secure.version()} {name[0] if name else ''}"
    except (ssl.SSLError, ConnectionError):
        return ""
    finally:
        connection.close()


def shown(address: str, port: int, opening: str) -> str:
    """The certificate that a server shows, DER in base64."""
    with _context().wrap_socket(_open(address, port, opening)) as secure:
        return base64.b64encode(secure.getpeercert(binary_form=True) or b"").decode()


def believed(address: str, port: int, opening: str, name: str) -> str:
    """Why a stranger would not believe the certificate for `name`; "" when they would."""
    context = ssl.create_default_context()
    try:
        with context.wrap_socket(_open(address, port, opening), server_hostname=name):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message


def stranger(address: str, port: int) -> str:
    """What a client without a certificate of its own gets: "refused", or what the server did instead."""
    try:
        with _context().wrap_socket(_open(address, port, "")) as secure:
            secure.settimeout(4)
            # In TLS 1.3 the refusal comes after the client's side of the handshake (RFC 8446, 4.4.2.4).
            said = secure.recv(200)
            return f"said {said!r}" if said else "refused"
    except TimeoutError:
        return "let it in and waited"
    except (ssl.SSLError, ConnectionError):
        return "refused"


def capabilities(address: str, port: int, opening: str) -> str:
    """What a server offers before TLS: its EHLO reply, its ManageSieve greeting."""
    with socket.create_connection((address, port), timeout=10) as connection:
        file = connection.makefile("rb")
        if opening == "sieve":
            return "\n".join(_sieve(file))
        _smtp(file)
        connection.sendall(b"EHLO probe.test\r\n")
        return "\n".join(_smtp(file))


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _open(address: str, port: int, opening: str) -> socket.socket:
    """A connection on which the handshake comes next."""
    connection = socket.create_connection((address, port), timeout=15)
    file = connection.makefile("rb", buffering=0)
    if opening == "sieve":
        _sieve(file)
        connection.sendall(b"STARTTLS\r\n")
        _expect(_sieve(file), "OK")
    elif opening == "smtp":
        _smtp(file)
        connection.sendall(b"EHLO probe.test\r\n")
        _smtp(file)
        connection.sendall(b"STARTTLS\r\n")
        _expect(_smtp(file), "220")
    return connection


def _expect(lines: list[str], word: str) -> None:
    if not lines or not lines[-1].startswith(word):
        raise ValueError(f"STARTTLS is not offered: {lines[-1] if lines else 'closed'}")


def _smtp(file: Any) -> list[str]:
    lines = []
    while line := file.readline().decode(errors="replace").rstrip():
        lines.append(line)
        if line[3:4] != "-":
            break
    return lines


def _sieve(file: Any) -> list[str]:
    lines = []
    while line := file.readline().decode(errors="replace").rstrip():
        lines.append(line)
        if line.split()[0] in ("OK", "NO", "BYE"):
            break
    return lines
