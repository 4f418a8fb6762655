"""What is known of a server → what speaks against taking it, and what is not as it should be. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from ipaddress import ip_address
from typing import TypedDict

from mastio.adopt.judge import Objection, Seen, locked_out, served
from mastio.roles.common import KEYS_ALONE
from mastio.server import carry
from mastio.site.model import Site


class Running(TypedDict):
    """A machine as the server sees it; memory in MiB."""

    there: bool
    active: bool
    enabled: bool
    limit: int
    memory: int
    private: bool
    """Its users are nobody on the server."""
    system: str
    """What its systemd says of itself."""
    seconds: int


class Facts(TypedDict):
    """What `look.py` prints."""

    client: str
    """Whence we came."""
    ports: list[int]
    """Those of the server's own sshd."""
    sshd: dict[str, str]
    """All its settings, as `sshd -T` prints them."""
    addresses: list[str]
    digests: dict[str, str]
    unit: list[str]
    rules: str
    loaded: str
    """Digests of the rules in force, and of those that were loaded."""
    marked: int
    updates: bool
    reboot: bool
    machines: dict[str, Running]


def fit(site: Site, facts: Facts) -> Iterator[Objection]:
    """What speaks against carrying the site's machines, beside what adoption looks for."""
    for address in site.public:
        if str(address) not in facts["addresses"]:
            has = ", ".join(it for it in facts["addresses"] if ip_address(it).is_global) or "none"
            yield Objection(
                f"the site's public address {address} is not on the server (there is: {has})",
                final=True,
            )
    if outsider := locked_out(site, facts["client"]):
        yield replace(outsider, final=True)


def findings(site: Site, facts: Facts, seen: Seen) -> Iterator[str]:
    """What is not as `machines up` left it, a sentence each."""
    if not any(facts["digests"].values()) and not any(
        it["there"] for it in facts["machines"].values()
    ):
        yield "the server carries nothing yet: `mastio machines up`"
        return
    for path, text in sorted(carry.files(site, tuple(facts["ports"])).items()):
        digest = facts["digests"].get(path, "")
        if digest != sha256(text.encode()).hexdigest():
            yield f"{path} is {'not as mastio wrote it' if digest else 'not there'}"
    active, enabled = facts["unit"]
    if active != "active" or enabled != "enabled":
        how = f"{active or 'unknown'} and {enabled or 'not enabled'}"
        yield f"{carry.UNIT} is {how}: after a reboot nothing would stand"
    if not facts["rules"]:
        yield "the server's firewall is not in force"
    elif facts["rules"] != facts["loaded"]:
        yield "the server's firewall has been changed by hand"
    if facts["marked"] < len({it.version for it in site.public}):
        yield "the internet does not get to the firewall machine: ip-rule(8) lacks what leads there"
    for name, machine in facts["machines"].items():
        if not machine["active"]:
            yield f"{name} does not run" if machine["there"] else f"{name} is not there"
        elif machine["system"] not in ("running", "starting"):
            yield f"{name} runs, and its systemd is {machine['system'] or 'deaf'}"
        if machine["there"] and not machine["enabled"]:
            yield f"{name} would not start with the server"
        if machine["active"] and machine["limit"] != carry.memory(site.machine(name)):
            yield f"{name} may take {machine['limit'] or 'any amount of'} MiB, not {carry.memory(site.machine(name))}"
        if machine["active"] and not machine["private"]:
            yield f"root of {name} is root of the server"
    for key, value in KEYS_ALONE.items():
        if (has := facts["sshd"].get(key, "unknown")) != value:
            yield f"the server's sshd lets in by more than keys: {key} is {has}, not {value}"
    for who in served(seen, facts["ports"]):
        yield f"the server itself serves others: {who}"
    if not facts["updates"]:
        yield "the server does not install security updates by itself (unattended-upgrades)"
    if facts["reboot"]:
        yield "the server waits for a reboot"
