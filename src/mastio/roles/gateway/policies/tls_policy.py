#!/usr/bin/python3 -I
"""Tells Postfix how to secure the way to a domain: DANE where there is any, else its MTA-STS policy.

    tls-policy SOCKET STS_SOCKET

Postfix asks by socketmap (socketmap_table(5)); MTA-STS is asked of mta-sts-daemon in the same protocol. That
daemon knows nothing of DANE, and an MTA-STS policy must not override a failing DANE (RFC 8461, 2).
Where both are published, only MXs with a TLSA record will do.

TLSA records are asked for only where the MX's addresses are signed (RFC 7672, 2.2.2): name servers of unsigned
zones answer such a question badly, and that would hold up mail for nothing. An MX that cannot be looked up is as one
that is down while another can be. What else cannot be found out is a temporary error: the mail waits, where Postfix
does not itself leave out just the MX in question. dnspython; the resolver on this machine validates.
"""

import asyncio
import sys
from enum import Enum
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.rdatatype
import dns.resolver

NONE = b"NOTFOUND "
"""No word on the domain: Postfix's own level, `dane`, stands."""
ONLY_DANE = b"OK dane-only"
LATER = b"TEMP "
PATIENCE = 50.0
"""For one answer, in seconds; Postfix waits 100 (socketmap_table(5))."""
_QUESTIONS = 5
"""So many are asked one after the other at most: the MX, its addresses of both families, its alias, TLSA."""
_LONGEST = 100_000


class Dane(Enum):
    """Whether an MX, or any MX of a domain, has a TLSA record that can be believed."""

    NONE = "none"
    SOME = "some"
    UNKNOWN = "unknown"


def decide(dane: Dane, sts: bytes) -> bytes:
    """The answer to Postfix, from what DANE and what MTA-STS say of the domain.

    A policy would override the DANE of which nothing is known. Without one, Postfix asks by itself, MX by MX.
    """
    match dane:
        case Dane.NONE:
            return sts
        case Dane.SOME:
            return ONLY_DANE if sts.startswith(b"OK ") else NONE
        case Dane.UNKNOWN:
            return NONE if sts.startswith(NONE) else LATER


def encode(data: bytes) -> bytes:
    """A netstring."""
    return b"%d:%b," % (len(data), data)


async def decode(reader: asyncio.StreamReader) -> bytes:
    """The next netstring. Raises ValueError when it is none, IncompleteReadError at the end."""
    length = int((await reader.readuntil(b":"))[:-1])
    if length > _LONGEST:
        raise ValueError("too long")
    data = await reader.readexactly(length + 1)
    if data[-1:] != b",":
        raise ValueError("not a netstring")
    return data[:-1]


def _complain(name: str, error: Exception) -> None:
    print(f"{name}: {type(error).__name__} {error}", file=sys.stderr, flush=True)


class Policy:
    """Answers Postfix."""

    def __init__(self, sts: str) -> None:
        self.sts = sts
        self.resolver = dns.asyncresolver.Resolver()
        self.resolver.use_edns(0, dns.flags.DO, 1232)
        self.resolver.flags = dns.flags.RD | dns.flags.AD
        self.resolver.lifetime = PATIENCE / _QUESTIONS

    async def ask(self, name: str, kind: str) -> tuple[list[str], bool]:
        """The records' data, and whether they are validated."""
        try:
            found = await self.resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return [], False
        return [it.to_text() for it in found.rrset or ()], bool(found.response.flags & dns.flags.AD)

    async def secure(self, name: str, kind: str) -> list[str]:
        """The validated records' data; [] when there are none or they are not signed."""
        data, signed = await self.ask(name, kind)
        return data if signed else []

    async def is_signed(self, host: str) -> bool:
        """Whether the host's addresses are signed, or at least the alias that leads to them (RFC 7672, 2.2.2)."""
        failure: dns.exception.DNSException | None = None
        for kind in ("A", "AAAA"):
            try:
                data, signed = await self.ask(host, kind)
            except dns.exception.DNSException as error:
                failure = error
                continue
            # Both families are in one zone: what one says holds for the other.
            if data:
                return signed or bool(await self.secure(host, "CNAME"))
        if failure:
            raise failure
        return False

    async def of_host(self, host: str) -> Dane | None:
        """How one MX stands; None when its addresses cannot be looked up, so that nobody can reach it either."""
        try:
            if not await self.is_signed(host):
                return Dane.NONE
        except dns.exception.DNSException as error:
            _complain(host, error)
            return None
        try:
            return Dane.SOME if await self.secure(f"_25._tcp.{host}", "TLSA") else Dane.NONE
        except dns.exception.DNSException as error:
            _complain(host, error)
            return Dane.UNKNOWN

    async def of_domain(self, domain: str) -> Dane:
        """How its MXs stand together (RFC 7672, 2.2)."""
        hosts = [it.split()[1] for it in await self.secure(f"{domain}.", "MX")]
        each = await asyncio.gather(*(self.of_host(it) for it in hosts if it != "."))
        for one in (Dane.SOME, Dane.UNKNOWN, Dane.NONE):
            if one in each:
                return one
        return Dane.UNKNOWN if each else Dane.NONE

    async def ask_sts(self, request: bytes) -> bytes:
        """What mta-sts-daemon says."""
        reader, writer = await asyncio.open_unix_connection(self.sts)
        try:
            writer.write(encode(request))
            await writer.drain()
            return await decode(reader)
        finally:
            writer.close()

    async def answer(self, request: bytes) -> bytes:
        """The reply to `name domain`."""
        domain = request.partition(b" ")[2].decode("ascii", "replace").lower().strip(".")
        # Parent domains (.example.com) and literal next hops ([192.0.2.1]) have no policy.
        if request.partition(b" ")[2][:1] in (b".", b"[", b"") or "." not in domain:
            return NONE
        try:
            async with asyncio.timeout(PATIENCE):
                dane, sts = await asyncio.gather(self.of_domain(domain), self.ask_sts(request))
        except (OSError, ValueError, EOFError, TimeoutError, dns.exception.DNSException) as error:
            _complain(domain, error)
            return LATER
        return decide(dane, sts)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of Postfix, request after request."""
        try:
            while True:
                writer.write(encode(await self.answer(await decode(reader))))
                await writer.drain()
        except (OSError, ValueError, EOFError):
            pass
        finally:
            writer.close()


async def main(path: str, sts: str) -> None:
    """Listens until it is stopped."""
    policy = Policy(sts)
    server = await asyncio.start_unix_server(policy.serve, path)
    Path(path).chmod(0o666)  # what it says is no secret, and Postfix's clients are many users
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
