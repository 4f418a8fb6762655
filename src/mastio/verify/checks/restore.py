"""B: what is archived can be restored. Drills are watch's work, by themselves; here is told what came of them."""

import json
import time
from collections.abc import Iterator

from mastio.errors import MastioError
from mastio.roles.restore import VERDICT
from mastio.site.model import Reach, Role
from mastio.verify.model import Check, Family, Severity
from mastio.verify.probes import host
from mastio.verify.vantage import Vantage, not_run, unknown

_DAY = 86_400.0


def drilled(vantage: Vantage) -> Iterator[str]:
    """The last drill was good, and not long ago."""
    try:
        found = json.loads(vantage.ask(host.text, VERDICT))
    except MastioError as error:
        if vantage.site.reach is Reach.LAB:
            raise not_run("in the lab no drill runs by itself: `mastio drill restore`") from None
        raise unknown(f"no drill was run yet: {error.message}") from None
    if not found["good"]:
        yield f"the last drill could not restore what was archived: {found['wrong']} findings"
    age = time.time() - found["last_good"]
    if not found["last_good"]:
        yield "no drill was ever good"
    elif age > vantage.site.drill.overdue * _DAY:
        yield f"the last good drill was {age / _DAY:.0f} days ago"


CHECKS = (
    Check(
        "B2", Family.BACKUP, "What is archived can be restored", (Role.WATCH,), Severity.CRITICAL,
        "what the last drill found: the newest archive in a store of its own, log-in over IMAP, counts and digests",
        "the last drill was good, and at most `drill.overdue` days ago", "docs/decisions/0036; NIST SP 800-34, 3.4.1",
        "`mastio drill status` names what is wrong; `mastio drill restore` tries again.", drilled,
    ),
)  # fmt: skip
