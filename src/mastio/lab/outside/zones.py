"""The names of the simulated internet: signed zones as text, from the site alone.

`zones(…)` gives every zone in master-file format (RFC 1035), the root's among them, each signed
(RFC 4034) and delegated with a DS record from the zone above; `anchor()` is what a validating resolver
must trust. Signing needs no running server and no clock: Ed25519 signatures (RFC 8080) are the same for
the same input, and their validity is fixed, so that building twice gives the same bytes.

>>> print(zones(["fortress.test"], [mx("fortress.test", "mx.fortress.test")], server, key)["fortress.test"])
fortress.test. 60 IN SOA ns.outside.test. hostmaster.ns.outside.test. 1 600 60 86400 60
fortress.test. 60 IN NS ns.outside.test.
fortress.test. 60 IN MX 10 mx.fortress.test.
...
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import dns.dnssec
import dns.dnssectypes
import dns.name
import dns.reversename
import dns.zone
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.dnskeybase import Flag

from mastio.dns.records import Record
from mastio.errors import MastioError
from mastio.site.model import Address, Network

TTL = 60
"""Seconds that an answer may be cached: short, so that a change is seen while a test waits."""
# Serial-number arithmetic (RFC 4034, 3.1.5) lets a signature live up to 68 years.
_INCEPTION = datetime(2025, 1, 1, tzinfo=UTC)
_EXPIRATION = datetime(2085, 1, 1, tzinfo=UTC)
_SERIAL = 1  # nobody transfers these zones, so that nobody compares serials


@dataclass(frozen=True, slots=True)
class Server:
    """The one authoritative server: its name and addresses. It serves the root as well."""

    name: str
    addresses: tuple[Address, ...]


def reverse_zone(network: Network) -> str:
    """The zone that holds the PTR records of `network`.

    Reverse names are cut at whole octets (IPv4) or nibbles (IPv6); a network between two cuts gets the
    zone above.
    """
    bits = 8 if network.version == 4 else 4
    name = dns.reversename.from_address(str(network.network_address))
    return _bare(
        dns.name.Name(name.labels[(network.max_prefixlen // bits - network.prefixlen // bits) :])
    )


def zones(
    apexes: Iterable[str], records: Iterable[Record], server: Server, key_pem: str
) -> Mapping[str, str]:
    """Every zone's signed text by its name without the last dot; the root's name is "".

    Each record goes to the closest zone above it. One key signs all zones: what the site must prove is
    that it checks the chain, not that the lab keeps its keys apart. Raises ValueError for a record that
    cannot be parsed.
    """
    names = sorted({"", *apexes}, key=lambda apex: (apex.count("."), apex))
    key = _private(key_pem)
    public = _dnskey(key)
    content: dict[str, list[Record]] = {
        apex: [
            Record(
                apex,
                "SOA",
                f"{server.name}. hostmaster.{server.name}. {_SERIAL} 600 60 86400 {TTL}",
            ),
            Record(apex, "NS", f"{server.name}."),
        ]
        for apex in names
    }
    for record in records:
        content[_closest(record.owner, names)].append(record)
    for apex in names[1:]:
        parent = content[_closest(apex.partition(".")[2], names)]
        parent.append(Record(apex, "NS", f"{server.name}."))
        parent.append(Record(apex, "DS", _ds(apex, public)))
    # Glue: the server's addresses stand below a delegation, and a resolver needs them to begin.
    content[""] += [
        Record(server.name, "A" if address.version == 4 else "AAAA", str(address))
        for address in server.addresses
    ]
    return {apex: _sign(apex, content[apex], key, public) for apex in names}


def anchor(key_pem: str) -> str:
    """The root's DNSKEY as a trust anchor, in zone format."""
    return f". IN DNSKEY {_dnskey(_private(key_pem)).to_text()}\n"


def hints(server: Server) -> str:
    """The root hints file that leads a resolver to the lab's root server."""
    lines = [f". 3600000 NS {server.name}."]
    for address in server.addresses:
        kind = "A" if address.version == 4 else "AAAA"
        lines.append(f"{server.name}. 3600000 {kind} {address}")
    return "".join(f"{line}\n" for line in lines)


def _bare(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _closest(owner: str, names: Iterable[str]) -> str:
    return max(
        (apex for apex in names if not apex or owner == apex or owner.endswith(f".{apex}")), key=len
    )


def _private(pem: str) -> ed25519.Ed25519PrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise MastioError("the lab's DNSSEC key is not an Ed25519 key", hint="make a new lab")
    return key


def _dnskey(key: ed25519.Ed25519PrivateKey) -> DNSKEY:
    flags = Flag.ZONE | Flag.SEP
    return dns.dnssec.make_dnskey(key.public_key(), dns.dnssectypes.Algorithm.ED25519, flags)


def _ds(apex: str, public: DNSKEY) -> str:
    return dns.dnssec.make_ds(f"{apex}.", public, dns.dnssectypes.DSDigest.SHA256).to_text()


def _sign(
    apex: str, records: Iterable[Record], key: ed25519.Ed25519PrivateKey, public: DNSKEY
) -> str:
    lines: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in records:
        lines[record.owner, record.type].append(
            f"{record.owner}. {TTL} IN {record.type} {record.data}"
        )
    source = "\n".join(line for owner in lines.values() for line in sorted(set(owner)))
    zone = dns.zone.from_text(source, origin=f"{apex}.", relativize=False)
    with zone.writer() as transaction:
        dns.dnssec.sign_zone(
            zone, transaction, keys=[(key, public)], dnskey_ttl=TTL,
            inception=_INCEPTION, expiration=_EXPIRATION,
        )  # fmt: skip
    return zone.to_text(relativize=False)
