"""A transport whose machines are folders: programs run for real, in processes of this box."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from mastio.accounts import client
from mastio.accounts.client import Accounts
from mastio.roles import store
from mastio.site.model import Site
from mastio.transport import Transport, unavailable

POSTMAP = """\
#!/bin/sh
# stands in for postmap(1): the table is a copy of the text
cp "${1#lmdb:}" "${1#lmdb:}.lmdb"
"""


class LocalTransport(Transport):
    """Runs everything here; machines in `down` cannot be reached."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.down: set[str] = set()
        self.calls: list[str] = []

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        self.calls.append(machine)
        if machine in self.down:
            raise unavailable(machine, "it is switched off")
        return ["env", f"PATH={self.programs}:/usr/bin:/bin", *command]


class House:
    """A store and a gateway below one folder."""

    def __init__(self, site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = folder / "directory" / "directory.sqlite"
        self.vmail = folder / "vmail"
        self.maps = folder / "recipients"
        programs = folder / "bin"
        for path in (self.directory.parent, self.vmail, self.maps, programs):
            path.mkdir()
        (programs / "postmap").write_text(POSTMAP)
        (programs / "postmap").chmod(0o755)
        monkeypatch.setattr(store, "DIRECTORY", str(self.directory))
        monkeypatch.setattr(store, "VMAIL", str(self.vmail))
        monkeypatch.setattr(store, "OWNER", "nobody")
        monkeypatch.setattr(client, "RECIPIENTS", str(self.maps))
        self.transport = LocalTransport(programs)
        self.accounts = Accounts(site, self.transport)

    def dump(self) -> list[str]:
        """All that is in the directory."""
        with closing(sqlite3.connect(self.directory)) as database:
            return list(database.iterdump())

    def recipients(self) -> list[str]:
        """What the gateway accepts."""
        return [
            line.removesuffix(" OK") for line in (self.maps / "recipients").read_text().splitlines()
        ]
