"""Seals: what a chain of them says about the logs, and whether that is what is on disk. Pure.

A *seal* names what was added to each day's file since the seal before (file, offset, length, SHA-256), holds the
hash of that one, and is signed with an Ed25519 key that signs nothing else: it is deleted at once, and the seal
names the public half of the next. So whoever takes over the machine can sign what comes, not what was. The first
public key and the newest seal that the administrator's side has seen are pinned there: a chain that was cut or
made anew shows as well.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

START = "0" * 64
"""What the first seal names as the one before it."""
SLACK = 2 * 3600.0
"""Seconds after a day's end in which its file may still grow."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a file, in octets of its unpacked text."""

    file: str
    """`machine/YYYY-MM-DD`."""
    offset: int
    length: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Seal:
    """One record of the chain."""

    number: int
    at: float
    """Seconds since the epoch."""
    previous: str
    """SHA-256 of the seal before."""
    segments: tuple[Segment, ...]
    removed: tuple[str, ...]
    """Files that are older than they are to be kept."""
    keep: int
    """For how many days, at that time."""
    next: str
    """The public key that signs the next seal, in hex."""
    signature: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the whole record, signature and all."""
        return hashlib.sha256(record(self).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Pin:
    """What the administrator's side remembers of a chain."""

    first: str
    """The first public key."""
    number: int
    digest: str
    """The newest seal that was seen."""
    keep: int
    """The shortest time to keep logs, in days, that the site file has ever named."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A file as it is on disk."""

    size: int
    over: float
    """When its day ended, in seconds since the epoch."""
    packed: bool
    segments: Mapping[tuple[int, int], str]
    """(offset, length) → SHA-256, for each sealed stretch that is there whole."""
    beside: int = 0
    """Octets that stand in a file beside the packed one."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """The chain of seals, and what is on disk."""

    first: str
    """The public key that begins the chain; empty when nothing was ever sealed."""
    seals: tuple[Seal, ...]
    files: dict[str, Measured]
    faults: tuple[str, ...]
    """Records of the chain that are none, in words."""


def record(seal: Seal) -> str:
    """The seal as one line of the chain, the same for the same seal."""
    plain = asdict(seal)
    plain["segments"] = [[it.file, it.offset, it.length, it.sha256] for it in seal.segments]
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def recall(line: str) -> Seal:
    """The seal that `record` wrote; raises ValueError when it is none."""
    try:
        plain = json.loads(line)
        plain["segments"] = tuple(Segment(*it) for it in plain["segments"])
        plain["removed"] = tuple(plain["removed"])
        return Seal(**plain)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a seal: {error}") from error


def signed(seal: Seal, key: Ed25519PrivateKey) -> Seal:
    """The seal with its signature."""
    return replace(seal, signature=key.sign(_content(seal)).hex())


def gathered(texts: Iterable[str]) -> Sealed:
    """What the program `measure` printed."""
    first, seals, files, odd = "", list[Seal](), dict[str, Measured](), list[str]()
    for text in texts:
        one = json.loads(text)
        if "first" in one:
            first = one["first"]
        elif "seal" in one:
            try:
                seals.append(recall(one["seal"]))
            except ValueError as error:
                odd.append(f"after seal {len(seals)} stands something else: {error}")
        else:
            stretches = {(offset, length): said for offset, length, said in one["segments"]}
            files[one["file"]] = Measured(
                one["size"], one["over"], one["packed"], stretches, one["beside"]
            )
    return Sealed(first, tuple(seals), files, tuple(odd))


def wrong(found: Sealed, keep: int, pin: Pin | None = None, since: str = "") -> list[str]:
    """All that is wrong, with the chain or on disk, in words; as `faults` and `differences`."""
    chained = faults(found.first, found.seals, pin)
    return [*found.faults, *chained, *differences(list(found.seals), found.files, keep, since)]


def is_signed(seal: Seal, public: str) -> bool:
    """Whether the signature is that of `public` (hex)."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(seal.signature), _content(seal))
    except (InvalidSignature, ValueError):
        return False
    return True


def _content(seal: Seal) -> bytes:
    return record(replace(seal, signature="")).encode()


