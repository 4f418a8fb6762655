"""Rspamd with ClamAV and Valkey: what is spam, what is malware, who is who. All on unix sockets.

Rspamd's own defaults let mail pass when a helper is away; the templates in `rspamd/` and `systemd/` turn
each such case into "try again later". Modules that need more of the internet than names are off, since
the flow matrix lets a gateway speak nothing but SMTP and DNS.
"""

from collections.abc import Iterable

from mastio import services
from mastio.context import Context, Peer
from mastio.roles.gateway import rules
from mastio.roles.gateway.files import RECIPIENTS, drop_in, drop_in_folder, etc, together
from mastio.site.model import Address, Role
from mastio.state import Check, File, HostState, Unit

RSPAMD, CLAMD_SOCKET, CLAMD, FRESHCLAM, VALKEY = (
    "rspamd.service",
    "clamav-daemon.socket",
    "clamav-daemon.service",
    "clamav-freshclam.service",
    "valkey-server.service",
)
LOCAL = ("options.inc", "logging.inc", "worker-proxy.inc", "worker-controller.inc", "actions.conf",
         "redis.conf", "antivirus.conf", "force_actions.conf", "milter_headers.conf")  # fmt: skip
AUTHOR_RULE = "rspamd/lua.local.d/sender_is_author.lua"
UNREACHABLE = ("fuzzy_check", "url_redirector", "rspamd_update")
"""Modules that speak their own protocol or HTTP to the internet."""
LOOKED_UP = ("rbl", "surbl", "asn", "phishing")
"""Modules that ask public block lists by DNS."""
UNUSED = ("neural", "history_redis")
"""Modules that write to Valkey for each message: a network that learns from verdicts nobody has checked,
and a history for the web interface, which nobody can reach here."""
SCAN_SECONDS = 30
"""How long Rspamd may look at one message; then its sender comes again."""
EICAR = "58354f2150254041505b345c505a58353428505e2937434329377d2445494341522d5354414e44415244"
"""The beginning of the antivirus test string (eicar.org), in hex, as clamav's .ndb format wants it."""


def build(ctx: Context) -> HostState:
    """The scanners and their memory."""
    sends = ctx.machine.has(Role.GATEWAY_OUT)
    relays = _addresses(ctx.callers(services.RELAY)) if sends else []
    return together(_valkey(ctx), _clamav(ctx), _rspamd(ctx), rules.build(ctx, relays))


def _rspamd(ctx: Context) -> HostState:
    sends = ctx.machine.has(Role.GATEWAY_OUT)
    callers = ctx.callers(services.RELAY) if sends else ()
    stores = [it for it in callers if ctx.site.machine(it.machine).has(Role.STORE)]
    values = {
        "sends": sends,
        "scan_seconds": SCAN_SECONDS,
        "relay_addresses": _addresses(callers),
        "store_addresses": _addresses(stores),
        "domains": f"{RECIPIENTS}/domains",
    }
    off = (*UNREACHABLE, *UNUSED, *(LOOKED_UP if ctx.internet.offline else ()))
    return HostState(
        packages=("rspamd",),
        files=(
            *(etc(ctx, f"rspamd/local.d/{name}", values) for name in LOCAL),
            etc(ctx, "rspamd/override.d/options.inc", values),
            *((etc(ctx, AUTHOR_RULE, values),) if sends else ()),
            File("/etc/rspamd/local.d/worker-normal.inc", "enabled = false;\n"),
            *(File(f"/etc/rspamd/local.d/{name}.conf", "enabled = false;\n") for name in off),
            drop_in(ctx, RSPAMD),
        ),
        units=(Unit(RSPAMD, reads=("/etc/rspamd/", drop_in_folder(RSPAMD))),),
        checks=(Check("rspamd", ("rspamadm", "configtest", "-q"), reads=("/etc/rspamd/",)),),
    )


def _addresses(peers: Iterable[Peer]) -> list[Address]:
    return [address for peer in peers for address in peer.addresses]


def _clamav(ctx: Context) -> HostState:
    """clamd, with the test signature always, so that it starts before the first download is done.

    Signatures come from those of the site's mirrors that are ClamAV's, by their name.
    """
    mirrors = [] if ctx.internet.offline else [it for it in ctx.site.mirrors if "clamav" in it]
    signatures = "/var/lib/clamav/mastio.ndb"
    files = [
        etc(ctx, "clamav/clamd.conf"),
        File(signatures, f"Eicar-Test-Signature:0:*:{EICAR}\n{rules.unread()}"),
        drop_in(ctx, CLAMD),
        drop_in(ctx, CLAMD_SOCKET),
    ]
    reads = ("/etc/clamav/clamd.conf", signatures, rules.CONTAINERS, drop_in_folder(CLAMD))
    units = [
        Unit(CLAMD_SOCKET, reads=(drop_in_folder(CLAMD_SOCKET),)),
        Unit(CLAMD, reads=reads),
        # Debian's timer downloads once at boot; the daemon does that too, and boot does not wait for it.
        Unit("clamav-freshclam-once.timer", masked=True),
        Unit("clamav-freshclam-once.service", masked=True),
    ]
    if mirrors:
        # Watch has its own way out.
        at_home = ctx.machine.has(Role.WATCH)
        proxy = None if at_home else ctx.peers(services.PROXY)[0]
        values = {"proxy": proxy, "mirrors": mirrors}
        files.append(etc(ctx, "clamav/freshclam.conf", values))
        units.append(Unit(FRESHCLAM, reads=("/etc/clamav/freshclam.conf",)))
    else:
        units.append(Unit(FRESHCLAM, masked=True))
    return HostState(
        packages=("clamav-daemon", "clamav-freshclam", "clamdscan"),
        # Else an upgrade would write the packages' own configuration over ours.
        debconf=("clamav-daemon clamav-daemon/debconf boolean false",),
        files=tuple(files),
        units=tuple(units),
        checks=(Check("clamd", ("clamd", "-V"), reads=("/etc/clamav/",)),),
    )


def _valkey(ctx: Context) -> HostState:
    return HostState(
        packages=("valkey-server",),
        files=(etc(ctx, "valkey/valkey.conf"), drop_in(ctx, VALKEY)),
        units=(
            Unit(
                VALKEY, reads=("/etc/valkey/", drop_in_folder(VALKEY)), aliases=("valkey.service",)
            ),
        ),
    )
