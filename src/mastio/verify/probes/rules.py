"""The nftables rules of a machine, against those that it should have.

Both are read back from the kernel, the expected ones from a network namespace that lives for a moment
(unshare(1)): nothing that is kept on the machine is believed.
"""

from __future__ import annotations

import collections
import json
import subprocess
from typing import Any

_NOISE = {"handle", "packets", "bytes", "expires", "used", "index"}


def differences(ruleset: str) -> list[str]:
    """What is loaded and not in `ruleset`, and what is in it and not loaded; empty when they are alike."""
    there = ["unshare", "--net", "sh", "-c", "nft -f - && exec nft -j list ruleset"]
    wanted = _lines(_out(there, ruleset))
    loaded = _lines(_out(["nft", "-j", "list", "ruleset"]))
    return [
        *(f"more in {place}: {count}" for place, count in _places(loaded - wanted)),
        *(f"less in {place}: {count}" for place, count in _places(wanted - loaded)),
    ]


def _out(argv: list[str], text: str = "") -> str:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=20)
    if done.returncode:
        raise ValueError(f"{argv[0]}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def _lines(listing: str) -> collections.Counter[tuple[str, str]]:
    """(place, rule) with what changes by itself left out."""
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    for entry in json.loads(listing)["nftables"]:
        (kind, one), *_ = entry.items()
        if kind == "metainfo":
            continue
        place = f"{one.get('table', one.get('name'))} {one.get('chain', one.get('name'))}"
        found[place, json.dumps([kind, _still(one)], sort_keys=True)] += 1
    return found


def _still(value: Any) -> Any:
    if isinstance(value, list):
        return [_still(it) for it in value]
    if not isinstance(value, dict):
        return value
    flags = value.get("flags", [])
    moving = {"elem"} if isinstance(flags, list) and {"dynamic", "timeout"} & {*flags} else set()
    return {key: _still(it) for key, it in value.items() if key not in _NOISE | moving}


def _places(some: collections.Counter[tuple[str, str]]) -> list[tuple[str, int]]:
    counted: collections.Counter[str] = collections.Counter()
    for (place, _), count in some.items():
        counted[place] += count
    return sorted(counted.items())
