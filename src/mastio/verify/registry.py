"""All checks there are. The tuple is explicit: what is not named here does not run."""

from collections.abc import Iterable

from mastio import guide
from mastio.errors import Exit, MastioError
from mastio.site.model import Site
from mastio.transport import OUTSIDE
from mastio.verify.checks import (
    auth,
    backups,
    content,
    delivery,
    dnspolicy,
    eyes,
    host,
    integrity,
    intrusion,
    logs,
    network,
    promises,
    relay,
    restore,
    smuggling,
    tls,
    web,
)
from mastio.verify.model import Check, Severity

CHECKS: tuple[Check, ...] = (
    *network.CHECKS,
    *relay.CHECKS,
    *smuggling.CHECKS,
    *tls.CHECKS,
    *delivery.CHECKS,
    *dnspolicy.CHECKS,
    *promises.CHECKS,
    *auth.CHECKS,
    *content.CHECKS,
    *web.CHECKS,
    *host.CHECKS,
    *logs.CHECKS,
    *integrity.CHECKS,
    *backups.CHECKS,
    *restore.CHECKS,
    *intrusion.CHECKS,
    *eyes.CHECKS,
)


def choose(
    site: Site,
    *,
    full: bool,
    only: Iterable[str] = (),
    zones: Iterable[str] = (),
    severities: Iterable[Severity] = (),
) -> tuple[Check, ...]:
    """The checks that are wanted; `only` names some, which are then run though they are slow.

    `zones` keeps the checks that look from a machine of those zones, or from `outside`.
    """
    names, places, weights = {*only}, {*zones}, {*severities}
    known = {check.id for check in CHECKS}
    if wrong := sorted(names - known):
        raise MastioError(
            f"no such check: {', '.join(wrong)}", hint="`mastio verify --list` names all", code=Exit.USAGE
        )  # fmt: skip
    here = {OUTSIDE, *(zone.name for zone in site.zones)}
    if wrong := sorted(places - here):
        raise MastioError(
            f"no such zone: {', '.join(wrong)}",
            hint=f"this site has {', '.join(sorted(here))}",
            code=Exit.USAGE,
        )
    return tuple(
        check
        for check in CHECKS
        if (check.id in names if names else full or not check.full)
        and (not weights or check.severity in weights)
        and (not places or places & {zone_of(site, it) for it in check.vantages(site)})
    )


def zone_of(site: Site, vantage: str) -> str:
    """The zone where a vantage stands."""
    return vantage if vantage == OUTSIDE else site.machine(vantage).zone


def reference() -> str:
    """docs/reference/checks.md."""
    lines = [
        "# The checks",
        "",
        "What `mastio verify` proves, and from where. `full` checks run with `--full` only. This page is made from",
        "`src/mastio/verify/registry.py`.",
        "",
    ]
    for family in dict.fromkeys(check.family for check in CHECKS):
        lines += [f"## {family}", ""]
        for check in (it for it in CHECKS if it.family is family):
            where = ", ".join(map(str, check.where))
            lines += [
                f"### {check.id}: {check.title}",
                "",
                f"*{check.severity}{', full' if check.full else ''}; from {where}*",
                "",
                f"- Looks at: {check.probe}.",
                f"- Passes: {check.passes}.",
                f"- Source: {check.source}.",
                f"- When it fails: {check.remedy}",
                f"- [What to do when it is red](../../{guide.of_check(check.id)})",
                "",
            ]
    return "\n".join(lines)
