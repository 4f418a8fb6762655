"""Archives that nobody can look into, and macros in OpenDocument, as the gateway judges them: each beside a clean twin.

What a scanner could not look through is no clean archive: `filter.encrypted_archives`, which files it away here.
"""

import bz2
import gzip
import lzma
from base64 import b64decode
from io import BytesIO
from zipfile import ZIP_LZMA, ZipFile

import pytest

from tests.lab import mail
from tests.lab.conftest import TheLab as Lab
from tests.lab.mail import CAROL, token
from tests.lab.rar import Locked, five, four
from tests.lab.test_filter import EICAR, LOCKED, arrives, attached, fires, send, zipped
from tests.lab.test_quarantine import held

pytestmark = pytest.mark.lab

NAMES = b64decode(
    "N3q8ryccAATVH3LugAAAAAAAAAAuAAAAAAAAABx2WkSFSZjraDWqwoHCENWm2PH3iWptLhUigmWcsmYpbuG6IWvTZJBL84UHLomGBh6wNAzx"
    "97Z8/beCS4s1AdfH1nZFTbPFE2vKWxqiReyP2qbE/FZWGKPq3xeyOk2Xsi8AwVnOgAhZ+JqOGTDySkNoHstq5N/H3Ig82B9Sds6A5yQ5KRcG"
    "EAEJcAAHCwEAASQG8QcBElMP3LeptdKYPoPVdWO7e/erngxiCgGF0UDsAAA="
)
"""Of 7-Zip, behind the password `secret`, names and all."""
FILE = b64decode(
    "N3q8ryccAAR3AzOBEAAAAAAAAABiAAAAAAAAAJDI8MRcerPhaz8Rl4KMet3hLD9tAQQGAAEJEAAHCwEAAiQG8QcBElMPdwy10FgzE55SauIF"
    "cF4eTCEhAQABAAwOCgAICgELF3IyAAAFARkBABEXAHIAZQBhAGQAbQBlAC4AdAB4AHQAAAAZABUGAQAggKSBAAA="
)
"""The same with its names in the clear."""
PLAIN = b64decode(
    "N3q8ryccAAThhkxIDgAAAAAAAABSAAAAAAAAALOKA68BAAlHb29kIGRheS4KAAEEBgABCQ4ABwsBAAEhIQEADAoACAoBCxdyMgAABQEZDAAA"
    "AAAAAAAAAAAAABEXAHIAZQBhAGQAbQBlAC4AdAB4AHQAAAAZABUGAQAggKSBAAA="
)
"""Of 7-Zip, one file, for all to read."""
PACKED = b64decode(
    "N3q8ryccAARFuAgYcQAAAAAAAAAgAAAAAAAAADLsSrcBABhHb29kIGRheS4KR29vZCBkYXksIHRvby4KAAAAgTMHrg/P2W+8D+vqnL82Pf53"
    "Qe42TVJ0RkjXfqpOEFQ69VQBQYhydxMD912/3+dQ0/SP9M3HzZ3wyCUvF/yECVOxkAfeox5Q42bhfBi0h6dgABcGHQEJVAAHCwEAASMDAQEF"
    "XQAQAAAMZgoBbl5UOQAA"
)
"""Two files, and their names packed: Rspamd reads such by another way."""
BZIP2 = b64decode(
    "N3q8ryccAASu+N7QZgAAAAAAAABiAAAAAAAAAKlmBTtCWmg5MUFZJlNZhlLL0wAAHx6AJnoGgG9l310AAiAASIppoDEDT0jGp6J6EU0AMAAA"
    "DiCL9cj4AJTIf6h2D8/IuaopbGcWMJcjrk2gDNF0UHWPyxASE95zcLidoXckU4UJCGUsvTABBAYAAQlmAAcLAQABAwQCAgxEAAgKATzPUWgA"
    "AAUBGQwAAAAAAAAAAAAAAAARHQBlAGkAYwBhAHIALgBjAG8AbQAuAHQAeAB0AAAAFAoBAI6LM8Bwgd0BFQYBACCApIEAAA=="
)
"""EICAR, packed by BZip2: ClamAV finds nothing in it."""
LATER = b64decode(
    "N3q8ryccAARfm5yI5gAAAAAAAAAhAAAAAAAAAE/rK2MBAAlHb29kIGRheS4KAEJaaDkxQVkmU1mGUsvTAAAfHoAmegaAb2XfXQACIABIimmg"
    "MQNPSManonoRTQAwAAAOIIv1yPgAlMh/qHYPz8i5qilsZxYwlyOuTaAM0XRQdY/LEBIT3nNwuJ2hdyRThQkIZSy9MAAAgTMHrjGZNL2GmcWR"
    "5WS47qPkULRGm1KxHBSz2sTv85soc/AtrdtCB2HBbQTgX7WqDshFKCJdjWRmZfrJem4Tc1JEmiTKmMi4JfUF80HqWHPoqJlAukt5sssKJNiJ"
    "q3hbLe88LYxJQ4JselKNAAAAABcGdAEJcgAHCwEAASMDAQEFXQAQAAAMgIYKAWA5e74AAA=="
)
"""The same behind a file that is packed as usual."""
WORDS = b"Good day.\n"
UNREAD, PASSWORD, MACROS = (
    "an archive that nobody here can look into",
    "an archive with a password",
    "a document with macros",
)


