#!/usr/bin/python3
"""Finds the interfaces on which Suricata listens: `mastio-segments WHERE.json OUT.yaml`.

WHERE is a list of `{"address": the firewall's own on that segment, "filter": pcap-filter(7)}`. Names of interfaces
differ from machine to machine and change with hardware (docs/decisions/0004); the address says which it is. Waits
until all are there: at boot the network may come late.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

_PATIENCE = 60.0


def interfaces() -> dict[str, str]:
    """The interface that wears an address, by the address (ip-address(8))."""
    said = subprocess.run(
        ["ip", "-json", "address", "show", "up"], capture_output=True, check=True, timeout=20
    )
    return {
        info["local"]: link["ifname"]
        for link in json.loads(said.stdout)
        for info in link.get("addr_info", ())
        if "local" in info
    }


def yaml(found: list[tuple[str, str]]) -> str:
    """Suricata's section `af-packet`, for interfaces and what to take there."""
    lines = ["%YAML 1.1", "---", "af-packet:"]
    for number, (name, wanted) in enumerate(found, 1):
        lines += [
            f"  - interface: {json.dumps(name)}",
            "    threads: 1",
            f"    cluster-id: {number}",
            "    cluster-type: cluster_flow",
            "    defrag: yes",
            "    tpacket-v3: yes",
            "    block-size: 131072",
            # Times the longest packet (64 KiB), on each segment: 16 MiB hold some ten thousand usual ones.
            "    ring-size: 256",
            "    disable-promisc: yes",
            "    checksum-checks: no",
            f"    bpf-filter: {json.dumps(wanted)}",
        ]
    return "\n".join([*lines, ""])


def main(where: str, out: str) -> int:
    """The exit code."""
    wanted = json.loads(Path(where).read_text())
    end = time.monotonic() + _PATIENCE
    while True:
        there = interfaces()
        missing = [it["address"] for it in wanted if it["address"] not in there]
        if not missing:
            break
        if time.monotonic() > end:
            print(f"no interface has the address {', '.join(missing)}", file=sys.stderr)
            return 1
        time.sleep(1)
    Path(out).write_text(yaml([(there[it["address"]], it["filter"]) for it in wanted]))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
