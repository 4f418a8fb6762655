"""`mastio secrets`: what the vault holds, and making it anew. Values are never printed."""

import json

import click

from mastio import pki
from mastio.cli.common import App, pass_app


@click.group()
def secrets() -> None:
    """List and rotate the site's generated secrets."""


@secrets.command("list")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@pass_app
def list_(app: App, as_json: bool) -> None:
    """Show the secrets' names, and how long certificates last. Never a value."""
    vault = app.vault
    rows = [
        {
            "name": name,
            "days_left": round(pki.days_left(vault[name])) if name.endswith("/cert") else None,
        }
        for name in sorted(vault)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        left = "" if row["days_left"] is None else f"  {row['days_left']} days left"
        click.echo(f"{row['name']}{left}")


@secrets.command()
@click.argument("names", nargs=-1, required=True)
@pass_app
def rotate(app: App, names: tuple[str, ...]) -> None:
    """Make the secrets that match NAMES anew (wildcards allowed); `mastio apply` brings them out.

    \b
    mastio secrets rotate 'host/store'        the store's certificate
    mastio secrets rotate ca                  the internal authority, and all that it signed
    mastio secrets rotate webmail/des-key     one token (its users log in again)
    """
    from mastio import secrets as needs

    vault = app.vault
    made = needs.rotate(vault, app.site(), names)
    vault.save()
    for name in made:
        click.echo(f"new: {name}")
    click.echo("Now run `mastio apply` to bring them to the machines.")
