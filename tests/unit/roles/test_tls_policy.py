"""DANE or MTA-STS: which one Postfix is told, and the protocol in which it is."""

import asyncio

import pytest

from mastio.roles.gateway.policies import tls_policy
from mastio.roles.gateway.policies.tls_policy import LATER, NONE, ONLY_DANE, Policy

STS = b"OK secure match=mx.a.test servername=hostname"


@pytest.mark.parametrize(
    ("dane", "sts", "told"),
    [
        (False, STS, STS),
        (False, NONE, NONE),
        (False, LATER, LATER),
        (True, NONE, NONE),
        (True, STS, ONLY_DANE),
        (True, LATER, NONE),
    ],
)
def test_dane_goes_first(dane: bool, sts: bytes, told: bytes) -> None:
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
