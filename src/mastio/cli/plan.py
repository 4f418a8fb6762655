"""`mastio plan` and `mastio apply`: what would change on the machines, and making it so."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress

import click

from mastio.adopt import pins
from mastio.agent.wire import Event
from mastio.apply import OnEvent, Outcome, Planned, apply_all, plan_all, site_lock
from mastio.cli.common import COLOURS, App, pass_app
from mastio.errors import Exit, MastioError
from mastio.plan import Kind, MachinePlan
from mastio.report import plan as report
from mastio.roles.common import ROOT_KEYS
from mastio.site.model import Reach, Role
from mastio.state import HostState
from mastio.transport import Transport

Found = Mapping[str, Planned | MastioError]


@click.command()
@click.argument("machines", nargs=-1, metavar="[MACHINE]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object for each machine.")
@click.option("--no-diff", is_flag=True, help="Name the files only.")
@pass_app
def plan(app: App, machines: tuple[str, ...], as_json: bool, no_diff: bool) -> Exit:
    """Show what apply would change, on all machines or those named.

    Exits with 0 when there is nothing to do, 2 when there is, 69 when a machine is unreachable.
    """
    found = plan_all(app.transport(), _chosen(app, machines))
    if as_json:
        click.echo(_plans_json(found))
    else:
        _show(found, diffs=not no_diff)
    if any(isinstance(one, MastioError) for one in found.values()):
        return Exit.UNAVAILABLE
    return Exit.CHANGES if any(not one.empty for one in _plans(found).values()) else Exit.OK


@click.command("apply")
@click.argument("machines", nargs=-1, metavar="[MACHINE]...")
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object for each machine.")
@pass_app
def apply_(app: App, machines: tuple[str, ...], yes: bool, as_json: bool) -> Exit:
    """Make the machines what the site file says, all at once.

    New files are checked by the programs that will read them before anything is switched; what
    does not come up healthy goes back to what it was. Exits with 0 when all machines are done.
    """
    if not yes and not sys.stdin.isatty():
        raise MastioError(
            "apply asks before it changes anything, and nobody is there to answer",
            hint="look at `mastio plan`, then use `mastio apply --yes`",
            code=Exit.USAGE,
        )
    outcomes, told = bring(app, machines, ask=not yes, quiet=as_json)
    if outcomes is None:
        return Exit.CHANGES
    if as_json:
        click.echo(json.dumps({name: plain(one) for name, one in outcomes.items()}, indent=2))
    return max((told, *(one.code for one in outcomes.values())))


def bring(
    app: App, machines: tuple[str, ...] = (), *, ask: bool, quiet: bool
) -> tuple[dict[str, Outcome] | None, Exit]:
    """Applies, and tells the machines that want to know; `quiet`: stdout stays empty.

    How it went on each machine (None when somebody said no), and whether the others could be told.
    """
    states = _chosen(app, machines)
    with site_lock(app.folder):
        transport = app.transport()
        found = plan_all(transport, states)
        ready = {name: one for name, one in found.items() if isinstance(one, Planned)}
        if not quiet:
            _show(found, diffs=False)
        work = any(not one.plan.empty for one in ready.values())
        if work and ask and not click.confirm("Apply?", err=True):
            return None, Exit.CHANGES
        if work:
            app.must_be_current()
            _keeps_the_way_in(app, transport, ready)
            _measured(app, transport, ready)
        with _progress() if work and not quiet else nullcontext(_quiet) as on_event:
            outcomes = apply_all(transport, ready, on_event)
    lost = {
        name: Outcome(False, one.message, 0.0, one.code)
        for name, one in found.items()
        if isinstance(one, MastioError)
    }
    outcomes = {name: (outcomes | lost)[name] for name in found}
    if not quiet and (work or lost):
        _print_outcomes(outcomes)
    changed = {name for name, one in ready.items() if not one.plan.empty and outcomes[name].ok}
    told = _tell_gateways(app, transport, changed)
    applied = {name: one for name, one in ready.items() if outcomes[name].ok}
    # Before integrity takes its references: they would have the old keys.
    _close_old_doors(app, transport, applied)
    _tell_watch(app, transport, applied, changed)
    _renew(app, transport, changed)
    return outcomes, told


def _keeps_the_way_in(app: App, transport: Transport, ready: Mapping[str, Planned]) -> None:
    """Nobody shuts himself out: where root's keys change, the one by which we come stays.

    The firewall asks for a new connection before it stays; a key that is gone would be missed by the one after it.
    """
    for name, one in ready.items():
        if any(it.path == ROOT_KEYS and it.kind is Kind.CHANGE for it in one.plan.paths):
            opened = transport.opened_by(name)
            if opened and opened not in map(pins.fingerprint, app.site().admin_keys):
                raise MastioError(
                    f"{name} is opened by {opened}, which admins.keys has no more: you would lock yourself out",
                    hint="come by one of the keys that stay (ssh_config, IdentityFile), or keep this one",
                    code=Exit.DATA,
                )


def _measured(app: App, transport: Transport, ready: Mapping[str, Planned]) -> None:
    """Where packages, accounts or commands will write more than the plan names, watch measures before: what differs
    already is told, and is not taken over with it. What cannot be measured is told after the apply."""
    from mastio.integrity.client import LEDGER, Integrity

    plans = {name: one.plan for name, one in ready.items()}
    wide = {name for name, it in plans.items() if it.packages or it.users or it.commands}
    if not wide or not (app.folder / LEDGER).exists() or not app.site().carrying(Role.WATCH):
        return
    integrity = Integrity(app.site(), transport, app.folder)
    if due := sorted(wide & integrity.kept):
        with suppress(MastioError):
            for _ in integrity.check(due):
                pass


def _tell_watch(
    app: App, transport: Transport, done: Mapping[str, Planned], changed: set[str]
) -> None:
    """What was applied is as it should be: watch takes it into its references, and takes the first ones."""
    from mastio.integrity.client import LEDGER, Integrity
    from mastio.integrity.place import Verdict

    if not changed and not (app.folder / LEDGER).exists():
        return
    site = app.site()
    if not site.carrying(Role.WATCH):
        return
    integrity = Integrity(site, transport, app.folder)
    known, names = integrity.kept, {it.name for it in site.machines}
    # In the lab nothing begins by itself: `mastio integrity begin`.
    due = changed & known if site.reach is Reach.LAB else changed | (done.keys() - known)
    both = {name: (done[name].state, done[name].plan) for name in sorted(due & names)}
    if not both:
        return
    late = []
    try:
        for event in integrity.settle(both):
            if "last" in event and event["last"]["verdict"] != Verdict.CLEAN:
                many, why = len(event["last"]["differences"]), event["last"]["why"]
                late.append(
                    f"{event['machine']}: {why or f'{many} differences that this apply did not make'}"
                )
    except MastioError as error:
        late = [error.message]
    for why in late:
        click.secho(f"warning: integrity: {why}", fg="yellow", err=True)
    if late:
        click.echo("  → `mastio integrity check` tells what", err=True)


def _renew(app: App, transport: Transport, changed: set[str]) -> None:
    """Names or keys of public certificates may be others now: watch gets what is due."""
    if not changed:
        return
    site = app.site()
    if not site.acme.directory or not any(
        it.name in changed for it in site.carrying(Role.WATCH, Role.GATEWAY_IN, Role.WEBMAIL)
    ):
        return
    from mastio import onwatch

    late = []
    try:
        for event in onwatch.events(
            transport, site.carrying(Role.WATCH)[0].name, "certificates", ["renew"]
        ):
            if "step" not in event:
                wrong = (event["failed"], *event["machines"].values())
                late += [f"{event['host']}: {why}" for why in wrong if why]
    except MastioError as error:
        late = late or [error.message]
    for why in late:
        click.secho(f"warning: certificates: {why}", fg="yellow", err=True)
    if late:
        click.echo("  → `mastio certificates` tells how they stand", err=True)


def _close_old_doors(app: App, transport: Transport, done: Mapping[str, Planned]) -> None:
    """What opened root's door before a machine was adopted goes once, when its own door is there."""
    from mastio.adopt.contact import close_old_door

    names = sorted(pins.old_doors(app.folder) & done.keys())
    if not names or app.in_lab:
        return
    for name in names:
        try:
            removed, kept = close_old_door(transport, name, app.site().admin_keys)
        except MastioError as error:
            kept, removed = error.message, []
        if kept:
            click.secho(f"warning: {name}: keys of before stay: {kept}", fg="yellow", err=True)
            continue
        for path in removed:
            click.echo(f"{name}: removed {path}; admins.keys alone open root's door now", err=True)
        pins.closed(app.folder, name)


