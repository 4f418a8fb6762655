"""Backups that restore: watch has every machine archive what no site file brings back, and keeps the archives.

    watch: timer ──▶ mastio.watch.backup ──ssh──▶ a machine: the program `door`, which runs borg
                            │                                  │
                            └── borg serve --append-only ◀── the same connection ──┘

A *machine* holds `door`, to which watch's key leads, and the passphrase of its own repository. It adds archives and can
do no more: *watch* serves append-only, looks afterwards at all that was written, and does not keep what deletes or
replaces anything. Only watch prunes. What is kept of a machine is said by its roles (`state.Kept`).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import urlsplit

from mastio import bastion
from mastio.context import ON_WATCH, Context
from mastio.instances import BESIDE, of_store
from mastio.roles.backup.door import PASSPHRASE, SETTINGS
from mastio.site.model import Machine, Role, Site
from mastio.state import Directory, File, HostState, Kept
from mastio.timers import Timer, timers

PAIR = "backup/{}"
"""The key pair by which a watch comes to have archives made."""
COPY_PAIR = "copy/{}"
"""The key pair by which watch brings the second copy to another host."""
COPY_KEY = "/etc/mastio/copy.key"
COPY_HOST = "/etc/mastio/copy-known-hosts"
TOKEN = "backup/{}/passphrase"  # noqa: S105 — a name
"""The passphrase of a machine's repository."""
FOLDER = "/var/lib/mastio/backup"
"""On watch: `<machine>/` is a repository, `known/` what watch knows of each, `aside/` what it did not keep."""
STATUS = f"{FOLDER}/status.json"
"""How each machine's backups are, for the digest and others."""
KEYS = "/etc/mastio/backup-keys"
"""On watch: a file for each machine, with its repository's passphrase."""
ON_SIDE_OF_WATCH = "/etc/mastio/backup-watch.json"
DOOR = "/usr/local/lib/mastio/mastio-backup"
_UNITS = "/etc/systemd/system"
__all__ = ["DOOR", "FOLDER", "KEYS", "PASSPHRASE", "SETTINGS", "build", "kept_of"]


def kept_of(machine: Machine, kept: Mapping[Role, Kept]) -> Kept:
    """What is kept of a machine: what its roles say, together."""
    mine = [kept[role] for role in machine.roles if role in kept]
    return Kept(
        tuple(dict.fromkeys(it for one in mine for it in one.trees)),
        tuple(dict.fromkeys(it for one in mine for it in one.databases)),
        (*dict.fromkeys(it for one in mine for it in one.dumps), *_queue_beside(machine)),
    )


def _queue_beside(machine: Machine) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The second Postfix' queue, where gateway and store are one machine."""
    if (postfix := of_store(machine)) != BESIDE:
        return ()
    return (("queue-store.json", ("postqueue", "-c", postfix.config, "-j")),)


def backed_up(site: Site, kept: Mapping[Role, Kept]) -> tuple[Machine, ...]:
    """The machines that have something to keep; watch keeps the archives, and has none of its own."""
    if not site.carrying(Role.WATCH):
        return ()
    return tuple(it for it in site.machines if kept_of(it, kept) != Kept())


def build(ctx: Context, kept: Mapping[Role, Kept]) -> HostState:
    """A machine's part in it."""
    machines = backed_up(ctx.site, kept)
    own = _kept(ctx, kept_of(ctx.machine, kept)) if ctx.machine in machines else HostState()
    if not ctx.machine.has(Role.WATCH):
        return own
    keeping = _keeping(ctx, machines)
    return replace(
        keeping,
        packages=tuple(dict.fromkeys((*keeping.packages, *own.packages))),
        files=(*keeping.files, *own.files),
    )


def _kept(ctx: Context, kept: Kept) -> HostState:
    own = {
        **asdict(kept),
        "dumps": dict(kept.dumps),
        "repository": f"ssh://watch{FOLDER}/{ctx.machine.name}",
    }
    keys = bastion.authorized(ctx, f"{PAIR}/cert", DOOR)
    passphrase = ctx.secret(TOKEN.format(ctx.machine.name))
    return HostState(
        packages=("borgbackup", "python3"),
        files=(
            File(DOOR, Path(__file__).with_name("door.py").read_text(), mode=0o755),
            File(SETTINGS, json.dumps(own, indent=1) + "\n"),
            File(PASSPHRASE, passphrase, mode=0o600, secret=True),
            *((File("/etc/ssh/authorized_keys.d/backup", keys),) if keys else ()),
        ),
    )


def _keeping(ctx: Context, machines: tuple[Machine, ...]) -> HostState:
    caller, wanted = bastion.caller(ctx, "backup"), ctx.site.backup
    own = {
        # A watch that carries another role as well calls its own door without ssh.
        "ssh": {it.name: caller.ssh.get(it.name, [DOOR]) for it in machines},
        "often": [it.name for it in machines if it.has(Role.STORE)],
    }
    rows = (
        Timer("often", "the store", f"*:0/{wanted.every_minutes}"),
        Timer("daily", "the other machines; what is too old goes", "*-*-* 01:10:00"),
        Timer("weekly", "whether all can be read", "Sun *-*-* 05:40:00"),
        Timer("late", "whether backups still come", "*:12/30"),
    )
    clocks, units = timers("mastio-backup", "Backups,", rows, delay=20)
    files = (
        File(ON_SIDE_OF_WATCH, json.dumps(own, indent=1) + "\n"),
        *caller.files,
        *_copying(ctx),
        *(
            File(f"{KEYS}/{it.name}", ctx.secret(TOKEN.format(it.name)), mode=0o600, secret=True)
            for it in machines
        ),
        File(
            f"{_UNITS}/mastio-backup@.service",
            ctx.render(__file__, "backup.service.j2", program=ON_WATCH),
        ),
    )
    return HostState(
        packages=("borgbackup",),
        files=(*files, *clocks),
        directories=(Directory(FOLDER, mode=0o700), Directory(KEYS, mode=0o700)),
        units=units if ctx.kit.awake else (),
    )


def _copying(ctx: Context) -> tuple[File, ...]:
    """What the second copy needs where it goes to another host by ssh."""
    wanted = ctx.site.backup
    if not wanted.copied_by_ssh:
        return ()
    secret = ctx.secret(f"{COPY_PAIR.format(ctx.machine.name)}/key")
    host = urlsplit(wanted.copy).hostname
    return (
        File(COPY_KEY, secret, mode=0o600, secret=True),
        File(COPY_HOST, f"{host} {wanted.copy_host_key}\n"),
    )
