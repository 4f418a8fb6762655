"""Ten million log lines: mastio's reader against pflogsumm and logwatch, in one run, on one box.

The same lines (see `loglines`), made from a seed: ours as watch keeps them, in files of each machine; the peers' in
classic syslog format, in one file. Time is CPU time of the process and wall-clock time; memory is its highest
resident set. Totals must be the same wherever both count the same, or the benchmark fails.

Ours does what watch does: summaries by hour on disk, all programs' lines, new shapes. pflogsumm and logwatch (its
Postfix part alone, all dates) come as Debian's packages from the box's mirror and are unpacked, not installed.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import click
from bench import loglines
from bench.common import fail, say, table

from mastio.digest import ahead

PACKAGES = ("pflogsumm", "logwatch", "libdate-manip-perl")
_OURS = """\
import sys
from ipaddress import ip_address
from pathlib import Path
from mastio.digest.keeping import Keeping
from mastio.digest.origins import Origins
logs, state, workers, own = sys.argv[1:]
print(Keeping(Path(state)).advance(Path(logs), (), Origins([ip_address(own)]), workers=int(workers)))
"""


@dataclass(frozen=True)
class Cost:
    """What a run took."""

    wall: float
    cpu: float
    memory: int
    """MiB."""
    output: str


def run(command: list[str], folder: Path) -> Cost:
    """Runs a program to its end; memory is that of it and its children together."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src"), "LC_ALL": "C"}
    began, memory, path = time.monotonic(), 0, folder / "output"
    with path.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.DEVNULL, env=env, start_new_session=True
        )
    ended = Event()

    def look() -> None:
        nonlocal memory
        # Not more often: it takes its time from those whom it looks at.
        while not ended.wait(0.2):
            memory = max(memory, resident(process.pid))

    looking = Thread(target=look)
    looking.start()
    _, status, used = os.wait4(process.pid, 0)
    wall, cpu = time.monotonic() - began, used.ru_utime + used.ru_stime
    ended.set()
    looking.join()
    process.returncode = status
    if status:
        fail(f"{command} ended with {status}")
    say(f"  {wall:.1f} s, {cpu:.1f} s CPU, {memory // 1024} MiB")
    return Cost(wall, cpu, memory // 1024, path.read_text(errors="replace"))


def resident(session: int) -> int:
    """Memory of all processes of a session (proc(5), stat and statm), in KiB."""
    found = 0
    for path in Path("/proc").glob("[0-9]*"):
        try:
            its = int((path / "stat").read_text().rpartition(")")[2].split()[3])
            if its == session:
                found += int((path / "statm").read_text().split()[1]) * (
                    os.sysconf("SC_PAGESIZE") // 1024
                )
        except (OSError, ValueError):
            continue
    return found


def ours(folder: Path, workers: int) -> Cost:
    """Our reader, with so many processes."""
    state = folder / f"state{workers}"
    return run(
        [
            sys.executable,
            "-c",
            _OURS,
            str(folder / "ours"),
            str(state),
            str(workers),
            loglines.WEBMAIL,
        ],
        folder,
    )


def unpacked(folder: Path) -> Path:
    """The peers' packages, by the box's own apt."""
    place = folder / "peers"
    place.mkdir()
    command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *PACKAGES]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"cannot fetch {', '.join(PACKAGES)}: {done.stderr.strip()[-500:]}")
    for package in place.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, place], check=True)
    # logwatch looks for its parts where it is installed.
    for path in ("scripts/logwatch.pl", "default.conf/logwatch.conf", "dist.conf/logwatch.conf"):
        file = place / "usr/share/logwatch" / path
        text = file.read_text(errors="surrogateescape")
        for installed in ("/usr/share/logwatch", "/etc/logwatch"):
            text = text.replace(installed, f"{place}{installed}")
        text = text.replace("/var/cache/logwatch", str(folder / "cache"))
        text = text.replace("TmpDir = /tmp", f"TmpDir = {folder / 'cache'}")
        file.write_text(text, errors="surrogateescape")
    (folder / "cache").mkdir()
    return place


def counted(state: Path) -> dict[str, int]:
    """Our totals of what pflogsumm counts too, as it counts it."""
    found: dict[str, int] = {}
    for path in (state / "hours").glob("*.json"):
        for name, number in json.loads(path.read_text())["summary"]["counts"].items():
            found[name] = found.get(name, 0) + number

    def below(prefix: str) -> int:
        return sum(number for name, number in found.items() if name.startswith(f"{prefix}."))

    return {
        "received": found.get("postfix.received.smtpd", 0) + found.get("postfix.received.pickup", 0),
        "delivered": below("sent"),
        "deferrals": below("deferred"),
        "bounced": below("bounced"),
        "rejected": found.get("postfix.rejected.smtpd", 0) + found.get("postfix.rejected.cleanup", 0),
        "kbytes received": found.get("bytes.in", 0) // 1024,
        "kbytes delivered": below("sent bytes") // 1024,
    }  # fmt: skip


