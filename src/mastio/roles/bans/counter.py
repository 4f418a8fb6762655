#!/usr/bin/python3
"""Counts offences in the site's logs, and orders bans at the machines that face the internet.

rsyslog writes the lines that matter into a FIFO; systemd holds it open as file descriptor 3 and starts this
program at the first line. A client whose offences weigh `failures` within `within_seconds` is banned: the
first time for `first_seconds`, each further time for twice as long, up to `longest_seconds`. It is forgiven
after thirty quiet days. IPv6 is counted by /64, or changing the address would help.

Counting never waits for a ban to be carried out: orders go through a queue to one thread, which asks each
guard by ssh again and again until it has answered or the ban would be over. Standard library only.
"""

import json
import os
import re
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/mastio/bans-counter.json")
HISTORY = Path("/var/lib/mastio/offences/history.json")
FIFO = 3
"""The first file descriptor that systemd hands over (sd_listen_fds(3))."""
FORGIVEN = 30 * 24 * 3600
GRACE = 20
"""Lines that were under way when a ban was ordered are part of it, for so many seconds at most."""
CLIENTS = 100_000
"""How many clients are remembered at once; beyond, all are forgotten, which a flood cannot exploit for long."""
LINES = 100_000
"""How many lines are known again."""
PAUSE = 5
REFUSED = 3
_ADDRESS = r"(?P<client>[0-9A-Fa-f:.]+)"


@dataclass(frozen=True)
class Ban:
    """An order to the guards."""

    address: str
    seconds: int
    reason: str


def key(text: str, exempt: Sequence[IPv4Network | IPv6Network] = ()) -> str:
    """The client that an address belongs to; ValueError when it is none.

    Where somebody in a /64 is never banned, its addresses are clients of their own, as at the guards.
    """
    address = ip_address(text)
    if address.version == 6 and address.ipv4_mapped:
        address = address.ipv4_mapped
    network = ip_network((address, 64 if address.version == 6 else 32), strict=False)
    if any(it.version == network.version and it.overlaps(network) for it in exempt):
        network = ip_network(address)
    return str(network)


class Counter:
    """Who has offended how often. Time is handed in, so that it can be anything."""

    def __init__(self, config: dict[str, Any], history: dict[str, list[float]]) -> None:
        self.config = config
        self.history = history
        """Client → how many bans, and when the last one ends."""
        self.recent: dict[str, deque[tuple[float, float]]] = {}
        self.offences = [
            (it["topic"], it["weight"], re.compile(
                f"(?:{'|'.join(map(re.escape, it['machines']))}) " + it["pattern"].replace("ADDRESS", _ADDRESS)
            ))
            for it in config["offences"]
        ]  # fmt: skip
        self.exempt = [ip_network(it) for it in config["exempt"]]
        self.ordered: dict[str, float] = {}

    def judge(self, line: str) -> tuple[str, str, float] | None:
        """The address, topic and weight of the offence that a line tells of."""
        for topic, weight, pattern in self.offences:
            if found := pattern.fullmatch(line):
                return found["client"], topic, weight
        return None

    def see(self, line: str, now: float) -> Ban | None:
        """One more line; the ban that it leads to."""
        judged = self.judge(line)
        if judged is None:
            return None
        text, topic, weight = judged
        try:
            client, address = key(text, self.exempt), ip_address(text)
        except ValueError:
            return None
        if any(it.version == address.version and address in it for it in self.exempt):
            return None
        if now < self.ordered.get(client, 0):
            return None
        if len(self.recent) > CLIENTS:
            self.recent.clear()
        seen = self.recent.setdefault(client, deque())
        seen.append((now, weight))
        while seen[0][0] < now - self.config["within_seconds"]:
            seen.popleft()
        if sum(it for _, it in seen) < self.config["failures"] - 1e-9:
            return None
        del self.recent[client]
        return self._ban(client, text, topic, now)

    def _ban(self, client: str, address: str, topic: str, now: float) -> Ban:
        count, last = self.history.get(client, (0, 0.0))
        if last < now - FORGIVEN:
            count = 0
        longest, first = self.config["longest_seconds"], self.config["first_seconds"]
        seconds = int(min(longest, first * 2 ** min(count, 40)))
        self.history[client] = [count + 1, now + seconds]
        self.ordered = {it: end for it, end in self.ordered.items() if end > now}
        self.ordered[client] = now + min(GRACE, seconds)
        self.history = {it: had for it, had in self.history.items() if had[1] > now - FORGIVEN}
        return Ban(address, seconds, topic)


