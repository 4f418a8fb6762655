"""`mastio dns`: the records that the site publishes, and whether DNS answers with them."""

import ipaddress
import json
from collections.abc import Iterable
from typing import Any

import click

from mastio.cli.common import App, pass_app
from mastio.dns import ask, check, forms, text, zone
from mastio.dns.check import Answer, Finding, Verdict
from mastio.dns.records import Record
from mastio.errors import Exit, MastioError
from mastio.site.model import Role
from mastio.transport import last_line

PATIENCE = 10.0
"""How long one question may take, in seconds."""


@click.command()
@click.argument("domains", nargs=-1, metavar="[DOMAIN]...")
@click.option("--check", "checking", is_flag=True, help="Compare with what DNS answers.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["zone", "nsupdate", "fields"]),
    default="zone",
    show_default=True,
    help="A zone file; a script for nsupdate; field by field, for a registrar's web page.",
)
@click.option("--resolver", default="", metavar="ADDR", help="Ask this resolver instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_app
def dns(
    app: App,
    domains: tuple[str, ...],
    checking: bool,
    form: str,
    resolver: str,
    as_json: bool,
) -> Exit | None:
    """Print all that must stand in DNS, as a zone file that says why; of the DOMAINs only, if given.

    \b
    mastio dns --format fields                       to type into a registrar's web page
    mastio dns --check                               what differs from it
    mastio dns --check --format nsupdate | nsupdate -k KEYFILE      and have that mended

    With --check: 0 when DNS answers just that, 2 when records are missing, different or too many,
    69 when no resolver answers. In the lab the gateway's validating resolver is asked. The script of
    `--format nsupdate` alone replaces all but TXT records, which it adds: others' may stand beside them.
    """
    groups = _chosen(app, domains)
    if checking:
        found = tuple(record for group in groups.values() for record in group)
        findings = check.compare(found, look_up(app, found, resolver))
        if form != "nsupdate":
            return _report(findings, as_json)
        click.echo(forms.mending(groups, findings), nl=False)
        return Exit.CHANGES if any(it.verdict is not Verdict.SAME for it in findings) else Exit.OK
    if resolver:
        raise click.UsageError("--resolver goes with --check")
    if as_json:
        plain = [
            {"zone": apex, "owner": it.owner, "ttl": text.TTL, "type": it.type, "data": it.data, "why": it.why}
            for apex, group in groups.items()
            for it in group
        ]  # fmt: skip
        click.echo(json.dumps(plain, indent=2))
    else:
        shown = {"zone": text.zone_file, "nsupdate": forms.update, "fields": forms.fields}
        click.echo(shown[form](groups), nl=False)
    return None


def _chosen(app: App, domains: tuple[str, ...]) -> dict[str, tuple[Record, ...]]:
    groups = zone.grouped(app.site(), zone.records(app.site(), app.vault))
    for domain in domains:
        if domain not in groups or not domain:
            known = ", ".join(name for name in groups if name)
            raise MastioError(
                f"the site publishes nothing in {domain}",
                hint=f"its zones are {known}; one that `mastio domain add` made comes with `domains` in site.toml, "
                "then `mastio apply` and `mastio dns`",
                code=Exit.USAGE,
            )
    return {name: group for name, group in groups.items() if not domains or name in domains}


def look_up(
    app: App, records: Iterable[Record], resolver: str = ""
) -> dict[check.Question, Answer]:
    """What DNS answers to the records' names: from here, or in the lab from the gateway."""
    asked = check.questions(records)
    if resolver:
        try:
            ipaddress.ip_address(resolver)
        except ValueError:
            raise MastioError(
                f"--resolver {resolver}: not an IP address", code=Exit.USAGE
            ) from None
    answers: list[dict[str, Any]]
    if app.in_lab:
        gateway = app.site().carrying(Role.GATEWAY_OUT)[0].name
        source = ask.program(asked, resolver, PATIENCE)
        done = app.transport().run(gateway, ["python3", "-I", "-"], source.encode(), timeout=300)
        if done.code:
            raise _unanswered(f"{gateway}: {last_line(done.stderr)}")
        answers = json.loads(done.stdout)
    else:
        try:
            answers = ask.ask([list(it) for it in asked], resolver, PATIENCE)
        except OSError as error:
            raise _unanswered(str(error)) from None
    return {
        question: Answer(tuple(it["data"]), it["secure"], it["failure"])
        for question, it in zip(asked, answers, strict=True)
    }


def _unanswered(why: str) -> MastioError:
    return MastioError(
        f"DNS cannot be asked: {why}",
        hint="--resolver ADDR asks another resolver",
        code=Exit.UNAVAILABLE,
    )


def _report(findings: tuple[Finding, ...], as_json: bool) -> Exit:
    bad = [it for it in findings if it.verdict is not Verdict.SAME]
    if as_json:
        plain = [
            {
                "owner": it.owner, "type": it.type, "verdict": it.verdict, "secure": it.secure,
                "missing": it.missing, "extra": it.extra, "failure": it.failure,
            }
            for it in findings
        ]  # fmt: skip
        click.echo(json.dumps(plain, indent=2))
        return Exit.CHANGES if bad else Exit.OK
    for finding in bad:
        click.echo(f"{finding.verdict}: {finding.owner} {finding.type} {finding.failure}".rstrip())
        for sign, data in (("+", finding.missing), ("-", finding.extra)):
            for line in data:
                click.echo(f"    {sign} {line}")
    answered = [it for it in findings if it.verdict not in (Verdict.MISSING, Verdict.FAILED)]
    secure = sum(it.secure for it in answered)
    click.echo(
        f"{len(findings) - len(bad)} of {len(findings)} as they should be; "
        f"DNSSEC: {secure} of {len(answered)} answers validated"
    )
    if bad:
        click.echo("  → `mastio dns` prints what must stand there", err=True)
    if secure < len(answered):
        click.echo(
            "  → without DNSSEC nobody believes the TLSA records: sign the zones, or ask a resolver "
            "that validates (--resolver)",
            err=True,
        )
    return Exit.CHANGES if bad else Exit.OK
