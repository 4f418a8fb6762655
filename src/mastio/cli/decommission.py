"""`mastio decommission`: a machine leaves the site."""

import json
import sys
from collections.abc import Callable
from typing import Any

import click

from mastio import onwatch
from mastio.adopt import pins
from mastio.apply import Outcome, site_lock
from mastio.cli.common import App, pass_app
from mastio.cli.former import machines_before, watch_of, way_to
from mastio.cli.plan import bring, plain
from mastio.errors import Exit, MastioError
from mastio.integrity.client import Integrity, who
from mastio.leaving import strip as leaving
from mastio.leaving.judge import Held, objections
from mastio.restoring.client import Restoring
from mastio.roles.backup import KEYS
from mastio.site.model import Machine
from mastio.transport import Transport
from mastio.watch.backups import octets

_WIPE = (
    "its provider's page deletes the disk with the machine; where the disk stays, from a rescue system "
    "`blkdiscard -f /dev/DISK` (flash), or `shred -n 1 /dev/DISK`"
)


@click.command()
@click.argument("machine")
@click.option("--host", help="As what OpenSSH reaches it, when watch does not know it any more.")
@click.option("--gone", is_flag=True, help="It is lost: only have the others forget it.")
@click.option(
    "--archives", type=click.Choice(["keep", "remove"]), default="keep", show_default=True,
    help="What becomes of its archives on watch.",
)  # fmt: skip
@click.option(
    "--wait", "seconds", default=120, show_default=True, help="Seconds that its queue may take."
)
@click.option("--anyway", is_flag=True, help="Though it holds what is nowhere else. That is lost.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_app
def decommission(
    app: App, machine: str, host: str | None, gone: bool, archives: str, seconds: int, anyway: bool,
    yes: bool, as_json: bool,
) -> Exit:  # fmt: skip
    """Take MACHINE out of the site, for good.

    First take it out of the site file (what it did, another machine must do), look at `mastio plan`, and do not
    apply: as long as the others know it, its queue can be delivered. Then

    \b
    mastio decommission old-gateway

    closes its mail doors and has what waits delivered; refuses (and opens the doors again) while a queue holds
    mail, or its mailboxes hold mail that no newer archive has, or it is the watch. It asks for the machine's name.
    Then it takes away all that mastio put there: keys, secrets, certificates, units, settings, last the firewall;
    root's door stays open for admins.keys. It applies the site file to the others, which takes away
    every way that the machine had to them: firewalls, certificates they ask for, ssh keys, its door for logs. Watch
    forgets its reference and alarms; logs stay. What is left on its disk is told, and how to wipe it.

    Cut short, run it again: what is done is not done again. Exits with 0 when it is out, 1 when it was
    refused or the others are not done, 69 when it does not answer (--gone, if it never will).
    """
    site = app.site()
    if machine in [it.name for it in site.machines]:
        raise MastioError(
            f"the site file still names {machine}",
            hint="take it out there (others take its roles), look at `mastio plan`, and run this before an apply",
            code=Exit.USAGE,
        )
    if not yes and not sys.stdin.isatty():
        raise MastioError(
            "decommission asks first, and nobody is there to answer",
            hint="use --yes",
            code=Exit.USAGE,
        )

    def tell(words: str) -> None:
        if not as_json:
            click.echo(words, err=True)

    former = machines_before(app)
    target = next((it for it in former if it.name == machine), None)
    if target is None and not host and not app.in_lab and not gone:
        raise MastioError(
            f"watch does not know {machine} (any more)",
            hint="--host HOST says as what ssh reaches it; --gone, that it is lost",
            code=Exit.USAGE,
        )
    told: dict[str, Any] = {"machine": machine, "left": {}}
    if gone:
        _confirm(machine, "It is given up as lost: what it holds is not looked at.", yes=yes)
    else:
        way = way_to(app, target or Machine(machine, (), "", ()), host)
        held = leaving.look(way, machine)
        if held["ours"]:
            tell(f"{machine}: closing its mail doors, emptying its queue")
            # It is asked before anything goes: whoever says no has its doors open again.
            held = _emptied(app, way, target, machine, seconds, anyway, tell)
            try:
                _confirm(machine, _holding(held), yes=yes)
            except click.Abort:
                leaving.reopen(way, machine)
                raise
            outcome = _strip(app, way, machine, tell)
            if not outcome.ok:
                raise MastioError(f"{machine}: {outcome.words}", code=outcome.code)
        else:
            tell(f"{machine}: nothing of mastio is on it any more")
        told["left"] = held["left"]
    passphrase = _passphrase(app, machine)
    tell("the others: whatever let it in goes")
    outcomes, late = bring(app, ask=False, quiet=as_json)
    told["others"] = {name: plain(it) for name, it in (outcomes or {}).items()}
    failed = [name for name, it in (outcomes or {}).items() if not it.ok]
    if not failed:
        told |= _forgotten(app, machine, archives, passphrase)
        _unpin(app, machine)
    _say(told, failed, as_json=as_json)
    return Exit.FAILED if failed else late


def _emptied(
    app: App, way: Transport, target: Machine | None, machine: str, seconds: int, anyway: bool,
    tell: Callable[[str], None],
) -> Held:  # fmt: skip
    """Once nothing speaks against it; else its doors are opened again."""
    try:
        held = leaving.drain(
            way, machine, 0 if anyway else seconds, lambda many: tell(f"{machine}: {many} wait")
        )
        found = list(
            objections(held, _archived(app, machine, held), target.roles if target else ())
        )
        if found and not anyway:
            words = "\n".join(f"{it.what}\n  → {it.hint}" for it in found)
            raise MastioError(
                f"{machine} stays: {words}",
                hint="--anyway gives it up, with all that it holds",
                code=Exit.FAILED,
            )
    except BaseException:
        leaving.reopen(way, machine)
        raise
    return held


def _archived(app: App, machine: str, held: Held) -> float | None:
    """When the newest archive of it was begun; None: there is none that can be read."""
    if not held["messages"]:
        return None
    try:
        return Restoring(app.site(), app.transport(), lambda _: None).choose(None, machine).at
    except MastioError:
        return None


def _holding(held: Held) -> str:
    kept = [f"{octets(size)} in {tree}" for tree, size in held["left"].items()]
    return f"On its disk stay {', '.join(kept)}." if kept else ""


def _confirm(machine: str, words: str, *, yes: bool) -> None:
    if yes:
        return
    if words:
        click.echo(words, err=True)
    if click.prompt(f"Type {machine} to take it out of the site", err=True) != machine:
        raise click.Abort


def _strip(app: App, way: Transport, machine: str, tell: Callable[[str], None]) -> Outcome:
    tell(f"{machine}: taking away what mastio put there")
    with site_lock(app.folder):
        return leaving.strip(way, machine, app.site(), lambda *_: None)


def _passphrase(app: App, machine: str) -> str:
    """What opens its archives: watch has it until the others are applied."""
    done = app.transport().run(watch_of(app.site()), ["cat", f"{KEYS}/{machine}"])
    return "" if done.code else done.stdout.decode()


def _forgotten(app: App, machine: str, archives: str, passphrase: str) -> dict[str, Any]:
    site, transport = app.site(), app.transport()
    order = {"archives": archives, "passphrase": passphrase, "by": who()}
    found: dict[str, Any] = {}
    for event in onwatch.events(transport, watch_of(site), "forget", [machine], order):
        found |= event
    Integrity(site, transport, app.folder).follow([found.pop("seal")])
    return found


def _unpin(app: App, machine: str) -> None:
    known = pins.read(app.folder)
    if machine in known:
        pins.write(app.folder, {name: key for name, key in known.items() if name != machine})


def _say(told: dict[str, Any], failed: list[str], *, as_json: bool) -> None:
    machine = told["machine"]
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for tree, size in told["left"].items():
        click.echo(f"  left on {machine}: {octets(size)} in {tree}")
    click.echo(f"  → {_WIPE}")
    if where := told.get("archives"):
        click.echo(
            f"its archives are on watch: {where} (repository, and the passphrase that opens it)"
        )
    if failed:
        click.secho(f"not done: {', '.join(failed)}; they may still let {machine} in", fg="red")
        click.echo(f"  → `mastio decommission {machine} --gone` goes on from there")
    else:
        click.secho(f"{machine} is out of the site. Look at `mastio dns --check`.", fg="green")
