"""DANE or MTA-STS: which one Postfix is told, and the protocol in which it is."""

import asyncio
from dataclasses import dataclass

import dns.flags
import dns.resolver
import dns.rrset
import pytest

from mastio.roles.gateway.policies import tls_policy
from mastio.roles.gateway.policies.tls_policy import LATER, NONE, ONLY_DANE, Dane, Policy

STS = b"OK secure match=mx.a.test servername=hostname"


@pytest.mark.parametrize(
    ("dane", "sts", "told"),
    [
        (Dane.NONE, STS, STS),
        (Dane.NONE, NONE, NONE),
        (Dane.NONE, LATER, LATER),
        (Dane.SOME, NONE, NONE),
        (Dane.SOME, STS, ONLY_DANE),
        (Dane.SOME, LATER, NONE),
        (Dane.UNKNOWN, NONE, NONE),
        (Dane.UNKNOWN, STS, LATER),
        (Dane.UNKNOWN, LATER, LATER),
    ],
)
def test_dane_goes_first(dane: Dane, sts: bytes, told: bytes) -> None:
    assert tls_policy.decide(dane, sts) == told


def decoded(data: bytes) -> bytes:
    async def read() -> bytes:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await tls_policy.decode(reader)

    return asyncio.run(read())


def test_a_netstring_comes_back() -> None:
    assert decoded(tls_policy.encode(b"policy a.test")) == b"policy a.test"


@pytest.mark.parametrize("data", [b"x:a,", b"3:abcd", b"999999:a,", b"5:ab,", b""])
def test_what_is_no_netstring_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, EOFError)):
        decoded(data)


@pytest.mark.parametrize("key", [b".a.test", b"[192.0.2.1]:25", b"localhost", b""])
def test_what_is_no_domain_has_no_policy(key: bytes) -> None:
    assert asyncio.run(Policy("/nowhere").answer(b"policy " + key)) == NONE


def test_what_cannot_be_found_out_is_a_temporary_error() -> None:
    policy = Policy("/nowhere")
    policy.resolver.nameservers = []
    assert asyncio.run(policy.answer(b"policy a.test")) == LATER


BROKEN = dns.resolver.NoNameservers()
"""What a resolver says whom all servers of a name have answered badly: SERVFAIL."""
TLSA = (f"3 1 1 {64 * '0'}",)
Zone = dict[tuple[str, str], tuple[str, ...] | Exception]


@dataclass
class Message:
    flags: int


@dataclass
class Found:
    """What dnspython's resolver returns, as far as it is looked at."""

    response: Message
    rrset: dns.rrset.RRset | None


class Names:
    """A resolver that knows a few names; those that end in one of `signed` it has validated."""

    def __init__(self, zone: Zone, signed: tuple[str, ...]) -> None:
        self.zone, self.signed = zone, signed
        self.asked: list[tuple[str, str]] = []

    async def resolve(self, name: str, kind: str, **_: bool) -> Found:
        self.asked.append((name, kind))
        data = self.zone.get((name, kind), ())
        if isinstance(data, Exception):
            raise data
        rows = dns.rrset.from_text(name, 60, "IN", kind, *data) if data else None
        return Found(Message(dns.flags.AD if name.endswith(self.signed) else 0), rows)


class Asking(Policy):
    """A policy with names of its own, and mta-sts-daemon's answer."""

    def __init__(self, zone: Zone, signed: tuple[str, ...] = (".test.",), sts: bytes = STS) -> None:
        super().__init__("/nowhere")
        self.names, self.said = Names(zone, signed), sts
        self.resolver = self.names  # type: ignore[assignment]

    async def ask_sts(self, _: bytes) -> bytes:
        return self.said

    def told(self) -> bytes:
        return asyncio.run(self.answer(b"policy a.test"))


def zone(**hosts: str | tuple[str, ...] | Exception) -> Zone:
    """The MXs of a.test, each with an address, and what asking for its TLSA record gives."""
    found: Zone = {("a.test.", "MX"): tuple(f"10 {it}.test." for it in hosts)}
    for host, tlsa in hosts.items():
        found[f"{host}.test.", "A"] = ("192.0.2.1",)
        found[f"_25._tcp.{host}.test.", "TLSA"] = tlsa  # type: ignore[assignment]
    return found


def test_an_mx_with_a_tlsa_record_is_dane() -> None:
    assert Asking(zone(mx=TLSA)).told() == ONLY_DANE
    assert Asking(zone(mx=())).told() == STS
    assert Asking(zone(mx=TLSA), signed=()).told() == STS, "nobody vouches for it"


def test_servers_of_unsigned_addresses_are_not_asked_for_tlsa_which_they_answer_badly() -> None:
    """RFC 7672, 2.2.2: the domain is signed, its MX at a provider is not."""
    asking = Asking(zone(mx=BROKEN), signed=("a.test.",))
    assert asking.told() == STS
    assert not any(kind == "TLSA" for _, kind in asking.names.asked)
    # Nor is it asked for IPv6 once its name is known to be unsigned.
    assert ("mx.test.", "AAAA") not in asking.names.asked


def test_an_mx_has_dane_by_either_family() -> None:
    names = zone(mx=TLSA)
    for other in ((), BROKEN):
        names["mx.test.", "A"], names["mx.test.", "AAAA"] = other, ("2001:db8::1",)
        assert Asking(names).told() == ONLY_DANE


def test_an_alias_that_is_signed_is_asked_though_where_it_leads_is_not() -> None:
    names = zone(mx=TLSA)
    names["mx.test.", "CNAME"] = ("mx.provider.example.",)
    asking = Asking(names)

    async def unsigned(name: str, kind: str, **more: bool) -> Found:
        found = await Names.resolve(asking.names, name, kind, **more)
        return Found(Message(0), found.rrset) if kind == "A" else found

    asking.names.resolve = unsigned  # type: ignore[method-assign]
    assert asking.told() == ONLY_DANE


@pytest.mark.parametrize(("sts", "told"), [(STS, LATER), (NONE, NONE)])
def test_a_signed_mx_whose_tlsa_cannot_be_looked_up(sts: bytes, told: bytes) -> None:
    """A policy must not override a failing DANE (RFC 8461, 2); without one, Postfix leaves out that MX by itself."""
    assert Asking(zone(mx=BROKEN), sts=sts).told() == told
    assert Asking(zone(good=(), bad=BROKEN), sts=sts).told() == told


def test_one_broken_mx_does_not_spoil_the_other() -> None:
    assert Asking(zone(good=TLSA, bad=BROKEN)).told() == ONLY_DANE
    assert Asking(zone(bad=BROKEN, good=TLSA)).told() == ONLY_DANE
    names = zone(good=(), bad=TLSA)
    names["bad.test.", "A"] = names["bad.test.", "AAAA"] = BROKEN
    assert Asking(names).told() == STS, "nobody can reach the other one anyway"


@pytest.mark.parametrize("kinds", [("A", "AAAA"), ("MX",)])
def test_when_no_mx_can_be_looked_up_mail_waits_for_its_policy(kinds: tuple[str, ...]) -> None:
    names = zone(mx=TLSA)
    for kind in kinds:
        names["a.test." if kind == "MX" else "mx.test.", kind] = BROKEN
    assert Asking(names).told() == LATER


def test_a_domain_that_takes_no_mail_has_no_dane() -> None:
    assert Asking({("a.test.", "MX"): ("0 .",)}, sts=NONE).told() == NONE
