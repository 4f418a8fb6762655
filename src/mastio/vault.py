"""The vault: a site's generated secrets, in one age file (age-encryption.org/v1) in the site folder.

`secrets.age` is encrypted to the administrator's age identity, which stands *outside* the site folder
(`$MASTIO_IDENTITY`, or `~/.config/mastio/identity`, mode 0600), so the folder may go to git or a
backup. `age -d -i identity secrets.age` reads it without mastio. Secrets are text, by name
(`host/store/key`); they live in memory only while a command runs.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyrage

from mastio.errors import Exit, MastioError

FILE = "secrets.age"


def identity_path() -> Path:
    """Where the administrator's age identity stands."""
    given = os.environ.get("MASTIO_IDENTITY")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "mastio" / "identity"


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` atomically by a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _identities(path: Path, *, create: bool) -> list[pyrage.x25519.Identity]:
    """The first is the one in use; others open what was written before `Vault.rekey`."""
    if create and not path.exists():
        write_private(path, f"{pyrage.x25519.Identity.generate()}\n".encode())
    try:
        if path.stat().st_mode & 0o077:
            raise MastioError(
                f"{path}: others can read the vault's key",
                hint=f"chmod 600 {path}; then think about who has read it, and `mastio secrets rotate`",
                code=Exit.NOPERM,
            )
        words = path.read_text().split()
        found = [pyrage.x25519.Identity.from_str(it) for it in words if it.startswith("AGE-")]
    except FileNotFoundError:
        raise MastioError(
            f"{path}: the key to this site's vault is not here",
            hint="copy it from the machine that made the site, or point MASTIO_IDENTITY at it",
            code=Exit.DATA,
        ) from None
    except (ValueError, pyrage.IdentityError):
        found = []
    if not found:
        raise MastioError(f"{path}: not an age identity", code=Exit.DATA)
    return found


class Vault(Mapping[str, str]):
    """A site's secrets by name. Changes are kept by `save()`, which writes only when there are any."""

    def __init__(self, folder: Path, secrets: dict[str, str]) -> None:
        self.folder = folder
        self._secrets = secrets
        self._saved = dict(secrets)

    @classmethod
    def open(cls, folder: Path) -> "Vault":
        """The vault of the site in `folder`; an empty one when the site is new."""
        path = folder / FILE
        if not path.exists():
            return cls(folder, {})
        try:
            plain = pyrage.decrypt(path.read_bytes(), _identities(identity_path(), create=False))
        except pyrage.DecryptError:
            raise MastioError(
                f"{path}: cannot be opened with the key in {identity_path()}",
                hint="it was made by another administrator or is damaged; point MASTIO_IDENTITY "
                "at the right key, or bring the file back from a backup",
                code=Exit.DATA,
            ) from None
        return cls(folder, json.loads(plain))

    def __getitem__(self, name: str) -> str:
        return self._secrets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._secrets)

    def __len__(self) -> int:
        return len(self._secrets)

    def __repr__(self) -> str:
        return f"Vault({self.folder}, {len(self)} secrets)"

    def put(self, name: str, value: str) -> None:
        """Set or replace one secret, in memory until `save()`."""
        self._secrets[name] = value

    def drop(self, name: str) -> None:
        """Forget one secret; it is no error when there is none."""
        self._secrets.pop(name, None)

    def save(self) -> bool:
        """Write the vault if it changed; True when it was written."""
        if self._secrets == self._saved:
            return False
        self._write()
        return True

    def rekey(self) -> Path:
        """Encrypts the vault to a new age identity, which comes first in the identity's file; where that is.

        The former ones stay below it: a kill between the two writes costs nothing, and other sites' vaults and older
        copies of this one still open.
        """
        path = identity_path()
        _identities(path, create=True)
        write_private(path, f"{pyrage.x25519.Identity.generate()}\n{path.read_text()}".encode())
        self._write()
        return path

    def _write(self) -> None:
        recipient = _identities(identity_path(), create=True)[0].to_public()
        plain = json.dumps(self._secrets, sort_keys=True).encode()
        write_private(self.folder / FILE, pyrage.encrypt(plain, [recipient]))
        self._saved = dict(self._secrets)
