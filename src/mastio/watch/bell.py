"""Rings: keeps the book of what is open, and sends what it decides, so that no alarm is lost.

Everything on watch that notices something calls `raise_`, then `ring`. What is to be said is written down before
it is sent and struck out when it has gone: `ring` goes on with what could not be sent while the store or the
network was away.
"""

import fcntl
import json
import smtplib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from mastio.files import put
from mastio.site.model import Site
from mastio.watch import alarm, book
from mastio.watch.alarm import Alarm
from mastio.watch.book import Book, Letter
from mastio.watch.settings import Settings


class Bell:
    """The alarms in `folder`, told as `site` wants it."""

    def __init__(self, folder: Path, site: Site) -> None:
        self._folder, self._site = folder, site
        self._rules = book.rules(site)

    @property
    def book(self) -> Book:
        """What is open. Raises ValueError when the file is not as it should be."""
        try:
            return book.recall(json.loads((self._folder / "book.json").read_text()))
        except FileNotFoundError:
            return {}

    def raise_(self, one: Alarm, now: float) -> None:
        """Takes an alarm down, and decides who is told."""
        with self._changing() as change:
            change(lambda known: book.heard(known, one, now, self._rules))

    def answer(self, about: str, words: str) -> None:
        """Somebody is at it. Raises KeyError when nothing of that name is open."""
        with self._changing() as change:
            change(lambda known: (book.answer(known, about, words), []))

    def ring(self, settings: Settings, now: float) -> list[str]:
        """Sends what is due, the oldest first; what could not be sent, in words."""
        with self._changing() as change:
            change(lambda known: book.waited(known, now, self._rules))
            failed = []
            for path in sorted(self._folder.glob("*.mail")) + sorted(
                self._folder.glob("*.webhook")
            ):
                waiting = json.loads(path.read_text())
                one = Alarm.of(waiting["alarm"])
                try:
                    if path.suffix == ".mail":
                        alarm.mail(one, self._site, settings, waiting["to"])
                    elif self._site.alarms.webhook:
                        alarm.call(one, self._site.alarms.webhook, settings)
                except (OSError, smtplib.SMTPException) as error:
                    failed.append(f"the alarm {one.subject!r} waits ({path.suffix[1:]}): {error}")
                else:
                    path.unlink()
            return failed

    @contextmanager
    def _changing(self) -> Iterator[Callable[[Callable[[Book], tuple[Book, list[Letter]]]], None]]:
        """Alone with the book. What a change decides to say is written down before the book says it was."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)

            def change(decide: Callable[[Book], tuple[Book, list[Letter]]]) -> None:
                after, letters = decide(self.book)
                for letter in letters:
                    for way in ("mail", "webhook"):
                        name = f"{time.time_ns()}.{way}"
                        waiting = {"alarm": asdict(letter.alarm), "to": letter.to}
                        put(self._folder / name, json.dumps(waiting, indent=1))
                put(self._folder / "book.json", json.dumps(book.plain(after), indent=1))

            yield change
