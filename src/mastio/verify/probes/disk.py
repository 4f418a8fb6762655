"""What lies on a machine's disk for whoever has root there: keys, password hashes, mail.

Found by content, not by name, so that a copy in an odd place is found as well. Nothing of it leaves
the machine but path, kind, owner and mode. Left out are the files below /usr that packages brought, which
are the same everywhere; what is packed or encrypted is not looked into, and of each file the first MiB
only. Links are not followed, and nothing is changed.
"""

from __future__ import annotations

import glob
import grp
import os
import pwd
import re
import ssl
import stat
from typing import Any

_PSEUDO = frozenset(("/proc", "/sys", "/dev", "/run/host"))
_PACKAGES, _BROUGHT = "/var/lib/dpkg/info", "/usr/"
_MOST = 1 << 20
_MAILDIR = frozenset(("cur", "new", "tmp"))
_SAN = b"\x06\x03\x55\x1d\x11"  # subjectAltName (RFC 5280, 4.2.1.6)
_BREAK = rb"(?:\s|\\n)+"
_ANYWHERE = (
    # PEM (RFC 7468), with the headers that old encrypted keys have (RFC 1421)
    ("private key", rb"-----BEGIN (?:RSA |EC |DSA |ENCRYPTED )?PRIVATE KEY-----" + _BREAK
     + rb"(?:[\w-]+: [^\n]*\n)*\s*[A-Za-z0-9+/]{40}"),
    ("ssh key", rb"-----BEGIN OPENSSH PRIVATE KEY-----" + _BREAK + rb"[A-Za-z0-9+/]{40}"),
    ("vault", rb"-----BEGIN[ ]AGE ENCRYPTED FILE-----"),
    ("vault key", rb"AGE-SECRET-KEY-1[A-Z0-9]{50}"),
    # crypt(5), with and without the scheme's name that Dovecot writes in front
    ("password hash", rb"\$(?:argon2(?:id|i|d)\$v=\d+|y|gy|7|6|5|2[aby]|1)\$[./A-Za-z0-9=,$+]{20}"),
    # wg(8); a pattern that began with what may be there or not would be tried at every octet
    ("wireguard key", rb"PrivateKey[ \t]*=[ \t]*[A-Za-z0-9+/]{43}="),
    ("session key", rb"des_key'\] = '(?!rcmail-!)[^'\n]{8}"),
)  # fmt: skip
_AT_THE_START = (
    # 64 bytes of Ed25519 and nothing else: as Rspamd reads it
    ("private key", rb"\s*[A-Za-z0-9+/]{86}==\s*\Z"),
    ("vault", rb"age-encryption\.org/v1\n"),
    ("session", rb"SQLite format 3\0[\s\S]*CREATE TABLE session\b"),
    # a queue file's first record: sizes and counts (Postfix, global/rec_type.h)
    ("queued mail", rb"C[\x20-\x7f] +\d+ +\d+ +\d+ +\d+ "),
    # mbox; or a message by itself: a header (RFC 5322, 3.6) with From and Date
    ("mail", rb"From [^\n]+\n[!-9;-~]+: "),
    # what the quarantine keeps: a line of JSON before the message (not a log, whose lines are all JSON)
    ("mail", rb"\{[^\n]*\}\n(?!\{)[!-9;-~]+: "),
    ("mail", rb"(?i)(?=[!-9;-~]+:)(?=(?:[^\r\n][^\n]*\n)*?From:)(?:[^\r\n][^\n]*\n)*?Date:"),
)
# `match` for the latter: a search for \A looks at every octet of every file.
_RULES = (
    *((kind, re.compile(pattern).search) for kind, pattern in _ANYWHERE),
    *((kind, re.compile(pattern).match) for kind, pattern in _AT_THE_START),
)
_LOGIN = re.compile(rb"^[^#\n]*\b(?:ssh|ecdsa|sk)-[\w@.-]+ AAAA", re.MULTILINE)


