"""Domains of `outside` that test how the site sends. All their mail is the one user's, at the one MTA.

| domain | publishes | so mail to it |
|---|---|---|
| sts | MTA-STS, and its MX shows the right certificate | arrives, verified |
| broken-sts | MTA-STS, and its MX shows another's certificate | waits |
| broken-dane | TLSA of a key that its MX does not have | waits |
| broken-both | a sound MTA-STS policy, but such a TLSA record | waits: DANE goes first (RFC 8461, 2) |
| plain | nothing | arrives |
"""

from hashlib import sha256

from mastio import services
from mastio.dns import records as make
from mastio.dns import sts
from mastio.dns.records import Record
from mastio.site.model import Address

_ABOVE = "outside.test"
STS, BROKEN_STS, BROKEN_DANE, BROKEN_BOTH, PLAIN = (
    f"{name}.{_ABOVE}" for name in ("sts", "broken-sts", "broken-dane", "broken-both", "plain")
)
ALL = (STS, BROKEN_STS, BROKEN_DANE, BROKEN_BOTH, PLAIN)
_WITH_POLICY = (STS, BROKEN_STS, BROKEN_BOTH)
_STRAY_KEY = sha256(b"nobody's key").hexdigest()


def mx(domain: str) -> str:
    """The name of a domain's MX."""
    return f"mx.{domain}"


def certified() -> tuple[str, ...]:
    """The names for which the MTA has a certificate, beside its own."""
    return (mx(STS), mx(BROKEN_BOTH), *(sts.host(domain) for domain in _WITH_POLICY))


def policies() -> dict[str, tuple[str, ...]]:
    """The lines of each MTA-STS policy, by the host that serves it."""
    return {
        sts.host(domain): ("version: STSv1", "mode: enforce", f"mx: {mx(domain)}", "max_age: 86400")
        for domain in _WITH_POLICY
    }


def records(addresses: tuple[Address, ...]) -> tuple[Record, ...]:
    """What the domains publish; the MTA and the policies' server have `addresses`."""
    found: list[Record] = []
    for domain in ALL:
        found += (make.mx(domain, mx(domain)), *make.hosts(mx(domain), addresses))
        if domain in _WITH_POLICY:
            found.append(Record(f"_mta-sts.{domain}", "TXT", make.text("v=STSv1; id=1")))
            found += make.hosts(sts.host(domain), addresses)
        if domain in (BROKEN_DANE, BROKEN_BOTH):
            owner = f"_{services.SMTP.port}._tcp.{mx(domain)}"
            found.append(Record(owner, "TLSA", f"3 1 1 {_STRAY_KEY}"))
    return tuple(found)
