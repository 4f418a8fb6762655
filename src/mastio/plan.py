"""What separates a machine from its desired state. Pure.

    request(state)              the agent's question: what to look at
    diff(state, seen)           a `MachinePlan`: for people, and empty when there is nothing to do

`mastio.order` turns a plan into what the agent carries out.
`seen` is the agent's answer (`agent.wire.Seen`). Three properties hold, and are tested: a plan for
a machine that is as desired is empty; carrying out any plan leads to an empty plan; what left the
site (paths in the machine's manifest, units in its record) is removed.

A unit restarts for one of four reasons: a file below its `reads` changes now; its own unit file or
drop-in does; what it last started with is not what it should run with (an apply was killed, or its
set of files changed); or it is not active.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import unified_diff
from enum import StrEnum
from hashlib import sha256
from operator import itemgetter

from mastio.agent.wire import Listen, Look, Node, Put, Record, Seen, UnitFact
from mastio.state import Command, Directory, File, HostState, Link, Unit

PERMANENT_RULES = "/etc/nftables.conf"
"""Where the agent keeps the confirmed ruleset; nftables.service loads it at boot."""
SYSTEM_UNITS = "/etc/systemd/system"
_LONGEST = 2000
"""Characters of a line that are worth showing."""
MASKED = "masked"
"""In the record, instead of a digest: the unit is held back by mastio."""
NOT_STARTED = ("disabled", "masked", "masked-runtime", "enabled-runtime", "linked", "bad")
"""UnitFileState values of a unit that does not start at boot; see systemctl(1), is-enabled."""


class Kind(StrEnum):
    """What happens to a path."""

    CREATE = "create"
    CHANGE = "change"
    REMOVE = "remove"


class Verb(StrEnum):
    """What happens to a unit, by systemctl(1)'s verb; `retire` is disable --now."""

    RETIRE = "retire"
    MASK = "mask"
    UNMASK = "unmask"
    ENABLE = "enable"
    RESTART = "restart"
    RELOAD = "reload"
    START = "start"


@dataclass(frozen=True, slots=True)
class PathChange:
    """A path that will be created, changed or removed."""

    path: str
    kind: Kind
    what: str
    """file, directory or link."""
    diff: str = field(default="", repr=False)
    """A unified diff of the content; never of a secret's."""
    notes: tuple[str, ...] = ()
    drift: bool = False
    """Somebody else changed it since mastio put it there."""


