"""From where the box itself gets Debian: its apt mirror, which then serves the lab too.

Read from /etc/apt/sources.list and /etc/apt/sources.list.d in both formats (sources.list(5)). The
setting MASTIO_MIRROR overrides it: the archive's URL, and after a space the security archive's if that
is not the same with `-security` at its end.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mastio.errors import Exit, MastioError

SETTING = "MASTIO_MIRROR"
_ONE_LINE = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>.*)")


@dataclass(frozen=True, slots=True)
class Mirror:
    """The URLs of Debian's archive and of its security archive."""

    archive: str
    security: str

    def sources(self, suite: str, options: str = "") -> str:
        """A sources.list(5) for the release `suite` with its updates and security fixes."""
        option = f"[{options}] " if options else ""
        return (
            f"deb {option}{self.archive} {suite} main\n"
            f"deb {option}{self.archive} {suite}-updates main\n"
            f"deb {option}{self.security} {suite}-security main\n"
        )


@dataclass(frozen=True, slots=True)
class Source:
    """One archive, suite and the components taken from it."""

    uri: str
    suite: str
    components: tuple[str, ...]


def find(etc: Path = Path("/etc/apt")) -> Mirror:
    """The box's mirror; MastioError when its sources name none that is Debian's."""
    if setting := os.environ.get(SETTING, "").split():
        return Mirror(setting[0], setting[1] if setting[1:] else _beside(setting[0]))
    found = [it for it in sources(etc) if "main" in it.components and _is_debian(it)]
    archives = [it.uri for it in found if not _is_security(it)]
    securities = [it.uri for it in found if _is_security(it)]
    if not archives:
        raise MastioError(
            f"{etc}/sources.list and {etc}/sources.list.d name no Debian mirror",
            hint=f"set {SETTING} to the URL of one, as in a `deb` line of sources.list(5)",
            code=Exit.CANT_CREATE,
        )
    return Mirror(archives[0], securities[0] if securities else _beside(archives[0]))


def sources(etc: Path) -> Iterator[Source]:
    """All binary sources that apt on the box has enabled."""
    folder = etc / "sources.list.d"
    for path in (etc / "sources.list", *sorted(folder.glob("*.list"))):
        if path.is_file():
            yield from one_line(path.read_text())
    for path in sorted(folder.glob("*.sources")):
        yield from deb822(path.read_text())


def one_line(text: str) -> Iterator[Source]:
    """The sources of a one-line-style file."""
    for line in text.splitlines():
        if found := _ONE_LINE.match(line.partition("#")[0].strip()):
            components = tuple(found["components"].split())
            yield from _expand([found["uri"]], [found["suite"]], components)


def deb822(text: str) -> Iterator[Source]:
    """The sources of a deb822-style file (deb822(5): stanzas, folded fields, comments)."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields = {
            name.strip().lower(): value.split()
            for name, _, value in (
                it.partition(":") for it in re.split(r"\n(?!\s)", stanza.strip())
            )
        }
        off = [it.lower() for it in fields.get("enabled", ())] in (["no"], ["false"], ["0"])
        if "deb" in fields.get("types", ()) and not off:
            components = tuple(fields.get("components", ()))
            yield from _expand(fields.get("uris", []), fields.get("suites", []), components)


def _expand(
    uris: Iterable[str], suites: Iterable[str], components: tuple[str, ...]
) -> Iterator[Source]:
    suites = tuple(suites)
    for uri in uris:
        for suite in suites:
            yield Source(_plain(uri).rstrip("/"), suite, components)


def _plain(uri: str) -> str:
    """The first mirror of a `mirror+file:` list, as Debian's cloud images have; else `uri` itself."""
    method, _, rest = uri.partition(":")
    path = Path("/" + rest.lstrip("/"))
    if method != "mirror+file" or not path.is_file():
        return uri
    lines = (line.split() for line in path.read_text().splitlines() if not line.startswith("#"))
    return next((words[0] for words in lines if words), uri)


def _is_security(source: Source) -> bool:
    return source.suite.endswith("-security") or "/updates" in source.suite


def _is_debian(source: Source) -> bool:
    """Others, too, have a `main` for Debian's suites; Debian's mirrors end in the same two names."""
    parts = urlsplit(source.uri)
    return parts.path.rstrip("/").endswith(("/debian", "/debian-security")) or (
        parts.hostname or ""
    ).endswith("debian.org")


def _beside(archive: str) -> str:
    return f"{archive.rstrip('/')}-security"
