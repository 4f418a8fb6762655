"""Machines taken as broken into: what an intruder would have, beside what the design grants. Text and JSON.

webmail (webmail): as the design grants
  reaches  store: imaps, submissions, sieve, password
  secrets  private key of webmail.demo.internal at /etc/mastio/pki/host.key (root:root 0600)
             who it is inside the site
  mail     read and send as users who log in meanwhile
             they type their passwords here; …
  cannot   read stored mail, read mail on its way, …
"""

from collections.abc import Iterable, Iterator

from mastio.report.plan import Line, Style
from mastio.verify.breach import Exposure
from mastio.verify.model import Verdict

_TITLES = {
    Verdict.PASSED: (Style.ADD, "as the design grants"),
    Verdict.FAILED: (Style.REMOVE, "more than the design grants, or less"),
    Verdict.UNKNOWN: (Style.WARN, "could not look at everything"),
}


def worst(exposures: Iterable[Exposure]) -> Verdict:
    """The verdict of all together; nothing looked at proves nothing."""
    found = {it.verdict for it in exposures}
    order = (Verdict.FAILED, Verdict.UNKNOWN, Verdict.PASSED)
    return next((it for it in order if it in found), Verdict.UNKNOWN)


def lines(exposures: Iterable[Exposure]) -> Iterator[Line]:
    """For a terminal."""
    for it in exposures:
        style, title = _TITLES[it.verdict]
        yield Style.TITLE, f"{it.machine.name} ({', '.join(it.machine.roles)})"
        yield style, f"  {title}"
        for words in it.findings:
            yield Style.REMOVE, f"    ✗ {words}"
        for words in it.unseen:
            yield Style.WARN, f"    ? {words}"
        for target, answers in it.by_target().items():
            for granted in (True, False):
                if names := ", ".join(x.words for x in answers if x.granted is granted):
                    yield _row("reaches", f"{target}: {names}", granted)
        for secret, why in it.secrets:
            yield _row("secrets", secret.words, bool(why))
            yield Style.FAINT, f"             {why or 'not granted'}"
        for held in it.powers:
            yield _row("mail", held.power, bool(held.why))
            yield Style.FAINT, f"             {held.why or f'not granted: {held.by}'}"
        if it.lacks:
            yield Style.PLAIN, f"  cannot   {', '.join(it.lacks)}"
        yield Style.PLAIN, ""


def _row(name: str, words: str, granted: bool) -> Line:
    return (
        (Style.PLAIN, f"  {name:8} {words}") if granted else (Style.REMOVE, f"  {name:8} ✗ {words}")
    )


def data(exposures: Iterable[Exposure]) -> dict[str, object]:
    """What `--json` prints."""
    exposures = tuple(exposures)
    return {
        "verdict": str(worst(exposures)),
        "machines": [
            {
                "machine": it.machine.name,
                "roles": [*map(str, it.machine.roles)],
                "verdict": str(it.verdict),
                "findings": [*it.findings],
                "could_not_look": [*it.unseen],
                "reaches": [
                    {
                        "target": x.target, "service": x.words, "transport": x.port[0], "port": x.port[1],
                        "granted": x.granted,
                    }
                    for x in it.answers
                ],
                "secrets": [
                    {
                        "kind": str(x.kind), "path": x.path, "owner": x.owner, "mode": x.mode, "count": x.count,
                        "of": [*x.of], "granted": bool(why), "why": why,
                    }
                    for x, why in it.secrets
                ],
                "powers": [
                    {"power": str(x.power), "granted": bool(x.why), "why": x.why, "by": x.by} for x in it.powers
                ],
                "cannot": [*map(str, it.lacks)],
            }
            for it in exposures
        ],
    }  # fmt: skip