def theirs(text: str) -> dict[str, int]:
    """pflogsumm's totals: by hour, since it rounds the great ones; sizes as it gives them, in KiB."""
    rows = re.findall(r"^ +\d{4}-\d{4} +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) *$", text, re.M)
    sums = [sum(map(int, column)) for column in zip(*rows, strict=True)]
    if len(rows) != 24:
        fail("pflogsumm's output is not as expected")
    found = dict(
        zip(("received", "delivered", "deferrals", "bounced", "rejected"), sums, strict=True)
    )
    for name in ("received", "delivered"):
        size = re.search(rf"^ +(\d+)([km]?) +bytes {name}", text, re.M)
        if not size:
            fail(f"pflogsumm does not say how many bytes were {name}")
        found[f"kbytes {name}"] = int(int(size[1]) * {"": 1 / 1024, "k": 1, "m": 1024}[size[2]])
    return found


@click.command()
@click.option("--lines", default=10_000_000, show_default=True, help="How many lines.")
@click.option("--seed", default=1, show_default=True, help="Another seed, other lines.")
@click.option(
    "--workers",
    default=ahead.workers(),
    show_default=True,
    help="With so many processes of ours; also with one.",
)
@click.option("--logwatch/--no-logwatch", default=True, help="logwatch takes the longest.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where; 4 GB for all lines. Default: /tmp."
)
def main(lines: int, seed: int, workers: int, logwatch: bool, folder: Path | None) -> None:
    """Print time and memory of each, ratios, and whether the totals agree."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-digest-") as made:
        place = Path(made)
        say(f"{lines:,} lines …")
        lines = loglines.write(place, lines, seed)
        size = (place / "mail.log").stat().st_size
        peers = unpacked(place)
        figures = {}
        for number in sorted({1, workers}, reverse=True):
            name = f"mastio, {number} process{'es' * (number > 1)}"
            say(f"{name} …")
            figures[name] = ours(place, number)
            if int(figures[name].output) != lines:
                fail(f"we read {figures[name].output.strip()} lines of {lines}")
        say("pflogsumm …")
        peer = run(["perl", str(peers / "usr/sbin/pflogsumm"), str(place / "mail.log")], place)
        figures["pflogsumm"] = peer
        if logwatch:
            say("logwatch …")
            argv = [
                "perl", "-I", str(peers / "usr/share/perl5"), str(peers / "usr/share/logwatch/scripts/logwatch.pl"),
                "--logdir", str(place), "--service", "postfix", "--range", "all", "--detail", "low",
                "--output", "stdout", "--archives", "n",
            ]  # fmt: skip
            figures["logwatch, Postfix only"] = run(argv, place)
        click.echo(f"{lines:,} lines, {size / 1e9:.2f} GB as the peers read them.")
        rows = [
            (
                name, f"{it.wall:.1f} s", f"{it.cpu:.1f} s", f"{lines / it.wall / 1000:,.0f} k/s",
                f"{peer.wall / it.wall:.2f} ×", f"{peer.cpu / it.cpu:.2f} ×", f"{it.memory} MiB",
            )
            for name, it in figures.items()
        ]  # fmt: skip
        click.echo(
            table(("", "time", "CPU", "lines", "against pflogsumm", "by CPU", "memory"), rows)
        )
        mine, other = counted(place / f"state{workers}"), theirs(peer.output)
        click.echo(
            table(("totals", "mastio", "pflogsumm"), [(it, mine[it], other[it]) for it in mine])
        )
        differ = [it for it in mine if not _same(it, mine[it], other[it])]
        if differ:
            fail(f"the totals differ: {', '.join(differ)}")
        if figures["mastio, 1 process"].memory > _FLAT:
            fail(f"one process used more than {_FLAT} MiB: memory grows with the number of lines")


_FLAT = 100
"""MiB that one process may use, however many lines there are."""


def _same(name: str, mine: int, other: int) -> bool:
    """pflogsumm gives great sizes in whole MiB, and middling ones in whole KiB."""
    unit = 1024 if other > 512 * 1024 else 1
    return mine == other or (name.startswith("kbytes") and abs(mine - other) <= unit)


if __name__ == "__main__":
    main()