def faults(first: str, seals: Iterable[Seal], pin: Pin | None) -> list[str]:
    """What is wrong with the chain itself, in words. `first` is the public key that begins it."""
    found: list[str] = []
    if pin and pin.first != first:
        found.append("the chain begins with another key than the one pinned here: it was made anew")
    key, before, number = first, START, 0
    seen = pin is None or not pin.number
    for seal in seals:
        if seal.number != number + 1:
            found.append(
                f"after seal {number} comes seal {seal.number}: something between is missing or moved"
            )
        elif seal.previous != before:
            found.append(f"{_name(seal)} does not follow seal {number}: one of them was exchanged")
        if not is_signed(seal, key):
            found.append(f"{_name(seal)} is not signed with the key that was meant for it")
        if pin and seal.number == pin.number:
            seen = True
            if seal.digest != pin.digest:
                found.append(f"{_name(seal)} is not the one that was seen here before")
        key, before, number = seal.next, seal.digest, seal.number
    if pin and not seen:
        found.append(
            f"the chain ends with seal {number}, but seal {pin.number} has been seen here: it was cut"
        )
    return found


def lengths(seals: Iterable[Seal]) -> dict[str, int]:
    """How far each file that should be there is sealed."""
    known: dict[str, int] = {}
    for seal in seals:
        for it in seal.segments:
            known[it.file] = max(known.get(it.file, 0), it.offset + it.length)
        for file in seal.removed:
            known.pop(file, None)
    return known


def differences(
    seals: list[Seal], files: Mapping[str, Measured], keep: int, since: str = ""
) -> list[str]:
    """What is on disk otherwise than it was sealed, in words.

    `keep` is for how many days logs must be there. Files of days before `since` (YYYY-MM-DD) were not measured.
    """
    found: list[str] = []
    old: set[str] = set()
    stretches: dict[str, list[tuple[Seal, Segment]]] = {}
    for before, seal in zip([None, *seals], seals, strict=False):
        for it in seal.segments:
            known = stretches.setdefault(it.file, [])
            end = known[-1][1].offset + known[-1][1].length if known else 0
            if it.offset != end:
                found.append(
                    f"{place(it.file)}: {_name(seal)} goes on at octet {it.offset}, not {end}"
                )
            over = files[it.file].over if it.file in files else None
            if before and over is not None and before.at > over + SLACK:
                found.append(f"{place(it.file)}: {it.length} octets were added after the day was over "
                             f"and sealed ({_name(seal)})")  # fmt: skip
            known.append((seal, it))
        for file in seal.removed:
            stretches.pop(file, None)
            old.add(file)
            age = (datetime.fromtimestamp(seal.at, UTC).date() - _day(file)).days
            if age < min(keep, seal.keep):
                found.append(f"{place(file)}: removed when it was {age} days old ({_name(seal)}); "
                             f"{min(keep, seal.keep)} days are to be kept")  # fmt: skip
            elif age < keep:
                found.append(f"{place(file)}: removed when it was {age} days old ({_name(seal)}), as watch kept "
                             f"{seal.keep} days then; the site file says {keep}")  # fmt: skip
    for file, known in sorted(stretches.items()):
        if file.rpartition("/")[2] >= since:
            found += _file(file, known, files.get(file))
    last = seals[-1].at if seals else None
    for file, measured in sorted(files.items()):
        if file in old:  # its removal is sealed; a run that was killed removes it the next time
            continue
        sealed = sum(it.length for _, it in stretches.get(file, []))
        more = measured.size - sealed
        if measured.beside:
            found.append(f"{place(file)}: {measured.beside} octets were added after it was packed")
        elif last is not None and more > 0 and last > measured.over + SLACK:
            what = f"{more} octets were added" if sealed else "the file was added"
            found.append(f"{place(file)}: {what} after the day was over and sealed")
    return found


def _file(file: str, known: list[tuple[Seal, Segment]], measured: Measured | None) -> list[str]:
    """What is wrong with one file: at the first place where it differs."""
    if measured is None:
        return [f"{place(file)}: the file was removed; it was sealed up to {_name(known[-1][0])}"]
    end = known[-1][1].offset + known[-1][1].length
    for number, (seal, it) in enumerate(known):
        if measured.segments.get((it.offset, it.length)) == it.sha256:
            continue
        stretch = f"octets {it.offset}–{it.offset + it.length - 1}, sealed by {_name(seal)}"
        rest = len(known) - number - 1
        if measured.size < it.offset + it.length or (rest and measured.size < end):
            lost = end - measured.size
            return [
                f"{place(file)}: cut: {lost} octets of what was sealed are missing, from {stretch}"
            ]
        more = f", and what follows ({rest} more)" if rest else ""
        return [f"{place(file)}: edited: {stretch}, are not what was sealed{more}"]
    return []


def _day(file: str) -> Any:
    return datetime.fromisoformat(file.rpartition("/")[2]).date()


def place(file: str) -> str:
    """A machine's day, in words."""
    machine, _, day = file.partition("/")
    return f"{machine}, {day}"


def _name(seal: Seal) -> str:
    return f"seal {seal.number} of {datetime.fromtimestamp(seal.at, UTC):%Y-%m-%d %H:%M} UTC"
