"""Runs on the store: applies changes to the accounts directory, all of them or none.

Only this file, `ways` and the standard library: `client` sends them there with a request in JSON:

    {"path": …/directory.sqlite, "schema": SQL, "owner": user, "vmail": /var/vmail, "admin": address,
     "duties": local parts that lead to "admin", "reports": addresses that a program reads,
     "site_domains": […], "dry": false, "changes": [{"do": "add_user", …}, …], "want": "recipients" | "listing" | ""}
    {"errors": [{"change": index, "what": …, "hint": …}], "notes": […], "generation": N, …}

Addresses come in canonical form (`model.clean`). With one error nothing has changed. `generation`
grows with each change of the file, so that the client knows whether somebody came in between.
"""
# ruff: noqa: S608 — names of tables and columns are constants of this file; values are always bound

import json
import os
import pwd
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypedDict

from mastio.accounts.ways import Ways, faults, recipients

VERSION = 1
"""The format of the directory (PRAGMA user_version)."""
PATIENCE = 10.0
"""Seconds in which whoever still writes into a mailbox that is removed notices that it is gone."""


class Request(TypedDict):
    """What the client wants."""

    path: str
    schema: str
    owner: str
    vmail: str
    admin: str
    duties: list[str]
    reports: list[str]
    site_domains: list[str]
    changes: list[dict[str, Any]]
    dry: bool
    """Judge only, change nothing."""
    want: str


class Fault(TypedDict):
    """Why a change is refused; `change` is its index, -1 when it cannot be said."""

    change: int
    what: str
    hint: str


