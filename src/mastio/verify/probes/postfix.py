"""Postfix's settings as Postfix reads them (postconf(1)), and what its tables answer."""

from __future__ import annotations

import re
import subprocess

_TABLE = re.compile(
    r"(?:\w+:|socketmap:unix:)/(?:etc/postfix(?:-store)?|var/lib/mastio|run/mastio[\w-]*)/[\w./:-]+"
)
"""The site's own: a probe asks no other file."""


def settings(config: str) -> dict[str, list[list[str]]]:
    """`{"main": [[name, value]…], "services": [["port/type", name, value]…]}` of one Postfix, `$name` put in."""
    main = [_pair(line) for line in _said("postconf", "-c", config, "-x")]
    services = []
    for line in _said("postconf", "-c", config, "-Px"):
        place, value = _pair(line)
        service, _, name = place.rpartition("/")
        services.append([service, name, value])
    return {"main": main, "services": services}


def _pair(line: str) -> list[str]:
    name, _, value = line.partition(" =")
    return [name.strip(), value.strip()]


def answer(table: str, key: str) -> dict[str, object]:
    """What a table says to a key: `{"found": text}`, "" when it has no such key, or `{"error": words}`."""
    if not _TABLE.fullmatch(table) or ".." in table:
        return {"error": f"{table} is no table of the site's"}
    done = _run("postmap", "-q", key, table)
    words = done.stderr.decode(errors="replace").strip()
    if done.returncode and words:
        return {"error": words.splitlines()[-1]}
    return {"found": done.stdout.decode(errors="replace").strip()}


def _said(*argv: str) -> list[str]:
    done = _run(*argv)
    if done.returncode:
        raise ValueError(f"{argv[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace").splitlines()


def _run(*argv: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
