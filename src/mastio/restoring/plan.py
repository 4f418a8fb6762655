"""What comes back into a mailbox, and what stays away: an archive's mailbox against what is there now. Pure.

    plan(mailbox, live, Wish(into="Restored"))     copies, in a folder of their own
    plan(mailbox, live, Wish(deleted=True))        in place: whatever the archive has and the mailbox lacks

In place, nothing that is there is touched. A folder that is gone comes back whole, with the UIDs that mail programs
know. Of a folder that is still the same (its UIDVALIDITY says so) every message that is missing was removed through
Dovecot, by its user: it stays away unless `deleted` asks for it, or it was named itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mastio.errors import Exit, MastioError
from mastio.restoring.maildir import INBOX, Folder, Live, Mailbox, Message, Name, folder_of, name_of


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    folder: str = ""
    """The name of the only folder that is wanted, with those below it; empty: all."""
    messages: frozenset[str] | None = None
    """The paths of the only messages that are wanted."""
    into: str = ""
    """The folder into which copies go; empty: in place."""
    deleted: bool = False
    """Whether what was removed since comes back too."""


@dataclass(frozen=True, slots=True)
class Move:
    """A message that comes."""

    path: str
    """In the archive."""
    folder: str
    """The directory where it goes."""
    file: str
    """Its name there."""
    keywords: str
    """The letters of its keywords in the archive's folder."""
    size: int
    source: str = ""
    """The directory of the archive's folder."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done for one user."""

    user: str
    home: str
    whole: tuple[str, ...] = ()
    """Folders that come back as they were, UIDs and all."""
    moves: tuple[Move, ...] = ()
    others: tuple[str, ...] = ()
    """Paths of lists and scripts that come where there are none now."""
    there: int = 0
    """Messages that are there already."""
    removed: int = 0
    """Messages that were removed since, and stay away."""
    octets: int = 0
    """How much more the mailbox will hold."""
    folders: tuple[tuple[str, int], ...] = ()
    """Where how many messages come, by the names that users see."""

    @property
    def count(self) -> int:
        """How many messages come."""
        return sum(count for _, count in self.folders)

    @property
    def paths(self) -> tuple[str, ...]:
        """All that is needed from the archive."""
        keywords = {
            f"{self.home}/Maildir/{it.source}/dovecot-keywords".replace("//", "/")
            for it in self.moves
            if it.keywords
        }
        return (*(it.path for it in self.moves), *self.others, *sorted(keywords))


def plan(box: Mailbox, live: Live, wish: Wish) -> Plan:
    """What to do. Raises MastioError when there is nothing to do it with, or no room."""
    if not live.exists:
        raise MastioError(
            f"there is no account {box.user}",
            hint=f"`mastio restore accounts {box.user.rpartition('@')[2]}` brings a domain's accounts back",
            code=Exit.DATA,
        )
    wanted = dict(_wanted(box, wish))
    found = _copies(box, live, wish, wanted) if wish.into else _in_place(box, live, wish, wanted)
    if live.limit and found.octets and live.used + found.octets > live.limit:
        raise MastioError(
            f"{box.user}: {_mib(found.octets)} would come, and {_mib(max(0, live.limit - live.used))} are free",
            hint=f"`mastio user change {box.user} --quota …` gives more room; --folder asks for less",
            code=Exit.DATA,
        )
    return found


def _mib(octets: int) -> str:
    return f"{octets / 2**20:.1f} MiB"


def _wanted(box: Mailbox, wish: Wish) -> Iterator[tuple[str, Folder]]:
    """The folders that are asked for, and of them the messages."""
    try:
        only = folder_of(wish.folder) if wish.folder else ""
    except ValueError as error:
        raise MastioError(str(error), code=Exit.USAGE) from None
    below = f"{only}."
    chosen = {
        key: it
        for key, it in box.folders.items()
        if not wish.folder or key == only or (only and key.startswith(below))
    }
    if not chosen:
        names = ", ".join(name_of(it) for it in box.folders) or "none"
        what = f"the folder {wish.folder}" if wish.folder else "a mailbox"
        raise MastioError(
            f"the archive has not {what} of {box.user}", hint=f"it has: {names}", code=Exit.DATA
        )
    for key, it in chosen.items():
        rows = {
            base: row
            for base, row in it.messages.items()
            if wish.messages is None or row.path in wish.messages
        }
        if rows or wish.messages is None:
            yield key, Folder(rows, it.validity)


