"""`mastio move`: what a machine did goes to others, with all that it holds."""

import json
import sys
from dataclasses import asdict

import click

from mastio.apply import site_lock
from mastio.cli.common import App, pass_app
from mastio.cli.former import machines_before, recorded, way_to
from mastio.cli.rebuild import gateways_told
from mastio.errors import Exit, MastioError
from mastio.moving.client import Moved, Moving
from mastio.report.words import span
from mastio.site.model import Machine
from mastio.transport import Transport


@click.command()
@click.argument("machine")
@click.option("--host", help="As what OpenSSH reaches it, when the site file does not name it.")
@click.option(
    "--copy-only", is_flag=True, help="Copy while everything goes on; say nothing to anybody."
)
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_app
def move(
    app: App, machine: str, host: str | None, copy_only: bool, yes: bool, as_json: bool
) -> Exit:
    """Move what MACHINE holds to the machines that the site file gives its roles.

    So a site grows: from one machine to five, or a store to a larger one. Name the new machines in the site file,
    leave the old one out, and

    \b
    mastio adopt                   the new ones (if mastio did not make them)
    mastio apply                   they stand, empty; the old one serves on
    mastio move old --copy-only    as often as you like, with the site at work
    mastio move old                the rest, within seconds; then they serve
    mastio dns                     publish it: that is where mail and browsers go now
    mastio decommission old        when its name is out of DNS everywhere

    In between the old machine's doors close, mail on its way gets into its mailboxes, everything stands still, what
    changed since is copied, with accounts, users' settings, what the filter learned, quarantine and queues, and of a
    watch logs and archives; then the others open. Should anything go wrong before that, the old machine opens again.
    Afterwards it hands browsers on and refuses mail, which its senders bring again, to where DNS says.

    A machine that holds mail of its own takes none this way. Cut short, run it again. Exits with 69 when one cannot
    be reached.
    """
    if not copy_only and not yes and not sys.stdin.isatty():
        raise MastioError(
            "move asks first, and nobody is there to answer", hint="use --yes", code=Exit.USAGE
        )

    def tell(words: str) -> None:
        if not as_json:
            click.echo(words, err=True)

    target, former, way = _known(app, machine, host)
    with site_lock(app.folder):
        moving = Moving(app.site(), app.transport(), target, former, way, tell)
        if not moving.duties:
            raise MastioError(
                f"{machine} keeps all that it does: there is nothing to move",
                hint="give its roles to other machines in the site file first",
                code=Exit.USAGE,
            )
        for it in moving.duties:
            tell(f"{it.role}: from {machine} to {' and '.join(it.takers)}")
        done: Moved | None = None
        if moving.look():
            tell(f"{machine} has moved; what is left of it there is seen to")
            moving.open_others()
            moving.leave_behind()
        else:
            # Most is copied while nobody waits; what changes meanwhile is little, and then less.
            while moving.copy() > _FEW and not copy_only:
                continue
            if copy_only:
                return _copied(machine, as_json=as_json)
            if not yes:
                click.confirm(
                    f"All is copied but what changes now. Close {machine} and open the others?",
                    abort=True, err=True,
                )  # fmt: skip
            done = moving.over()
    late = gateways_told(app)
    _say(machine, done, late, as_json=as_json)
    return Exit.UNAVAILABLE if late else Exit.OK


_FEW = 200
"""So many files are copied in no time."""


def _known(
    app: App, machine: str, host: str | None
) -> tuple[Machine, tuple[Machine, ...], Transport]:
    """What it was as of the last apply, who was beside it, and the way there."""
    way = way_to(app, Machine(machine, (), "", ()), host)
    for found in (machines_before(app), recorded(way, machine)):
        if target := next((it for it in found if it.name == machine), None):
            return target, found, way_to(app, target, host)
    raise MastioError(
        f"neither watch nor {machine} knows what {machine} was",
        hint="a machine that is no watch is moved before watch forgets it: `mastio apply` the new machine alone, "
        "move, then apply all",
        code=Exit.DATA,
    )


def _copied(machine: str, *, as_json: bool) -> Exit:
    if as_json:
        click.echo(json.dumps({"machine": machine, "moved": False}))
    else:
        click.echo(
            f"copied; {machine} serves on. `mastio move {machine}` copies the rest and changes over"
        )
    return Exit.OK


def _say(machine: str, done: Moved | None, late: list[str], *, as_json: bool) -> None:
    if as_json:
        told = {"machine": machine, "moved": True, **(asdict(done) if done else {}), "late": late}
        click.echo(json.dumps(told, indent=2))
        return
    if done:
        away = f"; the webmail was away for {span(done.webmail_away)}" if done.webmail_away else ""
        click.secho(
            f"{machine} has moved: {done.files} files, {done.waiting} messages from queues{away}",
            fg="green",
        )
    for why in late:
        click.secho(f"warning: {why}", fg="yellow", err=True)
    click.echo("  → publish what `mastio dns` prints, and look with `mastio dns --check`")
    click.echo(
        f"  → then `mastio verify`; when DNS has forgotten {machine}: `mastio decommission {machine}`"
    )
