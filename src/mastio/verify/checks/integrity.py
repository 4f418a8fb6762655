"""I: machines are what they were, somebody looks whether they are, and what is compared with is untouched.

Measuring is watch's work, by itself each hour; here is told what came of it, so that a verification that is green
says this too.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

from mastio.errors import MastioError
from mastio.roles.integrity import FOLDER, LATE
from mastio.site.model import Reach, Role
from mastio.verify.model import Check, Family, Severity
from mastio.verify.probes import host
from mastio.verify.vantage import Vantage, not_run, unknown


def _status(vantage: Vantage) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(vantage.ask(host.text, f"{FOLDER}/status.json"))
    except MastioError as error:
        if vantage.site.reach is Reach.LAB:
            raise not_run(
                "in the lab nothing measures by itself: `mastio integrity begin`"
            ) from None
        raise unknown(f"nothing was measured yet: {error.message}") from None
    return found


def clean(vantage: Vantage) -> Iterator[str]:
    """Every machine is as its reference has it."""
    unmeasured = []
    for machine, last in _status(vantage)["machines"].items():
        if last is None:
            unmeasured.append(machine)
        elif last["differences"]:
            yield f"{machine}: {last['differences']} differences that nobody accepted"
        elif last["verdict"] != "clean":
            unmeasured.append(f"{machine} ({last['why']})")
    if unmeasured:
        raise unknown(f"not measured: {', '.join(unmeasured)}")


def untouched(vantage: Vantage) -> Iterator[str]:
    """References and tools on watch are as they were left, and machines take them."""
    status = _status(vantage)
    for path in status["broken"]:
        yield f"{vantage.name}: {FOLDER}/{path} was edited"
    for machine, last in status["machines"].items():
        if last and last["tampered"]:
            yield f"{machine}: {last['why']}"


def alive(vantage: Vantage) -> Iterator[str]:
    """Every machine was measured a short while ago."""
    status = _status(vantage)
    for machine in (it.name for it in vantage.site.machines):
        last = status["machines"].get(machine)
        if not last or not last["measured"]:
            yield f"{machine} was never measured"
        elif (age := time.time() - last["measured"]) > LATE:
            yield f"{machine} was measured {age / 3600:.0f} hours ago"


_TELLS = "`mastio integrity status` on the administrator's machine tells more."

CHECKS = (
    Check(
        "I1", Family.INTEGRITY, "Machines are as their references have them", (Role.WATCH,), Severity.CRITICAL,
        "what the last measurement of each machine found: content, mode, owner, SUID, keys, units, listeners, "
        "deleted programs", "no difference that nobody accepted",
        "docs/decisions/0027; NIST SP 800-53, SI-7", "`mastio integrity check` names each; what is right is taken over "
        "by `mastio integrity accept MACHINE PATH --why …`. What nobody can explain is a break-in.", clean,
    ),
    Check(
        "I2", Family.INTEGRITY, "What machines are compared with is untouched", (Role.WATCH,), Severity.CRITICAL,
        "references and tools on watch against their seal; whether machines take tools and configuration",
        "all as apply and accept left it", "docs/decisions/0027; AIDE signs nothing since 0.17",
        f"Find out who was on watch. {_TELLS} Then `mastio integrity renew MACHINE --why …`.", untouched,
    ),
    Check(
        "I3", Family.INTEGRITY, "Somebody measures", (Role.WATCH,), Severity.HIGH,
        "when each machine was last measured", f"at most {LATE / 3600:.0f} hours ago", "docs/decisions/0027",
        "On watch: `systemctl status mastio-integrity@check.service mastio-integrity-check.timer`.", alive,
    ),
)  # fmt: skip
