"""A change of the accounts directory, as data: what to add, change or delete.

`clean(change)` gives it in canonical form (lower case, A-labels) and says what is wrong with it in
itself; whether it fits what is in the directory is judged on the store (`directory`).

>>> clean(AddAlias("Info@Bücher.Test", ("alice@bücher.test",)))[0].address
'info@xn--bcher-kva.test'
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

from mastio.site import values

LARGEST_QUOTA = 16 * 1024 * 1024
"""In MiB: 16 TiB."""
_NAME = 100
_OWN = re.compile(r"[a-z0-9_][a-z0-9_'&=~-]*(?:\.[a-z0-9_'&=~-]+)*")
_SCHEMES = ("ARGON2ID", "ARGON2I", "BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT")
_HASH = re.compile(rf"\{{(?:{'|'.join(_SCHEMES)})\}}\$[A-Za-z0-9$./,=+_-]{{20,}}")


@dataclass(frozen=True, slots=True)
class AddDomain:
    """A new mail domain; `catch_all` gets the mail to unknown addresses, if not empty."""

    name: str
    catch_all: str = ""


@dataclass(frozen=True, slots=True)
class ChangeDomain:
    """Another catch-all; empty: none."""

    name: str
    catch_all: str


@dataclass(frozen=True, slots=True)
class DeleteDomain:
    """A domain goes; it must be empty."""

    name: str


@dataclass(frozen=True, slots=True)
class AddUser:
    """A new mailbox."""

    address: str
    password: str = field(repr=False)
    """A hash, with Dovecot's scheme in front: `{ARGON2ID}$argon2id$…`."""
    name: str = ""
    quota_mib: int = 0
    """0: the site's default."""
    enabled: bool = True
    forwards: tuple[str, ...] = ()
    keep_copy: bool = True
    """With forwards: keep the mail here too."""


@dataclass(frozen=True, slots=True)
class ChangeUser:
    """A mailbox changes; None: as it is."""

    address: str
    password: str | None = field(default=None, repr=False)
    name: str | None = None
    quota_mib: int | None = None
    enabled: bool | None = None
    forwards: tuple[str, ...] | None = None
    keep_copy: bool | None = None


@dataclass(frozen=True, slots=True)
class DeleteUser:
    """A mailbox goes; its mail stays on the disk unless `purge`."""

    address: str
    purge: bool = False


@dataclass(frozen=True, slots=True)
class AddAlias:
    """A new address that leads to others."""

    address: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangeAlias:
    """Other targets for an alias."""

    address: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeleteAlias:
    """An alias goes."""

    address: str


Change = (
    AddDomain | ChangeDomain | DeleteDomain
    | AddUser | ChangeUser | DeleteUser
    | AddAlias | ChangeAlias | DeleteAlias
)  # fmt: skip
Plain = dict[str, str | int | bool | list[str]]


def plain(change: Change) -> Plain:
    """The change as JSON for `directory`: its kind in `do`, and the fields that are not None."""
    found: Plain = {"do": re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(change).__name__).lower()}
    for it in fields(change):
        value = getattr(change, it.name)
        if value is not None:
            found[it.name] = list(value) if isinstance(value, tuple) else value
    return found


def clean(change: Change) -> tuple[Change, tuple[str, ...]]:
    """The change in canonical form, and what is wrong with it."""
    wrong: list[str] = []

    def judged(judge: Callable[[str], str], text: str) -> str:
        try:
            return judge(text)
        except ValueError as error:
            wrong.append(str(error))
            return text

    found: dict[str, str | tuple[str, ...]] = {}
    for it in fields(change):
        value = getattr(change, it.name)
        match it.name, value:
            case "address", str():
                found["address"] = judged(own_address, value)
            case "name", str() if isinstance(change, AddDomain | ChangeDomain | DeleteDomain):
                found["name"] = judged(values.domain, value)
            case "name" | "password", str():
                found[it.name] = judged(_person if it.name == "name" else password_hash, value)
            case "catch_all", str():
                found["catch_all"] = judged(target, value) if value else ""
            case "targets" | "forwards", tuple():
                found[it.name] = tuple(dict.fromkeys(judged(target, text) for text in value))
                if not value and it.name == "targets":
                    wrong.append("an alias leads somewhere: give it a target")
            case "quota_mib", int() if not 0 <= value <= LARGEST_QUOTA:
                wrong.append(
                    f"a quota of {value} MiB: 1 to {LARGEST_QUOTA} are allowed, 0 is the default"
                )
    return replace(change, **found), tuple(wrong)  # type: ignore[arg-type]  # the fields are its own


def subject(change: Change) -> str:
    """What the change is about: an address or a domain."""
    if isinstance(change, AddDomain | ChangeDomain | DeleteDomain):
        return change.name
    return change.address


def own_address(text: str) -> str:
    """An address of the site: stricter than RFC 5321, for it names a folder and is routed by Postfix."""
    address = values.mail(text)
    if not _OWN.fullmatch(address.rpartition("@")[0]):
        raise ValueError(
            f"{text!r}: before the @ of an address here stand letters, digits, _'&=~- and single dots, "
            "no - first"
        )
    return address


def target(text: str) -> str:
    """Where mail may lead: any address, tags too."""
    return values.mail(text, tags=True)


def _person(text: str) -> str:
    if not text.isprintable() or len(text) > _NAME or any(it in text for it in '"<>\\'):
        raise ValueError(
            f'{text[:40]!r}: a name has at most {_NAME} characters on one line, without "<>\\'
        )
    return text.strip()


def password_hash(text: str) -> str:
    """A password hash of a scheme that is still good; never quoted."""
    if not _HASH.fullmatch(text):
        raise ValueError(
            f"not a password hash such as {{ARGON2ID}}$argon2id$…; allowed: {', '.join(_SCHEMES)}"
        )
    return text
