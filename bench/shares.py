"""The same share of a core for each of some lab machines, as on hardware of their own.

Machines of a lab share the box's processors, so five that work together look slower than two. With a limit for
each (cpu.max of cgroups(7), or cpu.cfs_quota_us of version 1), small enough that the box can give it to all at
once, the machine that has most to do sets the pace. Who is stopped in the middle of its work and goes on with
cold caches takes more time for it: a third more for many small steps, a tenth for one long one.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bench.common import fail

from mastio.lab.cage import Cage

PERIOD = 100_000
"""Microseconds in which a machine may use its share once. The kernel hands it out by 5 ms to a processor, and what one
does not use is lost with the period: of a short one, much."""
_VERSION_1 = Path("/sys/fs/cgroup/cpu")


def check(site: str, machines: Sequence[str], percent: int) -> None:
    """Ends the benchmark where these machines cannot be limited, or the box does not have so much for all of them."""
    if percent * (len(machines) + 1) > 100 * (os.cpu_count() or 1):
        fail(f"--share {percent}: {len(machines)} machines and a client cannot all have that here")
    if not (_VERSION_1 / "cgroup.procs").exists():
        for it in machines:
            if not (Cage(site, it).path / "cpu.max").exists():
                fail(f"--share: this box cannot limit {it} (no cpu.max for it); --share 0")


@contextmanager
def limited(site: str, machines: Sequence[str], percent: int) -> Iterator[None]:
    """Each of these machines has `percent` of one core while this lasts."""
    with ExitStack() as stack:
        for it in machines:
            stack.callback(_free, Cage(site, it))
            _limit(Cage(site, it), PERIOD * percent // 100)
        yield


def _group(cage: Cage) -> Path:
    return _VERSION_1 / f"mastio-bench.{cage.site}.{cage.name}"


def _pids(cage: Cage) -> set[str]:
    found: set[str] = set()
    for it in cage.path.glob("**/cgroup.procs"):
        with suppress(OSError):
            found.update(it.read_text().split())
    return found


def _limit(cage: Cage, quota: int) -> None:
    if (cage.path / "cpu.max").exists():
        (cage.path / "cpu.max").write_text(f"{quota} {PERIOD}")
        return
    group = _group(cage)
    group.mkdir(exist_ok=True)
    (group / "cpu.cfs_period_us").write_text(str(PERIOD))
    (group / "cpu.cfs_quota_us").write_text(str(quota))
    if not _move(lambda: _pids(cage) - _inside(group), group):
        fail(f"not all processes of {cage.name} can be limited")


def _free(cage: Cage) -> None:
    if (cage.path / "cpu.max").exists():
        (cage.path / "cpu.max").write_text(f"max {PERIOD}")
    group = _group(cage)
    if group.exists():
        (group / "cpu.cfs_quota_us").write_text("-1")
        if _move(lambda: _inside(group), _VERSION_1):
            group.rmdir()


def _inside(group: Path) -> set[str]:
    return set((group / "cgroup.procs").read_text().split())


def _move(who: Callable[[], set[str]], group: Path) -> bool:
    """Moves processes until nobody is left to be; they have children meanwhile."""
    for _ in range(20):
        if not (pids := who()):
            return True
        for pid in pids:
            with suppress(OSError):  # it has ended
                (group / "cgroup.procs").write_text(pid)
    return False
