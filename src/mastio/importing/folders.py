"""What folders are called here that were called otherwise there. Pure.

Names(into="Old").here(("Work", "v1.2"))       "Old/Work/v1_2"
parts_of(".Work.Gr&APYA3w-e")                ("Work", "Größe")
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mastio.errors import Exit, MastioError
from mastio.restoring.maildir import INBOX, folder_of, from_utf7, to_utf7

_LONGEST = 200
"""Octets of a folder's directory: a file's name has at most 255 (Linux), and Dovecot needs some."""


def decoded(text: str) -> str:
    """A name in modified UTF-7 (RFC 3501, 5.1.3); one that only looks like it stays as it is."""
    try:
        found = from_utf7(text)
    except ValueError:
        return text
    return found if to_utf7(found) == text else text


def parts_of(folder: str) -> tuple[str, ...]:
    """Of a directory of Maildir++: `.Work.2026`."""
    return tuple(decoded(it) for it in folder.removeprefix(".").split(".") if it)


def clean(part: str) -> str:
    """A part of a name as Dovecot's Maildir can hold it: no dot (it separates), no slash, no control character."""
    found = re.sub(r"[\x00-\x1f\x7f]", "", part.strip())
    return re.sub(r"[./]", "_", found) or "_"


@dataclass(frozen=True, slots=True)
class Names:
    """How folders are called here."""

    into: str = ""
    """Everything goes below this one; empty: where it was."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """By what they are called there."""
    skipped: frozenset[str] = frozenset()
    """Those that do not come, nor what is below them."""

    def here(self, parts: Sequence[str], use: str = "") -> str | None:
        """What the folder is called here; None: it does not come. `use`: what this store calls a folder of its use.

        Raises MastioError when no folder can be called so.
        """
        there = "/".join(parts) or INBOX
        if any(there == it or there.startswith(f"{it}/") for it in self.skipped):
            return None
        name = self._renamed(there) or use or there
        kept = [clean(it) for it in name.split("/") if it] or ["_"]
        if len(kept) == 1 and kept[0].upper() == INBOX:
            kept = [] if self.into else [INBOX]
        found = "/".join([*self.into.split("/"), *kept] if self.into else kept)
        try:
            long = len(folder_of(found).encode()) > _LONGEST
        except ValueError as error:
            raise MastioError(
                str(error), hint="--into FOLDER: no dots, no empty parts", code=Exit.USAGE
            ) from None
        if long:
            raise MastioError(
                f"the name of the folder {found} is too long",
                hint=f"--rename '{there}=…' gives it a shorter one", code=Exit.DATA,
            )  # fmt: skip
        return found

    def _renamed(self, there: str) -> str:
        for old, new in self.renamed.items():
            if there == old:
                return new
            if there.startswith(f"{old}/"):
                return f"{new}/{there.removeprefix(f'{old}/')}"
        return ""
