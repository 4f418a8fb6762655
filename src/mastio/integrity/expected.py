"""What an apply may have changed on a machine, so that it is no alarm. Pure.

    of_apply(state, plan)          on the administrator's machine → a plain object that goes to watch
    settled(order, old, new, …)    on watch → the paths whose new rows are taken over

A path is taken over only when what stands there *is* what the site file says: same content, same mode. What an
intruder changed in the same minute, or in the same file, stays a difference.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from stat import S_IMODE
from typing import Any

from mastio.integrity.database import Database, Row
from mastio.plan import PERMANENT_RULES, Kind, MachinePlan, ruleset, wanted
from mastio.state import File, HostState

_ACCOUNTS = tuple(
    f"/etc/{name}{end}"
    for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
    for end in ("", "-")
)
_SYSTEMD, _DEBIANS = "/etc/systemd/system", "/usr/lib/systemd/system"
"""Where the site's own unit files are, and packages'."""
_LINK = re.compile(rf"{_SYSTEMD}/([^/]+\.(?:wants|requires|upholds)/)?([^/]+)")
_INSTANCE = re.compile(r"@.+(?=\.[a-z]+$)")
_FOLLOWS = (
    *_ACCOUNTS,
    "/etc/ld.so.cache", "/etc/alternatives/*", "/etc/rc?.d/*", "/etc/shells", "/etc/mailname", "/etc/aliases*",
    "/etc/ssl/certs/*", "/etc/ca-certificates.conf", "/usr/share/mime/*", "/usr/share/info/dir", "/usr/lib/locale/*",
    "/boot/initrd.img*", "/boot/grub/*", "/boot/efi/*", "/usr/lib/modules/*/modules.*",
    "/usr/share/glib-2.0/schemas/gschemas.compiled", "/usr/lib/udev/hwdb.bin", "/etc/udev/hwdb.bin",
)  # fmt: skip
"""What maintainer scripts and triggers of packages write beside the packages' own files (Debian Policy, 6), whatever
package it is; `_is_of` knows what names its package."""
_WANTED = ("/etc/systemd/system/*.wants/*", "/etc/systemd/user/*.wants/*")
_COMPILED = re.compile(r"(/usr/.*)/__pycache__/([^/.]+)\.cpython-[^/]+\.pyc")

_WRITE = {"update-ca-certificates": ("/etc/ssl/certs/*",)}
"""What commands write that name no one file which they create."""


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package: its version and its files."""

    version: str
    files: Sequence[str]


def of_apply(state: HostState, plan: MachinePlan) -> dict[str, Any]:
    """What the machine is to look like, and what was done to it beside files."""
    paths: dict[str, list[Any]] = {}
    for path, put in wanted(state).items():
        if put["kind"] == "link":
            paths[path] = ["link", put["target"]]
        else:
            paths[path] = [put["kind"], put["mode"]]
    for file in state.files:
        paths[file.path] = ["file", file.mode, file.digest]
    if state.firewall:
        rules = File(PERMANENT_RULES, ruleset(state))
        paths[PERMANENT_RULES] = ["file", None, rules.digest]
    for change in plan.paths:
        if change.kind is Kind.REMOVE:
            paths[change.path] = ["absent"]
    ran = {it.name for it in plan.commands}
    return {
        "paths": paths,
        "made": [it.creates for it in state.commands if it.creates and it.name in ran],
        "wrote": [
            pattern
            for it in state.commands
            if it.name in ran
            for pattern in _WRITE.get(it.argv[0], ())
        ],
        "units": [it.name for it in state.units],
        "masked": [it.name for it in state.units if it.masked],
        "aliases": {alias: it.name for it in state.units for alias in it.aliases},
        "retired": [it.name for it in plan.units if it.verb == "retire"],
        "packages": list(plan.packages),
        "accounts": [it.name for it in plan.users],
    }


