"""The vault: a site's generated secrets, in one age file (age-encryption.org/v1) in the site folder.

`secrets.age` is encrypted to the administrator's age identity, which stands *outside* the site folder
(`$MASTIO_IDENTITY`, or `~/.config/mastio/identity`, mode 0600), so the folder may go to git or a
backup. `age -d -i identity secrets.age` reads it without mastio. Secrets are text, by name
(`host/store/key`); they live in memory only while a command runs.

Commands run beside each other, a timer's beside an administrator's. Whoever saves a vault that is no longer the one
that it opened is refused, and nothing of the other's is lost.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pyrage

from mastio.errors import Exit, MastioError
from mastio.files import current, hold

FILE = "secrets.age"
_PATIENCE = 10.0
"""Seconds: whoever holds a file just writes it."""


def identity_path() -> Path:
    """Where the administrator's age identity stands."""
    given = os.environ.get("MASTIO_IDENTITY")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "mastio" / "identity"


def write_private(path: Path, content: bytes, *, new: bool = False) -> None:
    """Replace `path` atomically by a file that only its owner can read; after a crash there is the old one or this.

    A `new` one replaces nothing: FileExistsError when somebody was faster.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if new:
            os.link(temporary, path)
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    # Machines may get what is in it at once: the name must not be the old file's after a power cut (fsync(2)).
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _held(path: Path) -> Iterator[bytes | None]:
    """What `path` holds, which nobody else replaces until the context ends; None when there is no such file.

    The lock is on the file itself (flock(2)), so it leaves nothing behind: who has waited for one that was replaced
    meanwhile waits for its successor.
    """
    while True:
        try:
            file = path.open("rb+")
        except FileNotFoundError:
            yield None
            return
        except OSError as error:
            raise MastioError(
                f"{path}: cannot be changed: {error.strerror}", code=Exit.CANT_CREATE
            ) from None
        with file:
            try:
                hold(file, _PATIENCE)
            except BlockingIOError:
                raise MastioError(
                    f"{path}: another command has been writing it for {_PATIENCE:.0f} seconds",
                    hint="nothing was saved; see what it waits for, then run this again",
                    code=Exit.LOCKED,
                ) from None
            if current(file, path):
                yield file.read()
                return


def _identities(path: Path, *, create: bool) -> list[pyrage.x25519.Identity]:
    """The first is the one in use; others open what was written before `Vault.rekey`."""
    if create and not path.exists():
        with suppress(FileExistsError):  # another site's command has just made it
            write_private(path, f"{pyrage.x25519.Identity.generate()}\n".encode(), new=True)
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

    def __init__(self, folder: Path, secrets: dict[str, str], sealed: bytes | None = None) -> None:
        self.folder = folder
        self._secrets = secrets
        self._saved = dict(secrets)
        self._sealed = sealed
        """The file as it was opened or saved here; None: there was none. No two encryptions are alike."""

    @classmethod
    def open(cls, folder: Path) -> "Vault":
        """The vault of the site in `folder`; an empty one when the site is new."""
        path = folder / FILE
        if not path.exists():
            return cls(folder, {})
        sealed = path.read_bytes()
        try:
            plain = pyrage.decrypt(sealed, _identities(identity_path(), create=False))
        except pyrage.DecryptError:
            raise MastioError(
                f"{path}: cannot be opened with the key in {identity_path()}",
                hint="it was made by another administrator or is damaged; point MASTIO_IDENTITY "
                "at the right key, or bring the file back from a backup",
                code=Exit.DATA,
            ) from None
        return cls(folder, json.loads(plain), sealed)

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
        """Write the vault if it changed; True when it was written.

        MastioError (LOCKED), and the file stays as it is, when it is not the one that was opened.
        """
        if self._secrets == self._saved:
            return False
        with self._alone() as new:
            self._write(new=new)
        return True

    def rekey(self) -> Path:
        """Encrypts the vault to a new age identity, which comes first in the identity's file; where that is.

        The former ones stay below it: a kill between the two writes costs nothing, and other sites' vaults and older
        copies of this one still open.
        """
        path = identity_path()
        with self._alone() as new:
            _identities(path, create=True)
            with _held(path) as known:
                write_private(
                    path, f"{pyrage.x25519.Identity.generate()}\n".encode() + (known or b"")
                )
            self._write(new=new)
        return path

    def must_be_current(self) -> None:
        """MastioError (LOCKED) when another command has changed the file: what was opened must go to no machine."""
        path = self.folder / FILE
        self._compare(path.read_bytes() if path.exists() else None, "applied")

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Nobody else saves meanwhile, or has since this was opened; whether there is no file yet."""
        with _held(self.folder / FILE) as there:
            self._compare(there, "saved")
            yield there is None

    def _compare(self, there: bytes | None, done: str) -> None:
        if there == self._sealed:
            return
        path = self.folder / FILE
        if there is None:
            raise MastioError(
                f"{path}: is gone since this command opened it",
                hint=f"nothing was {done}; bring it back, from a backup if need be",
                code=Exit.DATA,
            )
        raise MastioError(
            f"{path}: another command has changed it since this one opened it",
            hint=f"nothing was {done}; run this again, it begins with what is there now",
            code=Exit.LOCKED,
        )

    def _write(self, *, new: bool) -> None:
        path = self.folder / FILE
        recipient = _identities(identity_path(), create=True)[0].to_public()
        plain = json.dumps(self._secrets, sort_keys=True).encode()
        sealed = pyrage.encrypt(plain, [recipient])
        try:
            write_private(path, sealed, new=new)
        except FileExistsError:
            self._compare(path.read_bytes(), "saved")
            raise
        self._saved, self._sealed = dict(self._secrets), sealed