def _copies(box: Mailbox, live: Live, wish: Wish, wanted: dict[str, Folder]) -> Plan:
    """Each message as a new one; the folders keep their names below that one, unless there is but one."""
    moves: list[Move] = []
    counts: dict[str, int] = {}
    single = len(wanted) == 1 or wish.messages is not None
    for key, it in wanted.items():
        try:
            target = folder_of(wish.into if single else f"{wish.into}/{name_of(key)}")
        except ValueError as error:
            raise MastioError(str(error), code=Exit.USAGE) from None
        if target == "":
            raise MastioError(
                "copies go into a folder of their own", hint="or use --in-place", code=Exit.USAGE
            )
        have = live.folders.get(target, frozenset())
        rows = [it for it in it.messages.values() if _copied(it.name).base not in have]
        moves += [
            Move(it.path, target, _copied(it.name).file, it.name.keywords, it.size, key)
            for it in rows
        ]
        if rows:
            counts[name_of(target)] = counts.get(name_of(target), 0) + len(rows)
    total = sum(len(it.messages) for it in wanted.values())
    return Plan(
        box.user, box.home, moves=tuple(moves), there=total - len(moves),
        octets=sum(it.size for it in moves), folders=_counts(counts),
    )  # fmt: skip


def _copied(name: Name) -> Name:
    """A copy is another message: its unique name is not the original's (maildir(5)), and the same each time."""
    unique, comma, sizes = name.base.partition(",")
    return Name(f"{unique}.restored{comma}{sizes}", name.flags, name.keywords)


def _in_place(box: Mailbox, live: Live, wish: Wish, wanted: dict[str, Folder]) -> Plan:
    everywhere = frozenset().union(*live.folders.values()) if live.folders else frozenset()
    whole: list[str] = []
    moves: list[Move] = []
    counts: dict[str, int] = {}
    there = removed = 0
    for key, it in wanted.items():
        missing = {base: row for base, row in it.messages.items() if base not in everywhere}
        there += len(it.messages) - len(missing)
        if key not in live.folders and wish.messages is None and len(missing) == len(it.messages):
            whole.append(key)
        elif (
            not wish.deleted
            and wish.messages is None
            and key in live.folders
            and it.validity
            and it.validity == live.validity.get(key)
        ):
            removed += len(missing)
            continue
        moves += [_back(row, key) for row in missing.values()]
        counts[name_of(key)] = len(missing)
    return Plan(
        box.user, box.home, tuple(whole), tuple(moves), tuple(_others(box, live, whole, wish)), there, removed,
        sum(it.size for it in moves), _counts({key: it for key, it in counts.items() if it}),
    )  # fmt: skip


def _back(message: Message, folder: str) -> Move:
    return Move(
        message.path, folder, message.name.file, message.name.keywords, message.size, folder
    )


def _others(box: Mailbox, live: Live, whole: list[str], wish: Wish) -> Iterator[str]:
    """Lists of folders that come back whole; and what lies beside the folders, when the mailbox is gone."""
    inbox = f"{box.home}/Maildir"
    nothing_there = not live.folders and not wish.folder and wish.messages is None
    for path in box.others:
        parent = path.rpartition("/")[0]
        if parent == inbox or parent.startswith(f"{inbox}/"):
            if parent.removeprefix(inbox).lstrip("/") in whole:
                yield path
        elif nothing_there:
            yield path


def _counts(found: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(found.items(), key=lambda it: (it[0] != INBOX, it[0])))
