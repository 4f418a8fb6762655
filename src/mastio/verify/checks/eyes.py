"""X: what other people's tools find, where they are installed. Who wrote the site does not judge alone."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mastio import services
from mastio.site.model import Role
from mastio.verify.doors import doors, published
from mastio.verify.model import Check, Family, Place, Severity
from mastio.verify.probes import eyes
from mastio.verify.vantage import Vantage, not_run

_GRACE = 5.0
"""Seconds that are left for telling when a tool takes too long."""
_SEVERE = ("HIGH", "CRITICAL")
_NO_AIDE = "FINT-4315"
"""lynis misses AIDE's configuration, which comes with each measurement and stays nowhere (docs/decisions/0027)."""
_SUSPICION = "using elliptic curves that are suspected"
"""What ssh-audit says of P-256, which all of TLS uses as well (T3, T4; RFC 8422): an opinion, no finding."""


def _tool(vantage: Vantage, package: str, *names: str) -> str:
    """Where the tool is on the vantage. NotRunError when it is not installed: nobody has to have it."""
    if not (path := vantage.ask(eyes.found, list(names))):
        raise not_run(
            f"{package} is not installed on {vantage.name}: `apt-get install {package}` there"
        )
    return path


def system(vantage: Vantage) -> Iterator[str]:
    """lynis has no warnings for the machine."""
    program = _tool(vantage, "lynis", "lynis")
    for words in lynis_warnings(vantage.ask(eyes.lynis, program, vantage.left() - _GRACE)):
        yield f"{vantage.name}: {words}"


def lynis_warnings(report: str) -> Iterator[str]:
    """The warnings in lynis's report (`warning[]=TEST|text|detail|solution|`). Raises ValueError when cut short."""
    rows = [line.partition("=")[::2] for line in report.splitlines()]
    if "report_datetime_end" not in dict(rows):
        raise ValueError("lynis did not finish its report")
    for key, value in rows:
        if key == "warning[]":
            test, text, *more = value.split("|")
            if test == _NO_AIDE:
                continue
            details = " ".join(it for it in more if it.strip("- "))
            yield f"{test} {text}{f' ({details})' if details else ''}"


def sshd(vantage: Vantage) -> Iterator[str]:
    """ssh-audit finds no sshd that agrees to what is broken."""
    program = _tool(vantage, "ssh-audit", "ssh-audit")
    found = doors(vantage.matrix, vantage.name, services.SSH)
    if not found:
        raise not_run("there is no other machine: nobody's sshd answers this one")
    for door in found:
        if door.address.version == 4:  # the same program answers both families
            said = vantage.ask(
                eyes.ssh_audit, program, str(door.address), door.port, vantage.left() - _GRACE
            )
            for words in ssh_failures(json.loads(said)):
                yield f"{door.words}: {words}"


def ssh_failures(report: Mapping[str, Any]) -> Iterator[str]:
    """What ssh-audit calls a failure, and holes that are known."""
    for kind in ("kex", "key", "enc", "mac"):
        for it in report[kind]:
            for why in it.get("notes", {}).get("fail", ()):
                if why.startswith(_SUSPICION):
                    continue
                yield f"{kind} {it['algorithm']}: {why}"
    for hole in report.get("cves", ()):
        yield f"{hole.get('name', 'a known hole')}: {hole.get('description', '')}"


def tls(vantage: Vantage) -> Iterator[str]:
    """testssl finds nothing severe at the doors that the internet sees."""
    program = _tool(vantage, "testssl.sh", "testssl", "testssl.sh")
    names = published(vantage.site)
    for door in doors(vantage.matrix, vantage.name, *names):
        if door.address.version == 4:
            rows = vantage.ask(
                eyes.testssl, program, str(door.address), door.port, names[door.service], door.opening,
                vantage.left() - _GRACE,
            )  # fmt: skip
            for words in tls_findings(rows):
                yield f"{door.words}: {words}"


def tls_findings(rows: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """testssl's findings of high and critical severity. Raises ValueError when it could not do its work."""
    for it in rows:
        words = f"{it['id']}: {it['finding']}"
        if it["severity"] == "FATAL":
            raise ValueError(f"testssl: {words}")
        if it["severity"] in _SEVERE:
            yield f"{words} ({', '.join(filter(None, (it['severity'].lower(), it.get('cve', ''))))})"


_ACCEPT = "What you have weighed and live with: accept the check in the site file, for a reason and until a date."

CHECKS = (
    Check(
        "X1", Family.EYES, "lynis warns of nothing", (Place.EVERY_MACHINE,), Severity.MEDIUM,
        "lynis audit system --quick, where it is installed",
        "no warnings in its report but FINT-4315 (suggestions do not count)",
        "https://cisofy.com/lynis", f"`lynis show details TEST-ID` explains one. {_ACCEPT}",
        system, full=True, seconds=400,
    ),
    Check(
        "X2", Family.EYES, "ssh-audit finds nothing broken", (Role.WATCH,), Severity.MEDIUM,
        "ssh-audit of every machine's sshd, where it is installed on watch",
        "no failures (curves of NIST apart), no known holes",
        "https://github.com/jtesta/ssh-audit", f"Leave the algorithm out in sshd_config(5). {_ACCEPT}",
        sshd, full=True, seconds=120,
    ),
    Check(
        "X3", Family.EYES, "testssl finds nothing severe", (Place.OUTSIDE,), Severity.MEDIUM,
        "testssl of the public SMTP and web doors: protocols, ciphers, certificate, known attacks; where it is "
        "installed on the machine outside",
        "nothing of high or critical severity", "https://testssl.sh",
        f"Its manual explains each finding by its id. {_ACCEPT}", tls, full=True, seconds=500,
    ),
)  # fmt: skip
