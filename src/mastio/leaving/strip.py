"""Empties a machine's queues, and takes away all that mastio put there: what is left is a Debian with packages."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

from mastio.apply import OnEvent, Outcome, Planned, apply_all, observe
from mastio.errors import MastioError
from mastio.instances import BESIDE, ONLY
from mastio.leaving import look as _look
from mastio.leaving.judge import Held
from mastio.plan import MASKED, diff
from mastio.roles.registry import KEPT
from mastio.roles.store import VMAIL
from mastio.site.model import Site
from mastio.state import Check, Directory, File, HostState, Unit
from mastio.transport import Transport, last_line

_LOOK = Path(str(_look.__file__)).read_text()
_POSTFIX = (ONLY, BESIDE)
_LEFT = (*(it.queue for it in _POSTFIX), "/var/log", "/var/lib/mastio", "/var/backups")
_PAUSE = 1.0
_SHUT = """
for config do
    test -e $config/main.cf || continue
    postconf -c $config -e master_service_disable=inet
    postfix -c $config status 2>/dev/null && postfix -c $config reload && postqueue -c $config -f || true
done
"""
"""No door is open any more; what waits goes on (postconf(5), master_service_disable)."""
_OPEN = """
for config do
    test -e $config/main.cf || continue
    postconf -c $config -X master_service_disable
    postfix -c $config status 2>/dev/null && postfix -c $config reload || true
done
"""
_NOBODYS = """
systemctl stop mastio-revert.timer mastio-revert.service 2>/dev/null || true
systemctl disable --now nftables.service 2>/dev/null || true
nft flush ruleset 2>/dev/null || true
# As Debian's package has it, but for its comments: its unit loads it should the machine serve again.
printf '#!/usr/sbin/nft -f\\n\\nflush ruleset\\n' >/etc/nftables.conf
rm -f /etc/sysctl.d/99-mastio-moved.conf /var/lib/mastio/moved.json
rm -rf /var/lib/mastio/apply /etc/mastio /usr/local/lib/mastio /etc/ssh/authorized_keys.d
"""
_HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


def look(transport: Transport, machine: str) -> Held:
    """What it holds."""
    trees = dict.fromkeys((*(it for kept in KEPT.values() for it in kept.trees), *_LEFT))
    order = {
        "postfix": [(it.config, it.queue) for it in _POSTFIX],
        "vmail": VMAIL,
        "trees": [*trees],
    }
    done = transport.run_python(machine, _LOOK, json.dumps(order).encode(), timeout=300)
    if done.code:
        raise MastioError(f"{machine}: looking around failed: {last_line(done.stderr)}")
    return cast(Held, json.loads(done.stdout))


def drain(
    transport: Transport, machine: str, seconds: float, tell: Callable[[int], None]
) -> Held:  # fmt: skip
    """Closes its mail doors and has what waits delivered; what it holds then, or after so many seconds."""
    _do(transport, machine, _SHUT)
    end = time.monotonic() + seconds
    while (held := look(transport, machine))["waiting"] and time.monotonic() < end:
        tell(len(held["waiting"]))
        time.sleep(_PAUSE)
    return held


def reopen(transport: Transport, machine: str) -> None:
    """Its mail doors, when it stays."""
    _do(transport, machine, _OPEN)


def bare(site: Site, units: Iterable[str]) -> HostState:
    """What is left of a machine: root's door for the administrators' keys, by Debian's own sshd."""
    # Its sshd was none of ours where no flow of administrators ended.
    ssh = (
        (Unit("ssh.service", ("/etc/ssh/sshd_config.d/",), reload=True),)
        if "ssh.service" in units
        else ()
    )
    return HostState(
        files=(
            File("/root/.ssh/authorized_keys", "".join(f"{it}\n" for it in site.admin_keys), mode=0o600),
            File("/etc/hosts", _HOSTS),
        ),
        directories=(Directory("/root/.ssh", mode=0o700),),
        units=ssh,
        checks=(Check("sshd", ("sshd", "-t"), reads=("/etc/ssh/",)),) if ssh else (),
    )  # fmt: skip


def strip(transport: Transport, machine: str, site: Site, on_event: OnEvent) -> Outcome:
    """Takes away keys, secrets, units and at last the firewall, that mastio put there."""
    record = observe(transport, machine, HostState())["record"]
    state = bare(site, {name for name, digest in record["units"].items() if digest != MASKED})
    seen = observe(transport, machine, state)
    planned = {machine: Planned(state, seen, diff(state, seen))}
    outcome = apply_all(transport, planned, on_event)[machine]
    if outcome.ok:
        _do(transport, machine, _NOBODYS)
    return outcome


def _do(transport: Transport, machine: str, script: str) -> None:
    argv = ["sh", "-c", script, "sh", *(it.config for it in _POSTFIX)]
    done = transport.run(machine, argv, timeout=120)
    if done.code:
        raise MastioError(f"{machine}: {last_line(done.stderr) or done.code}")
