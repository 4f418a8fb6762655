"""Makes machines on a server and starts them: a program of its own, standard library only.

`PAYLOAD` is JSON: `files` by path, `machines`, `base` (what a plain Debian has), `carry`'s names. What is there already
stays; a machine is made aside and renamed, so what has its final name is whole. A line of JSON tells of each step.

Whoever tightened the rules is told so, and must come in once more: until `mastio-server-undo.timer` is stopped, they go
away again.
"""

import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

STATE = "/var/lib/mastio-server"
MACHINES = "/var/lib/machines"
TOOLS = {
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "nftables": "/usr/sbin/nft",
    "systemd-container": "/usr/bin/systemd-nspawn",
    "unattended-upgrades": "/usr/bin/unattended-upgrade",
}
UNDO = "mastio-server-undo"
GRACE = 120
"""Seconds in which somebody must come in once more."""
PATIENCE = 120
"""Seconds that a machine may take to boot."""
ENV = {
    **os.environ,
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND": "noninteractive",
    "LC_ALL": "C.UTF-8",
}
APT = (
    "apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Languages=none",
    "--no-install-recommends",
)  # fmt: skip


def say(text: str) -> None:
    """Tells of a step."""
    print(json.dumps({"note": text}), flush=True)


def run(*argv: str, stdin: str = "", fine: bool = False) -> str:
    """Runs a program to its end; ends this one when it fails, unless that is `fine`."""
    done = subprocess.run(argv, input=stdin, text=True, env=ENV, capture_output=True, check=False)
    if done.returncode and not fine:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        telling = [it for it in lines if it.startswith("E:")] or lines[-1:]
        raise OSError(f"{argv[0]}: {(telling or ['failed'])[0]}")
    return done.stdout


def write(path: str, text: str, mode: int = 0o644) -> bool:
    """Puts a file in its place; whether it was another before."""
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return False
    except OSError:
        pass
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fresh = f"{path}.mastio-new"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
        os.fsync(file.fileno())
    os.rename(fresh, path)
    return True


def sources() -> list[str]:
    """Where this server gets its packages (sources.list(5))."""
    found = glob.glob("/etc/apt/sources.list") + glob.glob("/etc/apt/sources.list.d/*.list")
    return [
        it for it in found + glob.glob("/etc/apt/sources.list.d/*.sources") if os.path.getsize(it)
    ]


def tools() -> None:
    """What the server itself needs."""
    missing = [name for name, path in TOOLS.items() if not os.path.exists(path)]
    if missing:
        say(f"installing {', '.join(missing)}")
        run("apt-get", "-qq", "update")
        run(*APT, "install", *missing)


def base(asked: dict[str, Any]) -> str:
    """A plain Debian, once."""
    place = f"{STATE}/base"
    if not os.path.isdir(place):
        say("a plain Debian, from which all are made")
        making = f"{STATE}/making.base"
        shutil.rmtree(making, ignore_errors=True)
        os.makedirs(STATE, exist_ok=True)
        run(
            "mmdebstrap", "--mode=root", "--variant=apt", f"--include={','.join(asked['packages'])}",
            *(f"--dpkgopt=path-exclude={it}" for it in asked["excluded"]),
            *(f"--dpkgopt=path-include={it}" for it in asked["included"]),
            *(f"--customize-hook={it}" for it in asked["hooks"]),
            "--aptopt=Acquire::Languages \"none\"", *(f"--aptopt={it}" for it in proxies()),
            asked["suite"], making, *sources(),
        )  # fmt: skip
        os.rename(making, place)
    return place


def proxies() -> list[str]:
    """This server's own proxy settings (apt-transport-http(1))."""
    lines = run("apt-config", "dump", "Acquire").splitlines()
    return [it.rstrip(";") for it in lines if "::Proxy" in it.partition(" ")[0]]


def enabled(inside: list[str]) -> set[str]:
    """The units that start at boot."""
    argv = ("systemctl", "list-unit-files", "--state=enabled", "--no-legend", "--plain")
    return {it.split()[0] for it in run(*inside, *argv).splitlines() if it.strip()}


def build(machine: dict[str, Any], plain: str) -> None:
    """A machine's disk: plain Debian, its packages, its name and networks."""
    final, making = f"{MACHINES}/{machine['name']}", f"{MACHINES}/.making.{machine['name']}"
    shutil.rmtree(making, ignore_errors=True)
    os.makedirs(MACHINES, mode=0o700, exist_ok=True)
    run("cp", "-a", "--reflink=auto", plain, making)
    blocker = f"{making}/usr/sbin/policy-rc.d"
    write(blocker, "#!/bin/sh\nexit 101\n", 0o755)
    inside = [
        "systemd-nspawn", "--quiet", f"--directory={making}", "--pipe", "--register=no", "--keep-unit",
        "--timezone=off", "--resolv-conf=bind-host", "--bind-ro=/etc/hosts", *(f"--bind-ro={it}" for it in sources()),
        "--setenv=DEBIAN_FRONTEND=noninteractive", "--setenv=LC_ALL=C.UTF-8",
    ]  # fmt: skip
    settings = [
        word for it in proxies() for word in ("-o", re.sub(r'^(\S+) "(.*)"$', r"\1=\2", it))
    ]
    if machine["debconf"]:
        run(
            *inside, "debconf-set-selections", stdin="".join(f"{it}\n" for it in machine["debconf"])
        )
    run(*inside, "apt-get", "-qq", *settings, "update")
    before = enabled(inside)
    run(*inside, *APT, *settings, "install", *machine["packages"])
    # What it runs is for `mastio apply` to say, not for Debian's defaults.
    if started := sorted(enabled(inside) - before):
        run(*inside, "systemctl", "--quiet", "disable", *started, fine=True)
    # The lists stay: by them it can be told from the first hour on whether a fix waits.
    run(*inside, "apt-get", "clean")
    os.unlink(blocker)
    run(*inside, "ssh-keygen", "-q", "-A")
    # Without an identity systemd takes the boot for the first of all, and enables whatever is installed.
    write(f"{making}/etc/machine-id", f"{secrets.token_hex(16)}\n", 0o444)
    for path, text in machine["files"].items():
        write(f"{making}/{path}", text)
    os.rename(making, final)


