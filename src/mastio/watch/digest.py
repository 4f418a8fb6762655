"""The digest, on watch: `python3 -m mastio.watch.digest read|mail|DAY`.

`read` puts what the logs have more into summaries; it runs every few minutes, and reads nothing twice. `mail`
makes yesterday's digest of them (DAY: that day's), keeps it (`days/<day>.html`, `.txt`, `.json`) and sends it to
whom alarms go to, straight into the store as they do; what cannot be sent waits, and goes with a later run.
"""

import fcntl
import json
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from smtplib import SMTPException
from typing import Any

from mastio.context import LOGS
from mastio.digest import ahead, keeping, standing
from mastio.digest.judge import Digest, Verified, needs
from mastio.digest.keeping import Keeping
from mastio.digest.need import Level
from mastio.digest.origins import Origins
from mastio.digest.summary import Summary
from mastio.errors import Exit, MastioError
from mastio.files import put
from mastio.report import digest as report
from mastio.roles.digest import FOLDER
from mastio.roles.inspection import FOLDER as VERIFY
from mastio.roles.inspection import SETTINGS, SITE
from mastio.site import plain
from mastio.site.model import Role, Site
from mastio.verify import history, scheduled
from mastio.verify.model import Verdict
from mastio.verify.scheduled import LATE, LOOKING
from mastio.watch import alarm, book
from mastio.watch.settings import Settings, load

_KEPT = 100
_SLACK = 15.0
"""Seconds until what a scan stirred up has arrived."""
_LONGEST = 3 * 3600.0
"""A verification that takes longer was killed."""
_REREAD = 2 * 86_400.0
"""For so long lines may wait to be read."""


def verified(reports: Mapping[str, Mapping[str, Any]], now: float) -> tuple[Verified, ...]:
    """What verification last said, from the reports that it keeps by the name of their set."""
    found = []
    for name in LATE:
        one = scheduled.judged(name, reports.get(name), now)
        if one.report is None:
            found.append(Verified(name, str(Verdict.NOT_RUN), "never", False, ()))
        else:
            verdict, began = one.report["verdict"], one.report["began"]
            found.append(Verified(name, verdict, began, one.late, tuple(one.words)))
    return tuple(found)


def reports(folder: Path) -> dict[str, Any]:
    """The newest report of each set of checks; a set that has not run has none."""
    found = {}
    for name in LATE:
        try:
            found[name] = json.loads((folder / f"{name}.json").read_text())
        except (OSError, ValueError):
            continue
    return found


def scans(folder: Path, now: float) -> list[tuple[float, float]]:
    """When watch scanned the site within two days, or still does: from what verification keeps in its folder."""
    found = [(it.began.timestamp(), it.seconds) for it in history.load(folder)]
    with suppress(OSError, ValueError):
        began = float((folder / LOOKING).read_text())
        found.append((began, min(now - began, _LONGEST)))
    return [(at - 1, at + took + _SLACK) for at, took in found if now - at < _REREAD]


def origins(site: Site) -> Origins:
    """What addresses count as. The webmail logs in for its users, the store for itself; from any other machine of
    the site nobody does, so who did would be news."""
    behind = site.carrying(Role.WEBMAIL, Role.STORE)
    return Origins((it for one in behind for it in (*one.addresses, *one.inner)), site.vpn_networks)


def make(
    site: Site, hours: Mapping[str, Summary], since: str, until: str, learning: str,
    checks: Mapping[str, Any], now: float, known: Mapping[str, Any],
) -> Digest:  # fmt: skip
    """The digest of some hours; `known` is what `standing.collect` found on watch."""
    machines = tuple(it.name for it in site.machines)
    return Digest(site.name, since, until, hours, machines, verified(checks, now), learning,
                  standing.sections(known, machines, now))  # fmt: skip


def message(digest: Digest, site: Site, now: float) -> EmailMessage:
    """The digest as mail: text, and the page beside it (RFC 2046, 5.1.4)."""
    found = needs(digest)
    act = sum(it.level is Level.ACT for it in found)
    mail = EmailMessage(policy=policy.SMTP)
    mail["From"] = f"mastio <postmaster@{site.domains[0]}>"
    mail["To"] = ", ".join(book.rules(site).mail)
    what = f"NEEDS A PERSON ({act})" if act else f"{len(found)} to look at" if found else "all well"
    mail["Subject"] = f"[{site.name}] digest of {digest.since[:10]}: {what}"
    mail["Date"] = formatdate(now)
    mail["Message-ID"] = make_msgid(domain=site.domains[0])
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(report.text(digest), cte="quoted-printable")
    mail.add_alternative(report.html(digest, mail=True), subtype="html", cte="quoted-printable")
    return mail


