"""Importing from the administrator's side: what the store has, what it lacks, and one stream that brings it.

    importing = Importing(site, transport, tell)
    have = importing.have("bob@fortress.example")
    found = compare(source.messages, have.folders)
    importing.bring("bob@fortress.example", have, found.missing, folders)
    importing.verify("bob@fortress.example", source.messages)

All goes through the administrator's own connection to the store: watch's key leads to none of it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mastio.errors import Exit, MastioError
from mastio.hearing import BULK
from mastio.importing import put
from mastio.importing.compare import Comparison, compare
from mastio.importing.message import Message, digest, plain
from mastio.restoring.maildir import folder_of, name_of
from mastio.site.model import Role, Site
from mastio.transport import Transport

_PUT = Path(str(put.__file__)).read_text()
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Have:
    """What the store has of a user."""

    folders: Mapping[str, tuple[str, ...]]
    """Digests by folder."""
    used: int
    limit: int
    """Octets that the mailbox has and may have; a limit of 0 is none."""
    free: int
    """Octets that are left on the store's disk."""
    seen: int
    """Messages that Dovecot counts."""
    generation: str
    """Another one as soon as an import begins to bring something: what was seen is old then."""

    @property
    def count(self) -> int:
        """Messages that are there."""
        return sum(map(len, self.folders.values()))


class Importing:
    """Bringing mail into `site`; `tell` hears how far it is."""

    def __init__(self, site: Site, transport: Transport, tell: Tell) -> None:
        self._transport, self._tell = transport, tell
        self._store = site.carrying(Role.STORE)[0].name

    def have(self, user: str) -> Have:
        """What there is of a user. Raises MastioError when there is no such account."""
        *rows, about = self._run({"do": "look", "user": user}, ())
        if not about["exists"]:
            raise MastioError(
                f"there is no account {user}", hint=f"`mastio user add {user}` makes one", code=Exit.DATA
            )  # fmt: skip
        folders = {name_of(it["folder"]): tuple(it["digests"]) for it in rows}
        return Have(
            folders,
            about["used"],
            about["limit"],
            about["free"],
            about["seen"],
            about["generation"],
        )

    def room(self, user: str, have: Have, found: Comparison) -> None:
        """Raises MastioError when what is missing would not fit."""
        octets = found.octets
        if have.limit and have.used + octets > have.limit:
            raise MastioError(
                f"{user}: {_mib(octets)} would come, and {_mib(max(0, have.limit - have.used))} are free",
                hint=f"`mastio user change {user} --quota …` gives more room; --skip FOLDER asks for less",
                code=Exit.DATA,
            )  # fmt: skip
        if octets > have.free * 0.9:
            raise MastioError(
                f"{self._store} has {_mib(have.free)} left, and {_mib(octets)} would come", code=Exit.CANT_CREATE
            )  # fmt: skip

    def bring(
        self, user: str, have: Have, missing: Sequence[Message], folders: Sequence[str]
    ) -> int:
        """Brings messages, and makes `folders` where there are none; how many Dovecot took in.

        Raises MastioError when another import has brought something since `have` was seen: it may be the same.
        """
        broken: list[MastioError] = []
        octets, taken = sum(it.size for it in missing), 0
        order = {"do": "put", "user": user, "folders": list(folders), "generation": have.generation}
        try:
            for it in self._run(order, _frames(missing, broken)):
                taken = it["taken"]
                if not it.get("end"):
                    self._tell(f"{taken} of {len(missing)} messages in place ({_mib(octets)} in all)")  # fmt: skip
        except MastioError as error:
            # A source that changed ends the stream: it knows better why.
            raise (broken or [error])[0] from None
        return taken

    def verify(self, user: str, wanted: Sequence[Message]) -> tuple[Have, Comparison]:
        """What the store has now, by a new look, and what it lacks. Raises MastioError when Dovecot sees less."""
        have = self.have(user)
        if have.seen < have.count:  # somebody may have removed one just then
            have = self.have(user)
        if have.seen < have.count:
            raise MastioError(
                f"{user}: {have.count} messages are there, and Dovecot sees {have.seen}",
                hint=f"`doveadm force-resync -u {user} '*'` on {self._store} makes its index anew",
            )
        return have, compare(wanted, have.folders)

    def _run(self, order: dict[str, Any], rest: Iterator[bytes] | tuple[()]) -> Iterator[dict[str, Any]]:  # fmt: skip
        failed: MastioError | None = None
        try:
            for line in self._transport.stream_python(
                self._store, _PUT, json.dumps(order).encode(), rest, BULK
            ):
                answer = json.loads(line)
                if "error" in answer:
                    failed = MastioError(
                        answer["error"], hint=answer["hint"], code=Exit(answer["code"])
                    )
                else:
                    yield answer
        except MastioError as error:
            raise failed or error from None


def _frames(missing: Sequence[Message], broken: list[MastioError]) -> Iterator[bytes]:
    """The messages as `put` reads them. One that is not what it was ends them."""
    for it in missing:
        try:
            content = plain(it.read())
        except OSError as error:
            content, why = b"", f": {error.strerror}"
        else:
            why = ""
        if digest(content) != it.digest:
            broken.append(
                MastioError(
                    f"{it.folder}: a message changed while it was read{why}",
                    hint="run it again: what is there already does not come again",
                    code=Exit.UNAVAILABLE,
                )
            )
            return
        row = {
            "key": folder_of(it.folder), "folder": it.folder, "flags": it.flags, "keywords": it.keywords,
            "received": it.received, "size": len(content), "digest": it.digest,
        }  # fmt: skip
        yield json.dumps(row).encode() + b"\n" + content
    yield b"{}\n"


def _mib(octets: int) -> str:
    return f"{octets / 2**20:.1f} MiB"
