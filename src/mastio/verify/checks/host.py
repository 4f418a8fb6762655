"""H and P: the machines themselves, asked on each of them."""

import re
from collections.abc import Iterator

from mastio.context import PKI
from mastio.site.model import Reach
from mastio.verify import breach, commands
from mastio.verify.listening import listening
from mastio.verify.model import Check, Family, Kind, Place, Secret, Severity
from mastio.verify.probes import disk, host
from mastio.verify.reach import listed
from mastio.verify.vantage import Vantage, not_run, unknown

_SYSCTLS = {
    "net.ipv4.conf.all.accept_redirects": "0", "net.ipv6.conf.all.accept_redirects": "0",
    "net.ipv4.conf.all.send_redirects": "0", "net.ipv4.conf.all.accept_source_route": "0",
    "net.ipv6.conf.all.accept_source_route": "0", "net.ipv4.conf.all.rp_filter": "1",
    "net.ipv4.icmp_echo_ignore_broadcasts": "1", "net.ipv4.tcp_syncookies": "1",
}  # fmt: skip
_MOST_OFFSET = 1.0
"""How far a clock may be off, in seconds."""
MARKS = ("/run/reboot-required", "/var/run/reboot-required")


def only_declared(vantage: Vantage) -> Iterator[str]:
    """A machine listens just where the flow matrix says, and who listens there is who should."""
    heard = listening(vantage)
    for (kind, address, port), program in sorted(heard.undeclared.items()):
        yield (
            f"{vantage.name}: {program} listens on {address} {listed([(kind, port)])}, which no flow declares"
        )
    for (kind, address, port), words in sorted(heard.usurped.items()):
        yield f"{vantage.name}: {address} {listed([(kind, port)])} is held by {words}"
    for kind, address, port in sorted(heard.silent):
        yield f"{vantage.name}: nobody listens on {address} {listed([(kind, port)])}, as the flow matrix says"


def kernel(vantage: Vantage) -> Iterator[str]:
    """The kernel believes no stranger about routes."""
    found = vantage.ask(host.kernel, sorted(key for key, value in _SYSCTLS.items() if value))
    if not found:
        raise unknown(f"{vantage.name} shows no kernel settings")
    for key, value in found.items():
        if value != _SYSCTLS[key]:
            yield f"{vantage.name}: {key} is {value}, not {_SYSCTLS[key]}"


def stale_programs(vantage: Vantage) -> Iterator[str]:
    """What runs is what is installed."""
    for words in vantage.ask(host.deleted):
        yield f"{vantage.name}: {words} is deleted and still runs"


def clock(vantage: Vantage) -> Iterator[str]:
    """The clock follows a source and is right."""
    said = vantage.output(*commands.CLOCK).strip().split(",")
    if len(said) < 14:
        raise unknown(f"chronyc on {vantage.name} says {','.join(said)}")
    offset, leap = float(said[4]), said[13]
    if leap == "Not synchronised":
        yield f"{vantage.name}: the clock follows nobody"
    elif abs(offset) > _MOST_OFFSET:
        yield f"{vantage.name}: the clock is {abs(offset):.1f} s off"


def reboot(vantage: Vantage) -> Iterator[str]:
    """No update waits for a reboot."""
    if vantage.ask(host.exists, list(MARKS)):
        yield f"{vantage.name}: an update takes effect only after a reboot"


_OLDEST_LISTS = 3
"""Days after which lists of packages say little about today."""
_SECURITY = "Debian-Security:"
"""The label of the archive with fixes, as apt-get shows it for each package it would install."""


def security_updates(vantage: Vantage) -> Iterator[str]:
    """No fix that Debian has published waits to be installed."""
    known = vantage.ask(host.package_lists)
    lists, seconds = known["lists"], float(str(known["seconds"]))
    if not lists and vantage.site.reach is Reach.LAB:
        raise not_run("machines of the lab have no lists of packages: nothing to compare with")
    if not isinstance(lists, list) or not any("security" in str(it) for it in lists):
        raise unknown(
            f"{vantage.name} has no lists of Debian's security archive: `apt-get update` there"
        )
    if (days := seconds / 86400) > _OLDEST_LISTS:
        raise unknown(
            f"the lists of packages on {vantage.name} are {days:.0f} days old: `apt-get update` there"
        )
    if found := waiting(vantage.output(*commands.UPDATES)):
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        yield f"{vantage.name}: fixes wait for {', '.join(found[:8])}{more}"


def waiting(said: str) -> list[str]:
    """Packages that Debian's security archive has newer, from what `commands.UPDATES` says."""
    lines = [line for line in said.splitlines() if line[:5] == "Inst " and _SECURITY in line]
    return [line.split()[1] for line in lines]


def newest_kernel(vantage: Vantage) -> Iterator[str]:
    """The kernel that runs is the newest that is installed."""
    said = vantage.ask(host.kernels)
    running, installed = str(said["running"]), said["installed"]
    if not isinstance(installed, list) or not installed:
        raise not_run(
            "no kernel is installed there, as in a container: whoever runs the host sees to it"
        )
    newest = max(map(str, installed), key=_version)
    if _version(newest) > _version(running):
        yield f"{vantage.name} runs {running}; {newest} is installed"