def within(data: bytes) -> bytes:
    return zipped("inner.bin", data)


def squeezed(data: bytes) -> bytes:
    """A zip whose file is packed as zip files rarely are."""
    buffer = BytesIO()
    with ZipFile(buffer, "w", ZIP_LZMA) as archive:
        archive.writestr("a.txt", data)
    return buffer.getvalue()


def text(*more: str) -> bytes:
    """An OpenDocument text, and what else is in it."""
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name in ("mimetype", "content.xml", "META-INF/manifest.xml", *more):
            archive.writestr(name, WORDS)
    return buffer.getvalue()


BASIC = ("Basic/script-lc.xml", "Basic/Standard/script-lb.xml", "Basic/Standard/Module1.xml")
ZSTANDARD = bytes.fromhex("28b52ffd200a510000") + WORDS
"""One block, as it is (RFC 8878)."""
ACE = b"\x12\x34\x31\0\0\0\x90**ACE**\x14\x14\x02" + bytes(40)

FILED = {
    "rar5": ("a.rar", five("readme.txt", WORDS), UNREAD),
    "rar4": ("a.rar", four("readme.txt", WORDS), UNREAD),
    "rar-by-another-name": ("a.pdf", five("readme.txt", WORDS), UNREAD),
    "rar-behind-other-things": ("a.rar", bytes(9000) + five("readme.txt", WORDS), UNREAD),
    "rar-cut-off": ("a.part1.rar", five("readme.txt", WORDS * 90)[:300], UNREAD),
    "rar-before-1.50": ("a.rar", b"RE~^" + bytes(60), UNREAD),
    "rar5-file-locked": ("a.rar", five("readme.txt", WORDS, Locked.FILE), PASSWORD),
    "rar4-file-locked": ("a.rar", four("readme.txt", WORDS, Locked.FILE), PASSWORD),
    "rar5-names-locked": ("a.rar", five("readme.txt", WORDS, Locked.NAME), PASSWORD),
    "rar4-names-locked": ("a.rar", four("readme.txt", WORDS, Locked.NAME), PASSWORD),
    "rar5-in-zip": ("a.zip", within(five("readme.txt", WORDS)), UNREAD),
    "rar4-in-zip": ("a.zip", within(four("readme.txt", WORDS)), UNREAD),
    "rar-in-nested-zip": ("a.zip", within(within(five("readme.txt", WORDS))), UNREAD),
    "rar5-names-locked-in-zip": ("a.zip", within(five("a", WORDS, Locked.NAME)), UNREAD),
    "rar-in-gz": ("a.gz", gzip.compress(five("readme.txt", WORDS)), UNREAD),
    "7z-names-locked": ("a.7z", NAMES, PASSWORD),
    "7z-file-locked": ("a.7z", FILE, PASSWORD),
    "7z-names-locked-in-zip": ("a.zip", within(NAMES), PASSWORD),
    "7z-file-locked-in-zip": ("a.zip", within(FILE), PASSWORD),
    "7z-cut-off": ("a.7z.001", PACKED[:100], UNREAD),
    "7z-damaged": ("a.7z", PACKED[:-30] + bytes(30), UNREAD),
    "7z-bzip2": ("a.7z", BZIP2, UNREAD),
    "7z-bzip2-later": ("a.7z", LATER, UNREAD),
    "7z-bzip2-in-zip": ("a.zip", within(BZIP2), UNREAD),
    "zip-locked": ("a.zip", LOCKED, PASSWORD),
    "zip-packed-rarely": ("a.zip", squeezed(EICAR.encode()), UNREAD),
    "zip-packed-rarely-in-zip": ("a.zip", within(squeezed(EICAR.encode())), UNREAD),
    "zstandard": ("a.tar.zst", ZSTANDARD, UNREAD),
    "ace": ("a.ace", ACE, UNREAD),
    "macros": ("a.odt", text(*BASIC), MACROS),
    "macros-by-another-name": ("a.pdf", text(*BASIC), MACROS),
    "macros-in-python": ("a.ods", text("Scripts/python/a.py"), MACROS),
    "macros-in-zip": ("a.zip", within(text(*BASIC)), MACROS),
}
LET_IN = {
    "zip": ("a.zip", within(WORDS)),
    "nested-zip": ("a.zip", within(within(WORDS))),
    "7z": ("a.7z", PLAIN),
    "7z-names-packed": ("a.7z", PACKED),
    "7z-in-zip": ("a.zip", within(PACKED)),
    "gz": ("a.txt.gz", gzip.compress(WORDS)),
    "bz2": ("a.txt.bz2", bz2.compress(WORDS)),
    "xz": ("a.txt.xz", lzma.compress(WORDS)),
    "named-as-a-rar": ("rar.txt", b"Rar! That is how it begins. RE~^"),
    "document": ("a.odt", text()),
    "document-in-zip": ("a.zip", within(text())),
    "about-basic": ("a.zip", zipped("course/Basic/readme.xml", WORDS)),
}
REFUSED = {
    "program-in-rar5": ("a.rar", five("run.exe", WORDS), ".exe"),
    "program-in-rar4": ("a.rar", four("run.exe", WORDS), ".exe"),
    "virus-beside-a-rar": ("a.zip", within(EICAR.encode()), "malware"),
}


