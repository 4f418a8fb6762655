"""What every machine has: names, certificates, administration, logs, time, packages.

| file | job |
|---|---|
| /etc/hosts | the site's names; no machine needs DNS to find another |
| /etc/mastio/pki/ | the site's authority, this machine's certificate, the one the internet sees |
| /etc/ssh/ | sshd for keys alone, on the addresses that a flow says |
| /etc/rsyslog.conf | everything goes to watch at once, over mutual TLS, from a queue that outlives outages |
| /etc/mastio/lines.json | ways to watch, for `lines`: what was on its way when rsyslog ended is sent again |
| /etc/ulogd.conf | what the firewall drops or lets in from outside becomes a log line (NFLOG → ulogd2 → syslog) |
| /etc/chrony/ | time from watch; the watch role writes its own chrony.conf |
| /etc/apt/apt.conf.d/ | packages through watch's proxy |
| /etc/sysctl.d/ | the kernel's network manners |
| /etc/systemd/system.conf.d/ | what fails is started again, however often |

A machine that resolves names on the internet brings its own resolv.conf; the others ask nobody.
"""

import json
from pathlib import Path

from mastio import services
from mastio.context import PKI, Context, Peer, bracketed
from mastio.flows import INTERNET
from mastio.nft import LOG_GROUP
from mastio.roles.common import lines
from mastio.services import Service
from mastio.site.model import Clients, Role
from mastio.state import Check, Directory, File, HostState, Unit

ROOT_KEYS = "/etc/ssh/authorized_keys.d/root"
"""What opens a machine to its administrators."""
KEYS_ALONE = {
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "permitemptypasswords": "no",
    "permitrootlogin": "without-password",
}
"""How an sshd lets in that takes keys and nothing else, as `sshd -T` words it; a physical server's as well."""
_SYSTEMD = "/etc/systemd/system"
_MANAGER = "/etc/systemd/system.conf.d"
_CHRONYD = "/usr/local/lib/mastio/chronyd"
_LINES = "/usr/local/lib/mastio/mastio-lines"


def build(ctx: Context) -> HostState:
    """The part of a machine that does not depend on what it is for."""
    return HostState(
        packages=(
            "ca-certificates", "chrony", "logrotate", "nftables", "openssh-server", "python3",
            "rsyslog", "rsyslog-relp", "ulogd2",
        ),
        files=(
            File("/etc/hosts", ctx.render(__file__, "hosts.j2")),
            *_resolver(ctx),
            *_certificates(ctx),
            *_ssh(ctx),
            *_logs(ctx),
            *_time(ctx),
            *_proxy(ctx),
            _drop_in(ctx, "nftables.service"),
            _drop_in(ctx, "dbus.service"),
            File(f"{_MANAGER}/mastio.conf", ctx.render(__file__, "system.conf.j2")),
            File("/etc/sysctl.d/80-mastio.conf", ctx.render(__file__, "sysctl.conf.j2")),
        ),
        directories=(
            Directory("/etc/mastio"),
            Directory(PKI),
            Directory("/etc/ssh/authorized_keys.d"),
            Directory("/usr/local/lib/mastio"),
        ),
        units=(
            # The ruleset itself is the agent's business; the unit loads it at boot.
            Unit("nftables.service"),
            Unit("systemd-sysctl.service", reads=("/etc/sysctl.d/",)),
            # Its reload disturbs nobody, and with it systemd reads anew how units are started again.
            Unit("dbus.service", (f"{_SYSTEMD}/dbus.service.d/", f"{_MANAGER}/"), reload=True),
            Unit("systemd-journald.service", reads=("/etc/systemd/journald.conf.d/",)),
            Unit("syslog.socket", ("/etc/sysctl.d/", f"{_SYSTEMD}/syslog.socket.d/")),
            Unit(
                "rsyslog.service",
                # The sender resolves watch's name once: a changed /etc/hosts must reach it.
                ("/etc/rsyslog.conf", "/etc/rsyslog.d/", f"{_SYSTEMD}/rsyslog.service.d/", f"{PKI}/", "/etc/hosts",
                 str(lines.CONFIG), _LINES),
                aliases=("syslog.service",),
            ),
            Unit(
                "ulogd2.service",
                ("/etc/ulogd.conf", f"{_SYSTEMD}/ulogd2.service.d/"),
                aliases=("ulogd.service",),
            ),
            Unit(
                "chrony.service",
                ("/etc/chrony/", f"{_SYSTEMD}/chrony.service.d/", _CHRONYD, "/etc/hosts"),
                aliases=("chronyd.service",),
            ),
            Unit("ssh.socket", masked=True),
            Unit(
                "ssh.service",
                ("/etc/ssh/sshd_config.d/", f"{PKI}/host.key"),
                reload=True,
                aliases=("sshd.service",),
            )
            if _offers_ssh(ctx)
            else Unit("ssh.service", masked=True),
        ),
        checks=(
            Check("rsyslog", ("rsyslogd", "-N1"), reads=("/etc/rsyslog.conf", "/etc/rsyslog.d/", f"{PKI}/")),
            Check("chrony", ("chronyd", "-p"), reads=("/etc/chrony/",)),
            *(
                (Check("sshd", ("sshd", "-t"), reads=("/etc/ssh/",)),)
                if _offers_ssh(ctx)
                else ()
            ),
        ),
    )  # fmt: skip


