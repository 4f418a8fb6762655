"""How watch calls the other machines by itself: ssh, with a key that can do one thing, to a host it knows.

Both ends know each other by the keys of their certificates inside the site, so there is nothing to pin
by hand. What a key may do is said where it arrives (`command="…"`, sshd(8)).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mastio import pki, services
from mastio.context import Context
from mastio.site.model import Machine, Role
from mastio.state import File


def known_hosts(ctx: Context, machines: Iterable[Machine]) -> str:
    """The machines' host keys, as ssh's UserKnownHostsFile."""
    return "".join(
        f"{ctx.site.internal_name(it.name)} {pki.ssh_public(ctx.secret(f'host/{it.name}/cert'))}\n"
        for it in machines
    )


def call(ctx: Context, machine: Machine, known: str, key: str) -> list[str]:
    """The command line that calls `machine`, but for what is to be done there.

    `known` and `key` are paths on watch. Raises MastioError where no flow leads.
    """
    peer = next(it for it in ctx.peers(services.SSH) if it.machine == machine.name)
    options: tuple[str, ...] = (
        "BatchMode=yes", "IdentitiesOnly=yes", f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=none", f"HostKeyAlias={peer.name}", "HostKeyAlgorithms=ecdsa-sha2-nistp256",
        "ConnectTimeout=5", f"Port={services.SSH.port}",
    )  # fmt: skip
    if machine.inner:
        # Its name leads into the tunnel; ssh goes beside it, or could not mend it.
        options = (*options, f"HostName={peer.addresses[0]}")
    flags = [flag for option in options for flag in ("-o", option)]
    return ["ssh", "-T", "-F", "none", "-i", key, *flags, f"root@{peer.name}"]


@dataclass(frozen=True, slots=True)
class Caller:
    """A watch that calls every other machine with a key for one purpose."""

    ssh: Mapping[str, list[str]]
    """How each machine is called, but for what is to be done there."""
    files: tuple[File, ...]
    """The key, and by which keys it knows them."""


def caller(ctx: Context, purpose: str) -> Caller:
    """What the watch needs for it; the key is that of the pair `purpose/<watch>`."""
    others = [it for it in ctx.site.machines if it != ctx.machine]
    known, key = f"/etc/mastio/{purpose}-known-hosts", f"/etc/mastio/{purpose}.key"
    secret = ctx.secret(f"{purpose}/{ctx.machine.name}/key")
    return Caller(
        {it.name: call(ctx, it, known, key) for it in others},
        (File(known, known_hosts(ctx, others)), File(key, secret, mode=0o600, secret=True)),
    )


def authorized(ctx: Context, certificate: str, command: str) -> str:
    """What lets watch in for `command` alone: a line of authorized_keys for each watch, or nothing.

    `certificate` is the secret that holds its certificate's name, with `{}` for the machine's.
    """
    watches = [it for it in ctx.site.carrying(Role.WATCH) if it != ctx.machine]
    addresses = ",".join(str(it) for watch in watches for it in watch.addresses)
    return "".join(
        f'restrict,from="{addresses}",command="{command}" '
        f"{pki.ssh_public(ctx.secret(certificate.format(it.name)))} {it.name}\n"
        for it in watches
    )
