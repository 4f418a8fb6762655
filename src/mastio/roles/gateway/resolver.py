"""unbound: a validating resolver (RFC 4035) on loopback, for this machine alone.

Postfix's DANE and Rspamd's SPF, DKIM and DMARC trust its answers, so nothing else may answer them.
"""

from ipaddress import IPv4Address, IPv6Address

from mastio.context import Context
from mastio.roles.gateway.files import drop_in, drop_in_folder, etc
from mastio.state import Check, File, HostState, Unit

LOOPBACK = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
UNIT = "unbound.service"
CONFIG = "/etc/unbound/"


def build(ctx: Context) -> HostState:
    """unbound and the resolv.conf that leads to it."""
    internet = ctx.internet
    versions = {address.version for address in ctx.machine.addresses}
    given = (("root.key", internet.trust_anchor), ("root.hints", internet.root_hints))
    return HostState(
        packages=("dns-root-data", "unbound"),
        files=(
            etc(ctx, "unbound/unbound.conf", {"loopback": LOOPBACK, "versions": versions}),
            *(File(f"{CONFIG}{name}", content) for name, content in given if content),
            File("/etc/resolv.conf", resolv_conf()),
            drop_in(ctx, UNIT),
        ),
        units=(Unit(UNIT, reads=(CONFIG, drop_in_folder(UNIT))),),
        checks=(Check("unbound", ("unbound-checkconf",), reads=(CONFIG,)),),
    )


def resolv_conf() -> str:
    """resolv.conf(5); `trust-ad` hands on to Postfix that an answer was validated."""
    servers = "".join(f"nameserver {address}\n" for address in LOOPBACK)
    return f"# The machine's own validating resolver; nothing else is asked.\n{servers}options edns0 trust-ad\n"
