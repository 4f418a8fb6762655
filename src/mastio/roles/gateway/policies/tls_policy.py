#!/usr/bin/python3 -I
"""Tells Postfix how to secure the way to a domain: DANE where there is any, else its MTA-STS policy.

    tls-policy SOCKET STS_SOCKET

Postfix asks by socketmap (socketmap_table(5)); MTA-STS is asked of mta-sts-daemon in the same protocol. That
daemon knows nothing of DANE, and an MTA-STS policy must not override a failing DANE (RFC 8461, 2).
Where both are published, only MXs with a TLSA record will do. Whatever cannot be found out is a
temporary error: the mail waits. dnspython; the resolver on this machine validates.
"""

import asyncio
import sys
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
PATIENCE = 20.0
"""For one answer, in seconds; Postfix waits 100 (socketmap_table(5))."""
_LONGEST = 100_000


def decide(dane: bool, sts: bytes) -> bytes:
    """The answer to Postfix: whether an MX of the domain has a TLSA record, and what MTA-STS says."""
    if not dane:
        return sts
    return ONLY_DANE if sts.startswith(b"OK ") else NONE


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


class Policy:
    """Answers Postfix."""

    def __init__(self, sts: str) -> None:
        self.sts = sts
        self.resolver = dns.asyncresolver.Resolver()
        self.resolver.use_edns(0, dns.flags.DO, 1232)
        self.resolver.flags = dns.flags.RD | dns.flags.AD
        self.resolver.lifetime = PATIENCE / 2

    async def secure(self, name: str, kind: str) -> list[str]:
        """The validated records' data; [] when there are none or they are not signed."""
        try:
            found = await self.resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return []
        if not found.response.flags & dns.flags.AD:
            return []
        return [it.to_text() for it in found.rrset or ()]

    async def has_dane(self, domain: str) -> bool:
        """Whether any MX of the domain has a TLSA record that can be believed (RFC 7672, 2.2)."""
        hosts = [it.split()[1] for it in await self.secure(f"{domain}.", "MX")]
        for host in hosts:
            if host != "." and await self.secure(f"_25._tcp.{host}", "TLSA"):
                return True
        return False

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
                dane, sts = await asyncio.gather(self.has_dane(domain), self.ask_sts(request))
        except (OSError, ValueError, EOFError, TimeoutError, dns.exception.DNSException) as error:
            print(f"{domain}: {type(error).__name__} {error}", file=sys.stderr, flush=True)
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
