"""Takes away the keys that opened doors before the site's own did: a program of its own, standard library only.

It runs over a new connection, after an apply: that it arrived shows that the new way in is there. Where sshd still
reads the old files they stay, and so does everybody's way. Root's go, and those of whoever could come as somebody else
with an administrator's key (who came by sudo). `PAYLOAD` is JSON: `keys`, the administrators'. It prints JSON:
`removed`, or `kept`, why not.
"""

import json
import pwd
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path("/root")
_NAMES = (".ssh/authorized_keys", ".ssh/authorized_keys2")


def reads_homes(settings: str) -> bool:
    """Whether sshd looks for keys in users' homes, from what `sshd -T` says (sshd_config(5), AuthorizedKeysFile)."""
    found = [
        line.split()[1:] for line in settings.splitlines() if line.startswith("authorizedkeysfile ")
    ]
    return not found or any(not it.startswith("/") or "%h" in it for it in found[0])


def files(home: Path) -> list[Path]:
    """Those with keys to a home."""
    return [home / it for it in _NAMES if (home / it).is_file() or (home / it).is_symlink()]


def doors(homes: Iterable[Path], keys: Iterable[str]) -> Iterator[Path]:
    """The files with keys in `homes` that one of `keys` (authorized_keys, sshd(8)) opens."""
    blobs = {it.split()[1] for it in keys}
    for path in (it for home in homes for it in files(home)):
        if path.is_file() and blobs & {*path.read_text(errors="replace").split()}:
            yield path


def remove(paths: Iterable[Path]) -> list[str]:
    """What was removed."""
    gone = sorted({*paths})
    for path in gone:
        path.unlink()
    return [str(it) for it in gone]


def main(keys: list[str]) -> None:
    """Prints what was done."""
    done = subprocess.run(
        ["/usr/sbin/sshd", "-T"], capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode or reads_homes(done.stdout):
        print(json.dumps({"removed": [], "kept": "sshd still reads keys in homes"}))
    else:
        homes = [Path(it.pw_dir) for it in pwd.getpwall() if it.pw_dir not in ("", "/")]
        gone = remove([*files(ROOT), *doors(homes, keys)])
        print(json.dumps({"removed": gone, "kept": ""}))


if "PAYLOAD" in globals():
    main(json.loads(globals()["PAYLOAD"])["keys"])
