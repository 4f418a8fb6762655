"""Maildirs and mbox files of this box.

A Maildir is read whichever way its folders lie: as Dovecot and Courier have them (Maildir++, `.Work.2026` beside
`cur`), or as directories in directories (mbsync, OfflineIMAP, mutt; a leading dot is dropped). mbox: one file, or a
directory of them (`Work`, `Work.sbd/2026` as Thunderbird, or `Work/2026`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mastio.errors import Exit, MastioError
from mastio.importing import mbox
from mastio.importing.folders import Names, decoded, parts_of
from mastio.importing.message import Message, Source
from mastio.restoring.maildir import INBOX, Name

Tell = Callable[[str], None]
_PARTS = ("cur", "new", "tmp")
_EACH = 1000
"""Messages between two words about how far it is."""


def maildir(top: Path, names: Names, tell: Tell) -> Source:
    """All of a Maildir. Raises MastioError when it is none, or cannot be read."""
    with _readable(top):
        found = [*_maildirs(top)] if top.is_dir() else []
        if not found:
            raise MastioError(
                f"{top} is not a Maildir: neither it nor anything below it has a folder `cur`",
                hint="mbox files: `mastio import mbox`", code=Exit.DATA,
            )  # fmt: skip
        messages: list[Message] = []
        folders: list[tuple[str, str]] = []
        skipped: list[str] = []
        for parts, folder in found:
            there = "/".join(parts) or INBOX
            name = names.here(parts)
            if name is None:
                skipped.append(f"the folder {there}")
                continue
            folders.append((there, name))
            words = _keywords(folder)
            for path in _files(folder):
                told = Name.of(path.name)
                messages.append(
                    Message.of(
                        name,
                        path.read_bytes(),
                        path.stat().st_mtime,
                        told.flags,
                        tuple(words[it] for it in told.keywords if it in words),
                        path.read_bytes,
                    )
                )
                if len(messages) % _EACH == 0:
                    tell(f"{len(messages)} messages read")
    return Source(tuple(messages), tuple(folders), tuple(skipped))


def _maildirs(top: Path) -> Iterator[tuple[tuple[str, ...], Path]]:
    """The folders, by their names' parts; the inbox has none."""
    plus = (top / "cur").is_dir()
    if plus:
        yield (), top
    for it in sorted(top.iterdir()):
        if not it.is_dir() or it.is_symlink() or it.name in _PARTS:
            continue
        if plus and it.name.startswith("."):
            if (it / "cur").is_dir():
                yield parts_of(it.name), it
        else:
            yield from _below(it, ())


def _below(folder: Path, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Path]]:
    parts = (*above, decoded(folder.name.removeprefix(".")))
    if (folder / "cur").is_dir():
        yield (() if [it.upper() for it in parts] == [INBOX] else parts), folder
    for it in sorted(folder.iterdir()):
        if it.is_dir() and not it.is_symlink() and it.name not in _PARTS:
            yield from _below(it, parts)


def _files(folder: Path) -> Iterator[Path]:
    for part in ("cur", "new"):
        if (folder / part).is_dir():
            yield from sorted(
                it for it in (folder / part).iterdir() if it.is_file() and it.name[:1] != "."
            )


def _keywords(folder: Path) -> dict[str, str]:
    """What a folder's letters stand for (Dovecot's `dovecot-keywords`)."""
    try:
        lines = (folder / "dovecot-keywords").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    rows = (line.split(" ", 1) for line in lines if " " in line)
    return {chr(ord("a") + int(number)): word for number, word in rows if number.isdigit()}


def mboxes(top: Path, names: Names, tell: Tell) -> Source:
    """An mbox file (its messages go into the inbox), or a directory of them. Raises MastioError."""
    with _readable(top):
        if not top.exists():
            raise MastioError(f"{top}: there is no such file", code=Exit.DATA)
        single = top.is_file()
        files = [((), top)] if single else [*_mbox_files(top, ())]
        messages: list[Message] = []
        folders: list[tuple[str, str]] = []
        skipped: list[str] = []
        for parts, path in files:
            name = names.here(parts)
            if name is None:
                skipped.append(f"the folder {'/'.join(parts)}")
                continue
            try:
                rows = [*_entries(path, name)]
            except ValueError as error:
                if single:
                    raise MastioError(
                        f"{path}: {error}", hint="Maildirs: `mastio import maildir`", code=Exit.DATA
                    ) from None
                skipped.append(f"{path}: {error}")
                continue
            messages += rows
            folders.append(("/".join(parts) or INBOX, name))
            tell(f"{path.name}: {len(rows)} messages read")
        if not folders:
            raise MastioError(
                f"there is no mbox file in {top}", hint="; ".join(skipped[:3]), code=Exit.DATA
            )
    return Source(tuple(messages), tuple(folders), tuple(skipped))


def _mbox_files(folder: Path, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Path]]:
    for it in sorted(folder.iterdir()):
        if (
            it.is_symlink()
            or it.name.startswith(".")
            or it.suffix in (".msf", ".dat", ".html", ".json")
        ):
            continue
        name = it.name.removesuffix(".sbd").removesuffix(".mbox")
        parts = (*above, decoded(name))
        if it.is_dir():
            yield from _mbox_files(it, parts)
        elif it.is_file():
            yield (() if [part.upper() for part in parts] == [INBOX] else parts), it


def _entries(path: Path, name: str) -> Iterator[Message]:
    changed = path.stat().st_mtime
    with path.open("rb") as file:
        found = [*mbox.spans(file)]
        for start, stop, first in found:
            one = _entry(path, start, stop, first, changed)
            if one is not None:
                yield Message.of(
                    name, one.content, one.received, one.flags, one.keywords,
                    partial(_again, path, start, stop, first),
                )  # fmt: skip


def _entry(path: Path, start: int, stop: int, first: bytes, changed: float) -> mbox.Entry | None:
    with path.open("rb") as file:
        file.seek(start)
        return mbox.entry(file.read(stop - start), first, changed)


def _again(path: Path, start: int, stop: int, first: bytes) -> bytes:
    one = _entry(path, start, stop, first, 0)
    return one.content if one else b""


@contextmanager
def _readable(top: Path) -> Iterator[None]:
    """What cannot be read is told as such."""
    try:
        yield
    except OSError as error:
        raise MastioError(
            f"{error.filename or top}: {error.strerror}", hint="may this user read it?", code=Exit.DATA
        ) from None  # fmt: skip
