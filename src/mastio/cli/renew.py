"""`mastio renew`: all that must be made anew before it expires, and on to the machines with it."""

import json
import os
import sys
from pathlib import Path

import click

from mastio import renewal, secrets
from mastio.apply import Planned, plan_all
from mastio.cli.common import App, pass_app
from mastio.cli.dkim import must_be_published
from mastio.cli.plan import bring, plain
from mastio.dns import rings
from mastio.errors import Exit, MastioError
from mastio.vault import Vault, identity_path

_SHOWN = 4
"""So many foreign changes are named."""


@click.command()
@click.option("--dry-run", is_flag=True, help="Tell what is due; change nothing, ask no machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--resolver", default="", metavar="ADDR", help="Ask this resolver for DKIM records.")
@click.option("--timer", is_flag=True, help="Print systemd units that do this each day.")
@pass_app
def renew(app: App, dry_run: bool, as_json: bool, resolver: str, timer: bool) -> Exit:
    """Make anew what is due, and apply it: safe to run each day, and again after it was interrupted.

    \b
    certificates inside the site   in the last third of their life, for the same keys
    the internal authority         the same; a successor is believed everywhere before it signs,
                                   the former one until what it signed is gone (three applies)
    DKIM keys                      after policy.dkim_days, if the next ones are in DNS;
                                   a week after these were made it is an error that they are not

    Public certificates from an authority on the internet are renewed by watch (`mastio certificates`).

    It does not ask, so it brings nothing else along: while machines wait for anything but a renewal it changes
    nothing (exit code 2; `mastio apply` first). Exits with 0 when nothing is due or all is done, 2 with --dry-run when
    something is due, 65 when a domain's next DKIM keys are not in DNS (the rest is done), 69 when a machine is
    unreachable.

    \b
    mastio renew --dry-run
    mastio renew --timer           what to put below ~/.config/systemd/user
    """
    if timer:
        click.echo(_units(app.folder), nl=False)
        return Exit.OK
    vault = Vault.open(app.folder)
    done = list(secrets.ensure(vault, app.site()))
    if dry_run:
        return _tell(done, renewal.step(vault), _dkim_due(app, vault), as_json)
    waiting = _waiting(app)
    signing, late = _dkim(app, resolver, quiet=as_json)
    done += signing
    outcomes, told = None, Exit.OK
    if waiting or done or renewal.step(app.vault):
        outcomes, told = bring(app, ask=False, quiet=as_json)
    while outcomes and all(it.ok for it in outcomes.values()):
        following = renewal.step(app.vault)
        if not following:
            break
        if not as_json:
            click.echo(f"authority: {following.words}")
        done += renewal.take(app.vault, app.site(), following)
        app.vault.save()
        outcomes, told = bring(app, ask=False, quiet=as_json)
    machines = outcomes or {}
    done = list(dict.fromkeys(done))
    if as_json:
        _print(
            {
                "renewed": done,
                "late": late,
                "machines": {name: plain(one) for name, one in machines.items()},
            }
        )
    else:
        if not all(it.ok for it in machines.values()):
            click.echo("`mastio renew` goes on where this stopped", err=True)
        click.echo(f"renewed: {', '.join(done)}" if done else "nothing was due")
    return max((told, *(it.code for it in machines.values()), *([Exit.DATA] if late else [])))


def _tell(
    made: list[str], following: renewal.Step | None, domains: list[str], as_json: bool
) -> Exit:
    due = bool(made or following or domains)
    if as_json:
        _print({"certificates": made, "authority": following, "dkim": domains})
    else:
        for name in made:
            click.echo(f"due: {name}")
        if following:
            click.echo(f"due: ca: {following.words}")
        for domain in domains:
            click.echo(f"due: the DKIM keys of {domain}")
        if not due:
            click.echo("nothing is due")
    return Exit.CHANGES if due else Exit.OK


def _waiting(app: App) -> bool:
    """Whether a machine waits for what was renewed; MastioError when one waits for anything else.

    Any command makes anew in the vault what is due there, and an apply may have been interrupted: that the vault is
    content says nothing of the machines.
    """
    states = app.states()
    renewed = app.states(renewal.another(app.vault, app.site()))
    found = plan_all(app.transport(), states)
    foreign = [
        f"{name}: {what}"
        for name, one in found.items()
        if isinstance(one, Planned)
        for what in renewal.foreign(one.plan, renewal.touched(states[name], renewed[name]))
    ]
    if foreign:
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        raise MastioError(
            f"machines wait for more than a renewal ({', '.join(foreign[:_SHOWN])}{more})",
            hint="look at `mastio plan`, then `mastio apply`, which brings what was renewed as well",
            code=Exit.CHANGES,
        )
    return any(not isinstance(one, Planned) or not one.plan.empty for one in found.values())


def _dkim(app: App, resolver: str, *, quiet: bool) -> tuple[list[str], list[str]]:
    """Lets the next DKIM keys sign where that is due: what was done, and whose next keys DNS does not know.

    Those that are not due are looked for as well: their record is put there by hand, once in `policy.dkim_days`,
    and on the day that they are to sign it would be late to notice.
    """
    done: list[str] = []
    due, today = _dkim_due(app, app.vault), secrets.today()
    wanted = [
        it
        for it in app.site().domains
        if it in due or rings.awaited(secrets.ring_of(app.vault, it), today)
    ]
    late = _unpublished(app, wanted, resolver)
    for domain in due:
        if domain in late:
            continue
        secrets.rotate_dkim(app.vault, app.site(), domain)
        done.append(f"dkim/{domain}")
        if not quiet:
            click.echo(f"{domain}: new DKIM keys; publish what `mastio dns` prints")
    for domain in app.site().domains:
        secrets.tidy_dkim(app.vault, app.site(), domain)
    app.vault.save()
    return done, list(late.values())


def _unpublished(app: App, domains: list[str], resolver: str) -> dict[str, str]:
    """The domains whose next DKIM keys DNS does not answer with, and what is wrong, which is told as well."""
    late: dict[str, str] = {}
    for domain in domains:
        try:
            must_be_published(app, [domain], resolver)
        except MastioError as error:
            late[domain] = f"{domain}: {error.message}"
            click.secho(f"warning: {late[domain]}", fg="yellow", err=True)
            if error.hint:
                click.echo(f"  → {error.hint}", err=True)
    return late


def _dkim_due(app: App, vault: Vault) -> list[str]:
    days = app.site().policy.dkim_days
    return [
        it
        for it in app.site().domains
        if rings.due(secrets.ring_of(vault, it), secrets.today(), days)
    ]


def _print(what: dict[str, object]) -> None:
    click.echo(json.dumps(what, indent=2))


def _units(folder: Path) -> str:
    program = Path(sys.argv[0]).resolve()
    command = f"{sys.executable} -m mastio" if program.name == "__main__.py" else str(program)
    setting = os.environ.get("PYTHONPATH")
    path = f'Environment="PYTHONPATH={setting}"\n' if setting else ""
    return f"""\
# ~/.config/systemd/user/mastio-renew.service
[Unit]
Description=mastio: what is due is renewed
After=network-online.target

[Service]
Type=oneshot
Environment="MASTIO_IDENTITY={identity_path().absolute()}"
{path}ExecStart={command} --site "{folder}" renew

# ~/.config/systemd/user/mastio-renew.timer
# Then: systemctl --user enable --now mastio-renew.timer; loginctl enable-linger
[Unit]
Description=mastio: each day

[Timer]
OnCalendar=daily
RandomizedDelaySec=1h
Persistent=yes

[Install]
WantedBy=timers.target
"""
