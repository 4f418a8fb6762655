"""Public certificates on watch: `python3 -m mastio.watch.certificates WHAT [WORD]…`.

| | |
|---|---|
| `renew` | each host's certificate when it is due, then to the machines that show it, then alarms |
| `now` | the same, whether due or not; stdin: JSON, `hosts` |
| `prepare` | a certificate for the key that will follow; stdin: JSON, `hosts` |
| `status` | what is known of each, and what its machines show |
| `hook` | dehydrated has a proof put or taken away |

Each but `hook` prints lines of JSON. A chain is kept in `FOLDER/<host>.pem` (and `<host>.next.pem`), which is public,
and how the last attempt went in `FOLDER/<host>.json`.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mastio.context import ALARMS
from mastio.errors import Exit, MastioError
from mastio.files import hold, put
from mastio.roles.certificates import FOLDER, SETTINGS
from mastio.roles.inspection import SETTINGS as INSPECTION
from mastio.roles.inspection import SITE
from mastio.site import plain
from mastio.site.model import Site
from mastio.verify.model import Severity
from mastio.watch import acme, alarm
from mastio.watch.acme import Chain
from mastio.watch.alarm import Alarm
from mastio.watch.bell import Bell
from mastio.watch.settings import load

_DAY = 86400.0
_LAST_DAYS = 2.0
"""With fewer left it is critical."""


@dataclass(frozen=True, slots=True)
class Host:
    """A name in the first place of a certificate, as `SETTINGS` has it."""

    name: str
    machines: tuple[str, ...]
    requests: tuple[Path, ...]
    """For its key, and for the key that will follow it."""

    @property
    def chains(self) -> tuple[Path, ...]:
        """Where the chain for each request is kept."""
        return tuple(Path(FOLDER) / f"{it.name.removesuffix('.csr')}.pem" for it in self.requests)


@dataclass(frozen=True, slots=True)
class Found:
    """How a host stands."""

    host: Host
    chain: Chain | None
    error: str
    """Why the last attempt to renew failed; empty: it did not."""
    machines: Mapping[str, str]
    """What is wrong on each machine; empty: it shows the chain."""

    def plain(self, now: float) -> dict[str, Any]:
        """As a line of JSON."""
        chain = self.chain
        return {
            "host": self.host.name,
            "names": sorted(chain.names) if chain else [],
            "issuer": chain.issuer if chain else "",
            "days_left": round(chain.days_left(now), 2) if chain else None,
            "renews_in_days": round(chain.days_left(now) - chain.days / 3, 2) if chain else None,
            "failed": self.error,
            "machines": dict(self.machines),
        }


@contextmanager
def alone() -> Iterator[None]:
    """One order at a time; MastioError while another is at work."""
    with (Path(FOLDER) / "lock").open("w") as file:
        try:
            hold(file, patience=1)
        except BlockingIOError:
            raise MastioError(
                "another renewal of certificates is at work", hint="wait for it", code=Exit.LOCKED
            ) from None
        yield


def hosts(own: Mapping[str, Any]) -> list[Host]:
    """All of them."""
    return [
        Host(name, tuple(it["machines"]), tuple(map(Path, it["requests"])))
        for name, it in own["hosts"].items()
    ]


def obtain(host: Host, number: int, own: Mapping[str, Any], *, force: bool) -> str:
    """Gets a chain for one of a host's requests where it is due; why that failed, or nothing."""
    request, kept = host.requests[number].read_text(), host.chains[number]
    chain = acme.chain(kept)
    if number == 0 and acme.due(chain, request, time.time()):
        # The key that was to follow has followed: its certificate is here already.
        for path in host.chains[1:]:
            if not acme.due(ready := acme.chain(path), request, time.time()):
                put(kept, path.read_text(), 0o644)
                chain = ready
    if not force and not acme.due(chain, request, time.time()):
        return ""
    say({"host": host.name, "step": "order"})
    try:
        text = acme.order(own["client"], host.requests[number])
    except (MastioError, OSError) as error:
        return str(error)
    put(kept, text, 0o644)
    return ""


def bring(host: Host, machine: str, own: Mapping[str, Any], watch: str) -> str:
    """Has a machine show the chain; what is wrong there, or nothing."""
    chains = [path.read_text() for path in host.chains if acme.chain(path)]
    main = acme.chain(host.chains[0])
    try:
        seen = acme.call(own, machine, watch, {"op": "show"})
        if main and seen["first"] == main.digest and set(seen["served"].values()) == {main.digest}:
            return ""
        say({"host": host.name, "step": "bring", "machine": machine})
        answer = acme.call(own, machine, watch, {"op": "bring", "chains": chains})
    except MastioError as error:
        return error.message
    return str(answer["error"] or answer["unfit"])


def look(host: Host, own: Mapping[str, Any], watch: str) -> Found:
    """How a host stands, without changing it."""
    chain, wrong = acme.chain(host.chains[0]), {}
    for machine in host.machines:
        try:
            seen = acme.call(own, machine, watch, {"op": "show"})
        except MastioError as error:
            wrong[machine] = error.message
            continue
        shown = set(seen["served"].values())
        wrong[machine] = seen["why"] or (
            "" if chain and shown == {chain.digest} else f"servers show another: {seen['served']}"
        )
    return Found(host, chain, _noted(host), wrong)


