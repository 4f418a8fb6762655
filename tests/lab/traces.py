"""All that a lab could leave on a box: processes, mounts, namespaces, control groups, the box's own links and rules.

before = Traces.of("demo", folder)
…
assert Traces.of("demo", folder) == before
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mastio.lab import network, paths


@dataclass(frozen=True)
class Traces:
    """What is on the box and bears the lab's name or lies in its folders; and what is the box's own."""

    processes: frozenset[str]
    mounts: frozenset[str]
    namespaces: tuple[str, ...]
    groups: frozenset[str]
    runtime: frozenset[str]
    links: str
    rules: str

    @classmethod
    def of(cls, site: str, *folders: Path) -> "Traces":
        words = [f"mastio-{site}", f"{site}-", f"/mastio/{site}", *map(str, folders)]

        def ours(text: str) -> bool:
            return any(word in text for word in words)

        return cls(
            frozenset(it for it in processes() if ours(it)),
            frozenset(
                it for it in Path("/proc/self/mountinfo").read_text().splitlines() if ours(it)
            ),
            network.namespaces(site),
            frozenset(str(it) for it in Path("/sys/fs/cgroup").glob(f"**/*mastio*/{site}*")),
            frozenset(it.name for it in paths.runtime(site).parent.glob(f"{site}*")),
            output("ip", "-brief", "link"),
            output("nft", "list", "ruleset"),
        )


def processes() -> Iterator[str]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if command:  # the dead that PID 1 has not buried yet have none
                yield f"{command} {(folder / 'cgroup').read_text()}"
        except OSError:
            continue  # it ended while we looked


def output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