def secrets(top: str, certificates: list[str]) -> dict[str, Any]:
    """`found`: what lies below `top`; `unread`: what could not be looked at.

    Each found is `kind`, `path`, `owner` (user:group), `mode`, `count` (messages of a Maildir, else 1), and
    `of`: the names in the certificate that a private key belongs to, the one beside it or one of
    `certificates`.
    """
    found: list[dict[str, Any]] = []
    unread: list[str] = []
    brought = _brought(top)

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            unread.append(f"{_shown(str(error.filename))}: {error.strerror}")

    for folder, below, names in os.walk(top, onerror=failed):
        if {*below} >= _MAILDIR:
            try:
                count, below[:] = _messages(folder)
                found.append(_entry("mail", folder, os.lstat(folder), count, []))
            except OSError as error:
                failed(error)
        below[:] = sorted(it for it in below if os.path.join(folder, it) not in _PSEUDO)
        for name in sorted(names):
            path = os.path.join(folder, name)
            if path in brought:
                continue
            try:
                kinds, status = _look(path)
                for kind in kinds:
                    of = _owner_of(path, certificates) if kind == "private key" else []
                    found.append(_entry(kind, path, status, 1, of))
            except OSError as error:
                failed(error)
    return {"found": found, "unread": unread}


def _brought(top: str) -> set[str]:
    """The files below /usr that are a package's (dpkg-query(1), --listfiles)."""
    found: set[str] = set()
    for path in glob.glob(f"{_PACKAGES}/*.list") if _BROUGHT.startswith(top) else []:
        with open(path, errors="surrogateescape") as file:
            found.update(line for line in file.read().splitlines() if line.startswith(_BROUGHT))
    return found


def _entry(
    kind: str, path: str, status: os.stat_result, count: int, of: list[str]
) -> dict[str, Any]:
    try:
        user = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        user = str(status.st_uid)
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    return {
        "kind": kind,
        "path": _shown(path),
        "owner": f"{user}:{group}",
        "mode": mode,
        "count": count,
        "of": of,
    }


def _shown(path: str) -> str:
    """A path that a terminal can be trusted with: its name may be an intruder's."""
    return "".join(it if it.isprintable() else f"\\x{ord(it):02x}" for it in path)


def _messages(folder: str) -> tuple[int, list[str]]:
    """How many messages a Maildir and its folders (Maildir++: `.Junk`) hold, and what else is in it."""
    count, others = 0, []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name in _MAILDIR:
            count += len(os.listdir(path))
        elif os.path.isdir(path) and not os.path.islink(path):
            if name.startswith(".") and {*os.listdir(path)} >= _MAILDIR:
                count += sum(len(os.listdir(os.path.join(path, it))) for it in _MAILDIR)
            else:
                others.append(name)
    return count, others


def _look(path: str) -> tuple[list[str], os.stat_result]:
    """The kinds of what is in a file, each once."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return [], status
    data = _head(path)
    kinds = [kind for kind, finds in _RULES if finds(data)]
    if "authorized_keys" in path and _LOGIN.search(data):
        kinds.append("log-in key")
    return list(dict.fromkeys(kinds)), status


def _head(path: str) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags), "rb") as file:
        return file.read(_MOST)


def _owner_of(path: str, certificates: list[str]) -> list[str]:
    """The names of the certificate that belongs to a private key; none when none fits."""
    stem = path.removesuffix(".key")
    for certificate in (f"{stem}.pem", f"{stem}.crt", f"{stem}.cert", path, *certificates):
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_cert_chain(certificate, path, password=lambda: b"-")
            with open(certificate, "rb") as file:
                text = file.read().partition(b"-----END CERTIFICATE")[0]
            begin = text.index(b"-----BEGIN CERTIFICATE")
            return _names(
                ssl.PEM_cert_to_DER_cert(text[begin:].decode() + "-----END CERTIFICATE-----\n")
            )
        except (OSError, ValueError):
            continue
    return []


def _names(der: bytes) -> list[str]:
    """The DNS names of a certificate."""
    names: list[str] = []
    at = der.find(_SAN) + len(_SAN)
    if at < len(_SAN):
        return names
    if der[at] == 0x01:  # critical
        at += 3
    at, _ = _length(der, at)  # OCTET STRING
    at, size = _length(der, at)  # SEQUENCE
    end = at + size
    while at < end:
        tag = der[at]
        at, size = _length(der, at)
        if tag == 0x82:  # dNSName
            names.append(der[at : at + size].decode("ascii", "replace"))
        at += size
    return names


def _length(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element at `at` begins, and its length (X.690, 8.1.3)."""
    first = der[at + 1]
    if first < 0x80:
        return at + 2, first
    many = first & 0x7F
    return at + 2 + many, int.from_bytes(der[at + 2 : at + 2 + many], "big")