def _calls(ctx: Context, service: Service) -> tuple[Peer, ...]:
    """The machines of the site that this one calls on `service`; the watch machine calls none."""
    flows = ctx.matrix.out_of(ctx.machine.name)
    if not any(it.service == service and it.target != INTERNET for it in flows):
        return ()
    return ctx.peers(service)


def _offers_ssh(ctx: Context) -> bool:
    """Only where a flow ends: a watch machine without administrators' networks has no sshd."""
    return any(it.service == services.SSH for it in ctx.matrix.into(ctx.machine.name))


def _resolver(ctx: Context) -> tuple[File, ...]:
    flows = ctx.matrix.out_of(ctx.machine.name)
    if any(it.service == services.DNS for it in flows):
        return ()
    return (File("/etc/resolv.conf", ctx.render(__file__, "resolv.conf.j2")),)


def _certificates(ctx: Context) -> tuple[File, ...]:
    """Certificates are public, keys are root's alone: daemons read them before they drop root."""
    files = [
        File(f"{PKI}/ca.pem", ctx.authorities()),
        *_pair(ctx, "host", f"host/{ctx.machine.name}"),
    ]
    if ctx.machine.has(Role.GATEWAY_IN):
        files += _pair(ctx, "public", f"public/{ctx.site.mx_host}")
    elif ctx.machine.has(Role.WEBMAIL):
        files += _pair(ctx, "public", f"public/{ctx.site.web_certificate}")
    elif ctx.machine.has(Role.STORE) and ctx.site.clients is Clients.VPN:
        files += _pair(ctx, "public", f"public/{ctx.site.imap_host}")
    return tuple(files)


def _pair(ctx: Context, stem: str, secret: str) -> tuple[File, File]:
    return (
        File(f"{PKI}/{stem}.pem", ctx.secret(f"{secret}/cert")),
        File(f"{PKI}/{stem}.key", ctx.secret(f"{secret}/key"), mode=0o600, secret=True),
    )


def _ssh(ctx: Context) -> tuple[File, ...]:
    if not _offers_ssh(ctx):
        return ()
    keys = "".join(f"{key}\n" for key in ctx.site.admin_keys)
    watches = [] if ctx.machine.has(Role.WATCH) else ctx.callers(services.SSH)
    return (
        File(
            "/etc/ssh/sshd_config.d/10-mastio.conf",
            ctx.render(
                __file__,
                "sshd.conf.j2",
                is_bastion=ctx.machine.has(Role.WATCH),
                watches=[address for it in watches for address in it.addresses],
            ),
        ),
        File(ROOT_KEYS, keys),
    )


def _logs(ctx: Context) -> tuple[File, ...]:
    watches = () if ctx.machine.has(Role.WATCH) else _calls(ctx, services.SYSLOG)
    values = {"watches": watches, "lines": lines, "program": _LINES}
    return (
        File("/etc/rsyslog.conf", ctx.render(__file__, "rsyslog.conf.j2", **values)),
        *_again(ctx, watches),
        _drop_in(ctx, "syslog.socket"),
        _drop_in(ctx, "rsyslog.service", program=_LINES if watches else ""),
        File("/etc/ulogd.conf", ctx.render(__file__, "ulogd.conf.j2", group=LOG_GROUP)),
        _drop_in(ctx, "ulogd2.service"),
        File("/etc/systemd/journald.conf.d/mastio.conf", ctx.render(__file__, "journald.conf.j2")),
    )


def _again(ctx: Context, watches: tuple[Peer, ...]) -> tuple[File, ...]:
    """What sends again what was on its way."""
    if not watches:
        return ()
    ways = {
        it.machine: [(str(address), services.SYSLOG.port) for address in it.addresses]
        for it in watches
    }
    return (
        File(_LINES, Path(__file__).with_name("lines.py").read_text(), mode=0o755),
        File(str(lines.CONFIG), json.dumps(ways, indent=1) + "\n"),
    )


def _time(ctx: Context) -> tuple[File, ...]:
    shared = (
        File(_CHRONYD, ctx.render(__file__, "chronyd.j2"), mode=0o755),
        _drop_in(ctx, "chrony.service", chronyd=_CHRONYD),
    )
    if ctx.machine.has(Role.WATCH):
        return shared
    sources = _calls(ctx, services.NTP)
    config = ctx.render(__file__, "chrony.conf.j2", sources=sources)
    return (File("/etc/chrony/chrony.conf", config), *shared)


def _proxy(ctx: Context) -> tuple[File, ...]:
    """apt through watch; by address, because a machine may be asked before its names are in place."""
    if ctx.machine.has(Role.WATCH) or not (proxies := _calls(ctx, services.PROXY)):
        return ()
    url = f"http://{bracketed(proxies[0].addresses[0])}:{services.PROXY.port}"
    content = ctx.render(__file__, "apt.conf.j2", url=url)
    return (File("/etc/apt/apt.conf.d/80-mastio", content),)


def _drop_in(ctx: Context, unit: str, **values: str) -> File:
    return File(f"{_SYSTEMD}/{unit}.d/mastio.conf", ctx.render(__file__, f"{unit}.j2", **values))
