"""Who listens on a machine, beside who should: one look, for verification (H1) and for integrity.

heard = listening(vantage)
heard.undeclared[("tcp", "0.0.0.0", 4444)]      # "nc": how the program calls itself
heard.usurped[("tcp", "10.77.1.10", 25)]        # "/usr/bin/python3.13, not /usr/lib/postfix/sbin/*"

A program may call itself what it likes; what counts at a declared door is the file that it runs. AIDE says whether that
file is what its package brought.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mastio import services
from mastio.context import doors
from mastio.services import Service
from mastio.verify.probes import host
from mastio.verify.vantage import Vantage

Socket = tuple[str, str, int]
"""Transport, address, port."""
_POSTFIX = ("/usr/lib/postfix/sbin/*",)
_DOVECOT = ("/usr/sbin/dovecot", "/usr/lib/dovecot/*")
_STUNNEL, _NGINX, _TINYPROXY = ("/usr/bin/stunnel4",), ("/usr/sbin/nginx",), ("/usr/bin/tinyproxy",)
_KERNEL = ("", "/usr/bin/wireguard-go")
"""No program has the kernel's own sockets; in a lab, or a container, it may be without WireGuard."""
HOLDERS: Mapping[Service, tuple[str, ...]] = {
    services.SMTP: _POSTFIX, services.DELIVERY: _POSTFIX, services.RELAY: _POSTFIX,
    # The store's by Postfix; what the proxy of mail programs has on a gateway by Dovecot.
    services.SUBMISSIONS: (*_POSTFIX, *_DOVECOT), services.IMAPS: _DOVECOT, services.SIEVE: _DOVECOT,
    services.PASSWORD: _STUNNEL, services.LEARN: _STUNNEL, services.HTTP: _NGINX, services.HTTPS: _NGINX,
    services.SSH: ("/usr/sbin/sshd",), services.SYSLOG: ("/usr/sbin/rsyslogd",), services.NTP: ("/usr/sbin/chronyd",),
    services.PROXY: _TINYPROXY, services.POLICIES: _TINYPROXY,
    services.WIREGUARD: _KERNEL, services.MESH: _KERNEL,
}  # fmt: skip
"""The files of those who may have a service's door, as fnmatch(3) has them; a daemon's children are among them."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Who listens on a machine that should not, and where nobody does that should."""

    undeclared: Mapping[Socket, str]
    """What calls itself so listens where no flow leads."""
    usurped: Mapping[Socket, str]
    """A declared door, and who has it instead of whom."""
    silent: frozenset[Socket]
    """Declared doors that nobody has."""


def listening(vantage: Vantage) -> Heard:
    """What is heard there. Raises ValueError when the answer makes no sense."""
    declared = {
        (str(it.transport), str(it.address), it.port): service
        for it, service in doors(vantage.matrix, vantage.site.machine(vantage.name)).items()
    }
    undeclared, usurped, found = {}, {}, set[Socket]()
    for kind, address, port, name, files in vantage.ask(
        host.listeners, [list(it) for it in sorted(declared)]
    ):
        socket = str(kind), str(address), int(str(port))
        found.add(socket)
        if socket not in declared:
            undeclared[socket] = str(name)
        elif words := usurping(files, HOLDERS[declared[socket]]):
            usurped[socket] = words
    return Heard(undeclared, usurped, frozenset(declared.keys() - found))


def usurping(files: object, holders: Iterable[str]) -> str:
    """Who of those that run `files` is none of the `holders`, in words; "" when all are."""
    if not isinstance(files, list) or not files:
        raise ValueError("its answer does not say who listens")
    foreign = [str(it) for it in files if not any(fnmatchcase(str(it), one) for one in holders)]
    if not foreign:
        return ""
    wanted = " or ".join(it or "the kernel" for it in holders)
    return f"{', '.join(it or 'no program that can be seen' for it in foreign)}, not {wanted}"
