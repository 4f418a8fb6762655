"""What makes a machine this machine, written before its first boot.

On real hardware the administrator or the installer does this: name, identity, ssh host key, addresses.
So the site's roles know nothing of it, and the lab owns these files.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mastio.lab import network
from mastio.lab.model import LabMachine, Link

HOST_KEY = "etc/ssh/ssh_host_ed25519_key"
"""Where sshd(8) looks for it, below a machine's root."""
_NETWORKS = "etc/systemd/network"
_PREFIX = "50-lab-"


def identity(root: Path, machine: LabMachine) -> None:
    """Name, machine-id(5) and ssh host key of a new machine whose disk is mounted at `root`."""
    _write(root / "etc/hostname", f"{machine.hostname}\n")
    _write(root / "etc/machine-id", f"{secrets.token_hex(16)}\n")
    private, public = ssh_key(machine.hostname)
    _write(root / HOST_KEY, private, 0o600)
    _write(root / f"{HOST_KEY}.pub", public)


def addresses(root: Path, machine: LabMachine) -> None:
    """The systemd.network(5) files for the machine's links; those of former links go."""
    folder = root / _NETWORKS
    for old in folder.glob(f"{_PREFIX}*"):
        old.unlink()
    for link in machine.links:
        name = network.interface(link.segment)
        _write(folder / f"{_PREFIX}{name}.network", "\n".join(_lines(name, link)) + "\n")


def ssh_key(comment: str) -> tuple[str, str]:
    """A new Ed25519 key in OpenSSH's formats: the private file's text, the public file's."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return private.decode(), f"{public.decode()} {comment}\n"


def _lines(name: str, link: Link) -> Iterator[str]:
    yield from ("[Match]", f"Name={name}", "", "[Network]")
    yield from ("IPv6AcceptRA=no", "LinkLocalAddressing=ipv6")
    yield from (f"Gateway={router}" for router in link.routers)
    for address in link.addresses:
        yield from ("", "[Address]", f"Address={address}")
        # The lab gives each address once; asking around would delay every listener by a second.
        yield "DuplicateAddressDetection=none"


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes a file of the machine, never through a link that the machine may have made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode)
    path.write_text(text)
