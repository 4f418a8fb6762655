"""Where mail that was fetched waits on this box: a folder for one mailbox there and one here, read by this user alone.

    stage = Stage.of(top, "bob@fortress.example", account)        # top/bob@fortress.example.1f2e3d4c
    stage.make()
    stage.remove()

`top` may be anybody's and hold anything (/tmp, the site's folder): nothing in it is touched but that one folder.
"""

import os
import shutil
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from mastio.errors import Exit, MastioError
from mastio.importing.remote import Account


@dataclass(frozen=True, slots=True)
class Stage:
    """One such folder."""

    path: Path

    @staticmethod
    def of(top: Path, user: str, account: Account) -> "Stage":
        """Below `top`. UIDs say nothing without the account whose they are, so both accounts are in the name."""
        which = sha256(f"{account.where} {account.login}".encode()).hexdigest()[:8]
        return Stage(top / f"{user}.{which}")

    def make(self) -> None:
        """Makes it, or takes what a run before left. Raises MastioError when somebody else has put it there."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            found = self.path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise MastioError(
                    f"{self.path} is not a folder of this user: mail does not wait there",
                    hint="--stage names another place", code=Exit.CANT_CREATE,
                )  # fmt: skip
            self.path.chmod(0o700)
        except OSError as error:
            raise MastioError(
                f"{self.path}: {error.strerror}",
                hint="--stage names another place",
                code=Exit.CANT_CREATE,
            ) from None

    def remove(self) -> None:
        """With all that waits in it."""
        shutil.rmtree(self.path, ignore_errors=True)
