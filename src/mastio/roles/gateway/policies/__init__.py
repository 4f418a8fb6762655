"""How mail leaves: verified by DANE (RFC 7672) or MTA-STS (RFC 8461) where the receiver asks for it.

    Postfix ─socketmap→ tls-policy ─┬─ DNS: does an MX have a TLSA record?
                                    └─ mta-sts-daemon ─→ watch's proxy ─→ https://mta-sts.DOMAIN

What the receiver's own policy forbids waits in the queue and is returned in the end; it is never sent
unprotected. Is one of the two programs away, mail waits as well.
"""

from pathlib import Path

from mastio import services
from mastio.context import Context, Peer
from mastio.roles.gateway.files import POLICY, drop_in_folder, etc
from mastio.site.model import Role
from mastio.state import Command, File, HostState, Unit

_PROGRAM = "/usr/local/lib/mastio/tls-policy"
_STS_SOCKET = "/run/mta-sts/policy.sock"
_CONFIG = "/etc/mta-sts-daemon.yml"
_UNIT, _STS_UNIT = "mastio-tls-policy.service", "postfix-mta-sts-resolver.service"
_UNIT_FILE = f"/etc/systemd/system/{_UNIT}"
_AUTHORITY = "/usr/local/share/ca-certificates/internet.crt"


def build(ctx: Context) -> HostState:
    """Both programs, where mail leaves; nothing elsewhere."""
    if not ctx.machine.has(Role.GATEWAY_OUT):
        return HostState()
    values = {
        "proxy": _proxy(ctx),
        "program": _PROGRAM,
        "policy_socket": POLICY,
        "sts_socket": _STS_SOCKET,
    }
    trust = drop_in_folder(_STS_UNIT)
    files = [
        File(_PROGRAM, Path(__file__).with_name("tls_policy.py").read_text(), mode=0o755),
        etc(ctx, _UNIT_FILE[5:], values, template="policies/tls-policy.service"),
        etc(ctx, _CONFIG[5:], values, template="policies/mta-sts-daemon.yml"),
        etc(ctx, f"{trust[5:]}mastio.conf", values, template=f"systemd/{_STS_UNIT}.conf"),
    ]
    commands, reads = [], [_CONFIG, trust]
    if ctx.internet.authorities:
        files.append(File(_AUTHORITY, ctx.internet.authorities))
        refresh = ("update-ca-certificates",)
        commands.append(Command("trust the internet's authority", refresh, reads=(_AUTHORITY,)))
        reads.append(_AUTHORITY)
    return HostState(
        packages=("ca-certificates", "postfix-mta-sts-resolver", "python3-dnspython"),
        files=tuple(files),
        units=(
            Unit(_STS_UNIT, reads=tuple(reads)),
            Unit(_UNIT, reads=(_PROGRAM, _UNIT_FILE)),
        ),
        commands=tuple(commands),
    )


def _proxy(ctx: Context) -> Peer | None:
    """Watch's proxy for policies; None when watch is this very machine, which has its own way."""
    if ctx.machine.has(Role.WATCH):
        return None
    return ctx.peers(services.POLICIES)[0]
