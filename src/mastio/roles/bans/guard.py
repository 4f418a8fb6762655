#!/usr/bin/python3
"""Bans on a machine that faces the internet: the timed elements of nftables' sets banned4 and banned6.

    mastio-ban add ADDRESS SECONDS [WORD…]    ban a client; a longer ban is never shortened
    mastio-ban lift ADDRESS                   let it in again
    mastio-ban spare ADDRESS SECONDS          let it in, and ban it not, for a time; 0 seconds: no longer
    mastio-ban list                           all bans, as JSON
    mastio-ban sync                           forget what is over; make the sets what the file says

A client is an IPv4 address or an IPv6 /64, the least that a customer is given. Nothing of the site's and no
administrator's network is ever banned: where a /64 touches one, the single address is banned instead, and
where that is exempt too, the answer is exit code 3.

The truth is a file of names and ends. From it each command makes `bans.nft`, which the machine's ruleset
includes, so that bans outlive reboots and new rulesets, and loads it in one transaction. As the forced
command of an ssh key (`mastio-ban forced`, sshd(8)) it takes its words from SSH_ORIGINAL_COMMAND, and only
`add`. Standard library only.
"""

import contextlib
import fcntl
import json
import os
import shlex
import subprocess
import sys
import time
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/mastio/bans.json")
STATE = Path("/var/lib/mastio/bans")
REFUSED, WRONG = 3, 64
LONGEST = 366 * 24 * 3600
LONGEST_SPARED = 3600
"""Whom a test spares and then forgets is like everybody else again within the hour."""
_PREFIX = {4: 32, 6: 64}
Network = IPv4Network | IPv6Network
Bans = dict[str, dict[str, Any]]
"""Network → `until` and `since` (seconds since the epoch), `reason`."""


class RefusedError(Exception):
    """Why a client is not banned."""


def client(text: str, exempt: list[Network]) -> Network:
    """What is banned when `text` misbehaves. Raises RefusedError when it is exempt, ValueError when
    it is no address.
    """
    address = ip_address(text)
    if address.version == 6 and address.ipv4_mapped:
        address = address.ipv4_mapped
    for length in sorted({_PREFIX[address.version], address.max_prefixlen}):
        found = ip_network((address, length), strict=False)
        if not any(it.version == found.version and it.overlaps(found) for it in exempt):
            return found
    raise RefusedError(
        f"{address} is the site's own or an administrator's, or is never to be banned"
    )


def added(bans: Bans, network: Network, seconds: int, reason: str, now: float) -> Bans:
    """`bans` with one more; of two bans of a client the one that ends later stays."""
    former = bans.get(str(network))
    if former and former["until"] >= now + seconds:
        return bans
    since = former["since"] if former else now
    return {**bans, str(network): {"until": now + seconds, "since": since, "reason": reason}}


def rules(bans: Bans, now: float) -> list[str]:
    """The bans as nft commands that only add."""
    lines = []
    for version in (4, 6):
        left = [
            f"{ip_network(name)} timeout {max(1, round(ban['until'] - now))}s"
            for name, ban in sorted(bans.items())
            if ip_network(name).version == version
        ]
        if left:
            lines.append(f"add element inet mastio banned{version} {{ {', '.join(left)} }}")
    return lines


def alive(bans: Bans, now: float) -> Bans:
    """The bans that are not over."""
    return {name: ban for name, ban in bans.items() if ban["until"] > now}


def spared(had: dict[str, float], text: str, seconds: int, now: float) -> dict[str, float]:
    """Addresses that are spared, and until when, with one more; without it for 0 seconds."""
    left = {name: until for name, until in had.items() if until > now}
    left.pop(str(ip_network(text)), None)
    return left | ({str(ip_network(text)): now + seconds} if seconds else {})


def _load(name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((STATE / name).read_text())
    except FileNotFoundError:
        return {}
    return found


def _put(path: Path, text: str) -> None:
    making = path.with_suffix(".making")
    with making.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    making.rename(path)


def _enforce(bans: Bans, now: float) -> None:
    """Writes the files, then lets the kernel have them in one transaction."""
    _put(STATE / "bans.json", json.dumps(bans, indent=1, sort_keys=True))
    lines = rules(bans, now)
    if lines:
        _put(STATE / "bans.nft", "\n".join((*lines, "")))
    else:
        (STATE / "bans.nft").unlink(missing_ok=True)
    flushed = [f"flush set inet mastio banned{version}" for version in (4, 6)]
    subprocess.run(
        ["nft", "-f", "-"], input="\n".join((*flushed, *lines, "")), text=True, check=True
    )


def act(words: list[str]) -> None:
    """Carries one command out. Raises ValueError for words that it does not know."""
    verb, *rest = words or ["list"]
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        now = time.time()
        bans = alive(_load("bans.json"), now)
        spare = {name: until for name, until in _load("spared.json").items() if until > now}
        exempt = [ip_network(it) for it in (*json.loads(CONFIG.read_text())["exempt"], *spare)]
        if verb == "list" and not rest:
            print(json.dumps([{"client": name, **ban} for name, ban in sorted(bans.items())]))
            return
        if verb == "add" and len(rest) >= 2:
            seconds = int(rest[1])
            if not 0 < seconds <= LONGEST:
                raise ValueError(f"{seconds} seconds: must be 1 to {LONGEST}")
            network = client(rest[0], exempt)
            bans = added(bans, network, seconds, " ".join(rest[2:])[:80], now)
            print(network)
        elif verb == "spare" and len(rest) == 2:
            seconds = int(rest[1])
            if not 0 <= seconds <= LONGEST_SPARED:
                raise ValueError(f"{seconds} seconds: must be 0 to {LONGEST_SPARED}")
            spare = spared(spare, rest[0], seconds, now)
            _put(STATE / "spared.json", json.dumps(spare))
            exempt += [ip_network(it) for it in spare]
        elif verb == "lift" and len(rest) == 1:
            address = ip_network(rest[0], strict=False)
            hits = [it for it in bans if ip_network(it).overlaps(address)]
            for name in hits:
                del bans[name]
            print(" ".join(hits))
        elif verb != "sync" or rest:
            raise ValueError(f"unknown words: {' '.join(words)}")
        # What has become exempt since, such as a new administrator's network, is let in.
        for name in list(bans):
            with contextlib.suppress(RefusedError):
                client(str(ip_network(name).network_address), exempt)
                continue
            del bans[name]
        _enforce(bans, now)


def main() -> int:
    """The command line; the exit code."""
    words = sys.argv[1:]
    if words == ["forced"]:
        words = shlex.split(os.environ.get("SSH_ORIGINAL_COMMAND", ""))
        if words[:1] != ["add"]:
            print("this key may only add", file=sys.stderr)
            return WRONG
    try:
        act(words)
    except RefusedError as refusal:
        print(refusal, file=sys.stderr)
        return REFUSED
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG
    except subprocess.CalledProcessError:
        print("nft did not take the bans; they are kept and tried again", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
