"""The same share of a core for each of some lab machines, as on hardware of their own.

Machines of a lab share the box's processors, so five that work together look slower than two. With a limit for
each (cpu.max of cgroups(7), or cpu.cfs_quota_us of version 1), small enough that the box can give it to all at
once, the machine that has most to do sets the pace. Who is stopped in the middle of its work and goes on with
cold caches takes more time for it: a third more for many small steps, a tenth for one long one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.common import fail

from mastio.lab.cage import Cage

PERIOD = 100_000
"""Microseconds in which a machine may use its share once. The kernel hands it out by 5 ms to a processor, and what one
does not use is lost with the period: of a short one, much."""
_VERSION_1 = Path("/sys/fs/cgroup/cpu")


def offered(site: str, machines: Sequence[str]) -> bool:
    """Whether this box's kernel can limit these machines."""
    return (_VERSION_1 / "cgroup.procs").exists() or all(
        (Cage(site, it).path / "cpu.max").exists() for it in machines
    )


@contextmanager
def limited(site: str, machines: Sequence[str], percent: int) -> Iterator[None]:
    """Each of these machines has `percent` of one core while this lasts."""
    quota = PERIOD * percent // 100
    try:
        for it in machines:
            _limit(Cage(site, it), quota)
        yield
    finally:
        for it in machines:
            _free(Cage(site, it))


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
    for _ in range(10):  # who is born meanwhile, of one that was not in it yet
        outside = _pids(cage) - set((group / "cgroup.procs").read_text().split())
        if not outside:
            return
        _move(outside, group)
    fail(f"not all processes of {cage.name} can be limited")


def _free(cage: Cage) -> None:
    with suppress(OSError):
        (cage.path / "cpu.max").write_text(f"max {PERIOD}")
    group = _group(cage)
    if group.exists():
        (group / "cpu.cfs_quota_us").write_text("-1")
        _move((group / "cgroup.procs").read_text().split(), _VERSION_1)
        with suppress(OSError):
            group.rmdir()


def _move(pids: Sequence[str] | set[str], group: Path) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            (group / "cgroup.procs").write_text(pid)
