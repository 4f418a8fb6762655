"""`mastio status`: the site at a glance."""

import json
import time

import click

from mastio.cli.common import COLOURS, App, pass_app
from mastio.errors import Exit
from mastio.report import status as report
from mastio.status import metrics
from mastio.status.glance import Level
from mastio.status.look import look


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--metrics", "as_metrics", is_flag=True, help="Print Prometheus's text format.")
@pass_app
def status(app: App, as_json: bool, as_metrics: bool) -> Exit:
    """What needs a person, how every machine is, and what watch found by itself.

    Each machine is asked once, all at the same time: uptime, load, memory, disks, failed units, the mail queue.
    Exit code 0 when nothing is bad, 1 when something is. `mastio verify` looks more closely.
    """
    if as_json and as_metrics:
        raise click.UsageError("--json and --metrics are two ways to print the same")
    seen = look(app.site(), app.transport())
    if as_json:
        click.echo(json.dumps(report.data(seen), indent=2))
    elif as_metrics:
        click.echo(metrics.exposition(seen, time.time()), nl=False)
    else:
        for style, text in report.lines(seen):
            click.secho(text, **COLOURS[style])  # type: ignore[arg-type]
    return Exit.FAILED if seen.level is Level.BAD else Exit.OK
