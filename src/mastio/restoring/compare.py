"""What a drill has shown: messages of an archive against those of the live store, as of the archive's time. Pure.

Both sides name messages by folder and base name, which never changes, and by a digest of their octets. The live side
tells as well when a file's inode last changed (ctime, inode(7)), which nobody can set back: what has not changed since
the archive was begun must be in it. So what came, and what went, is told apart from what the archive lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mastio.restoring.maildir import name_of

MARGIN = 2.0
"""Seconds: a message that came in the same moment as the archive was begun may be on either side."""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Found:
    """One mailbox."""

    user: str
    archived: int = 0
    """Messages in the archive."""
    same: int = 0
    """Of them there now, octet by octet."""
    differ: tuple[str, ...] = ()
    """There now, with other octets."""
    lost: tuple[str, ...] = ()
    """There since before the archive, and not in it."""
    came: int = 0
    """Not in the archive; they came, or changed their place or flags, since."""
    gone: int = 0
    """In the archive, and not there any more."""
    login: float | None = None
    """Seconds that logging in to the scratch store took."""
    error: str = ""
    """Why it could not be looked at."""

    @property
    def bad(self) -> tuple[str, ...]:
        """What is wrong, in words."""
        found = [f"{self.user}: {self.error}"] if self.error else []
        if self.differ:
            found.append(f"{self.user}: {len(self.differ)} messages differ: {_some(self.differ)}")
        if self.lost:
            found.append(
                f"{self.user}: {len(self.lost)} messages are not in the archive: {_some(self.lost)}"
            )
        return tuple(found)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def compare(
    user: str,
    archived: Mapping[str, Mapping[str, str]],
    live: Mapping[str, Mapping[str, tuple[str, float]]],
    begun: float,
    error: str = "",
    login: float | None = None,
) -> Found:
    """`archived`: digests by folder and base name; `live`: digest and ctime; `begun`: when the archive was."""
    same, gone, came = 0, 0, 0
    differ, lost = [], []
    for folder, rows in archived.items():
        now = live.get(folder, {})
        for base, digest in rows.items():
            if base not in now:
                gone += 1
            elif now[base][0] == digest:
                same += 1
            else:
                differ.append(f"{name_of(folder)}/{base}")
    for folder, seen in live.items():
        had = archived.get(folder, {})
        for base, (_, changed) in seen.items():
            if base in had:
                continue
            if changed < begun - MARGIN:
                lost.append(f"{name_of(folder)}/{base}")
            else:
                came += 1
    count = sum(map(len, archived.values()))
    if count and not live:
        error = "; ".join(
            filter(
                None, (error, f"{count} messages are archived, and there is no mailbox any more")
            )
        )
    return Found(user, count, same, tuple(differ), tuple(lost), came, gone, login, error)
