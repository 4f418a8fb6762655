"""B: archives are made, only grow, and are young. Making them is watch's work; here is told what came of it."""

import json
import time
from collections.abc import Iterator
from typing import Any

from mastio.errors import MastioError
from mastio.roles.backup import FOLDER, STATUS
from mastio.site.model import Reach, Role
from mastio.verify.model import Check, Family, Severity
from mastio.verify.probes import backups as probes
from mastio.verify.probes import host
from mastio.verify.vantage import Vantage, not_run, unknown


def _status(vantage: Vantage) -> dict[str, dict[str, Any]]:
    try:
        found: dict[str, Any] = json.loads(vantage.ask(host.text, STATUS))
    except MastioError as error:
        if vantage.site.reach is Reach.LAB:
            raise not_run("in the lab nothing is archived by itself: `mastio backup now`") from None
        raise unknown(f"nothing was archived yet: {error.message}") from None
    machines: dict[str, dict[str, Any]] = found["machines"]
    return machines


def untouched(vantage: Vantage) -> Iterator[str]:
    """Nothing lies in a repository but what judged sessions brought."""
    _status(vantage)
    yield from vantage.ask(probes.unjudged, FOLDER)


def monotone(vantage: Vantage) -> Iterator[str]:
    """No session has done more than add, or an administrator has seen to it; and all archives can be read."""
    for machine, it in _status(vantage).items():
        for words in it["refused"]:
            yield f"{machine}: {words}"
        if it["damaged"]:
            yield f"{machine}: {it['damaged']}"


def young(vantage: Vantage) -> Iterator[str]:
    """The newest archive of each machine is young enough."""
    for machine, it in _status(vantage).items():
        if not it["newest"]:
            yield f"{machine} has no archive"
        elif (age := time.time() - it["newest"]) > it["limit"]:
            hours, most = age / 3600, it["limit"] / 3600
            yield f"{machine}: the newest archive is {hours:.1f} hours old, and {most:.1f} are the most"


CHECKS = (
    Check(
        "B1", Family.BACKUP, "Repositories hold what backups brought, and nothing else", (Role.WATCH,),
        Severity.CRITICAL,
        "the segments and settings of each repository on watch, against what watch remembers of judged sessions",
        "the same", "docs/decisions/0035; borg's internals, Segments",
        "`mastio backup now` judges what lies there, and sets aside what deletes or replaces. Find out who was on "
        "watch.", untouched,
    ),
    Check(
        "B3", Family.BACKUP, "Archives only become more", (Role.WATCH,), Severity.CRITICAL,
        "what sessions were refused, and whether archives were damaged when last read",
        "nothing that an administrator has not seen to",
        "docs/decisions/0035; MITRE ATT&CK T1490 (Inhibit System Recovery)",
        "Take the machine as broken into; its older archives are as they were. Then `mastio backup accept MACHINE "
        "--why …`. For damage see to the disk of watch, and `mastio backup verify`.", monotone,
    ),
    Check(
        "B4", Family.BACKUP, "The newest archive is young", (Role.WATCH,), Severity.HIGH,
        "the age of each machine's newest archive",
        "three times `backup.every_minutes` for the store (at least an hour), two days for others",
        "docs/decisions/0035; NIST SP 800-34, 3.4.1",
        "`mastio backup list` says why the last one failed; `mastio backup now MACHINE` tries again. On watch: "
        "`systemctl status 'mastio-backup@*' 'mastio-backup-*.timer'`.", young,
    ),
)  # fmt: skip