def _tell_gateways(app: App, transport: Transport, changed: set[str]) -> Exit:
    """A new gateway knows no recipients, and a new store may know others: bring them together."""
    if not changed:
        return Exit.OK
    site = app.site()
    if not any(
        it.name in changed for it in site.carrying(Role.GATEWAY_IN, Role.GATEWAY_OUT, Role.STORE)
    ):
        return Exit.OK
    from mastio.accounts.client import Accounts

    try:
        late = [why for _, why in Accounts(site, transport).sync().late]
    except MastioError as error:
        late = [error.message]
    from mastio.greylist.client import Greylist

    for told in Greylist(site, transport, app.folder).push():
        if told.why:
            late.append(told.why)
    for why in late:
        click.secho(f"warning: the gateways' lists: {why}", fg="yellow", err=True)
    if late:
        click.echo(
            "  → the next apply (recipients: `mastio sync`) brings it when the machines are back",
            err=True,
        )
    return Exit.UNAVAILABLE if late else Exit.OK


def _chosen(app: App, machines: tuple[str, ...]) -> dict[str, HostState]:
    states = app.states()
    if unknown := [name for name in machines if name not in states]:
        raise MastioError(
            f"no such machine: {', '.join(unknown)}",
            hint=f"this site has {', '.join(states)}",
            code=Exit.USAGE,
        )
    return {name: state for name, state in states.items() if not machines or name in machines}


