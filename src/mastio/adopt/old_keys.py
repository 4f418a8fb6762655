"""Takes away the keys that opened root's door before the site's own did: a program of its own, standard library only.

It runs over a new connection, after an apply: that it arrived shows that the new way in is there. Where sshd still
reads the old file it stays, and so does everybody's way. It prints JSON: `removed`, or `kept`, why not.
"""

import json
import subprocess
from pathlib import Path

HOME = Path("/root")
_NAMES = (".ssh/authorized_keys", ".ssh/authorized_keys2")


def reads_homes(settings: str) -> bool:
    """Whether sshd looks for keys in users' homes, from what `sshd -T` says (sshd_config(5), AuthorizedKeysFile)."""
    found = [
        line.split()[1:] for line in settings.splitlines() if line.startswith("authorizedkeysfile ")
    ]
    return not found or any(not it.startswith("/") or "%h" in it for it in found[0])


def remove(home: Path) -> list[str]:
    """What was removed."""
    paths = [home / it for it in _NAMES if (home / it).is_file() or (home / it).is_symlink()]
    for path in paths:
        path.unlink()
    return [str(it) for it in paths]


def main() -> None:
    """Prints what was done."""
    done = subprocess.run(
        ["/usr/sbin/sshd", "-T"], capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode or reads_homes(done.stdout):
        print(json.dumps({"removed": [], "kept": "sshd still reads keys in homes"}))
    else:
        print(json.dumps({"removed": remove(HOME), "kept": ""}))


if "PAYLOAD" in globals():
    main()
