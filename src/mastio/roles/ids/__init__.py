"""Intrusion detection: Suricata on the perimeter firewall hears all conversations between the zones and the internet.

    segments ──AF_PACKET──▶ Suricata ──syslog──▶ rsyslog ──▶ watch: logs, digest, alarms (mastio.watch.intrusion)

| file | job |
|---|---|
| rules/mastio.rules | from the flow matrix: what is not the declared protocol on a declared flow (mastio.intrusion) |
| suricata.yaml | little memory, alerts alone, to the log |
| mastio-segments | finds the interfaces by the firewall's own addresses when Suricata starts |
| mastio-rules | fetches others' rules through watch's proxy, tries them, and only then has them read |

It only listens: when it is away, or slow, packets pass as before (docs/decisions/0033).
"""

import json
from pathlib import Path

from mastio import intrusion, services
from mastio.context import Context, bracketed
from mastio.site.model import Role
from mastio.state import Check, Directory, File, HostState, Unit, User
from mastio.timers import Timer, timers

RULES = "/etc/suricata/rules/mastio.rules"
UNIT = "suricata.service"
RUN = "/run/suricata"
"""Where its pid file is, and where it listens."""
FETCHED = "/var/lib/suricata/fetched"
"""Others' rules, as they were last found sound."""
UPDATE = "/usr/local/lib/mastio/mastio-rules"
USER = "suricata"
_SEGMENTS, _WHERE = "/usr/local/lib/mastio/mastio-segments", "/etc/mastio/ids-segments.json"
_SOURCE = "/etc/mastio/ids-rules.json"
_CONFIG = "/etc/suricata/suricata.yaml"
_UNITS = "/etc/systemd/system"
TIMERS = (Timer("fetch", "others' rules for intrusion detection", "*-*-* 03:00:00"),)
"""What is done by itself, where there is something to fetch from."""
_SPREAD = 7200
"""Seconds over which sites that ask at one time are spread."""


def build(ctx: Context) -> HostState:
    """The firewall's part; nothing at all when it is switched off."""
    if not intrusion.watched(ctx.matrix):
        return HostState()
    unit, dropin = UNIT, f"{_UNITS}/{UNIT}.d/mastio.conf"
    listening = [
        {"address": str(it.address), "filter": it.filter} for it in intrusion.segments(ctx.matrix)
    ]
    fetching = _fetching(ctx) if ctx.site.ids.rules else HostState()
    return HostState(
        packages=("suricata", *fetching.packages),
        files=(
            File(_CONFIG, _config(ctx)),
            File(RULES, intrusion.rules(ctx.matrix)),
            File(_WHERE, json.dumps(listening, indent=1) + "\n"),
            File(_SEGMENTS, _beside("segments.py"), mode=0o755),
            # Suricata wants one file where it looks for others' rules.
            File(f"{FETCHED}/none.rules", "# What mastio-rules has fetched lies beside this.\n"),
            File(
                dropin,
                ctx.render(
                    __file__, "suricata.service.j2", segments=_SEGMENTS, where=_WHERE, user=USER, run=RUN,
                    config=_CONFIG,
                ),
            ),
            *fetching.files,
        ),
        directories=(Directory(FETCHED, owner=USER, group=USER), *fetching.directories),
        users=(User(USER, home="/var/lib/suricata"),),
        units=(Unit(unit, ("/etc/suricata/", dropin, _SEGMENTS, _WHERE)), *fetching.units),
        checks=(
            Check("suricata", ("suricata", "-T", "-c", _CONFIG, "-l", "/tmp"), reads=("/etc/suricata/",)),  # noqa: S108
        ),
    )  # fmt: skip


def _config(ctx: Context) -> str:
    matrix = ctx.matrix
    return ctx.render(
        __file__, "suricata.yaml.j2", home=intrusion.home(matrix), rules=RULES, fetched=FETCHED, run=RUN,
        mail=intrusion.servers(matrix, Role.GATEWAY_IN, Role.GATEWAY_OUT, Role.STORE),
        web=intrusion.servers(matrix, Role.WEBMAIL), often=intrusion.OFTEN, within=intrusion.WITHIN,
    )  # fmt: skip


def _fetching(ctx: Context) -> HostState:
    proxy = ctx.peers(services.PROXY)[0]
    source = {
        "source": ctx.site.ids.rules,
        "groups": ctx.site.ids.groups,
        "proxy": f"http://{bracketed(proxy.addresses[0])}:{services.PROXY.port}",
        "folder": FETCHED,
        "config": _CONFIG,
        "pid": f"{RUN}/suricata.pid",
    }
    service = f"{_UNITS}/mastio-rules@.service"
    clocks, units = timers("mastio-rules", "Daily:", TIMERS, delay=_SPREAD)
    return HostState(
        packages=("suricata-update",),
        files=(
            File(_SOURCE, json.dumps(source, indent=1) + "\n"),
            File(UPDATE, _beside("update.py"), mode=0o755),
            File(
                service,
                ctx.render(
                    __file__, "update.service.j2", program=UPDATE, source=_SOURCE, user=USER, folder=FETCHED
                ),
            ),
            *clocks,
        ),
        units=() if ctx.internet.offline else units,
    )  # fmt: skip


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text()