def _plans(found: Found) -> dict[str, MachinePlan]:
    return {name: one.plan for name, one in found.items() if isinstance(one, Planned)}


def _plans_json(found: Found) -> str:
    plain = {
        name: report.data(one.plan if isinstance(one, Planned) else one)
        for name, one in found.items()
    }
    return json.dumps(plain, indent=2)


def _show(found: Found, *, diffs: bool) -> None:
    plans = _plans(found)
    for machine, one in plans.items():
        for style, text in report.lines(machine, one, diffs=diffs):
            click.echo(click.style(text, **COLOURS[style]))  # type: ignore[arg-type]
    for error in found.values():
        if isinstance(error, MastioError):
            click.secho(error.message, fg="red", err=True)
            if error.hint:
                click.echo(f"  → {error.hint}", err=True)
    if plans:
        click.echo(report.summary(plans))


def _quiet(machine: str, event: Event) -> None:
    """Progress for nobody."""


@contextmanager
def _progress() -> Iterator[OnEvent]:
    """A line for each machine that shows its step; on a plain stream, a line for each step."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda machine, event: click.echo(f"{machine}: {_words(event)}", err=True)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True) as progress:

        def on_event(machine: str, event: Event) -> None:
            if machine not in tasks:
                tasks[machine] = progress.add_task(machine)
            progress.update(tasks[machine], description=f"{machine:12} {_words(event)[:80]}")

        yield on_event


def _words(event: Event) -> str:
    return f"{event['step']} {event['words']}".strip()


def _print_outcomes(outcomes: Mapping[str, Outcome]) -> None:
    wide = max(map(len, outcomes))
    for machine, one in outcomes.items():
        result = click.style("done  ", fg="green") if one.ok else click.style("failed", fg="red")
        first, *more = (one.words or "").splitlines() or [""]
        click.echo(f"{machine:{wide}}  {result}  {one.seconds:5.1f} s  {first}".rstrip())
        for text in more:
            click.echo(f"{'':{wide}}      {text}")


def plain(one: Outcome) -> dict[str, object]:
    return {"ok": one.ok, "words": one.words, "seconds": round(one.seconds, 2)}
