"""Why a machine may not go yet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypedDict

from mastio.site.model import Role


class Held(TypedDict):
    """What `look` prints."""

    ours: bool
    waiting: list[str]
    messages: int
    newest: float
    left: dict[str, int]
    moved: float
    books: bool


@dataclass(frozen=True, slots=True)
class Objection:
    """What speaks against it, and what to do."""

    what: str
    hint: str


def objections(
    held: Held, archive: float | None, roles: Sequence[Role]
) -> Iterator[Objection]:  # fmt: skip
    """`archive` is when the newest archive of the machine was begun; None: there is none."""
    if held["waiting"]:
        yield Objection(
            f"{len(held['waiting'])} messages wait in its queue: {_few(held['waiting'])}",
            "`postqueue -p` there tells why; deliver them, or delete those that nobody misses (`postsuper -d`)",
        )
    elsewhere = held["moved"] > held["newest"]
    if held["messages"] and not elsewhere and (archive is None or archive <= held["newest"]):
        when = f"{datetime.fromtimestamp(held['newest'], UTC):%Y-%m-%d %H:%M:%S} UTC"
        newest = (
            "no archive has them"
            if archive is None
            else f"the newest archive is older ({datetime.fromtimestamp(archive, UTC):%H:%M:%S} UTC)"
        )
        yield Objection(
            f"{held['messages']} messages are in its mailboxes, the last came {when}; {newest}",
            "stop what delivers there, then have them archived (`mastio backup now`) and restored where they shall be",
        )
    if Role.WATCH in roles and not held["books"]:
        yield Objection(
            "it is the watch: the logs, references and archives of all others are on it",
            "`mastio move` takes logs and archives along; else bring a second copy elsewhere (`backup.copy`), and copy "
            "/var/log/remote",
        )


def _few(rows: Sequence[str]) -> str:
    return "; ".join(rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