@dataclass(frozen=True, slots=True)
class Action:
    """Something done to a unit, user or command, and why."""

    verb: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """All that an apply would do to one machine."""

    packages: tuple[str, ...] = ()
    users: tuple[Action, ...] = ()
    paths: tuple[PathChange, ...] = ()
    checks: tuple[str, ...] = ()
    commands: tuple[Action, ...] = ()
    units: tuple[Action, ...] = ()
    firewall: PathChange | None = None
    finish: str = ""
    """Why an apply is needed although nothing above is: an interrupted one, or a stale record."""
    silent: tuple[Listen, ...] = ()
    """Sockets that should listen and do not. A symptom, not a difference: it changes nothing."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        done = (self.packages, self.users, self.paths, self.commands, self.units, self.finish)
        return not any(done) and self.firewall is None


def wanted(state: HostState) -> dict[str, Put]:
    """The paths of a state as they shall be: directories first, parents before children."""
    others = [*map(_put, state.files), *map(_put, state.links)]
    puts = sorted((_put(item) for item in state.directories), key=itemgetter("path"))
    puts += sorted(others, key=itemgetter("path"))
    return {put["path"]: put for put in puts}


def _put(item: File | Directory | Link) -> Put:
    put = absent(item.path)
    if isinstance(item, Link):
        put["kind"], put["target"] = "link", item.target
        return put
    put["owner"], put["group"], put["mode"] = item.owner, item.group, item.mode
    if isinstance(item, Directory):
        put["kind"] = "directory"
    else:
        put["kind"], put["content"], put["secret"] = "file", item.content, item.secret
    return put


def absent(path: str) -> Put:
    """The order to remove `path`."""
    return Put(
        path=path, kind="absent", owner="", group="", mode=0, content="", target="", secret=False
    )


def request(state: HostState) -> Look:
    """What the agent has to look at for `diff` to tell."""
    paths = dict.fromkeys((*state.removed, *(job.creates for job in state.commands)), "")
    for put in wanted(state).values():
        secret = "secret" if put["secret"] else _digest(put["content"])
        paths[put["path"]] = secret if put["kind"] == "file" else ""
    paths.pop("", None)
    if state.firewall:
        paths[PERMANENT_RULES] = _digest(ruleset(state))
    return Look(
        op="observe",
        paths=paths,
        packages=list(state.packages),
        users=[user.name for user in state.users],
        units=[unit.name for unit in state.units],
        listeners=listeners(state),
        firewall=bool(state.firewall),
    )


def ruleset(state: HostState) -> str:
    """The firewall as it is loaded: nft(8) takes a file as one transaction, so nothing of the former
    rules stays and there is no moment without rules."""
    text = state.firewall
    return text if not text or "flush ruleset" in text else f"flush ruleset\n{text}"


def diff(state: HostState, seen: Seen) -> MachinePlan:
    """What separates the machine that was `seen` from `state`."""
    puts = wanted(state)
    paths = tuple(_path_changes(state, puts, seen))
    touched = frozenset(change.path for change in paths)
    plan = MachinePlan(
        packages=tuple(name for name in state.packages if name not in seen["packages"]),
        users=tuple(_user_changes(state, seen)),
        paths=paths,
        checks=tuple(check.name for check in state.checks if _below(touched, check.reads)),
        commands=tuple(_command_changes(state, puts, seen, touched)),
        units=tuple(_unit_changes(state, puts, seen, touched)),
        firewall=_firewall_change(state, seen),
        finish="the last apply was interrupted" if seen["unfinished"] else "",
        silent=tuple(seen["silent"]),
    )
    if plan.empty and seen["record"]["manifest"] != manifest(puts):
        return replace(plan, finish="the machine's record of what mastio put there is behind")
    return plan


def _path_changes(state: HostState, puts: Mapping[str, Put], seen: Seen) -> Iterable[PathChange]:
    manifest = {} if seen["unfinished"] else seen["record"]["manifest"]
    kept = {it.path for it in state.files if it.beside and _is_kept(it, puts, seen)}
    for path, put in puts.items():
        node = seen["nodes"][path]
        if path not in kept and fingerprint(put) != _seen_fingerprint(node):
            kind = Kind.CREATE if node["kind"] == "absent" else Kind.CHANGE
            drift = manifest.get(path, _seen_fingerprint(node)) != _seen_fingerprint(node)
            yield PathChange(
                path, kind, put["kind"], _content_diff(put, node), tuple(_notes(put, node)), drift
            )
    gone = {*state.removed, *seen["record"]["manifest"]} - puts.keys()
    for path in sorted(gone, reverse=True):
        node = seen["nodes"][path]
        if node["kind"] != "absent":
            why = "must not be here" if path in state.removed else "left the site"
            if node["kind"] == "directory":
                why += "; it stays while anything else is in it"
            yield PathChange(path, Kind.REMOVE, node["kind"], notes=(why,))


def _is_kept(file: File, puts: Mapping[str, Put], seen: Seen) -> bool:
    """Whether something else keeps the file: it is there, as mastio left it but for its content."""
    node, wanted_ = seen["nodes"][file.path], puts[file.path]
    same = all(node[key] == wanted_[key] for key in ("kind", "owner", "group", "mode"))
    return same and fingerprint(puts[file.beside]) == _seen_fingerprint(seen["nodes"][file.beside])


def fingerprint(put: Put) -> str:
    """What identifies a path as it shall be, content and metadata, in one digest."""
    content = _digest(put["content"]) if put["kind"] == "file" else ""
    mode = 0 if put["kind"] == "link" else put["mode"]
    return _digest(put["kind"], put["owner"], put["group"], mode, content, put["target"])


def _seen_fingerprint(node: Node) -> str:
    # A link's own owner and mode mean nothing (symlink(7)).
    link = node["kind"] == "link"
    owner, group, mode = ("", "", 0) if link else (node["owner"], node["group"], node["mode"])
    return _digest(node["kind"], owner, group, mode, node["digest"], node["target"])


def _content_diff(put: Put, node: Node) -> str:
    if put["kind"] != "file" or put["secret"] or node["digest"] == _digest(put["content"]):
        return ""
    before = (node["content"] or "").splitlines(keepends=True)
    after = put["content"].splitlines(keepends=True)
    return _unified(before, after, put["path"])


def _unified(before: list[str], after: list[str], path: str) -> str:
    before, after = ([_shown(line) for line in lines] for lines in (before, after))
    lines = unified_diff(before, after, f"a{path}", f"b{path}")
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _shown(line: str) -> str:
    """A line as a person reads it; packed data is told apart by its digest."""
    if len(line) <= _LONGEST:
        return line
    return f"({len(line)} characters, SHA-256 {_digest(line)[:16]}…)\n"


def _notes(put: Put, node: Node) -> Iterable[str]:
    if node["kind"] not in ("absent", put["kind"]):
        yield f"{node['kind']} becomes {put['kind']}"
    if put["kind"] == "link":
        yield f"-> {put['target']}" + (f" (was {node['target']})" if node["target"] else "")
        return
    if put["kind"] == "file" and node["digest"] != _digest(put["content"]):
        if put["secret"]:
            yield "secret content" if node["kind"] == "absent" else "secret content differs"
        elif node["kind"] == "file" and node["content"] is None:
            yield "the content there is binary or too large to show"
    if node["kind"] in ("absent", "link"):
        yield f"{put['owner']}:{put['group']} {put['mode']:04o}"
        return
    if (node["owner"], node["group"]) != (put["owner"], put["group"]):
        yield f"owner {node['owner']}:{node['group']} -> {put['owner']}:{put['group']}"
    if node["mode"] != put["mode"]:
        yield f"mode {node['mode']:04o} -> {put['mode']:04o}"


def _user_changes(state: HostState, seen: Seen) -> Iterable[Action]:
    for user in state.users:
        groups = seen["users"].get(user.name)
        if groups is None:
            yield Action("create", user.name, "missing")
        elif missing := [group for group in user.groups if group not in groups]:
            yield Action("join", user.name, f"not in {', '.join(missing)}")


def _command_changes(
    state: HostState, puts: Mapping[str, Put], seen: Seen, touched: frozenset[str]
) -> Iterable[Action]:
    for command in state.commands:
        if changed := _below(touched, command.reads):
            yield Action("run", command.name, _changed(changed))
        elif command.creates and seen["nodes"][command.creates]["kind"] == "absent":
            yield Action("run", command.name, f"{command.creates} is missing")
        elif seen["record"]["commands"].get(command.name) != command_digest(command, puts):
            yield Action("run", command.name, "it has not run with what is there now")


def command_digest(command: Command, puts: Mapping[str, Put]) -> str:
    """What identifies a run of `command`: its words and what it reads."""
    return _digest(command.argv, _reading(puts, command.reads))


def unit_digest(unit: Unit, puts: Mapping[str, Put]) -> str:
    """What identifies what `unit` starts with: its files, and those that define it."""
    if unit.masked:
        return MASKED
    return _digest(unit.name, _reading(puts, (*unit.reads, *_definition(unit.name))))


def _reading(puts: Mapping[str, Put], reads: tuple[str, ...]) -> list[str]:
    return [path + fingerprint(puts[path]) for path in _below(frozenset(puts), reads)]


def _definition(name: str) -> tuple[str, ...]:
    """The paths that define a unit: its file, its drop-ins, and its template's."""
    stem, _, kind = name.rpartition(".")
    names = {name, f"{stem.partition('@')[0]}@.{kind}"} if "@" in stem else {name}
    return tuple(f"{SYSTEM_UNITS}/{each}{end}" for each in sorted(names) for end in ("", ".d"))


