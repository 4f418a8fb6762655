"""The live lists as the site folder keeps them: `greylist.txt`, a line for each sender.

    allow partner.example
    block 192.0.2.0/24

A sender is a mail address, a domain (with all below it) or a network. The file is the truth; a rebuilt
gateway gets it with the next apply. `mastio greylist` writes it, people may.
"""

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from mastio.errors import Exit, MastioError
from mastio.site.filtering import sender

FILE = "greylist.txt"


class Verdict(StrEnum):
    """What is to become of a sender's mail."""

    ALLOW = "allow"
    """Never greylisted."""
    BLOCK = "block"
    """Refused."""


Lists = Mapping[str, Verdict]


def read(folder: Path) -> dict[str, Verdict]:
    """The lists of the site in `folder`; MastioError says which line is wrong."""
    path = folder / FILE
    found: dict[str, Verdict] = {}
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            verdict, name = words
            found[str(sender(name))] = Verdict(verdict)
        except ValueError as error:
            raise MastioError(
                f"{path}:{number}: {error}",
                hint="write: allow SENDER, or block SENDER",
                code=Exit.DATA,
            ) from None
    return found


def write(folder: Path, lists: Lists) -> None:
    """Replaces the file, whole."""
    path = folder / FILE
    temporary = path.with_name(f".{FILE}.{os.getpid()}")
    temporary.write_text(
        "".join(f"{verdict} {name}\n" for name, verdict in sorted(lists.items())), encoding="utf-8"
    )
    temporary.replace(path)


def files(lists: Lists) -> dict[str, str]:
    """The maps that Rspamd reads on a gateway: file name → content."""
    found = {f"{verdict}{kind}": "" for verdict in Verdict for kind in ("", "-networks")}
    for name, verdict in sorted(lists.items()):
        is_name = isinstance(sender(name), str)
        found[verdict.value if is_name else f"{verdict}-networks"] += f"{name}\n"
    return found
