"""Why a message was refused, in an administrator's words, from what the server answered."""

from functools import lru_cache

AWAY = "scanner away, to come again"
REASONS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("greylisted, to come again", (b"greylisted",)),
    (AWAY, (b"is not ready",)),  # also the virus scanner
    ("relaying", (b"Relay access denied",)),
    ("spam", (b"Gtube", b"spam or malware", b"looks like spam", b"Spam message")),
    ("virus", (b"malware", b"virus", b"Virus")),
    ("forged sender", (b"claims to be from", b"DMARC", b"SPF", b"DKIM", b"not proven")),
    ("dangerous attachment", (b"file of type", b"attachment", b"archive", b"macro")),
    ("block list", (b"blocked using", b"DNSBL", b"listed")),
    ("writes as somebody else", (b"not owned by user", b"From: must hold", b"Users have an address")),
    ("sender's domain does not exist", (b"Domain not found", b"4.1.8", b"5.1.8")),
    ("mailbox or disk full", (b"Insufficient system storage", b"uota", b"5.2.2", b"4.2.2", b"mailbox full")),
    ("no such user", (b"ser unknown", b"unknown user", b"5.1.1", b"No such user", b"does not exist",
                      b"undeliverable address")),
    (AWAY, (b"Service unavailable", b"Service currently unavailable")),
    ("too much or too fast", (b"Too many", b"too many", b"too much mail", b"rate limit", b"limit exceeded",
                              b"size limit", b"too big", b"5.3.4")),
    ("protocol", (b"bare <LF>", b"pipelining", b"need fully-qualified", b"Helo", b"Protocol error",
                  b"Improper", b"one From:", b"one address", b"5.5.", b"yntax")),
    ("not wanted here", (b"not wanted",)),
    ("no right to send", (b"Client host rejected: Access denied",)),
    ("TLS required", (b"STARTTLS", b"certificate")),
)  # fmt: skip
"""What an administrator calls it, and what such answers contain; the first that fits."""
OTHER = "another reason"


@lru_cache(4096)
def reason(answer: bytes) -> str:
    """The reason in an answer such as `554 5.7.1 <a@b>: Relay access denied`."""
    for words, marks in REASONS:
        for mark in marks:
            if mark in answer:
                return words
    return OTHER
