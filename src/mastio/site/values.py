"""Values of people's files and command lines, judged one at a time: names, addresses, keys.

Each function takes what was written and returns it in the form the rest of mastio works with, or
raises `ValueError` whose text completes the sentence "X: …" for a person. Nothing here knows of files.

>>> domain("Bücher.Example")
'xn--bcher-kva.example'
"""

import base64
import binascii
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

import idna

from mastio.site.model import Address, Network

_LABEL = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"  # RFC 5322 atext
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_RSA_LEAST = 2048

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def time_of_day(text: str) -> str:
    """Hours and minutes, as `04:30`."""
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text):
        raise ValueError(f"{shown(text)} is no time of day, such as 04:30")
    return text


def folder(text: str) -> str:
    """An absolute path."""
    if not re.fullmatch(r"(/[A-Za-z0-9_][A-Za-z0-9._-]*)+", text):
        raise ValueError(f"{shown(text)} is no absolute path of a folder, such as /mnt/backup")
    return text


def copy(text: str) -> str:
    """An absolute path, or a folder on a host that is reached by ssh, as borg(1) writes it."""
    if not text.startswith("ssh:"):
        return folder(text)
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if (
        not re.fullmatch(
            r"ssh://[a-z_][a-z0-9_-]*@([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(/[A-Za-z0-9._-]+)+", text
        )
        or port is not None
    ):
        raise ValueError(
            f"{shown(text)} is no folder of a host, such as ssh://copies@backup.example.net/srv/copies"
        )
    return text


def label(text: str, longest: int = 63) -> str:
    """A host name label (RFC 1123): lower-case letters, digits and hyphens, a letter first."""
    if not _LABEL.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a label: lower-case letters, digits and hyphens, a letter first"
        )
    if len(text) > longest:
        raise ValueError(f"{text!r} has {len(text)} characters: at most {longest} are allowed")
    return text


