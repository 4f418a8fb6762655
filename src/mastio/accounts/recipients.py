"""Runs on a gateway: writes the maps of domains and recipients that Postfix asks.

One file, standard library only. `client` sends it there with a request, and reads what has changed:

    {"folder": "/var/lib/mastio/recipients", "domains": […], "recipients": […]}
    {"changed": ["recipients"]}

The text is replaced atomically, then compiled by postmap(1), which replaces an lmdb table's content in
one transaction: Postfix sees the old list or the new one. A table older than its text is compiled anew,
so a run that was cut short is completed by the next.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

MAPS = ("domains", "recipients")


def write(folder: Path, name: str, keys: list[str], postmap: str = "postmap") -> bool:
    """Makes the map `name` hold `keys`; False when it does already."""
    path, table = folder / name, folder / f"{name}.lmdb"
    text = "".join(f"{key} OK\n" for key in keys).encode()
    if is_current(path, table, text):
        return False
    temporary = folder / f".{name}.{os.getpid()}"
    try:
        with temporary.open("wb") as stream:
            os.fchmod(stream.fileno(), 0o644)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    subprocess.run((postmap, f"lmdb:{path}"), check=True, capture_output=True)
    os.utime(table)  # even when the content was the same
    return True


def is_current(path: Path, table: Path, text: bytes) -> bool:
    """Whether the map says `text` and its table was compiled since."""
    try:
        return table.stat().st_mtime_ns >= path.stat().st_mtime_ns and path.read_bytes() == text
    except FileNotFoundError:
        return False


def main(payload: bytes) -> None:
    """Reads a request, writes the answer; fails with a line on standard error."""
    request = json.loads(payload)
    folder = Path(request["folder"])
    if not folder.is_dir():
        sys.exit("the gateway is not built yet")
    try:
        changed = [name for name in MAPS if write(folder, name, request[name])]
    except subprocess.CalledProcessError as error:
        sys.exit(error.stderr.decode(errors="replace").strip() or "postmap failed")
    json.dump({"changed": changed}, sys.stdout)


if __name__ == "__main__":
    main(globals()["PAYLOAD"])
