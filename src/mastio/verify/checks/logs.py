"""L: what happens on a machine is known on watch, under its own name, for good, and somebody reads it."""

import json
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from mastio import services
from mastio.context import LOGS, PKI
from mastio.errors import MastioError
from mastio.roles import digest, logbook
from mastio.site.model import Reach, Role
from mastio.verify.model import Check, Family, Place, Severity
from mastio.verify.probes import host, relp
from mastio.verify.vantage import Vantage, not_run, unknown

_PATIENCE = 20.0
"""How long a line may take to watch, in seconds."""
_UNHEARD = 900.0
"""Seconds without a look at the machines' signs, or at what the logs have more: timers do both within five minutes."""
_UNTOLD = 26 * 3600.0
"""Seconds without a digest; there is one each day."""


def _canary() -> str:
    return f"canary {secrets.token_hex(8)} of mastio verify"


def canary(vantage: Vantage) -> Iterator[str]:
    """A line that is logged here arrives on watch, as this machine's."""
    words = _canary()
    vantage.ask(host.log, words)
    for watch in vantage.site.carrying(Role.WATCH):
        folder = f"{LOGS}/{vantage.name}"
        if not vantage.at(watch.name).ask(host.awaited, folder, words, _PATIENCE):
            yield f"a line logged on {vantage.name} is not in {folder} on {watch.name} after {_PATIENCE:g} s"


def own_name(vantage: Vantage) -> Iterator[str]:
    """A line that calls itself another machine's is filed under the name of the key by which it came."""
    site = vantage.site
    if site.machine(vantage.name).has(Role.WATCH):
        raise not_run("watch keeps the logs itself: it needs no name to write them")
    for watch in site.carrying(Role.WATCH):
        seen = vantage.at(watch.name)
        other = next(it.name for it in site.machines if it.name != vantage.name)
        words, now = _canary(), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        line = f"<13>1 {now} {other} mastio-verify - - - {words}"
        door = (site.internal_name(watch.name), services.SYSLOG.port, PKI)
        if not vantage.ask(relp.hand_in, *door, line):
            raise unknown(f"{watch.name} takes no line from {vantage.name}: see L1")
        own = seen.ask(host.awaited, f"{LOGS}/{vantage.name}", words, _PATIENCE)
        if seen.ask(host.awaited, f"{LOGS}/{other}", words, 0.0):
            yield f"{vantage.name} wrote a line into the log of {other} on {watch.name}"
        elif not own:
            raise unknown(f"a line from {vantage.name} is nowhere on {watch.name}: see L1")


def _noted(
    vantage: Vantage, path: str, when: str, what: str, late: float
) -> tuple[dict[str, Any], list[str]]:
    """What watch noted of its own work in `path`, and the fault if it has not been at work for `late` seconds.

    `when`: by what name the note has the time of that work, in seconds since the epoch.
    """
    alone = vantage.site.reach is Reach.LAB
    try:
        note: dict[str, Any] = json.loads(vantage.ask(host.text, path))
    except MastioError as error:
        if not alone:
            why = f"it is not known when anything was {what} (it is some minutes after the first apply)"
            raise unknown(f"{why}: {error.message}") from None
        note = {when: 0.0}
    if (age := time.time() - note[when]) > late and alone:
        raise not_run(f"in the lab nothing is {what} by itself")
    return note, [f"nothing was {what} for {_hours(age)}"] if age > late else []


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours"


def sealed(vantage: Vantage) -> Iterator[str]:
    """What was logged is sealed each hour, and what was sealed is there, each night read again."""
    found: dict[str, str] = {}
    undone: MastioError | None = None
    for what, did, late in (
        ("seal", "sealed", logbook.LATE),
        ("proof", "proven", logbook.UNPROVEN),
    ):
        try:
            note, old = _noted(vantage, f"{logbook.STATE}/{what}-told.json", "at", did, late)
        except MastioError as error:
            undone = undone or error
        else:
            # Both may have found the same: it is told once, in the seal's words.
            found = dict.fromkeys(old, "") | {it: note["wrong"][it] for it in note["still"]} | found
    if undone and not found:
        raise undone
    yield from (f"{name}: {words}" if words else name for name, words in found.items())


def heard(vantage: Vantage) -> Iterator[str]:
    """Somebody listens whether machines are alive, and none is silent or has a wrong clock."""
    note, late = _noted(vantage, f"{logbook.STATE}/life-told.json", "at", "listened to", _UNHEARD)
    # What was over at once is told by an alarm.
    yield from (*late, *(f"{it}: {note['wrong'][it]}" for it in note["still"]))


def read(vantage: Vantage) -> Iterator[str]:
    """The logs are read, and each day's digest is made and sent."""
    note, late = _noted(vantage, f"{digest.FOLDER}/status.json", "read", "read", _UNHEARD)
    yield from (*late, *note["waiting"])
    # In the lab digests are made when somebody asks for them.
    undone = time.time() - (note["made"] or note["began"])
    if undone > _UNTOLD and vantage.site.reach is not Reach.LAB:
        yield f"no digest was made for {_hours(undone)}"


_WRITERS = (Role.FIREWALL, Role.GATEWAY_IN, Role.GATEWAY_OUT, Role.STORE, Role.WEBMAIL)
CHECKS = (
    Check(
        "L1", Family.LOGS, "Logs arrive on watch", (Place.EVERY_MACHINE,), Severity.HIGH,
        "a line logged on the machine (logger), looked for in its folder on watch",
        f"it is there within {_PATIENCE:g} s", "NIST SP 800-92, 4.2; RFC 5424",
        "See `journalctl -u rsyslog` on the machine and on watch; then `mastio plan` for both.", canary, seconds=60,
    ),
    Check(
        "L2", Family.LOGS, "What was logged is sealed, and all there", (Role.WATCH,), Severity.HIGH,
        "what the last hourly seal found of the files that were sealed, and the last night of every octet in them",
        f"nothing cut, removed, added late or edited; a seal within {logbook.LATE / 3600:g} hours, a proof within "
        f"{logbook.UNPROVEN / 3600:g}", "NIST SP 800-92, 5.4",
        "`mastio logs verify` names each place. A file that differs on a disk that is well is a break-in.",
        sealed,
    ),
    Check(
        "L3", Family.LOGS, "No machine writes as another", _WRITERS, Severity.HIGH,
        "a line that calls itself another machine's, handed in with the machine's own key (RELP over TLS)",
        "it is in the folder of the key's owner, not of the name's", "RFC 5425, 5.3; NIST SP 800-92, 5.1",
        "`mastio plan` for watch: /etc/rsyslog.d/ is not as mastio writes it.", own_name, seconds=60,
    ),
    Check(
        "L4", Family.LOGS, "Machines give signs of life, and watch listens", (Role.WATCH,), Severity.HIGH,
        "what watch last heard of each machine's signs of life", "none is silent or has a wrong clock (lines that were "
        f"lost are told by the alarm `logs (life)`); heard within {_UNHEARD / 60:g} minutes", "NIST SP 800-92, 4.2",
        "The alarm `logs (life)` says since when; `systemctl status mastio-logbook@life` on watch.", heard,
    ),
    Check(
        "L5", Family.LOGS, "Logs are read, and digests are sent", (Role.WATCH,), Severity.MEDIUM,
        "when the digest's reader last read, and what became of its mail",
        f"read within {_UNHEARD / 60:g} minutes, a digest each day, none waits to be sent", "NIST SP 800-92, 4.3",
        "On watch: `systemctl status mastio-digest@read mastio-digest@mail`, `journalctl -u mastio-digest@mail`.", read,
    ),
)  # fmt: skip
