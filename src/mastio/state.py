"""The desired state of one machine, as plain data: packages, files, users, units, and how to check them.

Roles build it, `plan` compares it with what the agent observed, `apply` makes it so. Nothing in here
does anything. A `File` marked `secret` never shows its content in a diff, a repr or a log.
"""

from dataclasses import dataclass, field
from hashlib import sha256

from mastio.services import Transport
from mastio.site.model import Address


@dataclass(frozen=True, slots=True)
class File:
    """A regular file, whole. `mode` is octal as in chmod(1)."""

    path: str
    content: str = field(repr=False)
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644
    secret: bool = False
    beside: str = ""
    """The path of another file of this machine. This one is put there only when it is missing or when that one
    changes; in between something else keeps it."""

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hex."""
        return sha256(self.content.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory that must exist with this owner and mode; what else is in it is not managed."""

    path: str
    owner: str = "root"
    group: str = "root"
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class User:
    """A system user (and group of the same name), made when missing; `groups` are supplementary."""

    name: str
    home: str = "/nonexistent"
    shell: str = "/usr/sbin/nologin"
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unit:
    """A systemd unit that is enabled and active, or, when `masked`, can never start.

    `reads` are path prefixes: when a file below one changes, the unit is restarted (reloaded when
    `reload` is set). The agent keeps the digest of what a unit last started with, so that a restart
    is not lost when an apply is killed between the switch and the restart.
    """

    name: str
    reads: tuple[str, ...] = ()
    reload: bool = False
    masked: bool = False
    oneshot: bool = False
    """It does its work and ends (no RemainAfterExit): it is restarted when needed, not kept active."""
    aliases: tuple[str, ...] = ()
    """Its other names (systemd.unit(5), Alias=), which are links while it is enabled."""


@dataclass(frozen=True, slots=True)
class Check:
    """A part's own checker, run on the *staged* files before anything is switched.

    It runs in a mount namespace where the staged files already stand at their final paths, when any
    file below `reads` changes. A non-zero exit stops the apply with the checker's words.
    """

    name: str
    argv: tuple[str, ...]
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """Makes a derived file (postmap, sievec …) after the switch and before units restart.

    It runs when a file below `reads` changed or `creates` is missing; it must be idempotent.
    """

    name: str
    argv: tuple[str, ...]
    reads: tuple[str, ...] = ()
    creates: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that must be listening when the machine is healthy."""

    address: Address
    port: int
    transport: Transport


@dataclass(frozen=True, slots=True)
class Kept:
    """What a role has on its machine that no site file brings back: backups keep it."""

    trees: tuple[str, ...] = ()
    """Folders, with all below them."""
    databases: tuple[str, ...] = ()
    """SQLite files, which SQLite itself copies."""
    dumps: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Files by the commands that make them: `{}` stands for the file's path, else it is what the command says."""


@dataclass(frozen=True, slots=True)
class HostState:
    """All that mastio holds true on one machine."""

    packages: tuple[str, ...] = ()
    debconf: tuple[str, ...] = ()
    """debconf-set-selections(1) lines, set before the packages are installed."""
    files: tuple[File, ...] = ()
    directories: tuple[Directory, ...] = ()
    links: tuple[Link, ...] = ()
    removed: tuple[str, ...] = ()
    """Paths that must not exist (defaults that a package brings)."""
    users: tuple[User, ...] = ()
    units: tuple[Unit, ...] = ()
    checks: tuple[Check, ...] = ()
    commands: tuple[Command, ...] = ()
    listeners: tuple[Listener, ...] = ()
    firewall: str = field(default="", repr=False)
    """The machine's whole nftables ruleset; loaded commit-confirmed."""
