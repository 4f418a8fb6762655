"""The MTA-STS policy of a domain (RFC 8461): its mail is to be delivered over verified TLS, or not at all.

The policy is served at https://mta-sts.DOMAIN/.well-known/mta-sts.txt, and its `id` in DNS follows from
its text, so that neither can change without the other.
"""

from hashlib import sha256

from mastio.site.model import Site

PATH = "/.well-known/mta-sts.txt"
_MAX_AGE = 2_419_200  # four weeks; at most a year is allowed (RFC 8461, 3.2)


def host(domain: str) -> str:
    """Where the policy of `domain` is served."""
    return f"mta-sts.{domain}"


def policy(site: Site) -> str:
    """The policy's text, the same for all domains since they share the MX."""
    lines = (
        "version: STSv1",
        f"mode: {site.dns.mta_sts}",
        f"mx: {site.mx_host}",
        f"max_age: {_MAX_AGE}",
    )
    return "".join(f"{line}\r\n" for line in lines)


def identifier(site: Site) -> str:
    """The policy's `id`: up to 32 letters and digits that differ when the policy does."""
    return sha256(policy(site).encode()).hexdigest()[:32]
