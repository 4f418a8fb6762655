"""DKIM: which keys sign what leaves, and where Rspamd finds them.

Both keys of the generation that signs now, RSA for all and Ed25519 for those who know it (RFC 8463, 3);
the next generation is in DNS only (`mastio.dns.rings`), and its private keys are not here yet.
"""

from base64 import b64encode

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from mastio import services
from mastio.context import Context
from mastio.dns import rings
from mastio.roles.gateway.files import etc
from mastio.site.model import Role
from mastio.state import File, HostState

FOLDER = "/etc/rspamd/dkim"
SETTINGS = "rspamd/local.d/dkim_signing.conf"
"""Below /etc."""


def build(ctx: Context) -> HostState:
    """The keys and the module's settings; on a machine that sends nothing it is off."""
    if not ctx.machine.has(Role.GATEWAY_OUT):
        return HostState(files=(etc(ctx, SETTINGS, {"sends": False}),))
    signing = {domain: _signing(ctx, domain) for domain in ctx.site.domains}
    values = {
        "sends": True,
        "folder": FOLDER,
        "signing": signing,
        "store_addresses": [
            address
            for caller in ctx.callers(services.RELAY)
            # Watch writes alarms as postmaster, and only to whom the site file names (postfix/main.cf).
            if {Role.STORE, Role.WATCH} & set(ctx.site.machine(caller.machine).roles)
            for address in caller.addresses
        ],
    }
    return HostState(
        files=(
            etc(ctx, SETTINGS, values),
            *(
                _key(ctx, domain, selector)
                for domain, generation in signing.items()
                for selector in generation.selectors
            ),
        )
    )


def _signing(ctx: Context, domain: str) -> rings.Generation:
    return rings.signing(rings.parse(ctx.secret(rings.name(domain))))


def _key(ctx: Context, domain: str, selector: str) -> File:
    return File(
        f"{FOLDER}/{domain}.{selector}.key",
        _as_rspamd_reads_it(ctx.secret(rings.key(domain, selector))),
        group="_rspamd",
        mode=0o640,
        secret=True,
    )


def _as_rspamd_reads_it(pem: str) -> str:
    """RSA as PEM, Ed25519 as base64 of the seed and the public key: what `rspamadm dkim_keygen` writes."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        pair = key.private_bytes_raw() + key.public_key().public_bytes_raw()
        return b64encode(pair).decode() + "\n"
    return pem
