"""What became of a message, recipient by recipient.

A message is followed from the hop where it came to the site along `queued as …`. One that was tried several
times (greylisting) has several such hops and one message id; they are one story.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address, ip_network

from mastio.trace.hops import Ban, Delivery, Filing, Hop, Passage, Refusal, Told, Written, told

_INBOX, _JUNK = "INBOX", "Junk"
_SLACK = timedelta(seconds=1)
"""By so much two clocks may differ, and the firewall may write after it has acted."""
_DEPTH = 8
"""Hops that one message may take inside the site."""


class Kind(StrEnum):
    """How it ended, or how it stands."""

    DELIVERED = "delivered"
    JUNK = "filed as spam"
    QUARANTINED = "quarantined"
    TAKEN = "taken"
    """By a program or a script of the user: a report, a forward, a discard."""
    SENT = "sent"
    GREYLISTED = "greylisted"
    VIRUS = "virus"
    SPAM = "spam"
    UNKNOWN = "unknown recipient"
    REFUSED = "refused"
    LATER = "refused for now"
    FULL = "mailbox full"
    WAITING = "waiting"
    BOUNCED = "bounced"
    HELD = "held"
    DROPPED = "dropped"
    UNDERWAY = "under way"


GOOD = frozenset((Kind.DELIVERED, Kind.JUNK, Kind.QUARANTINED, Kind.TAKEN, Kind.SENT))
"""It has arrived; nobody waits for anything."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of the message for one recipient."""

    recipient: str
    kind: Kind
    words: str
    """In words, without the recipient."""
    at: datetime
    """When that was."""


@dataclass(frozen=True, slots=True)
class Story:
    """One message."""

    message: str
    """Its id; empty when it was refused before it gave one."""
    sender: str
    began: datetime
    endings: tuple[Ending, ...]
    hops: tuple[Hop, ...]
    """In the order of time."""
    refusals: tuple[Refusal, ...]
    filings: tuple[Filing, ...]
    notices: tuple[str, ...]
    """The message ids of what was sent to the sender about it."""
    written: tuple[Written, ...] = ()
    """In the webmail."""
    bans: tuple[Ban, ...] = ()
    """Of the client, before it gave the message."""
    entries: tuple[Passage, ...] = ()
    """The connections by which it came to the site, as the firewall saw them."""
    exits: tuple[Passage, ...] = ()
    """Those by which it left, or was to."""


def stories(texts: Iterable[str]) -> list[Story]:
    """The messages that some log lines tell of, in the order in which they began."""
    known = told(texts)
    messages: dict[str, list[Hop]] = {}
    for hop in known.hops.values():
        messages.setdefault(hop.message or f"queue {hop.queue}", []).append(hop)
    found = [_message(known, name, hops) for name, hops in messages.items()]
    loose: dict[tuple[str, str], list[Refusal]] = {}
    for it in known.refusals:
        loose.setdefault((it.sender, it.recipient), []).append(it)
    found += [_refused(known, sender, to, its) for (sender, to), its in loose.items()]
    return sorted((it for it in found if it.endings), key=lambda it: it.began)


def _message(known: Told, name: str, hops: list[Hop]) -> Story:
    hops = sorted(hops, key=lambda it: it.began)
    filings = [it for it in known.filings if it.message == name]
    after = {it.next for hop in known.hops.values() for it in hop.deliveries}
    after |= {it.again for it in known.hops.values()}
    entries = [it for it in hops if it.queue not in after] or hops[:1]
    endings: dict[str, Ending] = {}
    for entry in entries:
        for ending in _endings(known, entry, filings, 0):
            before = endings.get(ending.recipient)
            endings[ending.recipient] = _again(before, ending) if before else ending
    notices = [known.hops[hop.notice].message for hop in hops if hop.notice in known.hops]
    senders = [it.sender for it in hops if it.sender is not None]
    return Story(
        "" if name.startswith("queue ") else name, senders[0] if senders else "", hops[0].began,
        tuple(endings.values()), tuple(hops), (), tuple(filings), tuple(notices),
        # What it sent is known by the store's queue: a message id is whatever its sender likes.
        tuple(it for it in known.written if any(it.next == hop.queue for hop in hops)),
        tuple(it for it in known.bans if any(it.at < hop.began and _of(hop, it) for hop in hops)),
        _entries(known, {hop.door for hop in hops}),
        _exits(known, [it for hop in hops for it in hop.deliveries]),
    )  # fmt: skip


def _entries(known: Told, doors: set[tuple[str, str]]) -> tuple[Passage, ...]:
    """The connections from these addresses and ports."""
    return tuple(it for it in known.passages if it.door in doors)


def _exits(known: Told, deliveries: Iterable[Delivery]) -> tuple[Passage, ...]:
    """For each delivery the last connection to its server before it ended: several messages may share one."""
    found: dict[Passage, None] = {}
    for one in deliveries:
        there = [
            it for it in known.passages if it.server == one.server and it.at <= one.at + _SLACK
        ]
        if there:
            found[max(there, key=lambda it: it.at)] = None
    return tuple(found)


