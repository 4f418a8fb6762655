"""What a machine does by itself, and when: systemd's timers for instances of one service.

Timer("fast", "each hour: the fast set", "hourly")     starts mastio-verify@fast.service
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mastio.state import File, Unit

_UNITS = "/etc/systemd/system"


@dataclass(frozen=True, slots=True)
class Timer:
    """One timer of a service (systemd.timer(5))."""

    name: str
    """The instance of the service that it starts."""
    words: str
    """What for."""
    calendar: str
    """When (systemd.time(7))."""
    active: str = ""
    """How long after the timer itself was started it goes off as well; empty: not."""
    persistent: bool = True
    """Whether what was missed while the machine was off is done when it is back."""


def timers(
    service: str, title: str, rows: Iterable[Timer], delay: int = 0
) -> tuple[tuple[File, ...], tuple[Unit, ...]]:
    """The files and the units of a service's timers; each goes off up to `delay` seconds late."""
    files = tuple(
        File(
            f"{_UNITS}/{service}-{row.name}.timer",
            "\n".join((*_lines(service, title, row, delay), "")),
        )
        for row in rows
    )
    return files, tuple(Unit(it.path.rpartition("/")[2], (it.path,)) for it in files)


def _lines(service: str, title: str, row: Timer, delay: int) -> Iterator[str]:
    yield from ("[Unit]", f"Description={title} {row.words}", "", "[Timer]")
    if row.active:
        yield f"OnActiveSec={row.active}"
    yield f"OnCalendar={row.calendar}"
    if row.persistent:
        yield "Persistent=yes"
    if delay:
        yield f"RandomizedDelaySec={delay}"
    yield from (f"Unit={service}@{row.name}.service", "", "[Install]", "WantedBy=timers.target")
