"""What lets watch verify on its own: this very program, and the list of what its key may have run.

The list is of digests and whole command lines, so that an older or another program is not run by mistake
or on purpose; `mastio apply` renews both ends together.
"""

import base64
import gzip
import hashlib
import io
import sys
import tarfile
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import mastio
from mastio.context import Kit
from mastio.transport import PYTHON
from mastio.verify import commands, probes
from mastio.verify.vantage import program

_LEFT_OUT = ("lab", "cli", "__pycache__")


def kit(*, awake: bool = True) -> Kit:
    """The kit of this version of mastio. `awake`: whether verification begins by itself."""
    return Kit(package(), tuple(sorted(programs())), commands.ALL, PYTHON, awake=awake)


def programs() -> set[str]:
    """SHA-256 of each probe as it is sent."""
    names = [f"{probes.__name__}.{it.name}" for it in iter_modules(probes.__path__)]
    for name in names:
        import_module(name)
    return {
        hashlib.sha256(program(name).encode()).hexdigest() for name in names if name in sys.modules
    }


def package() -> str:
    """The package as a tar archive in base64, the same for the same source."""
    root = Path(mastio.__file__).parent
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for path in sorted(root.rglob("*")):
            inner = path.relative_to(root)
            if path.is_file() and not set(inner.parts) & set(_LEFT_OUT):
                info = tarfile.TarInfo(f"mastio/{inner}")
                info.size, info.mode = path.stat().st_size, 0o644
                with path.open("rb") as file:
                    archive.addfile(info, file)
    return base64.b64encode(buffer.getvalue()).decode() + "\n"
