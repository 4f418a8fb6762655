"""`mastio ban list | add | lift`: clients that the firewall keeps out."""

import json
import re
import time
from dataclasses import asdict

import click

from mastio.bans import Bans
from mastio.cli.common import App, pass_app
from mastio.cli.directory import json_flag
from mastio.errors import Exit, MastioError
from mastio.report.words import UNITS, span
from mastio.site import values

_LONGEST = 365


@click.group()
def ban() -> None:
    """Clients that are kept out, for a time. Repeated offences add themselves."""


@ban.command("list")
@json_flag
@pass_app
def ban_list(app: App, as_json: bool) -> None:
    """List the bans in force."""
    found = _bans(app).all()
    if as_json:
        click.echo(json.dumps([asdict(it) for it in found], indent=2))
        return
    if not found:
        click.echo("nobody is banned")
    for it in found:
        left = span(it.until - time.time())
        click.echo(
            f"{it.client}  for {left} more  {it.reason or 'no reason given'}  ({it.machine})"
        )


@ban.command("add")
@click.argument("address")
@click.option(
    "--for",
    "time_",
    default="1d",
    show_default=True,
    metavar="TIME",
    help="Such as 90s, 15m, 12h, 7d.",
)
@click.option("--reason", default="by hand", metavar="TEXT", help="What `ban list` shows.")
@json_flag
@pass_app
def ban_add(app: App, address: str, time_: str, reason: str, as_json: bool) -> None:
    """Keep ADDRESS out: an IPv4 address, or the /64 of an IPv6 address.

    A longer ban is never shortened; lift it first. The site's own machines and its administrators' networks
    are refused.
    """
    seconds = _seconds(time_)
    client = _bans(app).add(_address(address), seconds, reason)
    if as_json:
        click.echo(json.dumps({"client": client, "seconds": seconds}))
    else:
        click.echo(f"{client} is banned for {span(seconds)}")


@ban.command("lift")
@click.argument("address")
@json_flag
@pass_app
def ban_lift(app: App, address: str, as_json: bool) -> None:
    """Let ADDRESS in again."""
    # as `ban list` shows it, or any address of it
    lifted = _bans(app).lift(_address(address.partition("/")[0]))
    if as_json:
        click.echo(json.dumps({"lifted": lifted}))
    elif lifted:
        click.echo(f"{', '.join(lifted)} may come in again")
    else:
        raise MastioError(
            f"{address} is not banned", hint="`mastio ban list` shows who is", code=Exit.DATA
        )


def _bans(app: App) -> Bans:
    return Bans(app.site(), app.transport())


def _address(text: str) -> str:
    try:
        return str(values.address(text))
    except ValueError as error:
        raise MastioError(str(error), code=Exit.USAGE) from None


def _seconds(text: str) -> int:
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    seconds = int(found[1]) * UNITS[found[2]] if found else 0
    if not 0 < seconds <= _LONGEST * UNITS["d"]:
        raise MastioError(
            f"{text!r} is no time",
            hint=f"such as 90s, 15m, 12h, 7d; at most {_LONGEST}d",
            code=Exit.USAGE,
        )
    return seconds