def _unit_changes(
    state: HostState, puts: Mapping[str, Put], seen: Seen, touched: frozenset[str]
) -> Iterable[Action]:
    for name in sorted(seen["record"]["units"].keys() - {unit.name for unit in state.units}):
        yield Action(Verb.RETIRE, name, "left the site")
    for unit in state.units:
        fact = seen["units"][unit.name]
        if unit.masked:
            if fact["enabled"] != "masked" or fact["active"] == "active":
                yield Action(Verb.MASK, unit.name, f"is {fact['enabled'] or fact['load']}")
            continue
        if fact["enabled"] in ("masked", "masked-runtime"):
            yield Action(Verb.UNMASK, unit.name, "is masked")
        if fact["enabled"] in NOT_STARTED or fact["load"] == "not-found":
            yield Action(Verb.ENABLE, unit.name, f"is {fact['enabled'] or 'new'}")
        if verb := _start(unit, fact, seen["record"], puts, touched):
            yield verb


def _start(
    unit: Unit, fact: UnitFact, record: Record, puts: Mapping[str, Put], touched: frozenset[str]
) -> Action | None:
    if changed := _below(touched, _definition(unit.name)):
        # A reload does not read a unit's own definition again.
        return Action(Verb.RESTART, unit.name, _changed(changed))
    if changed := _below(touched, unit.reads):
        verb = Verb.RELOAD if unit.reload else Verb.RESTART
        return Action(verb, unit.name, _changed(changed))
    recorded = record["units"].get(unit.name)
    if recorded is None:
        return Action(Verb.RESTART, unit.name, "has not started with what is there now")
    if recorded != unit_digest(unit, puts):
        return Action(Verb.RESTART, unit.name, "reads other files than when it started")
    if not unit.oneshot and fact["active"] not in ("active", "reloading"):
        return Action(Verb.START, unit.name, f"is {fact['active']}")
    return None


