"""What every user of a store has sent, in SQLite: limits, pauses, bounces, and whom users have written to.

    book = Book("/var/lib/mastio/outbound/outbound.sqlite", limits)
    book.message(user, sender, recipients, count, queue_id, now)      # → whether it must be held

Runs on the store beside mastio-outbound; standard library only.
"""

import hashlib
import sqlite3
from typing import Any

HOUR, DAY = 3600, 86_400
HELD = 10
"""So many times what a user may send in an hour waits for an administrator, and no more."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS user (name TEXT PRIMARY KEY, since REAL NOT NULL DEFAULT 0, paused REAL, reason TEXT);
CREATE TABLE IF NOT EXISTS sent (user TEXT NOT NULL, sender TEXT NOT NULL, at REAL NOT NULL, recipients INT NOT NULL);
CREATE INDEX IF NOT EXISTS sent_by ON sent (user, at);
CREATE INDEX IF NOT EXISTS sent_as ON sent (sender, at);
CREATE TABLE IF NOT EXISTS met (user TEXT NOT NULL, recipient TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (user, recipient)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS met_by ON met (user, at);
CREATE TABLE IF NOT EXISTS submitted (message TEXT PRIMARY KEY, user TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS submitted_by ON submitted (user, at);
CREATE TABLE IF NOT EXISTS bounce (user TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS bounce_of ON bounce (user, at);
CREATE TABLE IF NOT EXISTS held (message TEXT PRIMARY KEY, user TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS script (message TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS notice (user TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS wrote (n INTEGER PRIMARY KEY AUTOINCREMENT, person TEXT NOT NULL UNIQUE, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS wrote_at ON wrote (at);
CREATE TABLE IF NOT EXISTS told (gateway TEXT PRIMARY KEY, n INT NOT NULL);
"""


