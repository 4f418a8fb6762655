"""How long greylisting holds a message up, by the retry schedules of real mail servers: simulated.

A server asks again when *its* schedule says so, and its queue is looked through at times that have nothing to do
with the message. So each schedule is tried at every phase of its server's queue:

>>> delays(EXIM, 300)[0], delays(EXIM, 300)[-1]
(900, 1799)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

MINUTE = 60


@dataclass(frozen=True)
class Server:
    """A mail server that was told to come again."""

    name: str
    scan: int
    """Each so many seconds it looks through its queue."""
    due: Callable[[int], int]
    """When a message may be tried again, by its age at a try that failed; seconds since it came."""

    def tries(self, phase: int) -> Iterator[int]:
        """The times of all further tries, when the first scan of the queue is at `phase`; seconds since the first."""
        age = 0
        while True:
            due = max(self.due(age), age + 1)
            age = due + (phase - due) % self.scan
            yield age


# Each failed try puts it off by its age, within minimal_backoff_time and maximal_backoff_time; queue_run_delay scans
# (postconf(5); all three as Postfix has them).
POSTFIX = Server("Postfix", 5 * MINUTE, lambda age: age + min(max(age, 5 * MINUTE), 4000))
# Retry rule F,2h,15m (exim.conf's default, of which the rest begins after two hours: longer greylisting than that is
# not simulated); the queue runner started with -q15m, and with -q30m as Debian does.
EXIM = Server("Exim -q15m", 15 * MINUTE, lambda age: age + 15 * MINUTE)
EXIM_DEBIAN = Server("Exim -q30m", 30 * MINUTE, lambda age: age + 15 * MINUTE)
MINUTELY = Server("each minute", MINUTE, lambda age: age + MINUTE)
SERVERS = (MINUTELY, POSTFIX, EXIM, EXIM_DEBIAN)


def delays(server: Server, greylist: int) -> list[int]:
    """How long a message is held up that must wait `greylist` seconds, for each phase of the queue; ascending."""
    return sorted(
        next(at for at in server.tries(phase) if at >= greylist) for phase in range(server.scan)
    )


def table(greylist: int) -> list[tuple[str, str, str]]:
    """Name, median and maximum in minutes, a row for each server."""
    return [
        (it.name, f"{median(found) / MINUTE:.1f}", f"{found[-1] / MINUTE:.1f}")
        for it in SERVERS
        if (found := delays(it, greylist))
    ]
