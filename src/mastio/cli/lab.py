"""`mastio lab`: the whole site as real Debian machines on this box."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click
from rich.console import Console
from rich.markup import escape
from rich.status import Status as Spinner
from rich.table import Table

from mastio.cli.common import App, pass_app
from mastio.lab import demo, forward, ground, host
from mastio.lab import up as lab_up
from mastio.lab.model import OUTSIDE
from mastio.lab.provider import Lab
from mastio.lab.transport import NspawnTransport

MIB = 1 << 20


class Progress:
    """Phases on the terminal: a spinner while one lasts, then its name and how long it took."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._spinner: Spinner | None = None
        self._title = ""

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Shows the phase until the context ends; a failed one leaves a cross."""
        begun, self._title = time.monotonic(), title
        mark = "[red]✗[/]"
        with self._console.status(title) as self._spinner:
            try:
                yield
                mark = "[green]✓[/]"
            finally:
                self._console.print(f"{mark} {title:<10}{time.monotonic() - begun:6.1f} s")
        self._spinner = None

    def note(self, text: str) -> None:
        """Warnings stay on the screen; the rest is what the spinner says for now."""
        if text.startswith("warning:"):
            self._console.print(f"  {escape(text)}")
        elif self._spinner:
            self._spinner.update(f"{self._title}: {escape(text)}")


@click.group()
def lab() -> None:
    """The whole site as machines on this box."""


@lab.command()
@click.option(
    "--port", envvar="MASTIO_PORT", default=forward.PORT, show_default=True, type=click.IntRange(1, 65535),
    help="The loopback port that leads to the webmail.",
)  # fmt: skip
@pass_app
def up(app: App, port: int) -> None:
    """Build, boot and configure every machine; goes on where an earlier run stopped."""
    begun = time.monotonic()
    host.require_root()
    if packages := host.missing():
        click.echo(
            f"installing the Debian packages that the lab needs: {', '.join(packages)}", err=True
        )
        host.install(packages)
    if not app.given and demo.found(app.site_file):
        click.echo(f"wrote {app.site_file}, a site to try things on", err=True)
    site = app.site()
    states = {**app.states(), OUTSIDE: ground.outside_state(site, app.vault)}
    people = lab_up.up(site, states, Progress(), port)
    click.echo(f"up in {time.monotonic() - begun:.1f} s\n")
    click.echo(
        f"the webmail  https://{host.LOOPBACK}:{port}/  (a certificate of the lab's own authority)"
    )
    for address, password in people.items():
        click.echo(f"  log in as  {address}  {password}")
    click.echo(f"  write to   {demo.correspondent()}, who is outside")
    click.echo(
        "look inside  mastio lab status, mastio lab shell store, mastio plan; end it: mastio lab down"
    )


@lab.command()
@click.option("--purge", is_flag=True, help="Throw away what the machines hold, too.")
@pass_app
def down(app: App, purge: bool) -> None:
    """Stop everything; nothing is left on the box but what the machines hold."""
    host.require_root()
    with Progress().phase("down"):
        Lab(app.site().name).down(purge=purge)


@lab.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def status(app: App, as_json: bool) -> None:
    """Show the machines: state, addresses, uptime, memory."""
    host.require_root()
    found = Lab(app.site().name).status()
    ways = forward.forwards(app.site().name)
    if as_json:
        machines = [asdict(it) for it in found]
        click.echo(
            json.dumps({"machines": machines, "forwards": [asdict(it) for it in ways]}, indent=2)
        )
        return
    if not found:
        click.echo("the lab has no machines; `mastio lab up` makes them")
        return
    table = Table("machine", "state", "addresses", "up", "memory", box=None)
    for it in found:
        lasted = "–" if it.seconds is None else _lasted(it.seconds)
        memory = "–" if it.memory is None else f"{it.memory // MIB} MiB"
        table.add_row(it.name, it.state, "\n".join(it.addresses), lasted, memory)
    Console().print(table)
    for way in ways:
        click.echo(f"https://{host.LOOPBACK}:{way.port}/ leads to {way.target}")


@lab.command()
@click.argument("machine")
@pass_app
def shell(app: App, machine: str) -> int:
    """Open a root shell on MACHINE."""
    term = os.environ.get("TERM", "dumb")
    return _inside(app, machine, ["env", f"TERM={term}", "bash", "--login"])


@lab.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("machine")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_app
def run(app: App, machine: str, command: tuple[str, ...]) -> int:
    """Run COMMAND on MACHINE and end with its exit code: `mastio lab run store -- doveconf -n`."""
    return _inside(app, machine, _after_dashes(command))


@lab.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("machine")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@pass_app
def logs(app: App, machine: str, options: tuple[str, ...]) -> int:
    """Show MACHINE's journal; OPTIONS are journalctl's: `mastio lab logs store -f -u dovecot`."""
    return _inside(app, machine, ["journalctl", "--no-pager", *_after_dashes(options)])


@lab.command()
@click.argument("machine")
@click.pass_context
@pass_app
def reset(app: App, ctx: click.Context, machine: str) -> None:
    """Throw away what MACHINE holds and make it anew."""
    host.require_root()
    site = app.site().name
    Lab(site).reset(machine)
    ctx.invoke(up, port=next((it.port for it in forward.forwards(site)), forward.PORT))


def _after_dashes(words: tuple[str, ...]) -> list[str]:
    """The words without the `--` that says where mastio's own options end."""
    return list(words[1:] if words[:1] == ("--",) else words)


def _inside(app: App, machine: str, command: list[str]) -> int:
    """Runs `command` on the machine with this terminal; its exit code."""
    host.require_root()
    site = app.site().name
    Lab(site).machine(machine)
    return subprocess.run(NspawnTransport(site).argv(machine, command), check=False).returncode


def _lasted(seconds: float) -> str:
    """A duration as people say it."""
    minutes = int(seconds) // 60
    if minutes >= 2 * 24 * 60:
        return f"{minutes // (24 * 60)} days"
    if minutes >= 2 * 60:
        return f"{minutes // 60} h"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"