@pytest.mark.parametrize("name", FILED)
def test_what_nobody_can_look_into_is_filed_away(
    lab: Lab, alice: tuple[str, str], name: str
) -> None:
    word, (file, data, reason) = token(), FILED[name]
    letter = attached(file, data, CAROL, alice[0], word)
    assert send(lab, letter, CAROL, alice[0], forged=False)[0] == 250
    (entry,) = held(lab, word)
    assert entry["reason"] == reason
    assert not mail.inbox(lab, *alice, word, patience=0)
    lab.mastio("quarantine", "delete", "--yes", entry["id"])


@pytest.mark.parametrize("name", LET_IN)
def test_what_was_looked_through_is_let_in(lab: Lab, alice: tuple[str, str], name: str) -> None:
    word = token()
    letter = attached(*LET_IN[name], CAROL, alice[0], word)
    assert send(lab, letter, CAROL, alice[0], forged=False)[0] == 250
    assert arrives(lab, alice, word)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_seen_all_the_same_is_refused(lab: Lab, alice: tuple[str, str], name: str) -> None:
    file, data, reason = REFUSED[name]
    letter = attached(file, data, CAROL, alice[0], token())
    if name == "virus-beside-a-rar":
        letter.add_attachment(FILED["rar5"][1], "application", "octet-stream", filename="b.rar")
    fires(send(lab, letter, CAROL, alice[0], forged=False), reason)