def _version(release: str) -> tuple[tuple[int, str], ...]:
    """6.12.9 before 6.12.48: numbers count as numbers."""
    return tuple(
        (int(it), "") if it.isdecimal() else (-1, it) for it in re.findall(r"\d+|[a-z]+", release)
    )


def package_files(vantage: Vantage) -> Iterator[str]:
    """Files of packages are as Debian made them (configuration files apart)."""
    result = vantage.run(commands.PACKAGES)
    changed = []
    for line in result.stdout.decode(errors="replace").splitlines():
        match = re.fullmatch(r"(\S+)\s+(c?)\s*(/.*)", line)
        # A file that is not there was left out on purpose (documentation), or H5 and apt will tell.
        if match and not match[2] and "5" in match[1]:
            changed.append(match[3])
    for path in changed[:20]:
        yield f"{vantage.name}: {path} is not what its package brought"


def belongings(vantage: Vantage) -> Iterator[str | Secret]:
    """What lies on a machine, and what that can do about mail, is what its work needs."""
    site, machine = vantage.site, vantage.site.machine(vantage.name)
    seen = vantage.ask(disk.secrets, "/", list(_CERTIFICATES))
    secrets = [
        Secret(
            machine.name, Kind(it["kind"]), str(it["path"]), str(it["owner"]), str(it["mode"]), int(it["count"]),
            tuple(map(str, it["of"])),
        )
        for it in seen["found"]
    ]  # fmt: skip
    yield from secrets
    yield from breach.faults(site, machine, secrets)
    allowed = breach.declared(vantage.matrix, machine)
    for held in breach.powers(vantage.matrix, machine, (), allowed):
        if fault := breach.ungranted(machine, held):
            yield fault
    if seen["unread"]:
        raise unknown(f"could not look at {'; '.join(seen['unread'][:3])}")


_CERTIFICATES = (f"{PKI}/host.pem", f"{PKI}/public.pem")
_ALL = (Place.EVERY_MACHINE,)

CHECKS = (
    Check(
        "H1", Family.HOST, "Machines listen just where declared", _ALL, Severity.HIGH,
        "listening sockets beyond loopback and the files that those run who have them, from /proc",
        "the addresses and ports of the flow matrix, no other; each held by the service's own program",
        "CIS Debian Linux Benchmark, 2.1", "See whose it is (`ss -lntup`) and remove it, or declare a flow; what is "
        "missing: look at the service's unit.",
        only_declared,
    ),
    Check(
        "H4", Family.HOST, "The kernel believes no stranger", _ALL, Severity.MEDIUM,
        "redirects, source routes, reverse path, broadcasts", "off, off, strict, ignored",
        "CIS Debian Linux Benchmark, 3.3; RFC 1812, 5.3.8", "`sysctl --system` loads them again; see who changed them.",
        kernel,
    ),
    Check(
        "H5", Family.HOST, "What runs is what is installed", _ALL, Severity.MEDIUM,
        "programs and libraries in memory whose file is gone", "none",
        "needrestart(1)", "Restart the service (`systemctl restart`), or the machine.", stale_programs,
    ),
    Check(
        "H6", Family.HOST, "Clocks are right", _ALL, Severity.MEDIUM, "chronyc tracking",
        f"follows a source, within {_MOST_OFFSET:g} s", "RFC 8633", "See `chronyc sources` there, then on watch.",
        clock,
    ),
    Check(
        "H7", Family.HOST, "No secrets and no powers but those that the work needs", _ALL, Severity.CRITICAL,
        "keys, password hashes, sessions, mail and vaults on the whole disk, found by content; what the "
        "flow matrix makes of them",
        "each lies where the table of grants (verify/grants.py) says, a key has the name that it should have, "
        "and nobody else there may read it", "docs/decisions/0023; unsecured credentials, MITRE ATT&CK T1552",
        "Find out who put it there, delete it, and replace what it opens: `mastio secrets rotate`, "
        "`mastio dkim rotate --compromised`, the user's password.", belongings, seconds=60,
    ),
    Check(
        "P2", Family.HOST, "No reboot is due", _ALL, Severity.MEDIUM, "/run/reboot-required", "is not there",
        "update-notifier, unattended-upgrade(8)", "Reboot the machine: `systemctl reboot`; its mail waits in queues.",
        reboot,
    ),
    Check(
        "P1", Family.HOST, "No security update waits", _ALL, Severity.HIGH,
        "apt-get -s dist-upgrade, against the lists of packages on the machine (nothing is fetched)",
        f"nothing to install from Debian's security archive; lists at most {_OLDEST_LISTS} days old",
        "https://www.debian.org/security; apt-get(8)", "`mastio patches run` installs it.",
        security_updates, seconds=60,
    ),
    Check(
        "P3", Family.HOST, "The newest kernel runs", _ALL, Severity.MEDIUM,
        "uname -r against the kernels in /boot", "none of them is newer; a container has none to compare",
        "needrestart(1)", "Reboot the machine: `systemctl reboot`; its mail waits in queues.", newest_kernel,
    ),
    Check(
        "P4", Family.HOST, "Package files are unmodified", _ALL, Severity.HIGH, "dpkg --verify",
        "no file differs, configuration apart", "dpkg(1)",
        "Find out who changed it; `apt-get install --reinstall PACKAGE` brings it back.",
        package_files, full=True, seconds=240,
    ),
)  # fmt: skip
