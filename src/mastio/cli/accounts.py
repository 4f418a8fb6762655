"""`mastio domain | user | alias | sync`: the accounts directory on the store, and who may get mail.

Every change is applied whole or refused whole (exit code 65).
"""

from collections.abc import Callable

import click

from mastio.accounts.client import Domain
from mastio.accounts.model import (
    AddAlias,
    AddDomain,
    ChangeAlias,
    ChangeDomain,
    DeleteAlias,
    DeleteDomain,
)
from mastio.cli.common import App, pass_app
from mastio.cli.directory import (
    accounts,
    canonical,
    carry_out,
    find,
    json_flag,
    print_one,
    print_rows,
    remark,
    report,
)
from mastio.cli.users import user
from mastio.errors import Exit
from mastio.site import values

__all__ = ["alias", "domain", "sync", "user"]


@click.group()
def domain() -> None:
    """Mail domains. Those of the site file are always there."""


@domain.command("add")
@click.argument("name")
@click.option(
    "--catch-all", default="", metavar="ADDR", help="Who gets the mail to unknown addresses."
)
@json_flag
@pass_app
def domain_add(app: App, name: str, catch_all: str, as_json: bool) -> Exit:
    """Add a domain."""
    code = carry_out(app, [AddDomain(name, catch_all)], as_json)
    if canonical(values.domain, name) not in app.site().domains:
        remark(
            f"{name} gets mail now; DKIM, SPF, DMARC, MTA-STS and filter settings it has only once it stands in "
            "the site file too: `domains` in site.toml, then `mastio apply`, and publish what `mastio dns` prints"
        )
    return code


@domain.command("list")
@json_flag
@pass_app
def domain_list(app: App, as_json: bool) -> None:
    """List all domains, and mark those that are not in the site file: their mail is not signed."""
    standing = _standing(app)
    print_rows(
        accounts(app).listing().domains,
        as_json,
        lambda it: (
            it.name,
            f"{it.users} users",
            f"{it.aliases} aliases",
            it.catch_all,
            "" if standing(it)["in_site_file"] else "not in the site file",
        ),
        standing,
    )


def _standing(app: App) -> Callable[[Domain], dict[str, bool]]:
    """Whether a domain has what only the site file gives."""
    declared = app.site().domains
    return lambda it: {"in_site_file": it.name in declared}


@domain.command("show")
@click.argument("name")
@json_flag
@pass_app
def domain_show(app: App, name: str, as_json: bool) -> None:
    """Show one domain."""
    found = find(accounts(app).listing().domains, canonical(values.domain, name), "domain")
    print_one(found, as_json, _standing(app))


@domain.command("change")
@click.argument("name")
@click.option("--catch-all", metavar="ADDR", help="Who gets the mail to unknown addresses.")
@click.option("--no-catch-all", is_flag=True, help="Mail to unknown addresses is refused.")
@json_flag
@pass_app
def domain_change(
    app: App, name: str, catch_all: str | None, no_catch_all: bool, as_json: bool
) -> Exit:
    """Change a domain's catch-all."""
    if (catch_all is None) != no_catch_all:
        raise click.UsageError("give either --catch-all ADDR or --no-catch-all")
    return carry_out(app, [ChangeDomain(name, catch_all or "")], as_json)


@domain.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@json_flag
@pass_app
def domain_delete(app: App, names: tuple[str, ...], as_json: bool) -> Exit:
    """Delete domains, which must have no users and no aliases."""
    return carry_out(app, [DeleteDomain(it) for it in names], as_json)


@click.group()
def alias() -> None:
    """Addresses that lead elsewhere."""


@alias.command("add")
@click.argument("address")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@json_flag
@pass_app
def alias_add(app: App, address: str, targets: tuple[str, ...], as_json: bool) -> Exit:
    """Add an alias that leads to the TARGETs, here or elsewhere."""
    return carry_out(app, [AddAlias(address, targets)], as_json)


@alias.command("list")
@json_flag
@pass_app
def alias_list(app: App, as_json: bool) -> None:
    """List all aliases."""
    print_rows(
        accounts(app).listing().aliases,
        as_json,
        lambda it: (it.address, f"→ {', '.join(it.targets)}"),
    )


@alias.command("show")
@click.argument("address")
@json_flag
@pass_app
def alias_show(app: App, address: str, as_json: bool) -> None:
    """Show one alias."""
    print_one(
        find(accounts(app).listing().aliases, canonical(values.mail, address), "alias"), as_json
    )


@alias.command("change")
@click.argument("address")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@json_flag
@pass_app
def alias_change(app: App, address: str, targets: tuple[str, ...], as_json: bool) -> Exit:
    """Let an alias lead to the TARGETs, and nowhere else."""
    return carry_out(app, [ChangeAlias(address, targets)], as_json)


@alias.command("delete")
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
@json_flag
@pass_app
def alias_delete(app: App, addresses: tuple[str, ...], as_json: bool) -> Exit:
    """Delete aliases."""
    return carry_out(app, [DeleteAlias(it) for it in addresses], as_json)


@click.command()
@json_flag
@pass_app
def sync(app: App, as_json: bool) -> Exit:
    """Give the gateways the current list of recipients. Harmless when they have it."""
    return report([], accounts(app).sync(), as_json)
