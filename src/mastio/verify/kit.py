"""What lets watch verify on its own: this very program, and the list of what its key may have run.

The list is of digests and whole command lines, so that an older or another program is not run by mistake
or on purpose; `mastio apply` renews both ends together.
"""

import base64
import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import mastio
from mastio.context import Kit
from mastio.transport import PYTHON
from mastio.verify import commands, probes
from mastio.verify.vantage import program_in

_LEFT_OUT = ("lab", "cli", "__pycache__")


def kit(*, awake: bool = True) -> Kit:
    """The kit of this version of mastio. `awake`: whether verification begins by itself."""
    return Kit(package(), tuple(sorted(programs())), commands.ALL, PYTHON, awake=awake)


def programs() -> set[str]:
    """SHA-256 of each probe as it is sent."""
    folder = Path(probes.__file__).parent
    return {hashlib.sha256(program_in(it).encode()).hexdigest() for it in folder.glob("[!_]*.py")}


def package() -> str:
    """The package as a tar archive in base64, the same for the same source."""
    root = Path(mastio.__file__).parent
    buffer = io.BytesIO()
    # Packed once, at the end: this is part of every plan, and best compression takes twice as long for 1 %.
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            inner = path.relative_to(root)
            if path.is_file() and not set(inner.parts) & set(_LEFT_OUT):
                info = tarfile.TarInfo(f"mastio/{inner}")
                info.size, info.mode = path.stat().st_size, 0o644
                with path.open("rb") as file:
                    archive.addfile(info, file)
    return base64.b64encode(gzip.compress(buffer.getvalue(), 6, mtime=0)).decode() + "\n"
