"""`mastio status`: the site at a glance."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import click

from mastio.cli.common import COLOURS, App, pass_app
from mastio.errors import Exit, MastioError
from mastio.report import status as report
from mastio.server.contact import Server
from mastio.status import metrics
from mastio.status.glance import Level
from mastio.status.look import look
from mastio.transport import ServerTransport


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--metrics", "as_metrics", is_flag=True, help="Print Prometheus's text format.")
@pass_app
def status(app: App, as_json: bool, as_metrics: bool) -> Exit:
    """What needs a person, how every machine is, and what watch found by itself.

    Each machine is asked once, all at the same time: uptime, load, memory, disks, failed units, the mail queue; and
    the physical server that carries them, where one does, as by `mastio machines check`.
    Exit code 0 when nothing is bad, 1 when something is. `mastio verify` looks more closely.
    """
    if as_json and as_metrics:
        raise click.UsageError("--json and --metrics are two ways to print the same")
    with ThreadPoolExecutor(1) as beside:
        carrier = beside.submit(_server, app)
        seen = replace(look(app.site(), app.transport()), server=carrier.result())
    if as_json:
        click.echo(json.dumps(report.data(seen), indent=2))
    elif as_metrics:
        click.echo(metrics.exposition(seen, time.time()), nl=False)
    else:
        for style, text in report.lines(seen):
            click.secho(text, **COLOURS[style])  # type: ignore[arg-type]
    return Exit.FAILED if seen.level is Level.BAD else Exit.OK


def _server(app: App) -> tuple[str, ...]:
    """What is wrong with the server that carries the machines; () where none does."""
    transport = app.transport()
    if not isinstance(transport, ServerTransport):
        return ()
    server = Server(app.site(), transport)
    try:
        return server.findings(server.look())
    except MastioError as error:
        return (f"cannot be asked: {error.message}",)
