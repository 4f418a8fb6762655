"""Runs on the store, sent there by an administrator: accounts of the archived directory that the store's lacks.

`PAYLOAD` is JSON: `ticket`, `directory` (where the archived one lies below the ticket's folder), `domains` (none: all),
`change` (put them in, or only tell). Answers with lines of JSON, a row each. Standard library only.
"""
# ruff: noqa: S608 — names of tables and columns are constants of this file; values are always bound

import json
import os
import re
import sqlite3
import sys
from pathlib import Path
from typing import Any

STAGES = Path("/var/vmail/.restore")
DIRECTORY = Path("/var/lib/mastio/directory/directory.sqlite")
TABLES = {
    "domain": "name = ?",
    "account": "domain = ?",
    "forward": "address IN (SELECT address FROM account WHERE domain = ?)",
    "alias": "domain = ?",
}
"""In which order rows can be put in, and which are a domain's."""
_KEYS = {
    "domain": ("name",),
    "account": ("address",),
    "forward": ("address", "target"),
    "alias": ("address", "target"),
}


def say(what: Any) -> None:
    """A line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def accounts(archived: Path, domains: list[str], *, change: bool) -> None:
    """Rows that the directory lacks: told, and put in when `change`. What is there stays as it is."""
    with sqlite3.connect(DIRECTORY, timeout=30) as base:
        base.execute("PRAGMA foreign_keys = ON")
        base.execute("ATTACH ? AS old", (str(archived),))
        known = [row[0] for row in base.execute("SELECT name FROM old.domain ORDER BY name")]
        if wrong := sorted({*domains} - {*known}):
            raise ValueError(
                f"the archive knows no domain {', '.join(wrong)}; it has {', '.join(known) or 'none'}"
            )
        for domain in domains or known:
            for table, where in TABLES.items():
                keys = _KEYS[table]
                inner = where.replace("FROM account", "FROM old.account")
                rows = base.execute(f"SELECT * FROM old.{table} WHERE {inner}", (domain,))
                names = [it[0] for it in rows.description]
                for row in rows.fetchall():
                    data = dict(zip(names, row, strict=True))
                    same = " AND ".join(f"{it} = ?" for it in keys)
                    key = [data[it] for it in keys]
                    there = base.execute(f"SELECT * FROM main.{table} WHERE {same}", key).fetchone()
                    said = " → ".join(map(str, key))
                    if there is None:
                        marks = ", ".join("?" * len(names))
                        if table == "forward" and not _has(base, data["address"]):
                            continue
                        base.execute(
                            f"INSERT INTO main.{table} ({', '.join(names)}) VALUES ({marks})", row
                        )
                        say({"table": table, "row": said, "what": "missing"})
                    elif tuple(there) != tuple(row):
                        say({"table": table, "row": said, "what": "differs"})
        if not change:
            base.rollback()


def _has(base: sqlite3.Connection, address: str) -> bool:
    return (
        base.execute("SELECT 1 FROM main.account WHERE address = ?", (address,)).fetchone()
        is not None
    )


def main(order: dict[str, Any]) -> None:
    """The rows."""
    os.umask(0o077)
    if not re.fullmatch(r"[0-9a-f]{16}", order["ticket"]):
        raise ValueError("not a ticket")
    accounts(
        STAGES / order["ticket"] / order["directory"], order["domains"], change=order["change"]
    )


if __name__ == "__main__":
    try:
        main(json.loads(PAYLOAD))  # type: ignore[name-defined]  # noqa: F821 — given by the transport
    except (OSError, ValueError, KeyError, sqlite3.Error) as error:
        sys.exit(f"{error}")
