"""The site file's `[filter]`: what the gateway lets in, for the whole site and for each of its domains, and out.

    [filter]
    dangerous_attachments = "quarantine"
    welcome = ["partner.example", "boss@home.example", "192.0.2.0/24"]

    [filter.leaving]
    macro_documents = "quarantine"

    [filter.domains."example.org"]
    spam_junk_score = 4.5
    topics.drugs = 0        # a pharmacy

A sender in a list is a mail address, a network or a domain, by its form.
"""

from itertools import pairwise
from typing import TypeVar

from mastio.site import values
from mastio.site.filter import Filter, Leaning, Leaving, Listing, Topic, Treatment
from mastio.site.model import Network, Policy
from mastio.site.problems import did_you_mean
from mastio.site.read import Raw

SCORES = ("greylist_score", "spam_junk_score", "spam_reject_score")
_ATTACHMENTS = ("dangerous_attachments", "macro_documents", "encrypted_archives")
_E = TypeVar("_E", Treatment, Topic)


def parse(raw: Raw, domains: tuple[str, ...], policy: Policy) -> Filter:
    """The filter of a site with these domains; what is wrong is added to `raw.problems`."""
    at = ("filter",)
    given = _treatments(raw, at)
    names = dict.fromkeys(path[2] for path in raw.leaves if path[:2] == ("filter", "domains"))
    leanings = tuple(_leaning(raw, str(name), domains, policy) for name in names)
    return Filter(
        **given,
        leaving=_leaving(raw, given),
        trusted_forwarders=_domains(raw, (*at, "trusted_forwarders")),
        welcome=_listing(raw, (*at, "welcome")),
        block=_listing(raw, (*at, "block")),
        topics=_topics(raw, at),
        domains=leanings,
    )


def _treatments(raw: Raw, at: tuple[str, ...]) -> dict[str, Treatment]:
    """What the table at `at` says, by the attachments' names."""
    return {
        name: found
        for name in _ATTACHMENTS
        if raw.has(*at, name)
        and (found := _among(raw, Treatment, raw.text(*at, name), (*at, name)))
    }


def _leaving(raw: Raw, incoming: dict[str, Treatment]) -> Leaving:
    """What nobody may have, nobody sends; all else goes, unless the site file says so."""
    as_incoming = {
        name: Treatment.REJECT if it is Treatment.REJECT else Treatment.MARK
        for name, it in incoming.items()
    }
    return Leaving(**{**as_incoming, **_treatments(raw, ("filter", "leaving"))})


def sender(text: str) -> str | Network:
    """A sender as lists know it: a mail address, a domain or a network. Raises ValueError."""
    if "@" in text:
        return values.mail(text, tags=True)
    if "/" in text or ":" in text or text.replace(".", "").isdigit():
        return values.network(text)
    return values.domain(text)


def listing(senders: tuple[str | Network, ...]) -> Listing:
    """Senders, each in its place."""
    names = [it for it in senders if isinstance(it, str)]
    return Listing(
        tuple(it for it in names if "@" in it),
        tuple(it for it in names if "@" not in it),
        tuple(it for it in senders if not isinstance(it, str)),
    )


def _leaning(raw: Raw, name: str, domains: tuple[str, ...], policy: Policy) -> Leaning:
    at = ("filter", "domains", name)
    try:
        domain = values.domain(name)
    except ValueError as error:
        raw.problems.add(at, str(error))
        domain = name
    else:
        if domain not in domains:
            raw.problems.add(
                at, f"{domain} is none of the site's domains", did_you_mean(domain, domains)
            )
    scores = {
        score: float(value)
        for score in SCORES
        if isinstance(value := raw.leaves.get((*at, score)), int | float)
    }
    all_scores = {score: scores.get(score, getattr(policy, score)) for score in SCORES}
    for low, high in pairwise(SCORES):
        if all_scores[low] >= all_scores[high] and (low in scores or high in scores):
            raw.problems.add(
                (*at, high if high in scores else low),
                f"{low} ({all_scores[low]:g}) must be below {high} ({all_scores[high]:g})",
                "what is not given here is as in `policy`",
            )
    return Leaning(
        domain,
        scores.get("spam_junk_score"),
        scores.get("spam_reject_score"),
        scores.get("greylist_score"),
        _listing(raw, (*at, "welcome")),
        _listing(raw, (*at, "block")),
        _topics(raw, at),
    )


def _listing(raw: Raw, path: tuple[str, ...]) -> Listing:
    found: list[str | Network] = []
    for number, text in enumerate(raw.texts(*path)):
        try:
            found.append(sender(text))
        except ValueError as error:
            raw.problems.add((*path, number), str(error))
    return listing(tuple(dict.fromkeys(found)))


def _domains(raw: Raw, path: tuple[str, ...]) -> tuple[str, ...]:
    found = []
    for number, text in enumerate(raw.texts(*path)):
        try:
            found.append(values.domain(text))
        except ValueError as error:
            raw.problems.add((*path, number), str(error))
    return tuple(dict.fromkeys(found))


def _topics(raw: Raw, at: tuple[str, ...]) -> tuple[tuple[Topic, float], ...]:
    found = []
    for path, value in raw.leaves.items():
        if path[:-1] == (*at, "topics") and isinstance(value, int | float):
            topic = _among(raw, Topic, str(path[-1]), path)
            if topic:
                found.append((topic, float(value)))
    return tuple(found)


def _among(raw: Raw, among: type[_E], text: str, path: tuple[str | int, ...]) -> _E | None:
    try:
        return among(text)
    except ValueError:
        raw.problems.add(path, f"{text!r} is unknown", did_you_mean(text, among))
        return None
