"""A machine that exists only as what the agent would see: `carry_out` does to it what apply does.

`blank(state)` is a fresh Debian as seen with the questions of `state`; `carry_out(seen, work)` is
that machine after an order. Commands make the file that they create.
"""

from hashlib import sha256

from mastio.agent.wire import Node, Order, Record, Seen, UnitFact
from mastio.order import order
from mastio.plan import PERMANENT_RULES, Verb, diff, request
from mastio.state import HostState

ABSENT = Node(kind="absent", mode=0, owner="", group="", digest="", target="", content=None)


def blank() -> Seen:
    """A machine that mastio has never touched."""
    record = Record(generation=0, manifest={}, secrets=[], units={}, commands={}, firewall="")
    return Seen(
        nodes={}, packages=[], users={}, units={}, record=record, running="", silent=[],
        unfinished=False,
    )  # fmt: skip


def asked(seen: Seen, state: HostState) -> Seen:
    """The machine's answer to the questions of `state`."""
    look = request(state)
    nodes = {
        path: seen["nodes"].get(path, ABSENT)
        for path in (*look["paths"], *seen["record"]["manifest"], *seen["nodes"])
    }
    new = UnitFact(load="loaded", active="inactive", enabled="disabled")
    units = {
        name: seen["units"].get(name, new)
        for name in (*look["units"], *seen["record"]["units"], *seen["units"])
    }
    return {**seen, "nodes": nodes, "units": units}


def carry_out(seen: Seen, work: Order, state: HostState) -> Seen:
    """The machine after `work`, which was made for `state`."""
    nodes, units = dict(seen["nodes"]), dict(seen["units"])
    for put in work["puts"]:
        digest = sha256(put["content"].encode()).hexdigest() if put["kind"] == "file" else ""
        content = None if put["secret"] else put["content"]
        nodes[put["path"]] = (
            ABSENT
            if put["kind"] == "absent"
            else Node(
                kind=put["kind"], mode=put["mode"], owner=put["owner"], group=put["group"],
                digest=digest, target=put["target"], content=content,
            )
        )  # fmt: skip
    for job in state.commands:
        if job.creates and job.name in [due["name"] for due in work["commands"]]:
            nodes[job.creates] = {**ABSENT, "kind": "file"}
    for verb in Verb:  # the agent's order, whatever the plan's
        for name in work["verbs"].get(verb, []):
            units[name] = _after(verb, units[name])
    if work["firewall"]:
        digest = sha256(work["firewall"].encode()).hexdigest()
        nodes[PERMANENT_RULES] = {**ABSENT, "kind": "file", "digest": digest}
    running = sha256(work["firewall"].encode()).hexdigest() if work["firewall"] else seen["running"]
    return Seen(
        nodes=nodes,
        packages=[*seen["packages"], *work["packages"]],
        users={**seen["users"], **{user["name"]: user["groups"] for user in work["users"]}},
        units=units,
        record={
            **work["record"],
            "generation": seen["record"]["generation"] + 1,
            "firewall": running,
        },
        running=running,
        silent=[],
        unfinished=False,
    )


def _after(verb: str, fact: UnitFact) -> UnitFact:
    match verb:
        case "mask":
            return UnitFact(load="masked", active="inactive", enabled="masked")
        case "unmask":
            return {**fact, "load": "loaded", "enabled": "disabled"}
        case "enable":
            return {**fact, "enabled": "enabled"}
        case "retire":
            return {**fact, "active": "inactive", "enabled": "disabled"}
    return {**fact, "active": "active"}


def settled(state: HostState, seen: Seen | None = None) -> Seen:
    """A machine (a blank one, or `seen`) after an apply of `state`."""
    before = asked(seen or blank(), state)
    return asked(carry_out(before, order(state, before, diff(state, before)), state), state)
