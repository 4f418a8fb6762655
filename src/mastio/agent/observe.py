"""observe: what is on the machine now, in one quick look (the slow programs run side by side)."""

import grp
import ipaddress
import os
import subprocess
from typing import IO

from mastio.agent import firewall
from mastio.agent.machine import ENVIRONMENT, JOURNAL, load_record, look
from mastio.agent.wire import Listen, Look, Seen, UnitFact

PROPERTIES = {"LoadState": "load", "ActiveState": "active", "UnitFileState": "enabled"}


def observe(request: Look) -> Seen:
    """Answers a `Look`."""
    record = load_record()
    units = sorted({*request["units"], *record["units"]})
    asking = _ask(units)
    listing = firewall.ask() if request["firewall"] else None
    paths = {**dict.fromkeys(record["manifest"], ""), **request["paths"]}
    paths |= dict.fromkeys(record["secrets"], "secret")
    return Seen(
        nodes={path: look(path, wanted) for path, wanted in paths.items()},
        packages=installed(request["packages"]),
        users=_users(request["users"]),
        record=record,
        silent=silent(request["listeners"]),
        unfinished=os.path.exists(JOURNAL),
        units=_answers(units, asking),
        running=firewall.digest(listing) if listing else "",
    )


def installed(names: list[str]) -> list[str]:
    """Those of `names` that dpkg holds to be installed and configured."""
    wanted, found = set(names), []
    with open("/var/lib/dpkg/status", encoding="utf-8", errors="replace") as file:
        package = ""
        for line in file:
            if line.startswith("Package: "):
                package = line[9:].rstrip()
            elif package in wanted and line.rstrip() in (
                "Status: install ok installed",
                "Status: hold ok installed",
            ):
                found.append(package)
    return sorted(set(found))


def _users(names: list[str]) -> dict[str, list[str]]:
    groups = grp.getgrall()
    with open("/etc/passwd", encoding="utf-8", errors="replace") as file:
        known = {line.partition(":")[0] for line in file}
    return {
        name: sorted(group.gr_name for group in groups if name in group.gr_mem)
        for name in names
        if name in known
    }


def unit_facts(units: list[str]) -> dict[str, UnitFact]:
    """The units' facts, by one systemctl for all."""
    return _answers(units, _ask(units))


def _ask(units: list[str]) -> "subprocess.Popen[bytes] | None":
    if not units:
        return None
    return subprocess.Popen(
        ["systemctl", "show", f"--property={','.join(PROPERTIES)}", "--", *units],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )


def _answers(units: list[str], asking: "subprocess.Popen[bytes] | None") -> dict[str, UnitFact]:
    if asking is None:
        return {}
    text = asking.communicate()[0].decode(errors="replace")
    blocks = [_fact(block) for block in text.split("\n\n")]
    return dict(zip(units, blocks, strict=True))


def _fact(block: str) -> UnitFact:
    found = dict(line.partition("=")[::2] for line in block.splitlines())
    return UnitFact(
        load=found.get("LoadState", ""),
        active=found.get("ActiveState", ""),
        enabled=found.get("UnitFileState", ""),
    )


def silent(listeners: list[Listen]) -> list[Listen]:
    """Those of `listeners` where nothing listens (proc(5), /proc/net/tcp)."""
    if not listeners:
        return []
    open_sockets = _sockets()
    return [
        item
        for item in listeners
        if not any((host, item["port"], item["transport"]) in open_sockets for host in _hosts(item))
    ]


def _hosts(item: Listen) -> tuple[str, ...]:
    """The addresses at which `item` can be served: its own and the wildcards."""
    return (item["address"], "0.0.0.0", "::") if "." in item["address"] else (item["address"], "::")


def _sockets() -> set[tuple[str, int, str]]:
    found = set()
    for transport, listening in (("tcp", "0A"), ("udp", "07")):
        for family in ("", "6"):
            try:
                with open(f"/proc/net/{transport}{family}", encoding="ascii") as table:
                    found |= _listening(table, transport, listening)
            except FileNotFoundError:
                continue  # the kernel runs without this family
    return found


def _listening(table: IO[str], transport: str, listening: str) -> set[tuple[str, int, str]]:
    next(table)
    found = set()
    for line in table:
        _, local, _, state, *_ = line.split()
        if state == listening:
            host, port = local.split(":")
            # Each 32-bit word is printed in the machine's own byte order.
            words = [bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8)]
            found.add((str(ipaddress.ip_address(b"".join(words))), int(port, 16), transport))
    return found
