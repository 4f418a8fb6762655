"""`mastio drill`: what if. Nothing is changed on any machine."""

import json

import click

from mastio.cli.common import COLOURS, App, pass_app
from mastio.cli.verify import CODES, ground_of, progress
from mastio.errors import Exit, MastioError
from mastio.report import drill as text
from mastio.verify import breach as judge
from mastio.verify import registry, runner


@click.group()
def drill() -> None:
    """What if: suppose the worst, and see what it would mean."""


@drill.command()
@click.argument("machines", nargs=-1, metavar="[MACHINE]...")
@click.option(
    "--fast/--full", "fast", default=True, help="Try the usual ports, or all 65,535 of them."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_app
def breach(app: App, machines: tuple[str, ...], fast: bool, as_json: bool) -> Exit:
    """Take machines, all when none is named, as broken into, and see what the intruder has.

    What can be reached from there, which secrets lie there, and what mail could be read or sent, each found by
    looking and compared with what the design grants that machine. Only paths are printed, never what is in
    them. Exits with 1 when something is found that is not granted, 69 when something could not be looked at.
    """
    site = app.site()
    known = [it.name for it in site.machines]
    if wrong := sorted({*machines} - {*known}):
        raise MastioError(
            f"no such machine: {', '.join(wrong)}", hint=f"this site has {', '.join(known)}", code=Exit.USAGE
        )  # fmt: skip
    ground = ground_of(app, full=not fast)
    checks = registry.choose(site, full=not fast, only=judge.LOOKS)
    with progress(as_json) as tell:
        run = runner.run(ground, checks, tell, at=machines or known)
    found = judge.exposures(ground.matrix, run)
    if as_json:
        click.echo(json.dumps(text.data(found), indent=2))
    else:
        for style, words in text.lines(found):
            click.echo(click.style(words, **COLOURS[style]))  # type: ignore[arg-type]
    return CODES[text.worst(found)]
