"""Runs on a gateway: writes the live lists that Rspamd reads, and tells what the greylist holds.

One file, standard library only. `client` sends it there with a request, and reads the answer:

    {"op": "write", "folder": "/var/lib/mastio/filter", "files": {"allow": "…"}}   {"changed": ["allow"]}
    {"op": "show", "socket": "/run/valkey/valkey.sock"}                    {"waiting": […], "counts": {…}}
"""

import json
import os
import subprocess
import sys
from pathlib import Path

PREFIX = "mastio:grey:"


def write(folder: Path, files: dict[str, str]) -> list[str]:
    """Makes the files in `folder` say what `files` says; which of them changed."""
    changed = []
    for name, text in files.items():
        path, temporary = folder / name, folder / f".{name}.{os.getpid()}"
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(0o644)
        temporary.replace(path)
        changed.append(name)
    return changed


def entries(keys: list[str], replies: list[str]) -> list[dict[str, str]]:
    """What `HGETALL` said of each key, as records; a reply is JSON (valkey-cli --json)."""
    found = []
    for key, reply in zip(keys, replies, strict=True):
        record = json.loads(reply)
        if record:
            found.append({"key": key, **{name: str(value) for name, value in record.items()}})
    return sorted(found, key=lambda it: it.get("first", ""), reverse=True)


def show(socket: str) -> dict[str, object]:
    """The greylist's entries, newest first, and its counters."""
    keys = sorted(_ask(socket, "--scan", "--pattern", f"{PREFIX}*").decode().split())
    commands = "".join(f"HGETALL {key}\n" for key in keys) + "HGETALL mastio:counts\n"
    *replies, counts = lines(_ask(socket, "--json", stdin=commands))
    return {"entries": entries(keys, replies), "counts": json.loads(counts)}


def lines(said: bytes) -> list[str]:
    """Replies, one a line. Strangers' addresses stand in them as they came: what else Unicode takes for the end of a
    line ends none, and octets may be anything.
    """
    return said.decode(errors="replace").removesuffix("\n").split("\n")


def _ask(socket: str, *arguments: str, stdin: str = "") -> bytes:
    done = subprocess.run(
        ("valkey-cli", "-3", "-s", socket, *arguments),
        input=stdin.encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode or b"Could not connect" in done.stderr:
        sys.exit(done.stderr.decode(errors="replace").strip() or "valkey-cli failed")
    return done.stdout


def main(payload: bytes) -> None:
    """Reads a request, writes the answer; fails with a line on standard error."""
    request = json.loads(payload)
    if request["op"] == "show":
        json.dump(show(request["socket"]), sys.stdout)
        return
    folder = Path(request["folder"])
    if not folder.is_dir():
        sys.exit("the gateway is not built yet")
    json.dump({"changed": write(folder, request["files"])}, sys.stdout)


if __name__ == "__main__":
    main(globals()["PAYLOAD"])
