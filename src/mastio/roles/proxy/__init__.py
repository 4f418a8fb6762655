"""The door for mail programs on the internet: Dovecot as a proxy on the gateway, where `clients` is `internet`.

    mail program ──imaps, submissions──▶ gateway: Dovecot's log-in processes ──▶ stunnel ──the same──▶ store

It ends TLS, reads as much of the protocol as comes before a log-in, and repeats name and password to the store, over
TLS in which the store proves its certificate; from then on it carries octets. It keeps no mail, no account and no
password; whether a password is right, the store alone knows. It tells the store who is behind it (ID, XCLIENT), so
that logs and bans meet the client and not the gateway.

stunnel speaks TLS with the store: with Dovecot 2.4.1 itself about one conversation in ten came to a stop, its
answer in a buffer that nobody read until the client said something more (docs/decisions/0051).
"""

from mastio import services
from mastio.context import PKI, Context
from mastio.site.model import Clients
from mastio.state import Check, Directory, File, HostState, Unit

CONFIG = "/etc/dovecot/dovecot.conf"
_DROP_IN = "/etc/systemd/system/dovecot.service.d/mastio.conf"

_STUNNEL = "/etc/stunnel/mastio-programs.conf"
_INWARD = "/etc/systemd/system/mastio-programs.service"
_LOOPBACK = "127.0.0.1"
_MOST = 1000
"""Conversations at once; each is a process of some 4 MiB."""


def build(ctx: Context) -> HostState:
    """The receiving gateway's part in it."""
    if ctx.site.clients is not Clients.INTERNET:
        return HostState()
    config = ctx.render(
        __file__, "dovecot.conf.j2", loopback=_LOOPBACK, programs=_MOST,
        listen=sorted({*ctx.listen(services.IMAPS), *ctx.listen(services.SUBMISSIONS)}, key=str),
    )  # fmt: skip
    return HostState(
        packages=("dovecot-core", "dovecot-imapd", "dovecot-submissiond", "stunnel4"),
        files=(
            File(CONFIG, config),
            File(_DROP_IN, ctx.render(__file__, "dovecot.service.j2")),
            File(_STUNNEL, _inward(ctx)),
            File(_INWARD, ctx.render(__file__, "inward.service.j2", config=_STUNNEL)),
        ),
        directories=(Directory("/etc/stunnel"),),
        units=(
            Unit("dovecot.service", (CONFIG, _DROP_IN, f"{PKI}/")),
            Unit("mastio-programs.service", (_STUNNEL, _INWARD, f"{PKI}/")),
            Unit("stunnel4.service", masked=True),  # Debian's, which would run our file as root
        ),
        checks=(Check("dovecot", ("doveconf", "-n"), ("/etc/dovecot/", f"{PKI}/")),),
    )


def _inward(ctx: Context) -> str:
    """The way to the store, for each service that both ends have."""
    ways = []
    for service, port in services.INWARD.items():
        (store,) = ctx.peers(service)
        ways.append((service, port, store.addresses[0]))
    return ctx.render(
        __file__,
        "stunnel.conf.j2",
        name=ctx.peers(services.IMAPS)[0].name,
        ways=ways,
        loopback=_LOOPBACK,
    )
