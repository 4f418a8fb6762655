"""What the gateway lets in, and out, as frozen data: a part of the site. `mastio.site.filtering` makes it from the
site file."""

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network


class Treatment(StrEnum):
    """What becomes of a message with an attachment that a policy names."""

    REJECT = "reject"
    QUARANTINE = "quarantine"
    """Filed away from its reader by the store; what leaves the site is held by the gateway."""
    MARK = "mark"
    """Delivered with a header that says so; what leaves the site goes as it is, and the log says so."""


class Topic(StrEnum):
    """What spam is about, as far as words tell it."""

    DRUGS = "drugs"
    GAMBLING = "gambling"
    ADULT = "adult"
    CRYPTO = "crypto"
    LOANS = "loans"


@dataclass(frozen=True, slots=True)
class Listing:
    """Senders: mail addresses, domains (with all below them) and client networks."""

    addresses: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Leaning:
    """How the filter leans for the mail to one domain; what is None is as in the whole site."""

    domain: str
    spam_junk_score: float | None = None
    spam_reject_score: float | None = None
    greylist_score: float | None = None
    welcome: Listing = field(default_factory=Listing)
    block: Listing = field(default_factory=Listing)
    topics: tuple[tuple[Topic, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Leaving:
    """What becomes of attachments in mail that leaves the site. Who sends an archive with a password means it."""

    dangerous_attachments: Treatment = Treatment.REJECT
    macro_documents: Treatment = Treatment.MARK
    encrypted_archives: Treatment = Treatment.MARK


@dataclass(frozen=True, slots=True)
class Filter:
    """What the gateway lets in; thresholds for the whole site are in `model.Policy`."""

    dangerous_attachments: Treatment = Treatment.REJECT
    macro_documents: Treatment = Treatment.QUARANTINE
    encrypted_archives: Treatment = Treatment.QUARANTINE
    leaving: Leaving = Leaving()
    trusted_forwarders: tuple[str, ...] = ()
    """Domains whose ARC seals (RFC 8617) are believed when a forwarded message fails DMARC."""
    welcome: Listing = field(default_factory=Listing)
    block: Listing = field(default_factory=Listing)
    topics: tuple[tuple[Topic, float], ...] = ()
    """By what to multiply a topic's score; 1 where nothing is said."""
    domains: tuple[Leaning, ...] = ()
