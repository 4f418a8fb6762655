"""Room in the kernel for the machines' watches of files.

Each systemd holds some inotify(7) instances, and in the lab all of them are the box's root's. Debian's bound of
128 is reached with the third lab on a box, and then a machine just does not boot. So the bound is raised while
labs are up, and given back by the last one that goes down; a lab that was killed goes down by `mastio lab down`.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mastio import files

KNOB = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH = 1024
"""Instances; a machine's systemd and daemons hold six."""


LEDGER = Path("/run/mastio/room")
"""One for the box, as the bound is."""


@contextmanager
def _ledger(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The file with the box's own bound, and the folder with the names of the labs that are up."""
    (folder / "labs").mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        files.hold(lock, patience=3)
        yield folder / "former", folder / "labs"


def make(site: str, knob: Path = KNOB, ledger: Path = LEDGER) -> None:
    """Makes room for the lab `site`. A box that does not let it is left as it is: one lab fits."""
    with _ledger(ledger) as (former, labs), suppress(OSError):
        (labs / site).touch()
        bound = int(knob.read_text())
        if bound < ENOUGH:
            former.write_text(f"{bound}\n")
            knob.write_text(f"{ENOUGH}\n")


def give_back(site: str, knob: Path = KNOB, ledger: Path = LEDGER) -> None:
    """The lab `site` needs no room any more. A bound that somebody else has set meanwhile stays."""
    with _ledger(ledger) as (former, labs), suppress(OSError):
        (labs / site).unlink(missing_ok=True)
        if former.exists() and not any(labs.iterdir()):
            if int(knob.read_text()) == ENOUGH:
                knob.write_text(former.read_text())
            former.unlink()
