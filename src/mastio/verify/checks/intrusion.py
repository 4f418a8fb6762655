"""I: intrusion detection sees what it is there for."""

from collections.abc import Iterator

from mastio import intrusion, services
from mastio.context import LOGS
from mastio.flows import INTERNET
from mastio.roles.ids import RULES, RUN
from mastio.site.model import Role
from mastio.verify.doors import doors
from mastio.verify.model import Check, Family, Place, Severity
from mastio.verify.probes import host
from mastio.verify.probes import intrusion as probes
from mastio.verify.vantage import Vantage, not_run

_PATIENCE = 10.0
"""How long an alert may take to watch, in seconds."""
_WORDS = "SSH-2.0-mastio-verify-{}\r\n"
_TIMES = 3
"""How often it is said: Suricata may lose packets while the machine is busy, and nothing else does."""


def sees(vantage: Vantage) -> Iterator[str]:
    """On the firewall: it runs, with the rules of the flow matrix. From outside: what is not as declared is told."""
    if vantage.matrix.firewall is None:
        raise not_run("there is no perimeter firewall to listen on")
    if not intrusion.watched(vantage.matrix):
        raise not_run("intrusion detection is switched off (ids.enabled)")
    yield from _told(vantage) if vantage.is_outside else _runs(vantage)


def _runs(vantage: Vantage) -> Iterator[str]:
    wanted = len(intrusion.segments(vantage.matrix))
    found = vantage.ask(probes.listening, f"{RUN}/suricata.pid")
    if not found:
        yield f"Suricata does not run on {vantage.name}"
    elif found < wanted:
        yield f"Suricata listens on {found} of {wanted} segments"
    if not vantage.ask(host.exists, [RULES]):
        yield f"{RULES} is not there"
    elif vantage.ask(host.text, RULES) != intrusion.rules(vantage.matrix):
        yield f"{RULES} is not what the flow matrix says"


def _told(vantage: Vantage) -> Iterator[str]:
    firewall = vantage.matrix.firewall
    flows = [
        it
        for it in vantage.matrix.published
        if (it.source, it.service) == (INTERNET, services.HTTP)
    ]
    for door in doors(vantage.matrix, vantage.name, services.HTTP)[:1]:
        words = intrusion.message(next(it for it in flows if it.target == door.target))
        for watch in vantage.site.carrying(Role.WATCH):
            folder = f"{LOGS}/{firewall.name if firewall else ''}"
            there = vantage.at(watch.name)
            since = there.ask(probes.ends, folder)
            for time in range(_TIMES):
                said = _WORDS.format(time)
                vantage.ask(probes.say, str(door.address), door.port, said, 10.0)
                if there.ask(probes.heard, folder, since, words, _PATIENCE + time):
                    break
            else:
                yield f"{door.words} was spoken SSH to, and no alert came to {watch.name}"


CHECKS = (
    Check(
        "I4", Family.INTEGRITY, "Intrusion detection sees", (Role.FIREWALL, Place.OUTSIDE), Severity.HIGH,
        "on the firewall, whether Suricata listens on every segment with the rules of the flow matrix; from outside, "
        "SSH is spoken to the webmail's port for HTTP",
        f"it does, and the alert is on watch within {_PATIENCE:g} s", "docs/decisions/0033; NIST SP 800-94",
        "On the firewall: `systemctl status suricata`, `journalctl -u suricata`; then `mastio plan`, `mastio apply`.",
        sees, seconds=60,
    ),
)  # fmt: skip