class Once:
    """Lines that were read before: what was on its way to watch when a machine's rsyslog ended comes again
    (docs/decisions/0032), and is no second offence. Each begins with when it was written, to the microsecond."""

    def __init__(self) -> None:
        self._known: dict[int, None] = {}

    def new(self, line: str) -> bool:
        """Whether it did not come before."""
        mark = hash(line)
        if mark in self._known:
            return False
        self._known[mark] = None
        if len(self._known) > LINES:
            del self._known[next(iter(self._known))]
        return True


class Orders(threading.Thread):
    """Brings bans to the guards, in order, without holding up who counts."""

    def __init__(self, guards: list[list[str]]) -> None:
        super().__init__(daemon=True)
        self.guards = guards
        self.waiting: deque[tuple[float, list[str], Ban]] = deque()
        self.news = threading.Condition()

    def give(self, ban: Ban, now: float) -> None:
        """Takes an order."""
        with self.news:
            self.waiting.extend((now + ban.seconds, guard, ban) for guard in self.guards)
            self.news.notify()

    def run(self) -> None:
        """Never returns."""
        while True:
            with self.news:
                while not self.waiting:
                    self.news.wait()
                end, guard, ban = self.waiting.popleft()
            left = int(end - time.time())
            if left < 1 or _ask(guard, ban, left):
                continue
            time.sleep(PAUSE)
            with self.news:
                self.waiting.append((end, guard, ban))


def _ask(guard: list[str], ban: Ban, seconds: int) -> bool:
    """Whether the guard has given its answer, be it yes or no."""
    # %d: where systemd has put the key (systemd.exec(5), LoadCredential=)
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    argv = [it.replace("%d", folder) for it in guard]
    try:
        done = subprocess.run(
            [*argv, "add", ban.address, str(seconds), *ban.reason.split()],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        _say(f"ban of {ban.address}: no answer; tried again")
        return False
    words = (done.stdout or done.stderr).strip().splitlines()
    said = words[-1] if words else f"exit code {done.returncode}"
    if done.returncode == 0:
        _say(f"banned {said} for {seconds} seconds: {ban.reason}")
    else:
        _say(f"ban of {ban.address}: {said}")
    return done.returncode in (0, REFUSED)


def _say(words: str) -> None:
    print(words, flush=True)


def remembered(path: Path) -> dict[str, list[float]]:
    """The history that `remember` has written. One that cannot be read is none: bans go on, and begin anew."""
    try:
        history: dict[str, list[float]] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        _say(f"{path} cannot be read, and former bans are forgotten: {error}")
        return {}
    return history


def remember(path: Path, history: dict[str, list[float]]) -> None:
    """Writes the history, whole or not at all."""
    making = path.with_suffix(".making")
    with making.open("w") as file:
        json.dump(history, file)
        file.flush()
        os.fsync(file.fileno())
    making.rename(path)


def main() -> None:
    """Reads the FIFO until the end of days."""
    config = json.loads(CONFIG.read_text())
    counter, orders, once = Counter(config, remembered(HISTORY)), Orders(config["guards"]), Once()
    orders.start()
    with os.fdopen(FIFO, "r", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            now, (_, _, said) = time.time(), line.rstrip("\n").partition(" ")
            if not once.new(line) or (ban := counter.see(said, now)) is None:
                continue
            orders.give(ban, now)
            remember(HISTORY, counter.history)


if __name__ == "__main__":
    main()
