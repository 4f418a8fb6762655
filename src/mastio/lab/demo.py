"""The demonstration: the site that `lab up` makes where there is none, and its two people."""

from dataclasses import replace
from pathlib import Path

from mastio.lab import outside
from mastio.site.model import Reach
from mastio.site.write import Start, write

DOMAIN = "fortress.test"
PEOPLE = ("alice", "bob")

# RFC 5737 and RFC 3849: addresses for documentation, which nobody on the internet has.
_START = Start(
    name="demo",
    organisation="Fortress Ltd",
    domains=(DOMAIN,),
    public=("203.0.113.1", "2001:db8:113::1"),
    admin=f"{PEOPLE[0]}@{DOMAIN}",
    reach=Reach.LAB,
)


def found(site_file: Path, name: str = _START.name) -> bool:
    """Write the demonstration's site file if there is none; True when it was written."""
    if site_file.exists():
        return False
    site_file.parent.mkdir(parents=True, exist_ok=True)
    site_file.write_text(write(replace(_START, name=name)), encoding="utf-8")
    return True


def correspondent() -> str:
    """Somebody outside to write to."""
    return f"{outside.USER}@{outside.DOMAIN}"