class RefusedError(Exception):
    """A change does not fit what is in the directory."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class Directory:
    """An open directory inside a transaction."""

    def __init__(self, database: sqlite3.Connection, request: Request) -> None:
        self.database = database
        self.request = request
        self.notes: list[str] = []
        self.purged: list[Path] = []

    def rows(self, query: str, *values: object) -> list[Any]:
        return self.database.execute(query, values).fetchall()

    def has(self, table: str, column: str, value: str) -> bool:
        return bool(self.rows(f"SELECT 1 FROM {table} WHERE {column} = ?", value))

    def ways(self) -> Ways:
        """All that is in it, as data."""
        found = Ways(self.request["admin"], tuple(self.request["duties"]))
        found.domains = dict(self.rows("SELECT name, catch_all FROM domain"))
        found.enabled = {
            it: bool(on) for it, on in self.rows("SELECT address, enabled FROM account")
        }
        for table, ways in (("alias", found.aliases), ("forward", found.forwards)):
            for address, target in self.rows(f"SELECT address, target FROM {table} ORDER BY 1, 2"):
                ways.setdefault(address, []).append(target)
        return found

    def seed(self) -> None:
        """The site file's domains are always there."""
        for name in self.request["site_domains"]:
            self.database.execute("INSERT OR IGNORE INTO domain (name) VALUES (?)", (name,))

    # --- changes, by their name in a request

    def add_domain(self, name: str, catch_all: str = "") -> None:
        if self.has("domain", "name", name):
            raise RefusedError(f"the domain {name} is there already", "change it instead")
        self.database.execute("INSERT INTO domain VALUES (?, ?)", (name, catch_all))

    def change_domain(self, name: str, catch_all: str) -> None:
        self._must("domain", "name", name)
        self.database.execute("UPDATE domain SET catch_all = ? WHERE name = ?", (catch_all, name))

    def delete_domain(self, name: str) -> None:
        self._must("domain", "name", name)
        if name in self.request["site_domains"]:
            raise RefusedError(f"the domain {name} is in the site file", "take it out there first")
        for table, what in (("account", "users"), ("alias", "aliases")):
            (count,) = self.rows(
                f"SELECT count(DISTINCT address) FROM {table} WHERE domain = ?", name
            )[0]
            if count:
                raise RefusedError(f"the domain {name} has {count} {what}", "delete them first")
        self.database.execute("DELETE FROM domain WHERE name = ?", (name,))

    def add_user(
        self, address: str, password: str, name: str = "", quota_mib: int = 0,
        enabled: bool = True, forwards: tuple[str, ...] = (), keep_copy: bool = True,
    ) -> None:  # fmt: skip
        domain = self._free(address)
        self.database.execute(
            "INSERT INTO account VALUES (?, ?, ?, ?, ?, ?, ?)",
            (address, domain, name, password, quota_mib or None, enabled, keep_copy),
        )
        self._lead("forward", address, forwards)
        if self._home(address).is_dir():
            self.notes.append(
                f"{address} had an account before: its old mail is still there and the new user sees it"
            )

    def change_user(
        self, address: str, password: str | None = None, name: str | None = None,
        quota_mib: int | None = None, enabled: bool | None = None,
        forwards: tuple[str, ...] | None = None, keep_copy: bool | None = None,
    ) -> None:  # fmt: skip
        self._must("account", "address", address)
        given: dict[str, object] = {
            "password": password, "name": name, "enabled": enabled, "keep_copy": keep_copy
        }  # fmt: skip
        given = {column: value for column, value in given.items() if value is not None}
        if quota_mib is not None:
            given["quota_mib"] = quota_mib or None
        for column, value in given.items():
            self.database.execute(
                f"UPDATE account SET {column} = ? WHERE address = ?", (value, address)
            )
        if forwards is not None:
            self.database.execute("DELETE FROM forward WHERE address = ?", (address,))
            self._lead("forward", address, forwards)

    def delete_user(self, address: str, purge: bool = False) -> None:
        self._must("account", "address", address)
        self.database.execute("DELETE FROM account WHERE address = ?", (address,))
        home = self._home(address)
        if purge:
            self.purged.append(home)
        elif home.is_dir():
            self.notes.append(
                f"the mail of {address} stays in {home} on the store; --purge removes it"
            )

    def add_alias(self, address: str, targets: tuple[str, ...]) -> None:
        domain = self._free(address)
        self._lead("alias", address, targets, domain)

    def change_alias(self, address: str, targets: tuple[str, ...]) -> None:
        self.delete_alias(address)
        self.add_alias(address, targets)

    def delete_alias(self, address: str) -> None:
        self._must("alias", "address", address)
        self.database.execute("DELETE FROM alias WHERE address = ?", (address,))

    def _must(self, table: str, column: str, value: str) -> None:
        if not self.has(table, column, value):
            what = {"account": "user"}.get(table, table)
            raise RefusedError(f"there is no {what} {value}", f"`mastio {what} list` shows all")

    def _free(self, address: str) -> str:
        """The domain of an address that nobody has yet."""
        domain = address.rpartition("@")[2]
        for table, what in (("account", "a user"), ("alias", "an alias")):
            if self.has(table, "address", address):
                raise RefusedError(
                    f"{address} is {what} already", "change it instead, or choose another address"
                )
        if not self.has("domain", "name", domain):
            known = ", ".join(
                name for (name,) in self.rows("SELECT name FROM domain ORDER BY 1 LIMIT 10")
            )
            raise RefusedError(
                f"{address}: unknown domain {domain}",
                f"known: {known}; or `mastio domain add {domain}`",
            )
        return domain

    def _lead(self, table: str, address: str, targets: tuple[str, ...], *domain: str) -> None:
        marks = ", ".join("?" * (len(domain) + 2))
        for target in targets:
            self.database.execute(
                f"INSERT INTO {table} VALUES ({marks})", (address, *domain, target)
            )

    def _home(self, address: str) -> Path:
        local, _, domain = address.rpartition("@")
        home = Path(self.request["vmail"]) / domain / local
        if "/" in local + domain or not local.strip(".") or not domain.strip("."):
            raise RefusedError(f"{address} names no folder", "no / may be in it")
        return home


CHANGES = frozenset(
    f"{verb}_{noun}" for verb in ("add", "change", "delete") for noun in ("domain", "user", "alias")
)


