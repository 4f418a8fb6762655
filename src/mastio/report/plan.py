"""A plan as text and as JSON.

    web · 3 changes
      + file      /etc/nginx/conf.d/webmail.conf   root:root 0644
          …a unified diff…
      ↻ restart   nginx.service — /etc/nginx/conf.d/webmail.conf changed

`lines` yields the text with a style for each line; who prints them decides what a style looks like.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum

from mastio.errors import MastioError
from mastio.plan import Kind, MachinePlan, PathChange, Verb


class Style(StrEnum):
    """What a line is."""

    PLAIN = "plain"
    TITLE = "title"
    ADD = "add"
    REMOVE = "remove"
    CHANGE = "change"
    FAINT = "faint"
    WARN = "warn"


Line = tuple[Style, str]

_KINDS = {
    Kind.CREATE: (Style.ADD, "+"),
    Kind.CHANGE: (Style.CHANGE, "~"),
    Kind.REMOVE: (Style.REMOVE, "-"),
}
_SIGNS = {
    Verb.RETIRE: (Style.REMOVE, "-"),
    Verb.MASK: (Style.REMOVE, "-"),
    Verb.UNMASK: (Style.ADD, "+"),
    Verb.ENABLE: (Style.ADD, "+"),
}


def count(plan: MachinePlan) -> int:
    """How many changes a plan has."""
    groups = (plan.packages, plan.users, plan.paths, plan.commands, plan.units)
    return sum(map(len, groups)) + bool(plan.firewall) + bool(plan.finish)


def summary(plans: Mapping[str, MachinePlan]) -> str:
    """One line for all machines."""
    changed = {machine: count(plan) for machine, plan in plans.items() if not plan.empty}
    if not changed:
        return f"Nothing to do on {_number(len(plans), 'machine')}."
    total = _number(sum(changed.values()), "change")
    return f"{total} on {len(changed)} of {_number(len(plans), 'machine')}."


def lines(machine: str, plan: MachinePlan, *, diffs: bool = True) -> Iterator[Line]:
    """The plan of one machine; nothing for an empty plan with nothing to say."""
    if plan.empty and not plan.silent:
        return
    yield Style.TITLE, f"{machine} · {_number(count(plan), 'change')}"
    for name in plan.packages:
        yield Style.ADD, _row("+", "package", name)
    for action in plan.users:
        yield Style.ADD, _row("+", "user", action.name, action.reason)
    for change in plan.paths:
        yield from _path(change, diffs)
    for action in plan.commands:
        yield Style.CHANGE, _row("↻", "run", action.name, action.reason)
    for action in plan.units:
        style, sign = _SIGNS.get(Verb(action.verb), (Style.CHANGE, "↻"))
        yield style, _row(sign, action.verb, action.name, action.reason)
    if plan.firewall:
        yield from _path(plan.firewall, diffs)
    if plan.finish:
        yield Style.CHANGE, _row("↻", "finish", plan.finish)
    for item in plan.silent:
        host = f"[{item['address']}]" if ":" in item["address"] else item["address"]
        yield (
            Style.WARN,
            _row("!", "silent", f"{host}:{item['port']}/{item['transport']}", "nothing listens"),
        )


def _path(change: PathChange, diffs: bool) -> Iterator[Line]:
    style, sign = _KINDS[change.kind]
    yield style, _row(sign, change.what, change.path, "; ".join(change.notes))
    if change.drift:
        yield Style.WARN, f"{'':14}changed on the machine since mastio put it there"
    if diffs:
        for text in change.diff.splitlines():
            if text.startswith(("--- ", "+++ ")):
                continue
            style = {"+": Style.ADD, "-": Style.REMOVE, "@": Style.FAINT}.get(text[:1], Style.PLAIN)
            yield style, f"      {text}"


def _row(sign: str, what: str, name: str, why: str = "") -> str:
    return f"  {sign} {what:9} {name}" + (f" — {why}" if why else "")


def _number(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def data(plan: MachinePlan | MastioError) -> dict[str, object]:
    """The plan of one machine as JSON-able data; secrets are not in it, as they are not in a plan."""
    if isinstance(plan, MastioError):
        return {"error": plan.message, "hint": plan.hint}
    return {
        "changes": count(plan),
        "packages": list(plan.packages),
        "users": [_action(action) for action in plan.users],
        "paths": [_path_data(change) for change in plan.paths],
        "checks": list(plan.checks),
        "commands": [_action(action) for action in plan.commands],
        "units": [_action(action) for action in plan.units],
        "firewall": _path_data(plan.firewall) if plan.firewall else None,
        "finish": plan.finish,
        "silent": list(plan.silent),
    }


def _action(action: object) -> dict[str, str]:
    return {key: str(getattr(action, key)) for key in ("verb", "name", "reason")}


def _path_data(change: PathChange) -> dict[str, object]:
    return {
        "path": change.path,
        "kind": str(change.kind),
        "what": change.what,
        "diff": change.diff,
        "notes": list(change.notes),
        "drift": change.drift,
    }