def settled(
    order: Mapping[str, Any],
    old: Database,
    new: Database,
    packages: Mapping[str, Package],
    known: Mapping[str, str],
    told: Collection[str] = (),
) -> set[str]:
    """The paths that differ and may. `packages` are those the apply asked for, with what they need, as they are now;
    `known` the versions of all packages when the reference was taken. What was `told` to differ before the apply is not
    taken over for a package's, a unit's or a pattern's sake: somebody else wrote there, and a package leaves
    configuration as it is."""
    differ = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    found = {path for path in differ if _declared(order["paths"].get(path), new.get(path))}
    found |= differ & {*order["made"]}
    untold = differ.difference(told)
    found |= {path for path in untold if _enabled(path, old.get(path), new.get(path), order)}
    patterns = [*order["wrote"], *(_ACCOUNTS if order["accounts"] else ())]
    if order["packages"]:
        fresh = [it for name, it in packages.items() if known.get(name) != it.version]
        files = {_merged(path) for it in fresh for path in it.files}
        found |= untold & files
        patterns += _FOLLOWS if fresh else ()
        found |= {path for path in untold if _is_of(path, new.get(path) or old[path], files)}
    found |= {path for path in untold if any(fnmatchcase(path, it) for it in patterns)}
    return found | {*_parents(found, differ, old, new)}


def _merged(path: str) -> str:
    """A package's path as it stands on a machine where /bin, /sbin and /lib are links to below /usr."""
    return f"/usr{path}" if path.startswith(("/bin/", "/sbin/", "/lib/", "/lib64/")) else path


def _is_of(path: str, row: Row, files: Collection[str]) -> bool:
    """Whether a path is, or was, made of one of a package's `files`: compiled Python, a unit that is wanted."""
    if compiled := _COMPILED.fullmatch(path):
        return f"{compiled[1]}/{compiled[2]}.py" in files
    return any(fnmatchcase(path, it) for it in _WANTED) and _merged(row.target) in files


def _declared(wish: Sequence[Any] | None, row: Row | None) -> bool:
    """Whether a path is as the site file says."""
    if wish is None:
        return False
    kind, *rest = wish
    if row is None or kind == "absent":
        return row is None and kind == "absent"
    if kind != row.kind:
        return False
    if kind == "link":
        return bool(row.target == rest[0])
    if rest[0] is not None and rest[0] != S_IMODE(row.mode):
        return False
    return kind == "directory" or bool(row.digest == rest[1])


def _enabled(path: str, old: Row | None, new: Row | None, order: Mapping[str, Any]) -> bool:
    """The links by which systemctl(1) enables, disables and masks the site's units, in both of its worlds."""
    ours = {*order["units"], *order["retired"]}
    if match := _LINK.fullmatch(path):
        wanted, name = match.groups()
        if new is None:
            return bool(old and old.kind == "link" and ours & {name, _name(old.target)})
        if new.target == "/dev/null":
            return not wanted and name in order["masked"]
        unit = name if wanted else order["aliases"].get(name)
        return unit in order["units"] and _merged(new.target) in _files(unit, order["paths"])
    name = path.rpartition("/")[2][3:]
    stems = {it.partition(".")[0] for it in ours}
    known = new is None or new.target == f"../init.d/{name}"
    return known and fnmatchcase(path, "/etc/rc?.d/[SK]??*") and name in stems


def _name(target: str) -> str:
    return target.rpartition("/")[2]


def _files(unit: str, paths: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Where the file of one of the site's units may be: its package's, or one that the site file makes."""
    file = _INSTANCE.sub("@", unit)
    yield f"{_DEBIANS}/{file}"
    if paths.get(f"{_SYSTEMD}/{file}", ("absent",))[0] == "file":
        yield f"{_SYSTEMD}/{file}"


def _parents(found: set[str], differ: set[str], old: Database, new: Database) -> Iterator[str]:
    """Directories that came or went with what is in them."""
    for path in found:
        parent = path.rpartition("/")[0]
        while parent in differ and (parent in old) != (parent in new):
            there = new.get(parent) or old[parent]
            if there.kind != "directory":
                break
            yield parent
            parent = parent.rpartition("/")[0]


def settled_accounts(order: Mapping[str, Any], old: Sequence[str], new: Sequence[str]) -> set[str]:
    """The new accounts that an apply made, as `probes.state.accounts` words them.

    Packages make accounts that nobody can log in with.
    """
    fresh = {*new} - {*old}
    named = {it for it in fresh if it.split(" ")[0] in order["accounts"] and "(uid 0," not in it}
    system = {it for it in fresh if it.endswith(("/nologin)", "/false)")) and "(uid 0," not in it}
    return named | (system if order["packages"] else set())
