"""systemd's part of an apply: units stopped, masked, enabled, restarted, and found healthy."""

import time

from mastio.agent import observe
from mastio.agent.journal import Journal
from mastio.agent.machine import Failure, must, run
from mastio.agent.wire import Order

JOURNAL_LINES = 15
HOPELESS = 5.0
"""Seconds until a unit is given up that failed for good, or whose start conditions are not met."""
STEADY = 0.4
"""Seconds between two looks at the units; both must find the same healthy processes."""


def retire(units: list[str]) -> None:
    """Stops units that left the site, while their files are still there to say how."""
    for unit in units:
        run(["systemctl", "unmask", "--quiet", "--", unit])
        run(["systemctl", "disable", "--now", "--quiet", "--", unit])


def switch(verbs: dict[str, list[str]]) -> None:
    """Masks, enables and (re)starts, one systemctl for all units of a kind, so that systemd orders
    and parallels their jobs. Raises with the journal of what did not start."""
    if any(verbs.values()):
        run(["systemctl", "daemon-reload"])
    if units := verbs.get("mask"):
        must("mask", ["systemctl", "mask", "--now", "--quiet", "--", *units])
        # How it ended before it was masked no longer counts against the machine.
        run(["systemctl", "reset-failed", "--", *units])
    if units := verbs.get("unmask"):
        must("unmask", ["systemctl", "unmask", "--quiet", "--", *units])
    starting = [unit for verb in ("start", "restart", "reload") for unit in verbs.get(verb, [])]
    facts = observe.unit_facts(starting)
    if missing := [unit for unit, fact in facts.items() if fact["load"] == "not-found"]:
        raise Failure(f"no such unit: {', '.join(missing)} (is a package or a file missing?)")
    if units := verbs.get("enable"):
        must("enable", ["systemctl", "enable", "--quiet", "--", *units])
    for verb, command in (
        ("restart", "restart"), ("start", "start"), ("reload", "reload-or-restart"),
    ):  # fmt: skip
        if units := verbs.get(verb):
            # A unit that failed too often is refused a start (systemd.unit(5), StartLimitBurst=).
            run(["systemctl", "reset-failed", "--", *units])
            code, words = run(["systemctl", command, "--", *units])
            if code:
                raise Failure(_why(words, units))


def _why(words: str, units: list[str]) -> str:
    facts = observe.unit_facts(units)
    ill = [unit for unit, fact in facts.items() if fact["active"] in ("failed", "activating")]
    return "\n".join([words, *(_journal(unit) for unit in ill)])


def _journal(unit: str) -> str:
    _, lines = run(
        ["journalctl", "-q", "-u", unit, "-n", str(JOURNAL_LINES), "--no-pager", "-o", "cat"]
    )
    return f"--- the last words of {unit}\n{lines}"


def healthy(order: Order) -> None:
    """Waits until all units are active, and stay so, and all sockets listen; else a Failure."""
    begin = time.monotonic()
    former: dict[str, str] | None = None
    while True:
        steady, problems, ill, hopeless = _look(order)
        if not problems and former == steady:
            return
        patience = min(HOPELESS, order["health"]) if hopeless else order["health"]
        if time.monotonic() > begin + patience:
            break
        former = None if problems else steady
        time.sleep(STEADY)
    words = problems or ["units keep restarting"]
    raise Failure("\n".join([*words, *(_journal(unit) for unit in ill)]))


def _look(order: Order) -> tuple[dict[str, str], list[str], list[str], bool]:
    """What identifies the units' processes; what is wrong; the units that are ill; and whether any
    of them is beyond hope."""
    units = order["active"] + order["oneshot"]
    steady, problems, ill, hopeless = {}, [], [], False
    for unit, block in zip(units, _show(units), strict=True):
        state = block.get("ActiveState", "")
        steady[unit] = f"{block.get('MainPID')} {block.get('NRestarts')}"
        if state != "active" and (unit in order["active"] or state == "failed"):
            skipped = block.get("ConditionResult") == "no" and state == "inactive"
            reason = ": its start conditions are not met" if skipped else ""
            problems.append(f"{unit} is {state} ({block.get('SubState', '')}){reason}")
            ill.append(unit)
            hopeless = hopeless or skipped or state == "failed"
    for item in observe.silent(order["listeners"]):
        host = f"[{item['address']}]" if ":" in item["address"] else item["address"]
        problems.append(f"nothing listens at {host}:{item['port']}/{item['transport']}")
    return steady, problems, ill, hopeless


def _show(units: list[str]) -> list[dict[str, str]]:
    if not units:
        return []
    wanted = "--property=ActiveState,SubState,MainPID,NRestarts,ConditionResult"
    text = must("systemctl show", ["systemctl", "show", wanted, "--", *units])
    return [
        dict(line.partition("=")[::2] for line in block.splitlines())
        for block in text.split("\n\n")
    ]


def restore(journal: Journal, before: bool) -> list[str]:
    """The way back, in two halves around the files: first (`before`) what was not running stops,
    then what was running starts again. Returns the units that did not come back."""
    lost = []
    facts = observe.unit_facts(list(journal["units"]))
    for unit, former in journal["units"].items():
        now = facts[unit]
        was_active = former["active"] in ("active", "reloading", "activating")
        if before:
            if not was_active and now["active"] != "inactive":
                run(["systemctl", "stop", "--", unit])
            if former["enabled"] in ("disabled", "") and now["enabled"] == "enabled":
                run(["systemctl", "disable", "--quiet", "--", unit])
            if former["enabled"] != "masked" and now["enabled"] == "masked":
                run(["systemctl", "unmask", "--quiet", "--", unit])
        else:
            if former["enabled"] in ("masked", "enabled") and now["enabled"] != former["enabled"]:
                verb = "mask" if former["enabled"] == "masked" else "enable"
                run(["systemctl", verb, "--quiet", "--", unit])
            if was_active:
                run(["systemctl", "reset-failed", "--", unit])
                if run(["systemctl", "restart", "--", unit])[0]:
                    lost.append(unit)
    return lost
