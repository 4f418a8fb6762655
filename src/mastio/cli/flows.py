"""`mastio flows`: the flow matrix of the site, as a table, as JSON, or as a picture."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from mastio import picture
from mastio.cli.common import App, pass_app
from mastio.errors import Exit, MastioError
from mastio.flows import Flow, expand


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object for each flow.")
@click.option(
    "--picture",
    "picture_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.svg",
    help="Draw zones, machines and flows into this file instead (needs Graphviz).",
)
@pass_app
def flows(app: App, as_json: bool, picture_file: Path | None) -> None:
    """Show who may talk to whom, on which service, and why. All the rest is closed.

    Where two roles are on one machine, what they say to each other leads to `itself`: no packet leaves it.
    """
    matrix = expand(app.site())
    if picture_file:
        drawing = picture.draw(matrix)
        try:
            picture_file.write_text(drawing)
        except OSError as error:
            raise MastioError(
                f"{picture_file}: {error.strerror}", hint="name a file that can be written",
                code=Exit.CANT_CREATE,
            ) from error  # fmt: skip
        click.echo(f"wrote {picture_file}", err=True)
    if as_json:
        click.echo(json.dumps([_plain(flow) for flow in (*matrix.flows, *matrix.inner)], indent=2))
    elif not picture_file:
        console = Console()
        # A pipe or a file has no width of its own: one flow, one line.
        if not console.is_terminal:
            console.width = 160
        console.print(_table((*matrix.flows, *matrix.inner)))


def _plain(flow: Flow) -> dict[str, str | int | list[str]]:
    return {
        "source": flow.source,
        "target": flow.target,
        "service": flow.service.name,
        "port": flow.service.port,
        "transports": [str(it) for it in flow.service.transports],
        "protection": str(flow.protection),
        "why": flow.why,
    }


def _table(found: tuple[Flow, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("from", "to", "service", "port", "transport", "protection", "why"):
        table.add_column(title, justify="right" if title == "port" else "left", overflow="fold")
    for flow in found:
        transports = "/".join(flow.service.transports)
        target = flow.target if flow.target != flow.source else "itself"
        table.add_row(
            flow.source, target, flow.service.name, str(flow.service.port), transports,
            str(flow.protection), flow.why,
        )  # fmt: skip
    return table
