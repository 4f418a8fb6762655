"""What a machine's logs have more than the last time, and only that."""

from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1 << 20


def fresh(logs: Path, machine: str, offsets: dict[str, int]) -> Iterator[bytes]:
    """Whole lines, many at a time, that came since `offsets` (by `machine/file`), which is moved on."""
    for path in sorted((logs / machine).glob("*.log")):
        name = f"{machine}/{path.name}"
        begin = offsets.get(name, 0)
        if path.stat().st_size < begin:
            begin = 0
        with path.open("rb") as file:
            file.seek(begin)
            rest = b""
            while data := file.read(_BLOCK):
                data = rest + data
                end = data.rfind(b"\n") + 1
                rest = data[end:]
                begin += end
                yield data[:end]
            offsets[name] = begin
