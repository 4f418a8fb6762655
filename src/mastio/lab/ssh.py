"""Reaching the lab's machines as an administrator of a real site does: by OpenSSH, through watch.

STATE/ssh/admin, admin.pub    the administrator's key, made once
STATE/ssh/config              an ssh_config(5): watch from the administrator's address on the lab's
                              internet, every other machine through watch
STATE/ssh/known_hosts         the machines' keys, taken from their disks

$ ssh -F /var/lib/mastio/lab/demo/ssh/config store
"""

from collections.abc import Iterator
from pathlib import Path

from mastio import services
from mastio.context import bracketed
from mastio.errors import Exit, MastioError
from mastio.lab import bootstrap, internet, network, paths
from mastio.lab.machine import Machine
from mastio.site.model import Machine as SiteMachine
from mastio.site.model import Role, Site
from mastio.transport import OUTSIDE


def config_path(site: str) -> Path:
    """The ssh_config file of the lab `site`; it is there once the lab is up."""
    return _folder(site) / "config"


def admin_key(site: str) -> str:
    """The public key of the lab's administrator, in OpenSSH's format; made when there is none."""
    path = _folder(site) / "admin"
    public = path.with_suffix(".pub")
    try:
        if not public.exists():
            private_text, public_text = bootstrap.ssh_key(f"admin@{site}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.touch(0o600)
            path.write_text(private_text)
            public.write_text(public_text)
        return public.read_text().strip()
    except PermissionError as error:
        raise MastioError(
            f"{error.filename}: the lab's own keys are root's",
            hint="run the same command with sudo, or as root",
            code=Exit.NOPERM,
        ) from None


def write(site: Site) -> None:
    """Writes `config` and `known_hosts` for the machines of `site`, which must have been made."""
    folder = _folder(site.name)
    folder.mkdir(parents=True, exist_ok=True)
    keys = []
    for machine in site.machines:
        public = Machine(site.name, machine.name).folder / "upper" / f"{bootstrap.HOST_KEY}.pub"
        kind, key = public.read_text().split()[:2]
        keys.append(f"{machine.name} {kind} {key}\n")
    (folder / "known_hosts").write_text("".join(keys))
    config_path(site.name).write_text("\n".join(config(site)) + "\n")


def config(site: Site) -> Iterator[str]:
    """The lines of the ssh_config file. Machines answer to their names and to their addresses."""
    folder = _folder(site.name)
    watch = next(iter(site.carrying(Role.WATCH)), None)
    for machine in site.machines:
        yield f"Host {machine.name} {' '.join(map(str, machine.addresses))}"
        yield f"    HostName {machine.addresses[0]}"
        yield f"    HostKeyAlias {machine.name}"
        if machine == watch:
            yield f"    ProxyCommand {_way_in(site, machine)}"
        elif watch:
            yield f"    ProxyJump {watch.name}"
    yield from (
        "Host *",
        "    User root",
        "    IdentitiesOnly yes",
        "    StrictHostKeyChecking yes",
    )
    yield f"    IdentityFile {folder}/admin"
    yield f"    UserKnownHostsFile {folder}/known_hosts"


def _way_in(site: Site, watch: SiteMachine) -> str:
    """From the administrator's address to watch: its own address, or what the firewall publishes."""
    behind = site.carrying(Role.FIREWALL)
    target = (site.public if behind else watch.addresses)[0]
    mine = next(it for it in internet.admin(site) if it.version == target.version)
    return (
        f"nsenter --net=/run/netns/{network.namespace(site.name, OUTSIDE)} "
        f"socat - TCP:{bracketed(target)}:{services.SSH.port},bind={bracketed(mine)}"
    )


def _folder(site: str) -> Path:
    return paths.state(site) / "ssh"
