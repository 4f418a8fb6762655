"""`mastio secrets`: what the vault holds, and making it anew. Values are never printed."""

import json
from fnmatch import fnmatchcase

import click

from mastio import pki, rotation
from mastio.cli.common import App, pass_app


@click.group()
def secrets() -> None:
    """List and rotate the site's generated secrets.

    \b
    mastio secrets list                       names, how long certificates last, how each is made anew
    mastio secrets rotate 'host/*'            make some anew; then `mastio apply`
    mastio secrets rekey                      another key to the vault itself

    Rotation is for what somebody may have read. What only becomes old is renewed (`mastio renew`).
    """


@secrets.command("list")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@pass_app
def list_(app: App, as_json: bool) -> None:
    """Show the secrets' names, how long certificates last, and what makes each anew. Never a value."""
    vault = app.vault
    rows = [
        {
            "name": name,
            "days_left": round(pki.days_left(vault[name])) if name.endswith("/cert") else None,
            "anew": rotation.way(name, app.site(), vault),
        }
        for name in sorted(vault)
    ]
    wide = max(map(len, vault))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        left = "" if row["days_left"] is None else f"{row['days_left']} days left"
        click.echo(f"{row['name']:{wide}}  {left:14}  {row['anew']}".rstrip())
    click.echo("\nIn no vault:")
    for it in rotation.ELSEWHERE:
        click.echo(f"{it.what}\n    {it.way}")


@secrets.command()
@click.argument("names", nargs=-1, required=True)
@pass_app
def rotate(app: App, names: tuple[str, ...]) -> None:
    """Make the secrets that match NAMES anew (wildcards allowed); `mastio apply` brings them out.

    Mail waits in queues for that apply, and none is lost. Keys of which DNS or a public authority must know before they
    are used have commands of their own, which keep the order (`mastio secrets list` names them); here they are refused.

    \b
    mastio secrets rotate 'host/store'        the store's certificate
    mastio secrets rotate ca                  the internal authority, and all that it signed
    mastio secrets rotate webmail/des-key     one token (its users log in again)
    """
    from mastio import secrets as needs

    vault = app.vault
    rotation.plain(needs.select(vault, names), app.site(), vault)
    made = needs.rotate(vault, app.site(), names)
    vault.save()
    for name in made:
        click.echo(f"new: {name}")
    for pattern, words in rotation.AFTER:
        if any(fnmatchcase(name, pattern) for name in made):
            click.echo(f"Afterwards: {words}.")
    click.echo("Now run `mastio apply` to bring them to the machines.")


@secrets.command()
@pass_app
def rekey(app: App) -> None:
    """Encrypt the vault to a new key (age identity), the former of which somebody may have read.

    The new key comes first in the identity's file. The former stays below it, for other sites' vaults and for older
    copies of this one; delete its line when none needs it. Who had that key and a copy of the vault has read all that
    was in it: rotate that as well.
    """
    path = app.vault.rekey()
    click.echo(f"{path}: a new key; the vault is encrypted to it alone.")
    click.echo("Copy the file to where it is kept safe, and to the other administrators.")