class Book:
    """What every user has sent, in SQLite. Time is handed in."""

    def __init__(self, path: str, limits: dict[str, Any]) -> None:
        self.limits = limits
        self.alarm = False
        """Whether somebody has been paused of whom nobody knows yet."""
        self.news = False
        """Whether users have written to people of whom the gateways do not know yet."""
        self.db = sqlite3.connect(path, timeout=20, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.executescript(SCHEMA)

    def message(
        self, user: str, sender: str, recipients: list[str], count: int, name: str, now: float
    ) -> bool:
        """Counts a submitted message; whether it must be held. `name` is its queue id."""
        if user in self.limits["exempt"]:
            self.wrote(recipients, now)
            return False
        with self._change():
            self.db.execute("INSERT OR IGNORE INTO user (name) VALUES (?)", (user,))
            self.db.execute("DELETE FROM sent WHERE user = ? AND at < ?", (user, now - DAY))
            self.db.execute("INSERT INTO sent VALUES (?, ?, ?, ?)", (user, sender, now, count))
            self.db.execute("DELETE FROM submitted WHERE user = ? AND at < ?", (user, now - DAY))
            self.db.execute("INSERT OR REPLACE INTO submitted VALUES (?, ?, ?)", (name, user, now))
            self.db.executemany(
                "INSERT OR IGNORE INTO met VALUES (?, ?, ?)",
                [(user, it.lower(), now) for it in recipients],
            )
            paused = self._judge(user, now)
            if paused:
                self.db.execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?)", (name, user, now))
            else:
                self._wrote(recipients, now)
        return paused

    def scripted(self, user: str, name: str, now: float) -> bool:
        """Whether what a user's script sends must be held. `name` is its queue id."""
        with self._change():
            row = self.db.execute("SELECT paused FROM user WHERE name = ?", (user,)).fetchone()
            paused = row is not None and row[0] is not None
            if paused:
                self.db.execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?)", (name, user, now))
                self.db.execute("INSERT OR IGNORE INTO script VALUES (?)", (name,))
        return paused

    def is_full(self, user: str, *, by_script: bool, scarce: bool) -> bool:
        """Whether no more of a paused user's mail may be held; `scarce`: there is hardly room for anybody's.

        What scripts send is held while there is room: strangers decide how much that is, and it may be the only copy.
        """
        row = self.db.execute("SELECT paused FROM user WHERE name = ?", (user,)).fetchone()
        if row is None or row[0] is None or user in self.limits["exempt"]:
            return False
        query = "SELECT count(*) FROM held WHERE user = ? AND message NOT IN (SELECT message FROM script)"
        (own,) = self.db.execute(query, (user,)).fetchone()
        return scarce or (not by_script and own >= HELD * self.limits["messages_per_hour"])

    def wrote(self, recipients: list[str], now: float) -> None:
        """Remembers that users have written to these people."""
        with self._change():
            self._wrote(recipients, now)

    def _wrote(self, recipients: list[str], now: float) -> None:
        # Each row gets a higher number than all before, within this transaction: what a gateway has been told is a
        # number. The same person is news again after a day.
        people = {hashlib.sha256(it.lower().encode()).hexdigest() for it in recipients}
        before = self.db.total_changes
        self.db.executemany(
            "INSERT OR REPLACE INTO wrote (person, at) SELECT ?1, ?2"
            " WHERE NOT EXISTS (SELECT 1 FROM wrote WHERE person = ?1 AND at > ?3)",
            [(it, now, now - DAY) for it in sorted(people)],
        )
        self.news = self.news or self.db.total_changes > before

    def bounced(self, address: str, now: float) -> None:
        """Counts a message that came back to `address`, if its users have written that much."""
        with self._change():
            rows = self.db.execute(
                "SELECT user, sum(recipients) FROM sent WHERE sender = ? AND at > ? GROUP BY user",
                (address.lower(), now - DAY),
            ).fetchall()
            for user, wrote in rows:
                self._bounced(user, wrote, now)

    def returned(self, message: str, now: float) -> None:
        """Counts a submitted message that came back from the store's own queue; others' are nobody's. `message` is its
        queue id."""
        with self._change():
            rows = self.db.execute(
                "SELECT user, (SELECT sum(recipients) FROM sent WHERE user = it.user AND at > ?)"
                " FROM submitted AS it WHERE message = ?",
                (now - DAY, message),
            ).fetchall()
            for user, wrote in rows:
                self._bounced(user, wrote or 0, now)

    def _bounced(self, user: str, wrote: int, now: float) -> None:
        self.db.execute("DELETE FROM bounce WHERE user = ? AND at < ?", (user, now - DAY))
        if self._count("count(*) FROM bounce", user, now - DAY) < wrote:
            self.db.execute("INSERT INTO bounce VALUES (?, ?)", (user, now))
            self._judge(user, now)

    def _judge(self, user: str, now: float) -> bool:
        """Whether the user is paused, from now on if a limit is passed."""
        (paused,) = self.db.execute("SELECT paused FROM user WHERE name = ?", (user,)).fetchone()
        if paused is None and (reason := self._beyond(user, now)):
            paused = now
            self.db.execute(
                "UPDATE user SET paused = ?, reason = ? WHERE name = ?", (now, reason, user)
            )
            self.db.execute("INSERT OR IGNORE INTO notice VALUES (?)", (user,))
            self.alarm = True
        return paused is not None

    def _beyond(self, user: str, now: float) -> str:
        """Which limit the user has passed, in words; empty when none."""
        for limit, what, span, words in (
            ("messages_per_hour", "count(*) FROM sent", HOUR, "messages in an hour"),
            ("recipients_per_hour", "sum(recipients) FROM sent", HOUR, "recipients in an hour"),
            ("new_recipients_per_day", "count(*) FROM met", DAY, "new recipients in a day"),
            ("bounces_per_day", "count(*) FROM bounce", DAY, "bounces in a day"),
        ):
            found = self._count(what, user, now - span)
            if found > self.limits[limit]:
                return f"{found} {words}, more than {self.limits[limit]}"
        return ""

    def _count(self, what: str, user: str, since: float) -> int:
        # `what` is one of this file's own texts
        since_release = "at > max(?, (SELECT since FROM user WHERE name = ?))"
        query = f"SELECT {what} WHERE user = ? AND {since_release}"
        return int(self.db.execute(query, (user, since, user)).fetchone()[0] or 0)

    def _change(self) -> "_Change":
        return _Change(self.db)

    def paused(self) -> list[dict[str, Any]]:
        """Who may not send, since when and why."""
        rows = self.db.execute(
            "SELECT name, paused, reason FROM user WHERE paused IS NOT NULL ORDER BY name"
        )
        return [{"user": name, "since": at, "reason": reason} for name, at, reason in rows]

    def owners(self) -> dict[str, str]:
        """Held message → the user who sent it."""
        return dict(self.db.execute("SELECT message, user FROM held"))

    def scripts(self) -> frozenset[str]:
        """Held messages that users' scripts have sent."""
        return frozenset(it for (it,) in self.db.execute("SELECT message FROM script"))

    def resume(self, user: str, now: float) -> None:
        """Lets a user send again, counted from zero."""
        self.db.execute(
            "UPDATE user SET paused = NULL, reason = NULL, since = ? WHERE name = ?", (now, user)
        )
        self.db.execute("DELETE FROM notice WHERE user = ?", (user,))

    def forget(self, messages: list[str]) -> None:
        """These messages are held no more."""
        for table in ("held", "script"):
            self.db.executemany(
                f"DELETE FROM {table} WHERE message = ?",  # noqa: S608 — one of the two
                [(it,) for it in messages],
            )

    def notices(self) -> list[tuple[str, str]]:
        """Users whose pause nobody has been told of, and why."""
        return self.db.execute(
            "SELECT user, reason FROM notice JOIN user ON name = user"
        ).fetchall()

    def told(self, user: str) -> None:
        """The pause has been told."""
        self.db.execute("DELETE FROM notice WHERE user = ?", (user,))


class _Change:
    """A transaction that takes its turn at once, so that two never count past each other."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def __enter__(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *rest: object) -> None:
        self.db.execute("COMMIT" if kind is None else "ROLLBACK")
