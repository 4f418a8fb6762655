"""`mastio certificates`: what the internet sees of the site, from whom it is, and how long it lasts."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from mastio import certificates as held
from mastio import onwatch, pki, secrets
from mastio.cli.common import App, pass_app
from mastio.dns import check, zone
from mastio.errors import Exit, MastioError
from mastio.roles.certificates import TSIG, given, names
from mastio.site.model import Role

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(invoke_without_command=True)
@click.pass_context
def certificates(ctx: click.Context) -> None:
    """Public certificates: by an authority on the internet (acme.* in the site file), or your own.

    \b
    mastio certificates                           how they stand
    mastio certificates renew                     now, whether due or not
    mastio certificates rotate mx.example.org     the next key takes its turn, without a gap
    mastio certificates request mx.example.org    what another authority must sign …
    mastio certificates give mx.example.org chain.pem       … and what it signed
    """
    if ctx.invoked_subcommand is None:
        sys.exit(ctx.invoke(status))


@certificates.command()
@_JSON
@pass_app
def status(app: App, as_json: bool) -> Exit:
    """Show each certificate: whose, from whom, how many days are left, whether servers show it.

    Exit code 1 when something is wrong with one of them, 69 when watch does not answer.
    """
    site, vault = app.site(), app.vault
    asked = {it["host"]: it for it in _events(app, "status")} if site.acme.directory else {}
    rows = []
    for host in names(site):
        cert = vault[f"public/{host}/cert"]
        source = "given" if given(host) in vault else "authority" if host in asked else "interim"
        row = {
            "host": host, "source": source, "names": sorted(pki.names(cert)),
            "days_left": round(pki.days_left(cert), 2), "failed": "", "machines": {},
        }  # fmt: skip
        rows.append(row | asked.get(host, {}))
    return _show(rows, as_json)


def _show(rows: list[dict[str, Any]], as_json: bool) -> Exit:
    bad = [it for it in rows if it["failed"] or any(it["machines"].values())]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return Exit.FAILED if bad else Exit.OK
    for it in rows:
        left = "none yet" if it["days_left"] is None else f"{it['days_left']:.0f} days left"
        whose = it.get("issuer") or it.get("source", "")
        click.echo(f"{it['host']}  {left}  ({whose})")
        if it["failed"]:
            click.secho(f"    not renewed: {it['failed']}", fg="red")
        for machine, why in it["machines"].items():
            click.secho(f"    {machine}: {why or 'shows it'}", fg="red" if why else None)
    if bad:
        click.echo(
            "  → `mastio certificates renew` tries again; `mastio logs watch` has more", err=True
        )
    return Exit.FAILED if bad else Exit.OK


@certificates.command()
@click.argument("hosts", nargs=-1, metavar="[HOST]...")
@_JSON
@pass_app
def renew(app: App, hosts: tuple[str, ...], as_json: bool) -> Exit:
    """Get new certificates for the same keys now, and have them shown. Watch does it by itself when due.

    Authorities count orders: a few for a name each week is all that most allow.
    """
    return _show([*_events(app, "now", hosts, quiet=as_json)], as_json)


@certificates.command()
@click.argument("host")
@click.option("--anyway", is_flag=True, help="Even if DNS does not show the next key yet.")
@pass_app
def rotate(app: App, host: str, anyway: bool) -> Exit:
    """Let the next key of HOST take its turn; `mastio apply` then has it shown.

    The order is kept for you: the next key must be in DNS (TLSA) already, an authority signs for it before
    anything changes, and a new next key comes.
    """
    site, vault = app.site(), app.vault
    held.known(site, host)
    if given(host) in vault:
        raise MastioError(
            f"the certificate of {host} was given by you",
            hint=f"`mastio certificates request {host} --next` prints what must be signed for its next key",
            code=Exit.USAGE,
        )
    if host == site.mx_host and not anyway:
        _announced(app)
    if site.acme.directory:
        for row in _events(app, "prepare", (host,)):
            if why := row["failed"] or next(filter(None, row["machines"].values()), ""):
                raise MastioError(
                    f"{host}: no certificate for the next key: {why}", hint="nothing was changed"
                )
    secrets.rotate(vault, site, [f"public/{host}"])
    vault.save()
    click.echo(f"{host} has its next key. Now `mastio apply` has it shown.")
    if host == site.mx_host:
        click.echo("Then put the key after it into DNS: `mastio dns` prints its TLSA record.")
    return Exit.OK


def _announced(app: App) -> None:
    """Refuses while DNS does not show the TLSA records."""
    from mastio.cli.dns import look_up

    found = [it for it in zone.records(app.site(), app.vault) if it.type == "TLSA"]
    for finding in check.compare(found, look_up(app, found)):
        if finding.missing or finding.failure:
            raise MastioError(
                f"{finding.owner} TLSA does not show the next key: {finding.failure or finding.missing[0]}",
                hint="publish it (`mastio dns`), and wait until nobody has the old answer any more; "
                "without DANE: --anyway",
                code=Exit.CHANGES,
            )


@certificates.command()
@click.argument("host")
@click.option("--next", "following", is_flag=True, help="For the key that will follow.")
@pass_app
def request(app: App, host: str, following: bool) -> None:
    """Print a certificate request (PKCS #10) for the key of HOST, for an authority of your choice.

    The key stays in the vault, and its TLSA record stays true. `mastio certificates give` takes what comes back.
    """
    wanted = held.known(app.site(), host)
    name = secrets.following(host) if following else f"public/{host}/key"
    if name not in app.vault:
        raise MastioError(f"{host} has no next key", hint="leave --next out", code=Exit.USAGE)
    click.echo(pki.request(app.vault[name], *wanted), nl=False)


@certificates.command()
@click.argument("host")
@click.argument("chain", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its private key, when it is none of the vault's.",
)
@pass_app
def give(app: App, host: str, chain: Path, key: Path | None) -> Exit:
    """Take a certificate of your own for HOST: the file CHAIN, PEM, the server's first.

    A key of the MX that is not in DNS yet is announced first (exit code 2): publish its TLSA record, give it again.
    """
    vault, site = app.vault, app.site()
    outcome = held.give(
        vault, site, host, chain.read_text("utf-8"), key.read_text("utf-8") if key else ""
    )
    vault.save()
    if outcome is held.Outcome.ANNOUNCED:
        click.echo(f"The key is the next one of {host}, and not yet used.")
        click.echo(
            "  → put its TLSA record into DNS (`mastio dns`), wait a day, then give it again",
            err=True,
        )
        return Exit.CHANGES
    click.echo(
        f"{host}: {pki.days_left(vault[f'public/{host}/cert']):.0f} days. Now `mastio apply` has it shown."
    )
    return Exit.OK


@certificates.command()
@click.argument("host")
@pass_app
def forget(app: App, host: str) -> None:
    """Let an authority sign for HOST again, instead of a certificate that you gave."""
    held.forget(app.vault, app.site(), host)
    app.vault.save()
    click.echo("Now `mastio apply`.")


@certificates.command()
@pass_app
def tsig(app: App) -> None:
    """Print the key that signs updates of DNS, as BIND's configuration has it (acme.challenge = "dns").

    It is a secret. On the name server let it change nothing but TXT records called _acme-challenge.
    """
    if TSIG not in app.vault:
        raise MastioError(
            "no records are put into DNS", hint='acme.challenge = "dns" does', code=Exit.USAGE
        )
    name, secret = app.site().acme.dns_key, app.vault[TSIG]
    click.echo(f'key "{name}" {{\n    algorithm hmac-sha256;\n    secret "{secret}";\n}};')


def _events(
    app: App, what: str, hosts: tuple[str, ...] = (), *, quiet: bool = False
) -> Iterator[dict[str, Any]]:
    site = app.site()
    watches = site.carrying(Role.WATCH)
    if not site.acme.directory or not watches:
        raise MastioError(
            "no authority is asked for certificates",
            hint="acme.directory in the site file names one",
            code=Exit.USAGE,
        )
    order = {"hosts": [*hosts]}
    for event in onwatch.events(app.transport(), watches[0].name, "certificates", [what], order):
        if "step" not in event:
            yield event
        elif not quiet:
            words = f"{event['step']} {event.get('machine', '')}".strip()
            click.echo(f"{event['host']}: {words}", err=True)
