"""L: what happens on a machine is known on watch."""

import secrets
from collections.abc import Iterator

from mastio.context import LOGS
from mastio.site.model import Role
from mastio.verify.model import Check, Family, Place, Severity
from mastio.verify.probes import host
from mastio.verify.vantage import Vantage

_PATIENCE = 20.0
"""How long a line may take to watch, in seconds."""


def canary(vantage: Vantage) -> Iterator[str]:
    """A line that is logged here arrives on watch, as this machine's."""
    words = f"canary {secrets.token_hex(8)} of mastio verify"
    vantage.ask(host.log, words)
    for watch in vantage.site.carrying(Role.WATCH):
        folder = f"{LOGS}/{vantage.name}"
        if not vantage.at(watch.name).ask(host.awaited, folder, words, _PATIENCE):
            yield f"a line logged on {vantage.name} is not in {folder} on {watch.name} after {_PATIENCE:g} s"


CHECKS = (
    Check(
        "L1", Family.LOGS, "Logs arrive on watch", (Place.EVERY_MACHINE,), Severity.HIGH,
        "a line logged on the machine (logger), looked for in its folder on watch",
        f"it is there within {_PATIENCE:g} s", "NIST SP 800-92, 4.2; RFC 5424",
        "See `journalctl -u rsyslog` on the machine and on watch; then `mastio plan` for both.", canary, seconds=60,
    ),
)  # fmt: skip