def _firewall_change(state: HostState, seen: Seen) -> PathChange | None:
    if not state.firewall:
        return None
    node, rules = seen["nodes"][PERMANENT_RULES], ruleset(state)
    if node["digest"] != _digest(rules):
        before = (node["content"] or "").splitlines(keepends=True)
        text = _unified(before, rules.splitlines(keepends=True), PERMANENT_RULES)
        return PathChange(PERMANENT_RULES, Kind.CHANGE, "firewall", text)
    if seen["record"]["firewall"] != seen["running"]:
        note = "the running rules are not the confirmed ones"
        return PathChange(PERMANENT_RULES, Kind.CHANGE, "firewall", notes=(note,), drift=True)
    return None


def manifest(puts: Mapping[str, Put]) -> dict[str, str]:
    """What the machine's record says of these paths once they are in place."""
    return {path: fingerprint(put) for path, put in puts.items()}


def listeners(state: HostState) -> list[Listen]:
    """The sockets that should listen, as the agent reads them."""
    return [
        Listen(address=str(item.address), port=item.port, transport=item.transport)
        for item in state.listeners
    ]


def _below(paths: Iterable[str], prefixes: tuple[str, ...]) -> list[str]:
    """The paths that begin with one of `prefixes`; `/etc/x/` is the folder too, `/etc/x` also /etc/x.d/y."""
    return sorted(path for path in paths if f"{path}/" in prefixes or path.startswith(prefixes))


def _changed(paths: list[str]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{more} changed"


def _digest(*parts: object) -> str:
    text = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else json.dumps(parts)
    return sha256(text.encode()).hexdigest()
