"""Passwords of mailboxes: judged, generated, and hashed here, so that the store only sees the hash."""

import secrets

import argon2
from argon2.profiles import RFC_9106_LOW_MEMORY

SHORTEST = 12
"""In characters; NIST SP 800-63B asks for 8 or more and no rules about their kinds."""
LONGEST = 128
_ALPHABET = (
    "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # none that looks like another
)
_GENERATED = 20


def weakness(password: str, address: str) -> str:
    """What is wrong with the password; empty when nothing is."""
    local, _, domain = address.lower().partition("@")
    folded = password.lower()
    if len(password) < SHORTEST:
        return f"a password needs at least {SHORTEST} characters"
    if len(password) > LONGEST:
        return f"a password has at most {LONGEST} characters"
    if not password.isprintable():
        return "a password consists of printable characters"
    if len(set(folded)) < 5:
        return "the password repeats too few characters"
    rest = folded
    for part in (address.lower(), local, domain, domain.partition(".")[0]):
        rest = rest.replace(part, "") if len(part) > 2 else rest
    if len(rest) < SHORTEST / 2:
        return "the password is little more than the address"
    return ""


def generate() -> str:
    """20 random characters, 116 bits, that can be read out aloud."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_GENERATED))


def hashed(password: str) -> str:
    """`{ARGON2ID}…` for Dovecot: Argon2id, RFC 9106's second recommended option (64 MiB, t=3, p=4)."""
    return "{ARGON2ID}" + argon2.PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY).hash(password)
