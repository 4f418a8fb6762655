"""`mastio upgrade`: mastio's own newer version on the machines, then all packages that Debian has newer."""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import click

from mastio import __version__
from mastio.apply import Planned, plan_all
from mastio.cli.common import COLOURS, App, pass_app
from mastio.cli.patches import ask, follow, print_record
from mastio.cli.plan import bring
from mastio.cli.verify import ground_of
from mastio.errors import Exit, MastioError
from mastio.integrity.client import who
from mastio.plan import MachinePlan
from mastio.report import plan as report
from mastio.roles.patching import PATIENCE
from mastio.site.model import Reach, Role, Site
from mastio.transport import Transport, last_line
from mastio.verify.checks.host import MARKS
from mastio.watch.rounds import order, patiently, verdicts

_WAITING = ("apt-get", "-s", "-q", "-o", "Debug::NoLocking=1", "--with-new-pkgs", "upgrade")
"""What `mastio-patch upgrade` would install; nothing is."""
_ANSWER = 120.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """What Debian has for a machine, as of the lists that it fetched last."""

    packages: tuple[tuple[str, str, str], ...]
    """Package, old version ("" when there is none), new one."""
    reboot: bool
    """One is due already."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why it goes no further, and what to do."""

    machine: str
    words: str
    hint: str
    code: Exit = Exit.FAILED


