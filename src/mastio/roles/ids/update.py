#!/usr/bin/python3
"""Fetches others' rules for Suricata: `mastio-rules SETTINGS.json [SOURCE]`.

suricata-update(1) fetches through watch's proxy and keeps the groups that the site wants. What comes is tried
(`suricata -T`) before it is put where Suricata reads, and Suricata is told to read anew only then: rules that are
broken, or none at all, change nothing, and the exit code says so.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

_FETCH, _TRY = 600, 300
_ACTIONS = ("alert ", "drop ", "reject ", "pass ")
"""How a rule begins that is not switched off."""
NAME = "fetched.rules"


def main(settings: str, source: str = "") -> int:
    """The exit code."""
    asked = json.loads(Path(settings).read_text())
    final = Path(asked["folder"]) / NAME
    with TemporaryDirectory(dir=asked["folder"], prefix="new.") as made:
        folder = Path(made)
        (folder / "disable").write_text("re:.\n")
        (folder / "enable").write_text("".join(f"group:{it}\n" for it in asked["groups"]))
        (folder / "empty").write_text("")
        # suricata-update copies its output's folder before it writes there: nothing else may be in it.
        out, scratch = folder / "out", folder / "scratch"
        out.mkdir()
        scratch.mkdir()
        fetch = [
            "suricata-update", "update", "--data-dir", made, "--output", str(out), "--config", f"{made}/empty",
            "--suricata-conf", asked["config"], "--disable-conf", f"{made}/disable", "--enable-conf", f"{made}/enable",
            "--drop-conf", f"{made}/empty", "--modify-conf", f"{made}/empty", "--no-test", "--no-reload", "--fail",
            "--url", source or asked["source"],
        ]  # fmt: skip
        names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
        environment = {**os.environ, **dict.fromkeys(names, asked["proxy"]), "TMPDIR": str(scratch)}
        if words := ran(fetch, _FETCH, environment):
            return failed(f"could not be fetched: {words}")
        found = out / "suricata.rules"
        text = found.read_text(errors="replace") if found.exists() else ""
        rules = [it for it in text.splitlines() if it.startswith(_ACTIONS)]
        if not rules:
            return failed("there is no rule of the wanted groups in what came")
        new = folder / NAME
        new.write_text("\n".join([*rules, ""]))
        argv = [
            "suricata",
            "-T",
            "-c",
            asked["config"],
            "-S",
            str(new),
            "-l",
            made,
            "--set",
            "logging.outputs.0.console.enabled=yes",
        ]
        if words := ran(argv, _TRY, environment):
            return failed(f"Suricata does not take them: {words}")
        if final.exists() and final.read_bytes() == new.read_bytes():
            print(f"{len(rules)} rules, as before")
            return 0
        new.rename(final)
    print(f"{len(rules)} rules, new")
    try:
        os.kill(int(Path(asked["pid"]).read_text()), signal.SIGUSR2)
    except (OSError, ValueError):
        print("Suricata does not run: it reads them when it starts")
    return 0


def ran(argv: list[str], seconds: int, environment: dict[str, str]) -> str:
    """What was wrong, in words; "" when all was well."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=seconds, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"no end within {seconds} s"
    if not done.returncode:
        return ""
    lines = [it for it in (done.stdout + done.stderr).splitlines() if "rror" in it]
    return (lines or [f"{argv[0]} ended with {done.returncode}"])[0].strip()[-300:]


def failed(words: str) -> int:
    """Tells it."""
    print(f"the rules stay as they are: {words}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