def machines(asked: dict[str, Any]) -> None:
    """Those that are not there."""
    lacking = [it for it in asked["machines"] if not os.path.isdir(f"{MACHINES}/{it['name']}")]
    if not lacking:
        return
    plain = base(asked["base"])
    say(f"making {', '.join(it['name'] for it in lacking)}")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for machine, _ in zip(lacking, pool.map(lambda it: build(it, plain), lacking), strict=True):
            say(f"made {machine['name']}")


def rules(table: str) -> str:
    """A digest of the rules in force; empty when there are none."""
    text = run("nft", "-s", "list", "table", "inet", table, fine=True)
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def active(unit: str) -> bool:
    """Whether a unit runs."""
    return run("systemctl", "is-active", unit, fine=True).strip() == "active"


def stands(unit: str, table: str, loaded: str) -> bool:
    """Whether rules and routes are in force as they were loaded."""
    try:
        with open(loaded, encoding="ascii") as file:
            same = file.read().strip() == rules(table)
    except OSError:
        same = False
    marked = all("fwmark" in run("ip", family, "rule") for family in ("-4", "-6"))
    return active(unit) and same and marked


def stand(asked: dict[str, Any]) -> None:
    """Files, rules and zones; what changed of a machine's box restarts it."""
    changed = {path for path, text in asked["files"].items() if write(path, text)}
    names = [it["name"] for it in asked["machines"]]
    if changed:
        say(f"wrote {len(changed)} files")
        run("systemctl", "daemon-reload")
    unit = asked["unit"]
    run("/usr/lib/systemd/systemd-sysctl", asked["kernel"])
    if asked["sshd"] in changed:
        run("/usr/sbin/sshd", "-t")
        run("systemctl", "try-reload-or-restart", "ssh.service")
    fresh = any(it.endswith(("rules.nft", "zones.net", "local.net", unit)) for it in changed)
    if fresh or not stands(unit, asked["table"], asked["loaded"]):
        say("the server's rules")
        run("systemctl", "stop", f"{UNDO}.timer", fine=True)
        run("systemd-run", "--quiet", f"--unit={UNDO}", f"--on-active={GRACE}", "--collect",
            "/usr/sbin/nft", "delete", "table", "inet", asked["table"])  # fmt: skip
        run("systemctl", "reload-or-restart", unit)
        write(asked["loaded"], f"{rules(asked['table'])}\n")
        print(json.dumps({"tightened": True}), flush=True)
    boxes = [f"systemd-nspawn@{it}" for it in names]
    run("systemctl", "--quiet", "enable", unit, "machines.target", *boxes)
    for name in names:
        own = {
            path
            for path in changed
            if re.search(rf"[/@]{re.escape(name)}\.(nspawn|net|service)", path)
        }
        if own and active(f"systemd-nspawn@{name}"):
            say(f"restarting {name}: its box is another now")
            run("systemctl", "restart", f"systemd-nspawn@{name}")
    say(f"starting {', '.join(names)}")
    run("systemctl", "start", *boxes)


def wait(names: list[str]) -> None:
    """Until systemd answers in each machine."""
    until = time.monotonic() + PATIENCE
    for name in names:
        while True:
            leader = run(
                "machinectl", "show", name, "--property=Leader", "--value", fine=True
            ).strip()
            argv = ["nsenter", "--target", leader, "--all", "--"]
            argv += ["systemctl", "--quiet", "is-active", "basic.target"]
            if leader and not subprocess.run(argv, capture_output=True, check=False).returncode:
                break
            if time.monotonic() > until:
                raise OSError(
                    f"{name} did not boot within {PATIENCE} seconds: journalctl -u systemd-nspawn@{name}"
                )
            time.sleep(0.3)


def main(asked: dict[str, Any]) -> None:
    """All of it, in order."""
    tools()
    machines(asked)
    stand(asked)
    wait([it["name"] for it in asked["machines"]])
    print(json.dumps({"done": True}), flush=True)


try:
    main(json.loads(PAYLOAD))  # type: ignore[name-defined]  # noqa: F821 — given by the transport
except (OSError, subprocess.SubprocessError) as error:
    sys.exit(str(error))