def domain(text: str) -> str:
    """A domain with two labels or more, as lower-case A-labels (RFC 5890)."""
    plain = text.rstrip(".")
    try:
        name = idna.encode(plain, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError(f"{text!r} is not a domain: {_reason(error)}") from None
    if "." not in name:
        raise ValueError(f"{text!r} is not a full domain, such as example.org")
    if name.rpartition(".")[2].isdigit():
        raise ValueError(f"{text!r} is an address, not a domain")
    return name


def _reason(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).rstrip(".") or "it cannot be written in ASCII form"


def mail(text: str, *, tags: bool = False) -> str:
    """A mail address `local@domain` (RFC 5321, dot-string, lower-cased, ASCII local part).

    Without `tags` a `+` is refused: it separates a user's own tags from the address.
    """
    local, at, name = text.strip().rpartition("@")
    if not at or not local:
        raise ValueError(f"{text!r} is not a mail address, such as alice@example.org")
    if "+" in local and not tags:
        raise ValueError(
            f"{text!r}: + separates a user's own tags and cannot be part of an address"
        )
    if not _DOT_STRING.fullmatch(local):
        raise ValueError(
            f"{text!r}: before the @ stand letters, digits and !#$%&'*-/=?^_`{{|}}~, dots between them"
        )
    if len(local) > 64:
        raise ValueError(f"{text!r}: at most 64 characters may stand before the @ (RFC 5321)")
    found = f"{local.lower()}@{domain(name)}"
    if len(found) > 254:
        raise ValueError(f"{text!r}: an address has at most 254 characters (RFC 5321)")
    return found


def address(text: str) -> Address:
    """An IP address that a host can have."""
    try:
        found = ip_address(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an IP address, such as 203.0.113.1 or 2001:db8::1"
        ) from None
    if what := _special(found):
        raise ValueError(f"{found} is {what} address: no host can be reached by it")
    return found


def _special(it: Address) -> str:
    if isinstance(it, IPv6Address) and (it.ipv4_mapped or it.scope_id):
        return "an IPv4-mapped or scoped"
    if it.is_loopback:
        return "a loopback"
    if it.is_multicast:
        return "a multicast"
    if it.is_link_local:
        return "a link-local"
    if it.is_unspecified or it == IPv4Address("255.255.255.255"):
        return "an unspecified or broadcast"
    return ""


def network(text: str) -> Network:
    """An IP network; host bits must be zero, and hosts must be able to live there."""
    try:
        found = ip_network(text)
    except ValueError:
        raise ValueError(_network_hint(text)) from None
    if found.prefixlen == 0:
        raise ValueError(f"{found} is the whole internet")
    if what := _special(found.network_address):
        raise ValueError(f"{found} has {what} address: no host can live there")
    return found


def _network_hint(text: str) -> str:
    try:
        meant: IPv4Network | IPv6Network = ip_network(text, strict=False)
    except ValueError:
        return f"{text!r} is not a network, such as 10.77.1.0/24 or fd00:1:2:3::/64"
    return f"{text!r} is a host's address: its network is {meant}"


def ssh_name(text: str) -> str:
    """A `Host` of ssh_config(5): one word."""
    if not text or text.startswith("-") or not text.isprintable() or text.split() != [text]:
        raise ValueError(f"{text!r} is no host of ssh_config: one word")
    return text


def hours_of_day(text: str) -> tuple[int, int]:
    """`22:00-06:30` as two minutes of the day; it may reach over midnight."""
    found = _HOURS.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no span of a day, such as 22:00-06:30")
    begin, end = (int(found[at]) * 60 + int(found[at + 1]) for at in (1, 3))
    if begin == end:
        raise ValueError(f"{text!r}: it ends when it begins")
    return begin, end


def https_url(text: str) -> str:
    """An https URL with a host (RFC 9110, 4.2.2), and no password in it."""
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or parts.password or not text.isprintable():
        raise ValueError(f"{text!r} is no https URL: https://HOST/PATH")
    return text


def rule_group(text: str) -> str:
    """The name of a file of Suricata rules, without its end: `emerging-smtp`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", text):
        raise ValueError(f"{shown(text)} is no name of a group of rules, such as emerging-smtp")
    return text


def ssh_key(text: str) -> str:
    """One OpenSSH public key line, `type base64 comment` (sshd(8)). Never quoted in full."""
    if "PRIVATE KEY" in text:
        raise ValueError(
            "this is a PRIVATE key: take it out of the file now, make a new pair, give the .pub here"
        )
    words = text.split(maxsplit=2)
    if "\n" in text.strip() or len(words) < 2:
        raise ValueError("not a public key line, such as: ssh-ed25519 AAAA… alice@laptop")
    kind, body = words[:2]
    if kind not in _KEY_TYPES:
        raise ValueError(f"a key of an unknown type; allowed: {', '.join(_KEY_TYPES)}")
    try:
        blob = base64.b64decode(body, validate=True)
        fields = _fields(blob)
    except (binascii.Error, ValueError):
        raise ValueError(
            f"the {kind} key is damaged or cut off; copy the .pub file again"
        ) from None
    if fields[0] != kind.encode():
        raise ValueError(f"the {kind} key is damaged: its body says another type")
    if kind == "ssh-rsa" and int.from_bytes(fields[-1], "big").bit_length() < _RSA_LEAST:
        raise ValueError(
            f"an RSA key needs {_RSA_LEAST} bits or more; better: ssh-keygen -t ed25519"
        )
    return " ".join(words)


def _fields(blob: bytes) -> list[bytes]:
    """The strings of an SSH wire structure (RFC 4251, section 5)."""
    fields = []
    while blob:
        size = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + size:
            raise ValueError("cut off")
        fields.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    if len(fields) < 2:
        raise ValueError("cut off")
    return fields


def shown(text: str) -> str:
    """A value as a message may quote it: long ones, such as keys, cut short."""
    return text if len(text) <= 60 else f"{text[:28]}…"
