"""A certificate authority of the lab's internet, for a site that asks one: pebble, Let's Encrypt's own for tests.

It proves names as a real one does (RFC 8555), from outside, and makes a new root each time it starts;
`https://localhost:15000/roots/0` on `outside` has it.
"""

import json

from mastio import services
from mastio.context import Context, bracketed
from mastio.lab import internet as segment
from mastio.services import Transport
from mastio.state import File, HostState, Listener, Unit

MANAGEMENT = "127.0.0.1:15000"
_CONFIG = "/etc/pebble/mastio.json"
_UNIT = "/etc/systemd/system/pebble.service"
_DAYS = 90


def build(ctx: Context, certificate: str, key: str) -> HostState:
    """Its part of `outside`; `certificate` and `key` are the secrets with which its API is served."""
    address, nameserver = segment.authority(ctx.site)[0], segment.nameserver(ctx.site)[0]
    credentials = "/run/credentials/pebble.service"
    config = {
        "listenAddress": f"{bracketed(address)}:{services.HTTPS.port}",
        "managementListenAddress": MANAGEMENT,
        "certificate": f"{credentials}/cert",
        "privateKey": f"{credentials}/key",
        "httpPort": services.HTTP.port,
        "tlsPort": services.HTTPS.port,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
        "retryAfter": {"authz": 1, "order": 1},
        "certificateValidityPeriod": _DAYS * 86400,
    }
    asked = f"{bracketed(nameserver)}:{services.DNS.port}"
    return HostState(
        packages=("pebble",),
        files=(
            File(_CONFIG, json.dumps({"pebble": config}, indent=1) + "\n"),
            File("/etc/pebble/tls.pem", ctx.secret(certificate)),
            File("/etc/pebble/tls.key", ctx.secret(key), mode=0o600, secret=True),
            File(_UNIT, ctx.render(__file__, "pebble.service.j2", config=_CONFIG, asked=asked)),
        ),
        units=(Unit("pebble.service", ("/etc/pebble/", _UNIT)),),
        listeners=(Listener(address, services.HTTPS.port, Transport.TCP),),
    )