def renew(
    chosen: Iterable[Host],
    own: Mapping[str, Any],
    watch: str,
    *,
    force: bool = False,
    prepare: bool = False,
) -> Iterator[Found]:
    """Each host in turn: an order where it is due, then its machines."""  # fmt: skip
    for host in chosen:
        error = ""
        if not prepare:
            error = obtain(host, 0, own, force=force)
            _note(host, error)
        elif len(host.requests) > 1:
            error = obtain(host, 1, own, force=False)
        wrong = {it: bring(host, it, own, watch) for it in host.machines}
        yield Found(host, acme.chain(host.chains[0]), error, wrong)


def _note(host: Host, error: str) -> None:
    put(Path(FOLDER) / f"{host.name}.json", json.dumps({"at": time.time(), "error": error}))


def _another_authority(own: Mapping[str, Any]) -> bool:
    """Whether the site file names another authority than what is kept came from: a test's before the real one."""
    asked = Path(FOLDER) / "directory"
    if asked.exists() and asked.read_text() == own["directory"]:
        return False
    for path in Path(FOLDER).glob("*.next.pem"):
        path.unlink()
    return True


def _noted(host: Host) -> str:
    try:
        return str(json.loads((Path(FOLDER) / f"{host.name}.json").read_text())["error"])
    except (FileNotFoundError, ValueError, KeyError):
        return ""


def told(found: Found, site: Site, now: float) -> list[Alarm]:
    """What is to be said of a host: how renewal went, and what strangers see."""
    name, left = found.host.name, found.chain.days_left(now) if found.chain else 0.0
    few = left < site.acme.alarm_days
    severity = Severity.HIGH if few else Severity.MEDIUM
    if left < _LAST_DAYS:
        severity = Severity.CRITICAL
    wrong = "".join(f"{it}: {why}\n" for it, why in found.machines.items() if why)
    remedy = "`mastio certificates` tells how it stands, `mastio certificates renew` tries now.\n"
    days = f"{max(left, 0):.0f} days are left to the certificate of {name}."
    rows = (
        (
            f"certificate renewal {name}", found.error, severity, "not renewed",
            f"The certificate of {name} could not be renewed:\n{found.error}\n\n{days}\n{remedy}",
        ),
        (
            f"certificate days {name}", few, severity, "soon expires" if left > 0 else "no valid certificate",
            f"{days}\n{found.error}\n\n{remedy}",
        ),
        (
            f"certificate shown {name}", wrong, Severity.HIGH, "not shown",
            f"The certificate of {name} is not what servers show.\n{wrong}\n{remedy}",
        ),
    )  # fmt: skip
    return [
        Alarm(
            site.name, about, how, f"[{site.name}] certificate {words if bad else 'good'}: {name}",
            text if bad else f"{days}\n", "failed" if bad else alarm.WELL, now,
        )
        for about, bad, how, words, text in rows
    ]  # fmt: skip


def say(what: Any) -> None:
    """A line of JSON; whoever listened may have gone, and the work goes on."""
    try:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return


def _chosen(own: Mapping[str, Any], wanted: list[str]) -> list[Host]:
    known = hosts(own)
    names = [it.name for it in known]
    if wrong := sorted({*wanted} - {*names}):
        raise MastioError(
            f"no authority is asked for {', '.join(wrong)}",
            hint=f"it is for {', '.join(names) or 'none: see acme.directory in the site file'}",
            code=Exit.USAGE,
        )
    return [it for it in known if it.name in wanted] if wanted else known


def run(what: str, words: list[str]) -> Exit:
    """One of them; MastioError says why not."""
    os.umask(0o077)
    own, settings = json.loads(Path(SETTINGS).read_text()), load(Path(INSPECTION))
    if what == "hook":
        acme.hook(own, settings.machine, words)
        return Exit.OK
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    site = plain.recall(Path(SITE).read_text())
    if what == "status":
        for host in hosts(own):
            say(look(host, own, settings.machine).plain(time.time()))
        return Exit.OK
    chosen = _chosen(own, [] if what == "renew" else json.load(sys.stdin)["hosts"])
    bell, bad = Bell(Path(ALARMS), site), False
    with alone():
        another = _another_authority(own)
        for found in renew(
            chosen, own, settings.machine, force=what == "now" or another, prepare=what == "prepare"
        ):
            say(found.plain(time.time()))
            bad = bad or bool(found.error) or any(found.machines.values())
            if what != "prepare":
                for one in told(found, site, time.time()):
                    bell.raise_(one, time.time())
        if another and not bad and what == "renew":
            put(Path(FOLDER) / "directory", own["directory"])
    failed = bell.ring(settings, time.time())
    for line in failed:
        print(line, file=sys.stderr)
    return Exit.FAILED if bad else Exit.OK


def main(what: str, words: list[str]) -> int:
    """The exit code."""
    try:
        return run(what, words)
    except (MastioError, OSError, ValueError, KeyError) as error:
        message, hint, code = f"{type(error).__name__}: {error}", "", Exit.FAILED
        if isinstance(error, MastioError):
            message, hint, code = error.message, error.hint, error.code
        if what != "hook":
            say({"error": message, "hint": hint, "code": code})
        print(message, file=sys.stderr)
        return 1


if __name__ == "__main__":
    if sys.argv[1:2] not in [[it] for it in ("renew", "now", "prepare", "status", "hook")]:
        sys.exit("renew, now, prepare, status or hook?")
    sys.exit(main(sys.argv[1], sys.argv[2:]))
