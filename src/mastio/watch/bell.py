"""Rings: keeps the book of what is open, and sends what it decides, so that no alarm is lost.

Everything on watch that notices something calls `raise_`, then `ring`. What is to be said is written down before
it is sent and struck out when it has gone: `ring` goes on with what could not be sent while the store or the
network was away. A way that fails is not tried again in the same ring: the next one goes on with it. Who refuses an
alarm holds up neither the others nor other alarms; nor does an alarm that cannot be written.
"""

import fcntl
import json
import smtplib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mastio.files import put
from mastio.site.model import Site
from mastio.watch import alarm, book
from mastio.watch.alarm import Alarm
from mastio.watch.book import Book, Letter
from mastio.watch.settings import Settings

WAYS = ("mail", "outside", "webhook")
"""How an alarm leaves: into the store, to other organisations by the gateway, by POST."""
_WAYS = "ways.json"


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
        """Sends what is due, by each way the oldest first; what could not be sent, in words."""
        with self._changing() as change:
            change(lambda known: book.waited(known, now, self._rules))
            failed: dict[str, str] = {}
            for way in WAYS:
                for path in sorted(self._folder.glob(f"*.{way}")):
                    what = path.name
                    try:
                        waiting = json.loads(path.read_text())
                        one, to = Alarm.of(waiting["alarm"]), waiting["to"]
                        what = f"{one.subject!r}"
                        self._send(way, one, settings, to)
                    except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError) as error:
                        # The way works: it is this alarm that waits, for those who did not take it alone.
                        failed.setdefault(way, f"{what}: {error}")
                        if refused := getattr(error, "recipients", {}):
                            left = [it for it in to if it in refused]
                            put(path, json.dumps({**waiting, "to": left}, indent=1))
                        continue
                    except (OSError, smtplib.SMTPException) as error:
                        # What does not work costs its time once, not for each alarm that waits.
                        failed[way] = f"{what}: {error}"
                        break
                    except Exception as error:
                        # It cannot be read, or not be written for this way: whatever is wrong with it, it waits alone.
                        failed.setdefault(way, f"{what}: {type(error).__name__}: {error}")
                        continue
                    path.unlink()
            self._note(failed, now)
            return [
                f"alarms wait, {len(self._waiting(way))} by {way}: {words}"
                for way, words in failed.items()
            ]

    def _send(self, way: str, one: Alarm, settings: Settings, to: list[str]) -> None:
        wanted = self._site.alarms
        match way:
            case "mail":
                alarm.mail(one, self._site, settings, to)
            case "outside" if wanted.outside:
                alarm.outside(one, self._site, settings, to)
            case "webhook" if wanted.webhook:
                alarm.call(one, wanted.webhook, settings)

    def _waiting(self, way: str) -> list[Path]:
        return [*self._folder.glob(f"*.{way}")]

    def _note(self, failed: Mapping[str, str], now: float) -> None:
        """Keeps since when a way does not work, and why."""
        known = self._broken()
        ways = {
            way: {"since": known.get(way, {}).get("since", now), "words": words}
            for way, words in failed.items()
        }
        if ways != known:
            put(self._folder / _WAYS, json.dumps(ways))

    def _broken(self) -> dict[str, Any]:
        with suppress(FileNotFoundError, ValueError):
            found: dict[str, Any] = json.loads((self._folder / _WAYS).read_text())
            return found
        return {}

    @property
    def stuck(self) -> dict[str, Any]:
        """The ways that did not work the last time: `since` (seconds since the epoch), `words`, `waiting` (alarms)."""
        return {
            way: {**it, "waiting": len(self._waiting(way))} for way, it in self._broken().items()
        }

    @property
    def mute(self) -> bool:
        """Whether no way worked the last time: what is told reaches nobody."""
        return {*self._ways()} <= self._broken().keys()

    def _ways(self) -> Iterator[str]:
        yield "mail"
        if self._site.alarms.outside:
            yield "outside"
        if self._site.alarms.webhook:
            yield "webhook"

    @contextmanager
    def _changing(self) -> Iterator[Callable[[Callable[[Book], tuple[Book, list[Letter]]]], None]]:
        """Alone with the book. What a change decides to say is written down before the book says it was."""
        wanted = self._site.alarms
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)

            def change(decide: Callable[[Book], tuple[Book, list[Letter]]]) -> None:
                after, letters = decide(self.book)
                for letter in letters:
                    for way in self._ways():
                        name = f"{time.time_ns()}.{way}"
                        to = wanted.outside if way == "outside" else letter.to
                        waiting = {"alarm": asdict(letter.alarm), "to": [*to]}
                        put(self._folder / name, json.dumps(waiting, indent=1))
                put(self._folder / "book.json", json.dumps(book.plain(after), indent=1))

            yield change
