"""`mastio reports`: what other organisations report of the site's mail (DMARC and TLS)."""

import json
import time
from collections import Counter
from typing import Any

import click

from mastio.cli.common import App, pass_app
from mastio.errors import MastioError
from mastio.reports.summary import Domain, Summary, summarize
from mastio.roles import store
from mastio.site.model import Role
from mastio.transport import last_line

_SHOWN = 10
_COLLECT = """\
import pathlib, sys
for path in sorted(pathlib.Path(PAYLOAD.decode()).glob("*.jsonl")):
    sys.stdout.buffer.write(path.read_bytes())
"""
"""Runs on the store."""


@click.command()
@click.option(
    "--days", default=30, show_default=True, type=click.IntRange(1, 400), help="Of so many days."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_app
def reports(app: App, days: int, as_json: bool) -> None:
    """Sum up the reports of the last days: who mailed in our name, and where TLS failed.

    Receivers send them to dmarc-reports@ and tls-reports@ at the main domain (see `mastio dns`). They
    are claims of strangers; those whose sender is not proven are counted as unverified.
    """
    machine = app.site().carrying(Role.STORE)[0].name
    done = app.transport().run_python(machine, _COLLECT, store.REPORT_FOLDER.encode())
    if done.code:
        raise MastioError(
            f"{machine}: {last_line(done.stderr)}", hint="is the machine built? `mastio apply`"
        )
    found = map(json.loads, done.stdout.splitlines())
    summary = summarize(found, int(time.time()) - days * 86400)
    if as_json:
        click.echo(json.dumps(_plain(summary), indent=2))
    else:
        click.echo(_text(summary, days), nl=False)


def _plain(summary: Summary) -> dict[str, Any]:
    # vars, not asdict: that cannot copy a Counter
    domains = {name: vars(domain) for name, domain in summary.domains.items()}
    return {**vars(summary), "domains": domains}


def _text(summary: Summary, days: int) -> str:
    lines = [
        f"{summary.reports} reports in {days} days, {summary.unverified} of them unverified; "
        f"{summary.unreadable} messages could not be read"
    ]
    for name, domain in sorted(summary.domains.items()):
        lines += ["", name, *_domain(domain)]
    if summary.reporters:
        told = ", ".join(
            f"{name or '?'} ({count})" for name, count in sorted(summary.reporters.items())
        )
        lines += ["", f"reported by {told}"]
    return "".join(f"{line}\n" for line in lines)


def _domain(domain: Domain) -> list[str]:
    lines: list[str] = []
    if domain.messages:
        lines.append(f"  {domain.passed} of {domain.messages} messages proven to be ours")
        lines += _most(domain.failed, "not proven, from")
    if domain.sessions:
        failed = sum(domain.tls_failures.values())
        lines.append(f"  {failed} of {domain.sessions} connections to us failed in TLS")
        lines += _most(domain.tls_failures, "failed:")
    return lines


def _most(counted: Counter[str], words: str) -> list[str]:
    lines = [f"    {count:>7} {words} {what}" for what, count in counted.most_common(_SHOWN)]
    if len(counted) > _SHOWN:
        lines.append(f"            and {len(counted) - _SHOWN} more (--json has all)")
    return lines