def _of(hop: Hop, ban: Ban) -> bool:
    """Whether a ban was of a hop's client."""
    try:
        return ip_address(hop.address) in ip_network(ban.client)
    except ValueError:
        return False


def _again(before: Ending, now: Ending) -> Ending:
    """The ending of a message that has come more than once."""
    if before.kind in GOOD and now.kind not in GOOD:
        return before
    words = now.words
    if before.kind is Kind.GREYLISTED and now.kind is not Kind.GREYLISTED:
        seconds = (now.at - before.at).total_seconds()
        words = f"greylisted at {_clock(before.at)}, came again {span(seconds)} later and was {now.words}"
    elif before.kind in GOOD and now.kind in GOOD:
        words = f"{now.words} (it came more than once)"
    return Ending(now.recipient, now.kind, words, now.at)


def _endings(known: Told, hop: Hop, filings: list[Filing], depth: int) -> Iterator[Ending]:
    """What became of it from this hop on."""
    for no in hop.turned_away:
        yield _no(no.recipient, no)
    if hop.refused:
        for to in hop.recipients or (hop.refused.recipient,):
            yield _no(to, hop.refused, hop)
        return
    if hop.deleted:
        for to in hop.recipients or ("",):
            yield Ending(to, Kind.DROPPED, _dropped(hop), hop.deleted)
        return
    if hop.again in known.hops and depth < _DEPTH:
        for ending in _endings(known, known.hops[hop.again], filings, depth + 1):
            held = (
                f"held on {hop.machine} ({hop.held_why}), released, and "
                if hop.held_content
                else ""
            )
            yield replace(ending, words=held + ending.words)
        return
    last: dict[str, tuple[Delivery, Delivery]] = {}
    for it in hop.deliveries:
        last[it.to] = (last[it.to][0] if it.to in last else it, it)
    followed: set[str] = set()
    for first, it in last.values():
        if it.next in followed:  # recipients who went on together are told together
            continue
        if it.next in known.hops:
            followed.add(it.next)
        yield from _delivered(known, hop, first, it, filings, depth)
    if not last and not (hop.ended and hop.turned_away):
        yield _standing(hop)


def _dropped(hop: Hop) -> str:
    """How it was taken from the queue."""
    if hop.held_content:
        who = f"since {hop.expired}" if hop.expired else "by an administrator"
        return f"held on {hop.machine} ({hop.held_why}), then deleted unsent {who}"
    how = "held by the outbound limits, then dropped" if hop.held else "dropped from the queue"
    return f"{how} by an administrator"


def _standing(hop: Hop) -> Ending:
    """A message that has not been tried yet."""
    to = ", ".join(hop.recipients)
    if hop.held and not hop.released:
        command = "mastio quarantine list" if hop.held_content else "mastio outbound show"
        return Ending(to, Kind.HELD, f"held on {hop.machine}: {_lower(hop.held_why) or 'put on hold'}; "
                      f"`{command}` lists it", hop.held)  # fmt: skip
    if hop.ended:
        return Ending(to, Kind.TAKEN, f"taken from {hop.machine}'s queue", hop.ended)
    return Ending(to, Kind.UNDERWAY, f"under way: in {hop.machine}'s queue", hop.began)


def _delivered(
    known: Told, hop: Hop, first: Delivery, it: Delivery, filings: list[Filing], depth: int
) -> Iterator[Ending]:
    """What became of one recipient's copy, after its newest try."""
    to, waited = it.original or it.to, ""
    if first.status == "deferred" and it is not first:
        waited = f", after it had waited {span((it.at - first.at).total_seconds())} because {_why(first)}"
    if it.status == "sent" and it.next and it.next in known.hops and depth < _DEPTH:
        for ending in _endings(known, known.hops[it.next], filings, depth + 1):
            spam = _spam(hop) if ending.kind is Kind.JUNK else ""
            yield Ending(ending.recipient, ending.kind, ending.words + spam + waited, ending.at)
        return
    if it.status == "sent":
        yield _arrived(hop, it, to, filings, waited)
    elif it.status == "deferred":
        yield _waiting(hop, it, to, first)
    else:
        words = f"returned to its sender by {hop.machine}: {_said(it.text)}"
        kind = Kind.UNKNOWN if it.dsn == "5.1.1" and it.agent == "lmtp" else Kind.BOUNCED
        yield Ending(to, kind, words + waited, it.at)


