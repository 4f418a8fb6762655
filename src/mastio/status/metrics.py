"""The same as Prometheus reads it (text exposition format 0.0.4, prometheus.io/docs/instrumenting/exposition_formats).

A file for node-exporter's textfile collector, or for whatever scrapes: gauges alone, each with the site and, where it
is of a machine, the machine as labels.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from mastio.status.glance import Glance, Level

Row = tuple[dict[str, str], float]
"""Labels beside the site, and a value."""


def exposition(seen: Glance, at: float) -> str:
    """All of a look, taken `at` (seconds since the epoch)."""
    facts = {name: it for name, it in seen.machines.items() if not isinstance(it, str)}
    families: list[tuple[str, str, Iterable[Row]]] = [
        ("looked_seconds", "When this look was taken (Unix time).", [({}, at)]),
        ("level", "How much the site needs a person: 0 good, 1 warning, 2 bad.",
         [({}, list(Level).index(seen.level))]),
        ("machine_up", "Whether the machine answers.",
         [({"machine": name}, float(name in facts)) for name in seen.machines]),
        ("machine_uptime_seconds", "Since the machine started.", _of(facts, lambda it: it["uptime"])),
        ("machine_load1", "Load of one minute.", _of(facts, lambda it: it["load"])),
        ("machine_units_failed", "Units of systemd that have failed.",
         _of(facts, lambda it: len(it["failed"]))),
        ("machine_memory_available_octets", "Memory that is left.",
         _of(facts, lambda it: it["memory"]["available"])),
        *(
            (f"disk_{metric}", words, [
                ({"machine": name, "path": disk["path"]}, disk[key])
                for name, it in facts.items() for disk in it["disks"]
            ])
            for metric, key, words in (
                ("size", "total", "Octets of a file system."),
                ("available", "available", "Octets that are left on it."),
                ("inodes", "inodes", "Inodes of a file system; 0 where they are made as needed."),
                ("inodes_free", "inodes_free", "Inodes that are left on it."),
            )
        ),
        ("queue_messages", "Messages in Postfix's queues.", [
            ({"machine": name, "queue": queue}, count)
            for name, it in facts.items() for queue, count in (it["queue"] or {}).items()
            if queue != "oldest"
        ]),
        ("queue_oldest_seconds", "How long the oldest message has waited, held ones apart.", [
            ({"machine": name}, it["queue"]["oldest"]) for name, it in facts.items() if it["queue"]
        ]),
        ("verify_age_seconds", "Since watch verified by itself.",
         [({"set": name}, it["age"]) for name, it in seen.sets.items() if it]),
        ("verify_bad", "Findings that failed or could not be checked.",
         [({"set": name}, it["bad"]) for name, it in seen.sets.items() if it]),
        ("drill_age_seconds", "Since the last restore drill.", [({}, seen.drill["age"])] if seen.drill else []),
        ("drill_good", "Whether it restored what was archived.",
         [({}, float(seen.drill["good"]))] if seen.drill else []),
        ("bans", "Clients that the firewall keeps out.",
         [] if seen.bans is None else [({}, seen.bans)]),
    ]  # fmt: skip
    return "".join(line for it in families for line in family(seen.site, *it))


def _of(facts: dict[str, Any], value: Any) -> list[Row]:
    return [({"machine": name}, float(value(it))) for name, it in facts.items()]


def family(
    site: str, name: str, words: str, rows: Iterable[Row], kind: str = "gauge"
) -> Iterator[str]:
    """The lines of one metric: none when nothing is known of it."""
    rows = list(rows)
    if not rows:
        return
    yield f"# HELP mastio_{name} {words}\n# TYPE mastio_{name} {kind}\n"
    for labels, value in rows:
        inner = ",".join(f'{key}="{_escaped(it)}"' for key, it in {"site": site, **labels}.items())
        yield (
            f"mastio_{name}{{{inner}}} {value:g}\n"
            if value < 1e6
            else (f"mastio_{name}{{{inner}}} {value:.0f}\n")
        )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
