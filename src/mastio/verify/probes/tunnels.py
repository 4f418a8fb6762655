"""The tunnels of this machine to others (WireGuard): which way leads there, and who has answered in them."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

_PATIENCE = 8.0
"""How long a tunnel that has just come up may take, in seconds: a lost beginning is said again after five."""


def tunnels(interface: str, inner: list[str], oldest: float) -> dict[str, Any]:
    """How `interface` stands, and by which way this machine would go to each of the addresses `inner`.

    `peers` maps public keys to `allowed` (networks), `endpoint` and `age`, the seconds since the two last agreed on
    keys, None when they never did; more than `oldest` is waited for. `ways` maps addresses to the interface that
    leads there, "" when nothing does.
    """
    end = time.monotonic() + _PATIENCE
    ages = _ages(interface)
    while any(it is None or it > oldest for it in ages.values()) and time.monotonic() < end:
        time.sleep(0.5)
        ages = _ages(interface)
    endpoints = dict(_wg(interface, "endpoints"))
    return {
        "peers": {
            key: {
                "allowed": sorted(allowed.split()),
                "endpoint": endpoints.get(key, ""),
                "age": ages.get(key),
            }
            for key, allowed in _wg(interface, "allowed-ips")
        },
        "ways": {it: _way(it) for it in inner},
    }


def _ages(interface: str) -> dict[str, float | None]:
    now = time.time()
    handshakes = _wg(interface, "latest-handshakes")
    return {key: now - int(at) if int(at) else None for key, at in handshakes}


def _wg(interface: str, what: str) -> list[tuple[str, str]]:
    """wg(8): a line for each peer, its key in front. Nothing when there is no such interface."""
    done = subprocess.run(
        ["wg", "show", interface, what], capture_output=True, text=True, check=False
    )
    pairs = (line.partition("\t")[::2] for line in done.stdout.splitlines())
    return [(key, value) for key, value in pairs]


def _way(address: str) -> str:
    done = subprocess.run(
        ["ip", "-j", "route", "get", address], capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout or "[]")
    return str(found[0].get("dev", "")) if found else ""
