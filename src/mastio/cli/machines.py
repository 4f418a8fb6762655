"""`mastio machines`: the site's machines on one physical server."""

import json

import click
from rich.console import Console
from rich.table import Table

from mastio.cli.common import App, pass_app
from mastio.cli.lab import Progress
from mastio.errors import Exit, MastioError
from mastio.server.contact import Server
from mastio.transport import ServerTransport


@click.group()
def machines() -> None:
    """All machines of the site on one physical server.

    The server is any Debian 13 with one public address and room for the machines. In the site file:

    \b
    reach = "server"
    [server]
    ssh = "root@server.example.org"      a name, or a Host of your ssh_config

    `mastio machines up` makes the machines there with systemd-nspawn: each with users of its own, a limit on its
    memory, wires into its zones alone. They start with the server. Then go on as anywhere: mastio plan, apply, verify.
    """


def _server(app: App) -> Server:
    transport = app.transport()
    if not isinstance(transport, ServerTransport):
        raise MastioError(
            "the site's machines are not on one physical server",
            hint='in the site file say reach = "server" and, in [server], ssh = the name by which ssh gets there',
            code=Exit.DATA,
        )
    return Server(app.site(), transport)


@machines.command()
@click.option(
    "--anyway", is_flag=True, help="Take a server on which something else is, or has been."
)
@pass_app
def up(app: App, anyway: bool) -> None:
    """Make what lacks and start all; goes on where an earlier run stopped.

    The server is looked at first: one that is not fit is refused, and nothing is changed. The first time it takes
    some minutes, since packages are fetched there. The server's own firewall lets in ssh from admins.networks alone;
    were you locked out by it, it would go away again after two minutes.
    """
    server, show = _server(app), Progress()
    with show.phase("look"):
        look = server.look()
    objections = server.objections(look)
    if objections and not (anyway and not any(it.final for it in objections)):
        final = any(it.final for it in objections)
        raise MastioError(
            "the server is not fit: " + "; ".join(it.what for it in objections),
            hint="mend it, then run it again" if final else "if that is as it should be: --anyway",
            code=Exit.FAILED,
        )
    with show.phase("machines"):
        for note in server.up(app.states(), look):
            show.note(note)
            click.echo(f"  {note}", err=True)
    click.echo(
        f"{len(app.site().machines)} machines run on {app.site().server}. Next: mastio plan, mastio apply"
    )


@machines.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def status(app: App, as_json: bool) -> None:
    """Show the machines as the server sees them: state, memory and its limit, uptime."""
    facts = _server(app).look().facts
    if as_json:
        click.echo(json.dumps(facts["machines"], indent=2))
        return
    table = Table("machine", "state", "memory", "up", "at boot", box=None)
    for name, it in facts["machines"].items():
        state = it["system"] or ("stopped" if it["there"] else "not there")
        limit = f"{it['memory']} of {it['limit'] or '∞'} MiB" if it["active"] else "–"
        up_ = f"{it['seconds'] // 3600} h {it['seconds'] // 60 % 60} min" if it["active"] else "–"
        table.add_row(name, state, limit, up_, "yes" if it["enabled"] else "no")
    Console().print(table)


@machines.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def check(app: App, as_json: bool) -> Exit:
    """Audit the server: its files, firewall, limits, what it serves, its updates. Exit code 1: it is not well."""
    server = _server(app)
    look = server.look()
    found = server.findings(look)
    if as_json:
        click.echo(json.dumps({"findings": found, "facts": look.facts}, indent=2))
    else:
        for sentence in found:
            click.echo(f"{click.style('✗', fg='red')} {sentence}")
        click.echo(
            "`mastio machines up` puts right what is its own."
            if found
            else "The server is as it should be."
        )
    return Exit.FAILED if found else Exit.OK


@machines.command()
@click.confirmation_option(
    prompt="Stop all machines of the site, so that mail waits at its senders?"
)
@pass_app
def down(app: App) -> None:
    """Stop all machines, in good order, and start none at boot. What they hold stays; `up` starts them again."""
    with Progress().phase("stop"):
        _server(app).stop()
