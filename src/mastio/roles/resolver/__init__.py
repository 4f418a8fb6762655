"""unbound: a validating resolver (RFC 4035) on loopback, for its own machine alone.

It is on each machine that speaks with the internet of its own accord: the gateways, where Postfix's DANE
and Rspamd's SPF, DKIM and DMARC trust its answers, and watch, which finds mirrors and time servers. Nothing
else may answer there, so resolv.conf names no other server.
"""

from ipaddress import IPv4Address, IPv6Address

from mastio.context import Context
from mastio.site.model import Address
from mastio.state import Check, File, HostState, Unit

LOOPBACK = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
UNIT = "unbound.service"
CONFIG = "/etc/unbound/"
SANDBOX = f"/etc/systemd/system/{UNIT}.d/"


def build(ctx: Context) -> HostState:
    """unbound and the resolv.conf that leads to it."""
    internet = ctx.internet
    versions = {address.version for address in ctx.machine.addresses}
    given = (("root.key", internet.trust_anchor), ("root.hints", internet.root_hints))
    # One that answers no question asked over IPv6 must not be asked so: each failed look-up would wait for it.
    loopback = tuple(it for it in LOOPBACK if it.version in versions)
    config = ctx.render(__file__, "unbound.conf.j2", loopback=loopback, versions=versions)
    return HostState(
        # dnspython: `mastio dns --check` asks from here in the lab
        packages=("dns-root-data", "python3-dnspython", "unbound"),
        files=(
            File(f"{CONFIG}unbound.conf", config),
            *(File(f"{CONFIG}{name}", content) for name, content in given if content),
            File("/etc/resolv.conf", resolv_conf(loopback)),
            File(f"{SANDBOX}mastio.conf", ctx.render(__file__, "unbound.service.j2")),
        ),
        units=(Unit(UNIT, reads=(CONFIG, SANDBOX)),),
        checks=(Check("unbound", ("unbound-checkconf",), reads=(CONFIG,)),),
    )


def resolv_conf(loopback: tuple[Address, ...] = LOOPBACK) -> str:
    """resolv.conf(5); `trust-ad` hands on to Postfix that an answer was validated."""
    servers = "".join(f"nameserver {address}\n" for address in loopback)
    return f"# The machine's own validating resolver; nothing else is asked.\n{servers}options edns0 trust-ad\n"
