"""The firewall, commit-confirmed: a ruleset stays only if a *new* connection says that it works.

`load` arms a systemd timer that brings the former ruleset back, then loads the new one; `confirm`
disarms it and makes the new one permanent (/etc/nftables.conf, which nftables.service loads at
boot). If nobody confirms, or the machine reboots, or mastio dies, the former ruleset returns.
"""

import hashlib
import json
import subprocess
from typing import Any

from mastio.agent.machine import (
    ENVIRONMENT,
    HOME,
    Failure,
    load_json,
    load_record,
    must,
    put_file,
    remove,
    run,
    save_json,
    save_record,
)  # fmt: skip

PERMANENT = "/etc/nftables.conf"
CANDIDATE = f"{HOME}/candidate.nft"
FORMER = f"{HOME}/former.nft"
PENDING = f"{HOME}/pending.json"
TIMER = "mastio-revert"
TRACKING = """
add table inet mastio_tracking
delete table inet mastio_tracking
table inet mastio_tracking {
    chain both { type filter hook input priority 300; policy accept; ct state new accept; }
}
"""
"""Goes with the first ruleset, which flushes all."""
_NOISE = frozenset(("handle", "packets", "bytes", "expires", "used", "metainfo"))


def ask() -> "subprocess.Popen[bytes] | None":
    """Starts listing the running ruleset; None where there is no nft."""
    try:
        return subprocess.Popen(
            ["nft", "-j", "list", "ruleset"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT,
        )  # fmt: skip
    except FileNotFoundError:
        return None


def digest(listing: "subprocess.Popen[bytes]") -> str:
    """The digest of a listing without what changes by itself: counters, handles, dynamic sets."""
    text = listing.communicate()[0]
    rules = json.loads(text)["nftables"] if text.strip() else []
    still = json.dumps([_still(rule) for rule in rules], sort_keys=True)
    return hashlib.sha256(still.encode()).hexdigest()


def _still(value: Any) -> Any:
    if isinstance(value, list):
        return [_still(item) for item in value]
    if not isinstance(value, dict):
        return value
    flags = value.get("flags", [])
    moving = {"elem"} if isinstance(flags, list) and {"dynamic", "timeout"} & {*flags} else set()
    return {key: _still(item) for key, item in value.items() if key not in _NOISE | moving}


def running() -> str:
    """The digest of the running ruleset, "" where there is no nft."""
    listing = ask()
    return digest(listing) if listing else ""


def check(ruleset: str) -> None:
    """nft's own opinion of a ruleset; nothing is loaded."""
    must("firewall", ["nft", "-c", "-f", "-"], ruleset)


def track() -> None:
    """Has the kernel follow conversations from now on (conntrack), and lets all pass as before.

    One that began while nothing followed it is nonsense to the rules, and would break when they come.
    """
    must("firewall", ["nft", "-f", "-"], TRACKING)


def keep() -> None:
    """Has nftables.service begin with the rules that run, where none are ours yet.

    Started for the first time it would do as Debian's file says: flush all. A firewall machine would cut the ways that
    lead through it, by which others are being built.
    """
    if load_record()["firewall"] or _armed():
        return
    former = must("firewall", ["nft", "-s", "list", "ruleset"])
    if former:
        text = f"#!/usr/sbin/nft -f\nflush ruleset\n{former}\n"
        put_file(PERMANENT, text.encode(), 0o644)


def load(ruleset: str, window: int) -> None:
    """Arms the way back, `window` seconds from now, and loads `ruleset`."""
    if not _armed():
        # Armed means: what runs is an unconfirmed candidate, and FORMER is still the way back.
        former = must("firewall", ["nft", "-s", "list", "ruleset"])
        put_file(FORMER, f"flush ruleset\n{former}\n".encode())
    _disarm()
    record = load_record()
    record["firewall"] = ""
    save_record(record)
    put_file(CANDIDATE, ruleset.encode())
    must(
        "firewall: no way back could be armed",
        ["systemd-run", "--quiet", "--collect", f"--unit={TIMER}", f"--on-active={window}",
         "--timer-property=AccuracySec=100ms", "/usr/sbin/nft", "-f", FORMER],
    )  # fmt: skip
    try:
        must("firewall", ["nft", "-f", CANDIDATE])
    except Failure:
        _disarm()
        raise
    save_json(PENDING, {"running": running()})


def confirm() -> None:
    """Keeps the ruleset that `load` loaded; a Failure if it has gone back already."""
    pending = load_json(PENDING)
    if pending is None:
        raise Failure("no firewall waits for a confirmation")
    _disarm()
    now = running()
    if now != pending["running"]:
        remove(PENDING)
        raise Failure("the confirmation came too late: the former firewall is back")
    with open(CANDIDATE, "rb") as file:
        put_file(PERMANENT, file.read(), 0o644)
    record = load_record()
    record["firewall"] = now
    save_record(record)
    remove(PENDING)


def revert() -> None:
    """Brings the former ruleset back at once, if a candidate is waiting."""
    if _armed():
        run(["nft", "-f", FORMER])
        _disarm()
        remove(PENDING)


def _armed() -> bool:
    return run(["systemctl", "is-active", "--quiet", f"{TIMER}.timer"])[0] == 0


def _disarm() -> None:
    run(["systemctl", "stop", f"{TIMER}.timer", f"{TIMER}.service"])