class Leave:
    """Ctrl-C while a machine is at work: it ends, and no other begins. A second one leaves it to itself."""

    def __init__(self) -> None:
        self.asked = False
        self.at = ""
        """The machine at work."""

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Only in the main thread (signal(3))."""
        former = signal.signal(signal.SIGINT, self._hear)
        try:
            yield
        except KeyboardInterrupt:
            raise MastioError(
                f"left while {self.at} is still at work; it ends, or goes back, by itself",
                hint="once it has, `mastio upgrade` goes on; the machines after it were not touched",
                code=Exit.INTERRUPTED,
            ) from None
        finally:
            signal.signal(signal.SIGINT, former)

    def before(self, machine: str) -> Stop | None:
        """Why this machine is not begun."""
        if not self.asked:
            return None
        hint = "what is done is done; `mastio upgrade` goes on from here"
        return Stop(machine, "interrupted before it was touched", hint, Exit.INTERRUPTED)

    def _hear(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # Not through Python's buffers: they may be in use just now.
        os.write(2, f"waiting for {self.at} to end; Ctrl-C again to leave\n".encode())


@click.command()
@click.option(
    "--only", "only", multiple=True, metavar="MACHINE", help="This machine alone; may be repeated."
)
@click.option(
    "--plan",
    "dry",
    is_flag=True,
    help="Show what would be upgraded; nothing is changed or fetched.",
)
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_app
def upgrade(app: App, only: tuple[str, ...], dry: bool, yes: bool, as_json: bool) -> Exit:
    """Bring the machines to this version of mastio, and to all that Debian has newer.

    \b
    mastio upgrade --plan                what would change, machine by machine
    mastio upgrade                       do it
    mastio upgrade --only webmail        one machine first, the others another day

    First what runs on the machines of mastio itself: what `mastio plan` shows since this program is newer, so also
    what you changed in the site file, or somebody by hand. Watch comes first, since it does all that follows. Then
    packages, not security fixes alone (watch installs those by itself): point releases as Debian makes them, services
    that run old code restarted, reboots that are due, integrity told what was installed. It goes one machine
    after the other, in the order in which mail waits where it is safe; each is looked at by the fast checks before
    and after, and the first that is worse ends it. Ctrl-C lets the machine that is at work end, and begins no other.
    The same command goes on afterwards, or once what stopped it is mended: what is done is not done again.

    Exits with 0 when all is done, 1 when it stopped, 2 with --plan when there is something to do, 69 when a machine
    does not answer (nothing was touched), 75 when an update is at work, 130 after Ctrl-C.
    """
    site = app.site()
    names = [it.name for it in site.machines]
    if unknown := sorted({*only} - {*names}):
        raise MastioError(
            f"no such machine: {', '.join(unknown)}",
            hint=f"this site has {', '.join(names)}",
            code=Exit.USAGE,
        )
    if not dry and not yes and not sys.stdin.isatty():
        raise MastioError(
            "upgrade asks before it changes anything, and nobody is there to answer",
            hint="look at `mastio upgrade --plan`, then use `mastio upgrade --yes`",
            code=Exit.USAGE,
        )
    chosen = order(site, only or names)
    if not as_json:
        click.echo(f"looking at {len(chosen)} machines", err=True)
    plans, waiting = _look(app, chosen)
    if not as_json:
        _show(chosen, plans, waiting)
    if dry:
        if as_json:
            click.echo(json.dumps(_plain(chosen, plans, waiting), indent=2))
        work = any(not it.empty for it in plans.values())
        return Exit.CHANGES if work or any(map(_due, waiting.values())) else Exit.OK
    # What waits is as of the lists that were fetched last: there may be more.
    if not yes and not click.confirm("Upgrade?", err=True):
        return Exit.CHANGES
    todo = [it for it in watch_first(site, chosen) if not plans[it].empty]
    leave, records = Leave(), list[dict[str, Any]]()
    with leave.heard():
        brought, stop = _bring(app, todo, leave, quiet=as_json)
        if not stop:
            records, stop = _install(app, chosen, leave, quiet=as_json)
    if as_json:
        told = {"mastio": brought, "packages": records, "stopped": stop and _plain_stop(stop)}
        click.echo(json.dumps({"version": __version__, **told}, indent=2))
    elif stop:
        click.secho(f"stopped at {stop.machine}: {stop.words}", fg="red")
        click.echo(f"  → {stop.hint}")
    else:
        click.echo("Done. `mastio verify` proves the whole, also from outside.")
    return stop.code if stop else Exit.OK


def watch_first(site: Site, names: Sequence[str]) -> list[str]:
    """The order for mastio itself: watch is who drives the others, and no mail passes it."""
    watches = {it.name for it in site.carrying(Role.WATCH)}
    return sorted(names, key=lambda it: it not in watches)


def packages(said: str) -> tuple[tuple[str, str, str], ...]:
    """Package, old version, new one, from what apt-get(8) says that it would do."""
    rows = re.finditer(r"^Inst (\S+) (?:\[([^]]*)\] )?\((\S+)", said, re.MULTILINE)
    return tuple((row[1], row[2] or "", row[3]) for row in rows)


def _look(app: App, names: Sequence[str]) -> tuple[dict[str, MachinePlan], dict[str, Waiting]]:
    """What apply would do, and which packages wait; MastioError when one machine does not answer."""
    states, transport = app.states(), app.transport()
    found = plan_all(transport, {name: states[name] for name in names})
    lost = [it for it in found.values() if isinstance(it, MastioError)]
    if lost:
        raise MastioError(
            "; ".join(it.message for it in lost),
            hint="nothing was touched: an upgrade begins when every machine that it goes to answers",
            code=Exit.UNAVAILABLE,
        )
    with ThreadPoolExecutor(len(names)) as pool:
        waiting = dict(zip(names, pool.map(lambda it: _waiting(transport, it), names), strict=True))
    return {name: it.plan for name, it in found.items() if isinstance(it, Planned)}, waiting


def _waiting(transport: Transport, machine: str) -> Waiting:
    done = transport.run(machine, _WAITING, timeout=_ANSWER)
    if done.code:
        raise MastioError(f"{machine}: apt-get: {last_line(done.stderr)}")
    due = transport.run(machine, ["ls", MARKS[0]], timeout=_ANSWER).code == 0
    return Waiting(packages(done.stdout.decode()), due)


def _due(waiting: Waiting) -> bool:
    return bool(waiting.packages or waiting.reboot)


def _bring(
    app: App, names: Sequence[str], leave: Leave, *, quiet: bool
) -> tuple[list[str], Stop | None]:
    """Mastio itself, machine after machine: those that are done."""
    done: list[str] = []
    patience = PATIENCE[app.site().reach is not Reach.LAB]
    for name in names:
        leave.at = name
        _step(name, "looking", quiet=quiet)
        ground = ground_of(app, full=False)
        before = {key: verdict for key, (verdict, _) in verdicts(ground, name).items()}
        if stop := leave.before(name):
            return done, stop
        _step(name, f"mastio {__version__}", quiet=quiet)
        outcomes, told = bring(app, (name,), ask=False, quiet=quiet)
        outcome = (outcomes or {})[name]
        if not outcome.ok:
            hint = (
                "`mastio plan` shows where it stands; once it is mended, `mastio upgrade` goes on"
            )
            return done, Stop(name, outcome.words, hint, outcome.code)
        _step(name, "looking again", quiet=quiet)
        ground = ground_of(app, full=False)
        if worse := patiently(before, lambda it=ground, at=name: verdicts(it, at), patience):  # type: ignore[misc]
            hint = (
                f"`mastio verify` tells more. Mend it, then `mastio upgrade` goes on; or go back: the former version's "
                f"`mastio apply {name}`. The machines after it were not touched"
            )
            return done, Stop(name, "; ".join(worse), hint)
        if told:
            return done, Stop(
                name, "the gateways' lists", "`mastio sync`, then the same again", told
            )
        done.append(name)
    return done, None


def _install(
    app: App, names: Sequence[str], leave: Leave, *, quiet: bool
) -> tuple[list[dict[str, Any]], Stop | None]:
    """Packages, machine after machine: what was done."""
    records: list[dict[str, Any]] = []
    # Asked for one by one: whoever leaves meanwhile leaves one machine to end, and no other begins.
    for name in names:
        if stop := leave.before(name):
            return records, stop
        leave.at, seals = name, list[list[str]]()
        for event in ask(app, ["upgrade", name], {"by": who()}):
            if "step" in event:
                _step(name, event["step"], quiet=quiet)
            elif "record" in event:
                records.append(event["record"])
                if not quiet:
                    print_record(event["record"])
            elif "seals" in event:
                seals = event["seals"]
        # All that watch knows: whoever was left to itself is followed as well.
        follow(app, seals)
        if wrong := _wrong(records, name):
            hint = (
                "`mastio patches` and `mastio verify` tell more; once it is mended, `mastio upgrade` goes on. "
                "The machines after it were left alone"
            )
            return records, Stop(name, wrong, hint)
        if records[-1]["rebooting"] and not quiet:
            click.echo(f"{name} reboots now; `mastio patches` tells when it is back")
    return records, None


def _wrong(records: Sequence[Mapping[str, Any]], name: str) -> str:
    if not records or records[-1]["machine"] != name:
        return "watch did not say how it went"
    last = records[-1]
    return "; ".join(filter(None, (last["error"], *last["worse"])))


def _step(machine: str, step: str, *, quiet: bool) -> None:
    if not quiet:
        click.echo(f"{machine}: {step}", err=True)


def _show(
    names: Sequence[str], plans: Mapping[str, MachinePlan], waiting: Mapping[str, Waiting]
) -> None:
    for name in names:
        if plans[name].empty and not _due(waiting[name]):
            click.echo(f"{name}: nothing that is known")
        for style, text in report.lines(name, plans[name], diffs=False):
            click.echo(click.style(text, **COLOURS[style]))  # type: ignore[arg-type]
        if rows := waiting[name].packages:
            click.secho(f"{name} · packages", bold=True)
            for package, old, new in rows:
                click.echo(f"  {package} {old or '–'} → {new}")
        if waiting[name].reboot:
            click.echo(f"{name}: a reboot is due")


def _plain(
    names: Sequence[str], plans: Mapping[str, MachinePlan], waiting: Mapping[str, Waiting]
) -> dict[str, Any]:
    machines = [
        {"machine": it, "mastio": report.data(plans[it]), **asdict(waiting[it])} for it in names
    ]
    return {"version": __version__, "machines": machines}


def _plain_stop(stop: Stop) -> dict[str, str]:
    return {"machine": stop.machine, "words": stop.words, "hint": stop.hint}