def send(folder: Path, site: Site, settings: Settings) -> list[str]:
    """Sends what waits, the oldest first, to whom its header names; what could not be sent, in words."""
    failed = []
    for path in sorted((folder / "waiting").glob("*.eml")):
        mail = message_from_bytes(path.read_bytes(), policy=policy.SMTP)
        to = [it.addr_spec for it in mail["To"].addresses]
        try:
            alarm.deliver(mail, site, settings, to)
        except (OSError, SMTPException) as error:
            failed.append(f"the digest {path.stem} waits: {error}")
            refused = getattr(error, "recipients", {})
            if left := [it for it in to if it in refused]:
                # Who took it does not get it again.
                mail.replace_header("To", ", ".join(left))
                put(path, mail.as_bytes().decode("utf-8", "surrogateescape"))
        else:
            path.unlink()
    return failed


def keep(folder: Path, digest: Digest, mail: EmailMessage) -> None:
    """Puts a day's digest down, and its mail where it waits to be sent."""
    day = digest.since[:10]
    (folder / "days").mkdir(mode=0o700, exist_ok=True)
    (folder / "waiting").mkdir(mode=0o700, exist_ok=True)
    for name, content in (
        (f"days/{day}.txt", report.text(digest)),
        (f"days/{day}.html", report.html(digest)),
        (f"days/{day}.json", json.dumps(report.data(digest))),
        (f"waiting/{day}.eml", mail.as_bytes().decode("utf-8", "surrogateescape")),
    ):
        put(folder / name, content)
    for old in sorted((folder / "days").glob("*"))[: -3 * _KEPT]:
        old.unlink()


def note(folder: Path, what: str, waiting: list[str], now: float) -> None:
    """Says, for verification (L5), when this last read, when it last made a digest, and what waits to be sent."""
    path = folder / "status.json"
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {"began": now, "made": 0.0}
    known |= {"read": now, "waiting": waiting} | ({"made": now} if what == "mail" else {})
    put(path, json.dumps(known), 0o644)


def main(what: str) -> Exit:
    """Runs one of them; how it went."""
    folder = Path(FOLDER)
    site, settings = plain.recall(Path(SITE).read_text()), load(Path(SETTINGS))
    began = time.monotonic()
    past = scans(Path(VERIFY), time.time())
    lines = Keeping(folder).advance(Path(LOGS), past, origins(site), workers=ahead.workers())
    print(f"read {lines} lines in {time.monotonic() - began:.1f} s")
    with (folder / "sending").open("w") as alone:
        # `read` and `mail` begin in the same half minute each morning: nothing is sent twice.
        fcntl.flock(alone, fcntl.LOCK_EX)
        return _tell(folder, site, settings, what)


def _tell(folder: Path, site: Site, settings: Settings, what: str) -> Exit:
    """Makes the digest that is wanted, and sends what waits."""
    if what != "read":
        now = time.time()
        day = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}" if what == "mail" else what
        since, until = keeping.hours_of(day)
        hours = keeping.load(folder, since, until)
        digest = make(
            site, hours, since, until, keeping.learning_since(folder), reports(Path(VERIFY)), now,
            standing.collect(),
        )  # fmt: skip
        keep(folder, digest, message(digest, site, now))
    failed = send(folder, site, settings)
    note(folder, what, failed, time.time())
    for words in failed:
        print(words, file=sys.stderr)
    return Exit.UNAVAILABLE if failed else Exit.OK


if __name__ == "__main__":
    if len(sys.argv) != 2 or not re.fullmatch(r"read|mail|\d{4}-\d\d-\d\d", sys.argv[1]):
        sys.exit("read, mail, or a day?")
    try:
        sys.exit(main(sys.argv[1]))
    except (MastioError, OSError, ValueError, KeyError) as error:
        sys.exit(f"digest: {error!r}")
