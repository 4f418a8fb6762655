"""`mastio dkim`: the generations of the domains' DKIM keys, and letting the next one sign."""

import json

import click

from mastio import secrets
from mastio.cli.common import App, pass_app
from mastio.cli.dns import look_up
from mastio.dns import check, rings, zone
from mastio.errors import Exit, MastioError

_LISTED = (
    "next: in DNS, signs after the next rotation; retiring: in DNS until mail under way is verified"
)


@click.group()
def dkim() -> None:
    """The keys with which outgoing mail is signed, and their rotation without a gap."""


@dkim.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_app
def list_(app: App, as_json: bool) -> None:
    """Show each domain's selectors, their state and since when."""
    rows = [
        {
            "domain": domain,
            "selector": selector,
            "state": str(generation.state),
            "since": generation.since.isoformat(),
        }
        for domain in app.site().domains
        for generation in secrets.ring_of(app.vault, domain)
        for selector in generation.selectors
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['domain']}  {row['selector']:4}  {row['state']:8}  since {row['since']}")
    click.echo(f"({_LISTED})", err=True)


@dkim.command()
@click.argument("domains", nargs=-1, metavar="[DOMAIN]...")
@click.option(
    "--if-due", is_flag=True, help="Only the domains whose keys have signed policy.dkim_days."
)
@click.option(
    "--compromised",
    is_flag=True,
    help="The keys are stolen: out of DNS at once with those that sign and those that have signed.",
)
@click.option(
    "--unchecked", is_flag=True, help="Do not ask DNS whether the next keys are published."
)
@click.option("--resolver", default="", metavar="ADDR", help="Ask this resolver.")
@pass_app
def rotate(
    app: App,
    domains: tuple[str, ...],
    if_due: bool,
    compromised: bool,
    unchecked: bool,
    resolver: str,
) -> None:
    """Let the next keys of the DOMAINs (all, if none is given) sign; `mastio apply` brings them out.

    The next keys must be in DNS already; that is looked up first, and without it nothing changes. The
    old keys stay published for 30 days, and new ones come to be published.

    A timer may run this each day, and only on days when it is due something happens:

    \b
    mastio dkim rotate --if-due && mastio apply --yes
    """
    site, vault = app.site(), app.vault
    for domain in domains:
        if domain not in site.domains:
            raise MastioError(
                f"{domain} is no domain of the site",
                hint=f"its domains are {', '.join(site.domains)}",
                code=Exit.USAGE,
            )
    chosen = [
        domain
        for domain in domains or site.domains
        if not if_due
        or rings.due(secrets.ring_of(vault, domain), secrets.today(), site.policy.dkim_days)
    ]
    if not unchecked:
        must_be_published(app, chosen, resolver)
    for domain in chosen:
        ring = secrets.rotate_dkim(vault, site, domain, compromised=compromised)
        now, following = rings.signing(ring), rings.following(ring)
        click.echo(
            f"{domain}: {', '.join(now.selectors)} sign; to be published: {', '.join(following.selectors)}"
        )
    gone = [it for it in domains or site.domains if secrets.tidy_dkim(vault, site, it)]
    for domain in gone:
        click.echo(f"{domain}: keys that were retired for {rings.RETIRE_DAYS} days are gone")
    if vault.save():
        click.echo("Now run `mastio apply`, and publish what `mastio dns` prints.")
    else:
        click.echo("nothing is due")


def must_be_published(app: App, domains: list[str], resolver: str) -> None:
    """Raises MastioError when DNS does not answer with the next keys of the domains."""
    wanted = {
        f"{selector}._domainkey.{domain}"
        for domain in domains
        for selector in rings.following(secrets.ring_of(app.vault, domain)).selectors
    }
    records = [it for it in zone.records(app.site(), app.vault) if it.owner in wanted]
    if not records:
        return
    missing = [
        it.owner
        for it in check.compare(records, look_up(app, records, resolver))
        if it.verdict is not check.Verdict.SAME
    ]
    if missing:
        raise MastioError(
            f"not in DNS as it should be: {', '.join(missing)}; mail signed with it would not verify",
            hint="publish what `mastio dns` prints, wait for old answers to expire, and try again",
            code=Exit.DATA,
        )
