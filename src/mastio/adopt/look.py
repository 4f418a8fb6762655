"""Looks around on a machine and changes nothing: a program of its own, standard library only.

It prints JSON: release, who asks, what is installed that matters, what listens and whose it is, mail, disks, firewall.
"""

import glob
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from typing import Any

INTEREST = (
    "apache2", "bind9", "caddy", "courier-imap", "cyrus-imapd", "docker.io", "docker-ce", "dovecot-core",
    "exim4-daemon-heavy", "exim4-daemon-light", "fail2ban", "firewalld", "haproxy", "incus", "lighttpd",
    "mariadb-server", "mysql-server", "nginx", "opensmtpd", "podman", "postfix", "postgresql", "proftpd-core",
    "rspamd", "samba", "sendmail-bin", "spamassassin", "squid", "ufw", "unbound", "vsftpd",
)  # fmt: skip
"""Packages that say what a machine has been for."""
MAIL = ("/var/mail/*", "/var/spool/mail/*", "/var/vmail/*", "/home/*/Maildir", "/root/Maildir")


def release() -> dict[str, str]:
    """Which Debian it is (os-release(5))."""
    found: dict[str, str] = {}
    with open("/etc/os-release", encoding="utf-8") as file:
        for line in file:
            key, _, value = line.strip().partition("=")
            found[key] = value.strip('"')
    return {
        "id": found.get("ID", ""),
        "version": found.get("VERSION_ID", ""),
        "name": found.get("PRETTY_NAME", ""),
    }


def packages() -> tuple[list[str], int]:
    """Those of `INTEREST` that are installed, and how many are in all."""
    found: list[str] = []
    package, count = "", 0
    if not os.path.exists("/var/lib/dpkg/status"):
        return [], 0
    with open("/var/lib/dpkg/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("Package: "):
                package = line[9:].strip()
            elif line.startswith("Status: ") and line.rstrip().endswith(" installed"):
                count += 1
                if package in INTEREST:
                    found.append(package)
    return sorted(found), count


def owners() -> dict[str, str]:
    """Which program has which socket, by its inode."""
    found: dict[str, str] = {}
    for folder in glob.glob("/proc/[0-9]*/fd"):
        try:
            with open(folder[:-2] + "comm", encoding="utf-8", errors="replace") as file:
                name = file.read().strip()
            for entry in os.listdir(folder):
                match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"{folder}/{entry}"))
                if match:
                    found.setdefault(match[1], name)
        except OSError:
            continue
    return found


def listeners() -> list[list[Any]]:
    """What listens: transport, port, program, whether on loopback only (proc_pid_net(5))."""
    who = owners()
    found: set[tuple[str, int, str, bool]] = set()
    for transport, state in (("tcp", "0A"), ("udp", "07")):
        for family in ("", "6"):
            try:
                with open(f"/proc/net/{transport}{family}", encoding="ascii") as table:
                    next(table)
                    for line in table:
                        words = line.split()
                        host, _, port = words[1].partition(":")
                        if words[3] == state:
                            loopback = (
                                host == "0100007F"
                                or host == "0" * 24 + "01000000"
                                or (family == "" and host.endswith("7F"))
                            )
                            found.add((transport, int(port, 16), who.get(words[9], ""), loopback))
            except FileNotFoundError:
                continue
    return [list(it) for it in sorted(found)]


def mail() -> list[str]:
    """Where mail is kept, as far as it shows."""
    found: list[str] = []
    for pattern in MAIL:
        for path in glob.glob(pattern):
            if os.path.isdir(path) or os.path.getsize(path):
                found.append(path)
    return sorted(found)[:20]


def firewall() -> int:
    """How many rules there are, of others than mastio."""
    nft = shutil.which("nft") or "/usr/sbin/nft"
    try:
        done = subprocess.run(
            [nft, "-j", "list", "ruleset"], capture_output=True, check=False, timeout=20
        )
        rows = json.loads(done.stdout or b"{}").get("nftables", [])
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0
    return sum("rule" in it and it["rule"].get("table") != "mastio" for it in rows)


def ours() -> str:
    """Which site's machine it is already: the one in its internal name."""
    try:
        with open("/etc/hosts", encoding="utf-8", errors="replace") as file:
            match = re.search(r"\.([a-z0-9-]+)\.internal\b", file.read())
    except OSError:
        return ""
    return match[1] if match and os.path.exists("/var/lib/mastio") else ""


def memory() -> int:
    """MiB."""
    with open("/proc/meminfo", encoding="ascii") as file:
        match = re.search(r"MemTotal:\s+(\d+)", file.read())
    return int(match[1]) // 1024 if match else 0


def main() -> None:
    """Prints all of it."""
    found, count = packages()
    disk = os.statvfs("/")
    users = [it.pw_name for it in pwd.getpwall() if 1000 <= it.pw_uid < 60000]
    json.dump(
        {
            "release": release(),
            "python": list(sys.version_info[:2]),
            "uid": os.getuid(),
            "systemd": os.path.isdir("/run/systemd/system"),
            "packages": found,
            "installed": count,
            "listeners": listeners(),
            "mail": mail(),
            "firewall": firewall(),
            "ours": ours(),
            "memory": memory(),
            "disk": disk.f_blocks * disk.f_frsize // 2**20,
            "free": disk.f_bavail * disk.f_frsize // 2**20,
            "users": users,
            "host": os.uname().nodename,
        },
        sys.stdout,
    )


main()