def _arrived(hop: Hop, it: Delivery, to: str, filings: list[Filing], waited: str) -> Ending:
    if it.agent == "lmtp":
        mine = [one for one in filings if one.user in (it.to, "") and one.folder]
        # The filing's line is written within the delivery; greylisted twins have others.
        mine.sort(key=lambda one: abs((one.at - it.at).total_seconds()))
        if not mine:
            odd = [one for one in filings if one.user == it.to]
            words = (
                f"taken by {it.to}'s own rules: {odd[0].text}"
                if odd
                else f"given to {it.to}'s mailbox"
            )
            return Ending(it.to, Kind.TAKEN if odd else Kind.DELIVERED, words + waited, it.at)
        folder = mine[0].folder
        if folder == _JUNK:
            return Ending(it.to, Kind.JUNK, f"filed in {_JUNK}{waited}", it.at)
        return Ending(it.to, Kind.DELIVERED, f"delivered into {folder}{waited}", it.at)
    if it.relay == "quarantine" or "quarantine" in it.text:
        why = f": {hop.quarantine}" if hop.quarantine else ""
        return Ending(to, Kind.QUARANTINED, f"held back in the quarantine{why}; `mastio quarantine list` "
                      f"shows it{waited}", it.at)  # fmt: skip
    if it.agent == "pipe":
        return Ending(to, Kind.TAKEN, f"read by {it.relay}{waited}", it.at)
    if it.next and it.agent != "smtp":
        return Ending(
            to,
            Kind.UNDERWAY,
            f"handed to {_host(it.relay)}, which has not said more yet{waited}",
            it.at,
        )
    return Ending(
        to, Kind.SENT, f"sent to {_host(it.relay)}, which answered: {it.text}{waited}", it.at
    )


def _spam(hop: Hop) -> str:
    """Why the filter took it for spam."""
    if not hop.scan:
        return ""
    return f" (the filter: {hop.scan.reason or f'score {hop.scan.score}'})"


def _waiting(hop: Hop, it: Delivery, to: str, first: Delivery) -> Ending:
    tries = sum(one.to == it.to for one in hop.deliveries)
    often = f"; tried {tries} times since {_clock(first.at)}" if tries > 1 else ""
    if it.dsn == "4.2.2" or "uota exceeded" in it.text:
        return Ending(
            to,
            Kind.FULL,
            f"waiting on {hop.machine}: the mailbox is full (quota exceeded){often}",
            it.at,
        )
    return Ending(to, Kind.WAITING, f"waiting on {hop.machine}: {_why(it)}{often}", it.at)


def _why(it: Delivery) -> str:
    """Why it could not be passed on, in words."""
    if it.dsn == "4.2.2" or "uota exceeded" in it.text:
        return "the mailbox was full (quota exceeded)"
    if it.agent == "store/smtp" and (
        it.relay == "none" or "timed out" in it.text or "refused" in it.text
    ):
        return f"the store was down ({_said(it.text)})"
    return _said(it.text)


def _no(to: str, it: Refusal, hop: Hop | None = None) -> Ending:
    """A refusal in the dialogue."""
    text = it.text
    symbols = hop.scan.symbols if hop and hop.scan else frozenset()
    action = hop.scan.action if hop and hop.scan else ""
    if "greylisted" in text:
        rest = text.partition("greylisted for ")[2]
        words = (
            f"greylisted at {_clock(it.at)}: must come again after {rest or 'a while'}; has not yet"
        )
        return Ending(to, Kind.GREYLISTED, words, it.at)
    if it.for_now:
        return Ending(to, Kind.LATER, f"refused for now by {it.machine}: {text}", it.at)
    if "malware" in text and "spam or" not in text:
        return Ending(
            to, Kind.VIRUS, f"refused by {it.machine}: it contains a virus ({text})", it.at
        )
    if "5.1.1" in text or "User unknown" in text:
        return Ending(
            to, Kind.UNKNOWN, f"refused by {it.machine}: there is no such recipient", it.at
        )
    if action == "reject" and hop and hop.scan and (symbols & {"GTUBE"} or not hop.scan.reason):
        score = f"score {hop.scan.score} of {hop.scan.limit}"
        return Ending(to, Kind.SPAM, f"refused by {it.machine} as spam ({score}: {text})", it.at)
    return Ending(to, Kind.REFUSED, f"refused by {it.machine}: {text}", it.at)


def _refused(known: Told, sender: str, recipient: str, its: list[Refusal]) -> Story:
    """A message that got no queue id."""
    ending = _no(recipient, its[-1])
    if len(its) > 1:
        often = f"; {len(its)} tries since {_clock(its[0].at)}"
        ending = Ending(recipient, ending.kind, ending.words + often, ending.at)
    entries = _entries(known, {it.door for it in its})
    return Story("", sender, its[0].at, (ending,), (), tuple(its), (), (), entries=entries)


def _said(text: str) -> str:
    """What the other end said, without Postfix's words around it."""
    _, found, words = text.partition(" said: ")
    return (words if found else text).partition(" (in reply to ")[0]


def _host(relay: str) -> str:
    return relay.partition("[")[0] or relay


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:]


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S}"


def span(seconds: float) -> str:
    """A stretch of time in words."""
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