def answer(request: Request) -> dict[str, Any]:
    """Does what is asked, and says how it went."""
    path = Path(request["path"])
    if not path.parent.is_dir():
        hint = "run `mastio apply` first"
        return {"errors": [Fault(change=-1, what="the store is not built yet", hint=hint)]}
    with closing(_opened(path, request)) as database:
        directory = Directory(database, request)
        database.execute("BEGIN IMMEDIATE")
        directory.seed()
        before = faults(directory.ways()) if request["changes"] else {}
        errors = list(_apply(directory, request["changes"]))
        ways = directory.ways()
        if request["changes"] and not errors:
            errors = _faults(before, faults(ways), request["changes"])
        database.execute("ROLLBACK" if errors or request["dry"] else "COMMIT")
        if errors:
            return {"errors": errors}
        for home in directory.purged:
            if home.is_dir() and not request["dry"]:
                _remove(home)
        result: dict[str, Any] = {
            "errors": [],
            "notes": directory.notes,
            "generation": generation(path),
        }
        if not ways.exists(ways.admin):
            directory.notes.append(
                f"mail to postmaster has no recipient: make the administrator's mailbox {ways.admin}"
            )
        if request["want"] == "recipients":
            accepted = sorted({*recipients(ways), *request["reports"]})
            result |= {"recipients": accepted, "domains": sorted(ways.domains)}
        elif request["want"] == "listing":
            result |= listing(directory, ways)
    return result


def _remove(home: Path) -> None:
    """Removes a mailbox, while a Dovecot that indexes it may still write into it."""
    end = time.monotonic() + PATIENCE
    while home.exists():
        try:
            shutil.rmtree(home)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def _opened(path: Path, request: Request) -> sqlite3.Connection:
    """The database, with its tables; raises ValueError when a newer mastio made it."""
    database = sqlite3.connect(path, timeout=30, isolation_level=None)
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise ValueError(f"{path} has format {version}, and this mastio knows {VERSION}")
    if version == 0:
        database.executescript(request["schema"])
        path.chmod(0o640)
        if os.geteuid() == 0:  # it is its readers' file, not ours
            owner = pwd.getpwnam(request["owner"])
            os.chown(path, owner.pw_uid, owner.pw_gid)
    database.execute("PRAGMA foreign_keys = ON")
    return database


def _apply(directory: Directory, changes: list[dict[str, Any]]) -> Iterator[Fault]:
    for index, change in enumerate(changes):
        fields = dict(change)
        do = fields.pop("do")
        if do not in CHANGES:
            raise ValueError(f"unknown change {do}")
        try:
            if fields.get("address") in directory.request["reports"] and do.startswith("add_"):
                raise RefusedError(
                    f"{fields['address']} is taken: other organisations send reports there",
                    "`mastio reports` shows what they say",
                )
            getattr(directory, do)(**fields)
        except RefusedError as refused:
            yield Fault(change=index, what=refused.what, hint=refused.hint)


def _faults(
    before: dict[str, tuple[str, str]],
    after: dict[str, tuple[str, str]],
    changes: list[dict[str, Any]],
) -> list[Fault]:
    """The faults that these changes brought."""
    index = {change.get("address", change.get("name")): it for it, change in enumerate(changes)}
    return [
        Fault(change=index.get(address, 0 if len(changes) == 1 else -1), what=what, hint=hint)
        for what, (address, hint) in after.items()
        if what not in before
    ]


def listing(directory: Directory, ways: Ways) -> dict[str, Any]:
    """Everything but the passwords."""
    users = directory.rows(
        "SELECT address, name, quota_mib, enabled, keep_copy FROM account ORDER BY domain, address"
    )
    return {
        "domains": [
            {
                "name": name,
                "catch_all": catch_all,
                "users": sum(it.endswith(f"@{name}") for it in ways.enabled),
                "aliases": sum(it.endswith(f"@{name}") for it in ways.aliases),
            }
            for name, catch_all in sorted(ways.domains.items())
        ],
        "users": [
            {
                "address": address,
                "name": name,
                "quota_mib": quota_mib or 0,
                "enabled": bool(enabled),
                "forwards": ways.forwards.get(address, []),
                "keep_copy": bool(keep_copy),
            }
            for address, name, quota_mib, enabled, keep_copy in users
        ],
        "aliases": [
            {"address": address, "targets": targets}
            for address, targets in sorted(ways.aliases.items())
        ],
    }


def generation(path: Path) -> int:
    """SQLite's file change counter (file format, section 1.3.6)."""
    with path.open("rb") as stream:
        stream.seek(24)
        return int.from_bytes(stream.read(4), "big")


def main(payload: bytes) -> None:
    """Reads a request, writes the answer."""
    os.umask(0o027)
    json.dump(answer(json.loads(payload)), sys.stdout)


if __name__ == "__main__":
    main(globals()["PAYLOAD"])
