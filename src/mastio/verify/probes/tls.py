"""TLS as the doors of a site speak it: what they agree to, which certificate they show."""

from __future__ import annotations

import base64
import os
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
_GROUPS, _KEY_SHARE, _MASTER_SECRET, _RENEGOTIATION = 10, 51, 23, 0xFF01
"""Extensions (IANA, TLS ExtensionType Values)."""
_CIPHERS_1_3 = (0x1301, 0x1302, 0x1303)
_CIPHERS_1_2 = (0xC02B, 0xC02C, 0xC02F, 0xC030, 0xCCA8, 0xCCA9)
_SIGNATURES = (0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0807, 0x0401, 0x0501, 0x0601)
_HYBRID = 0x11EC
"""X25519MLKEM768: holds also against a quantum computer that reads today's traffic later."""
_USUAL_GROUPS = [0x001D, 0x0017, 0x0018]
_WEAK_GROUPS = {
    0x0013: "P-192", 0x0015: "P-224", 0x0016: "secp256k1", 0x001A: "brainpoolP256r1", 0x001B: "brainpoolP384r1",
    0x001C: "brainpoolP512r1", 0x0100: "ffdhe2048", 0x0101: "ffdhe3072", 0x0102: "ffdhe4096",
}  # fmt: skip
"""Too short, or out of use (IANA, TLS Supported Groups). P-521 and X448 are sound, though asked for by nobody."""


def survey(doors: list[list[Any]]) -> list[dict[str, Any]]:
    """For each [address, port, opening], all side by side: all that the functions below find out.

    `{"old": […], "weak": […], "shown": DER in base64, "offers": text, "groups": [weak ones], "hybrid": bool,
    "hello": see `hello`}`, or `{"error": words}`.
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
                "groups": weak_groups(address, port, opening),
                "hybrid": hello(address, port, opening, True, [_HYBRID]).get("group") == _HYBRID,
                "hello": hello(address, port, opening, False, _USUAL_GROUPS),
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


def weak_groups(address: str, port: int, opening: str) -> list[str]:
    """The weak groups that a server agrees to when offered no others, one for each version of TLS."""
    found = {
        hello(address, port, opening, newest, [*_WEAK_GROUPS]).get("group", 0)
        for newest in (True, False)
    }
    return [_WEAK_GROUPS[it] for it in sorted(found) if it in _WEAK_GROUPS]


def hello(address: str, port: int, opening: str, newest: bool, groups: list[int]) -> dict[str, Any]:
    """What a server answers to a ClientHello written by hand, in TLS 1.3 (`newest`) or 1.2; {} when it refuses.

    It offers only `groups` (RFC 8446, 4.2.7) and, in 1.2, compression (RFC 3749). The answer says the
    group chosen (0 when it says none), whether it compresses, whether it confirms secure renegotiation
    (RFC 5746) and the extended master secret (RFC 7627). Python's client can choose neither of these: so
    nothing is exchanged but the two hellos.
    """
    connection = _open(address, port, opening)
    with connection:
        connection.sendall(_client_hello(newest, groups))
        return _server_hello(connection.makefile("rb"))


def _client_hello(newest: bool, groups: list[int]) -> bytes:
    def vector(data: bytes, octets: int) -> bytes:
        return len(data).to_bytes(octets, "big") + data

    def words(*numbers: int) -> bytes:
        return b"".join(it.to_bytes(2, "big") for it in numbers)

    extensions = {
        _GROUPS: vector(words(*groups), 2),
        11: vector(b"\0", 1),  # points are not compressed (RFC 8422, 5.1.2)
        13: vector(words(*_SIGNATURES), 2),
        _MASTER_SECRET: b"",
        _RENEGOTIATION: vector(b"", 1),
    }
    if newest:
        # No key yet: the server asks for one of the group that it wants (RFC 8446, 4.1.4).
        extensions |= {43: vector(words(0x0304), 1), _KEY_SHARE: vector(b"", 2)}
    ciphers = _CIPHERS_1_3 if newest else _CIPHERS_1_2
    body = words(0x0303) + os.urandom(32) + vector(b"", 1) + vector(words(*ciphers), 2)
    body += vector(b"\0" if newest else b"\1\0", 1)
    body += vector(b"".join(words(key) + vector(it, 2) for key, it in extensions.items()), 2)
    return b"\x16\x03\x01" + vector(b"\1" + vector(body, 3), 2)


def _server_hello(file: Any) -> dict[str, Any]:
    data = b""
    try:
        for _ in range(40):
            head = file.read(5)
            if len(head) < 5 or head[0] != 22:  # the end, or an alert: it refuses
                break
            data += file.read(int.from_bytes(head[3:5], "big"))
            if found := _parsed(data):
                return found
    except ConnectionError:
        pass
    return {}


def _parsed(data: bytes) -> dict[str, Any]:
    """The ServerHello with, in TLS 1.2, the group of the ServerKeyExchange; {} while they are not all there."""
    found: dict[str, Any] = {}
    at = 0
    while len(data) >= at + 4 + (length := int.from_bytes(data[at + 1 : at + 4], "big")):
        body = data[at + 4 : at + 4 + length]
        if data[at] == 2:
            end = 35 + body[34]
            found = {"group": 0, "compresses": body[end + 2] != 0}
            found |= {"renegotiates": False, "binds": False}
            rest = body[end + 5 :]
            while rest:
                key, size = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")
                found["renegotiates"] |= key == _RENEGOTIATION
                found["binds"] |= key == _MASTER_SECRET
                if key == _KEY_SHARE:
                    found["group"] = int.from_bytes(rest[4:6], "big")
                    return found
                rest = rest[4 + size :]
        elif data[at] == 12 and body[0] == 3:  # a named curve (RFC 8422, 5.4)
            found["group"] = int.from_bytes(body[1:3], "big")
        elif data[at] == 14:  # ServerHelloDone
            return found
        at += 4 + length
    return {}


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
