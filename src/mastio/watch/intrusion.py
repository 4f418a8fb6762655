"""Alarms of intrusion detection: what a machine of the site does that it should not. Pure but for the logs it reads.

Strangers speak all sorts of things to open ports all day: that is counted in the digest, and rings no bell. It rings

- when a rule of the flow matrix is about what one of our machines did (priority `INSIDE`);
- when somebody else's rule of the highest priority is about what one of our machines began.

An alarm is about a rule and its two ends. When nothing more has come for a day, it is well again.
"""

from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from mastio.digest.intrusion import TAG, Alert, alert
from mastio.flows import INTERNET, expand
from mastio.foreign import printable
from mastio.intrusion import INSIDE
from mastio.intrusion import watched as has_any
from mastio.logs import line
from mastio.site.model import Site
from mastio.verify.model import Severity
from mastio.watch.alarm import WELL, Alarm
from mastio.watch.tail import fresh

QUIET = 86_400.0
"""Seconds after which it is taken to be over."""
_MARK = f" {TAG}".encode()
_MOST = 100
"""So many alarms are open at most; a machine that does everything wrong is told of often enough."""


def alerts(logs: Path, machine: str, offsets: dict[str, int]) -> Iterator[tuple[datetime, Alert]]:
    """The alerts that came since `offsets`, which is moved on, and when."""
    for block in fresh(logs, machine, offsets):
        if _MARK not in block:
            continue
        for one in block.splitlines():
            if _MARK in one and (read := line.read(one.decode(errors="replace"))):
                found = alert(read.text.encode()) if read.program == TAG else None
                if found:
                    yield read.arrived, found


def rings(one: Alert, site: Site) -> bool:
    """Whether an alert is worth an alarm."""
    if one.own:
        return one.inside
    return one.severity <= INSIDE and _name(one.client, site) != INTERNET


def _name(address: str, site: Site) -> str:
    """Whose address it is."""
    known = ip_address(address)
    for machine in site.machines:
        if known in machine.addresses:
            return machine.name
    networks = (it for zone in site.zones for it in zone.networks)
    return address if any(known in it for it in networks) else INTERNET


def look(logs: Path, state: dict[str, Any], site: Site, now: float) -> list[Alarm]:
    """What is to be told; `state` is what was known, and becomes what is."""
    matrix = expand(site)
    if not has_any(matrix) or matrix.firewall is None:
        return []
    offsets = state.setdefault("offsets", {})
    last: dict[str, float] = state.setdefault("last", {})
    found: dict[str, list[tuple[datetime, Alert]]] = {}
    for when, one in alerts(logs, matrix.firewall.name, offsets):
        if rings(one, site):
            ends = f"{_name(one.client, site)} > {_name(one.server, site)}"
            what = printable(one.words if one.own else f"{ends}: {one.words}")
            if what in found or what in last or len(found) + len(last) < _MOST:
                found.setdefault(what, []).append((when, one))
    told = [_alarm(site, what, some, now) for what, some in found.items()]
    last |= dict.fromkeys(found, now)
    for what in [it for it, at in last.items() if now - at >= QUIET]:
        del last[what]
        words = f"Nothing more of the kind for {QUIET / 3600:.0f} hours.\n"
        subject = f"[{site.name}] intrusion detection is quiet again: {what}"
        told.append(Alarm(site.name, _about(what), Severity.HIGH, subject, words, WELL, now))
    there = {f"{path.parent.name}/{path.name}" for path in logs.glob("*/*.log")}
    state["offsets"] = {name: at for name, at in offsets.items() if name in there}
    return told


def _alarm(site: Site, what: str, some: list[tuple[datetime, Alert]], now: float) -> Alarm:
    rows = [f"{when:%Y-%m-%d %H:%M:%S}  {it.client} > {it.server}" for when, it in some[:10]]
    more = f"and {len(some) - 10} more" if len(some) > 10 else ""
    words = (
        "Suricata on the firewall heard what no flow of the site declares. If nobody here can explain it, the\n"
        "machine that began is not yours alone any more.\n\n"
        f"{what}\n\n" + "\n".join((*rows, more)) + "\n\nmastio logs --machine "
    )
    firewall = expand(site).firewall
    words += f"{firewall.name if firewall else ''} --grep suricata\n"
    subject = f"[{site.name}] intrusion detection: {what}"
    return Alarm(site.name, _about(what), Severity.HIGH, subject, words, "failed", now)


def _about(what: str) -> str:
    return f"intrusion {what}"
