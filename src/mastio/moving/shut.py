"""What happens on the machine that is left: its doors close, it stands still; later it hands browsers on.

Ends are as firm as a disk: a reboot in between neither opens what was shut nor forgets where browsers go.
"""

import time
from collections.abc import Callable, Sequence

from mastio import services
from mastio.errors import MastioError
from mastio.instances import ONLY, of_store
from mastio.nft import chain
from mastio.restoring.whole import UNITS
from mastio.site.model import Address, Machine, Role
from mastio.transport import Transport, last_line

_PAUSE = 0.5
_RULES = "/etc/nftables.conf"
_MARK = "# from here on: browsers that still come here are handed on"
_FORWARDING = "/etc/sysctl.d/99-mastio-moved.conf"
_RELOAD = "if postfix status 2>/dev/null; then postfix reload; fi"
_GATEWAYS = (Role.GATEWAY_IN, Role.GATEWAY_OUT)


def _doors(roles: Sequence[Role]) -> list[str]:
    """What people see; it stops first."""
    return ["nginx.service"] if Role.WEBMAIL in roles else []


def _still(machine: Machine, roles: Sequence[Role]) -> list[str]:
    """What writes; it stops last. The filter and its memory go on: they are asked for what they know."""
    units = [*UNITS[Role.WEBMAIL]] if Role.WEBMAIL in roles else []
    if any(it in roles for it in _GATEWAYS):
        units += ["mastio-onward.timer", ONLY.unit]
    if Role.STORE in roles:
        units += [of_store(machine).unit, "dovecot.service"]
    if Role.WATCH in roles:
        units += [f"mastio-backup-{it}.timer" for it in ("often", "daily", "weekly")]
    return units


def shut(
    way: Transport, machine: Machine, roles: Sequence[Role], queues: Sequence[str],
    waiting: Callable[[], dict[str, int]], patience: float,
) -> int:  # fmt: skip
    """Doors first, then what is on its way gets `patience` seconds, then all stands still; what waits even so.

    `queues` are the configuration folders of the Postfixes that stop, `waiting` counts what is in them.
    """
    smtp = f"{services.SMTP.port}.inet"
    _units(way, machine, "disable", _doors(roles))
    if Role.GATEWAY_IN in roles:
        # A run that was cut short may have stopped it already.
        do(way, machine.name, f"postconf -e master_service_disable={smtp}; {_RELOAD}")
    end = time.monotonic() + patience
    while True:
        for it in queues:
            do(way, machine.name, f"postqueue -c {it} -f || true")
        left = waiting()
        if not left.get("active") and not left.get("incoming") and not left.get("maildrop"):
            break
        if time.monotonic() > end:
            break
        time.sleep(_PAUSE)
    _units(way, machine, "disable", _still(machine, roles))
    return sum(left.values())


def reopened(way: Transport, machine: Machine, roles: Sequence[Role]) -> None:
    """As it was."""
    if Role.GATEWAY_IN in roles:
        do(way, machine.name, "postconf -X master_service_disable")
    _units(way, machine, "enable", [*_still(machine, roles)[::-1], *_doors(roles)])


def forward(way: Transport, machine: Machine, to: Sequence[Address]) -> None:
    """Who still comes to the machine's web server is brought to `to`. They arrive with the machine's address."""
    ports = ", ".join(str(it.port) for it in (services.HTTP, services.HTTPS))
    lines = [
        _MARK,
        "table inet mastio_moved {}",
        "delete table inet mastio_moved",
        "table inet mastio_moved {",
    ]
    pairs = [
        ("ip" if old.version == 4 else "ip6", old, new)
        for old in machine.addresses
        for new in to
        if old.version == new.version
    ]
    lines += chain(
        "arriving", "nat hook prerouting priority dstnat; policy accept;",
        *(f"{ip} daddr {old} tcp dport {{ {ports} }} dnat {ip} to {new}" for ip, old, new in pairs),
    )  # fmt: skip
    lines += chain(
        "leaving",
        "nat hook postrouting priority srcnat; policy accept;",
        "ct status dnat masquerade",
    )
    lines += chain(
        "passing", "filter hook forward priority filter; policy drop;", "ct status dnat accept"
    )
    lines.append("}")
    families = {"ip": "net.ipv4.ip_forward=1", "ip6": "net.ipv6.conf.all.forwarding=1"}
    settings = "".join(f"{families[ip]}\n" for ip in dict.fromkeys(ip for ip, _, _ in pairs))
    script = (
        f"sed -i '/^{_MARK}$/,$d' {_RULES}; cat >>{_RULES}; nft -f {_RULES}; "
        f'printf %s "$1" >{_FORWARDING}; sysctl -qp {_FORWARDING}'
    )
    do(way, machine.name, script, settings, stdin="".join(f"{it}\n" for it in lines).encode())


def _units(way: Transport, machine: Machine, verb: str, units: Sequence[str]) -> None:
    """`disable`: it stops, also over a reboot; `enable`: the way back. What is not there is left out."""
    if units:
        script = f"for unit do systemctl cat $unit >/dev/null 2>&1 || continue; systemctl {verb} --now -q $unit; done"
        do(way, machine.name, script, *units)


def do(way: Transport, machine: str, script: str, *argv: str, stdin: bytes = b"") -> None:
    """A shell script on the machine, to its end; MastioError with its last words when it fails."""
    done = way.run(machine, ["sh", "-ec", script, "sh", *argv], stdin, timeout=180)
    if done.code:
        raise MastioError(f"{machine}: {last_line(done.stderr) or done.code}")
