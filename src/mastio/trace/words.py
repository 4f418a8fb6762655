"""A story in words, line by line, and as JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from mastio.trace.hops import Hop
from mastio.trace.story import Story, span


def told(story: Story) -> list[str]:
    """The story: what became of it first, then how it came to that."""
    head = f"{story.began:%Y-%m-%d %H:%M:%S}  {story.message or '(no message id)'}  from <{story.sender}>"
    lines = [head]
    for it in story.endings:
        took = (it.at - story.began).total_seconds()
        late = f"  ({span(took)} after it began)" if took >= 1 else ""
        lines.append(f"  {it.recipient or '(recipient unknown)'}: {it.words}{late}")
    steps = sorted(_steps(story), key=lambda it: it[0])
    lines += [
        f"    {at:%H:%M:%S.%f}"[:-3] + f"  {machine:<9} {words}" for at, machine, words in steps
    ]
    lines += [f"    the sender was told: {it}" for it in story.notices]
    return lines


def _steps(story: Story) -> Iterator[tuple[datetime, str, str]]:
    for way in story.entries:
        words = f"the firewall let {way.source}, port {way.source_port}, in to {way.target}, port {way.target_port}"
        # It writes a moment later than it acts: not later than what was let in was heard.
        heard = (it.screened or it.began for it in story.hops if it.door == way.door)
        yield min((way.at, *heard)), way.machine, words
    for hop in story.hops:
        yield from _hop(hop)
    for ban in story.bans:
        words = f"the firewall kept {ban.client} out for {span(ban.seconds)}: {ban.why}"
        yield ban.at, ban.machine, words
    for way in story.exits:
        words = f"the firewall let {way.source} out to {way.target}, port {way.target_port}"
        yield way.at, way.machine, words
    for it in story.written:
        words = f"written in the webmail by {it.user} from {it.address}, taken as {it.next}"
        yield it.at, it.machine, words
    for refusal in story.refusals:
        yield refusal.at, refusal.machine, f"refused {refusal.client}: {refusal.text}"
    for filing in story.filings:
        words = f"Sieve, for {filing.user}: {filing.text}"
        yield filing.at, filing.machine, words


def _hop(hop: Hop) -> Iterator[tuple[datetime, str, str]]:
    name = hop.machine
    if hop.screened:
        how = "passed its tests" if hop.screened_how == "NEW" else "knows it"
        yield hop.screened, name, f"postscreen {how}: {hop.address}"
    if hop.client:
        tls = f" over {hop.tls}" if hop.tls else ""
        who = f"{hop.client}[{hop.address}]" if hop.client != "unknown" else hop.address
        user = f", logged in as {hop.user}" if hop.user else ""
        yield hop.began, name, f"{hop.queue} came from {who}{tls}{user}"
    else:
        yield hop.began, name, f"{hop.queue} was made here"
    if hop.scan:
        scan = hop.scan
        forced = f", because: {scan.reason}" if scan.reason else ""
        marked = f"; it has {scan.marked}" if scan.marked else ""
        words = f"filter: {scan.action}, score {scan.score} of {scan.limit}{forced}{marked}"
        yield scan.at, name, words
    for no in hop.turned_away:
        yield no.at, name, f"refused for {no.recipient}: {no.text}"
    if hop.refused:
        yield hop.refused.at, name, f"refused: {hop.refused.text}"
    if hop.held:
        yield hop.held, name, f"put on hold: {hop.held_why}"
    if hop.released:
        anew = f", as {hop.again}" if hop.again else ""
        yield hop.released, name, f"released from hold{anew}"
    if hop.deleted:
        yield hop.deleted, name, "deleted from the queue"
    for it in hop.deliveries:
        arrow = f" → {it.next}" if it.next else ""
        for_whom = f"{it.original} → {it.to}" if it.original else it.to
        text = "" if it.next else f" ({it.text})"
        yield it.at, name, f"{it.agent} for {for_whom}: {it.status} to {it.relay}{arrow}{text}"


def plain(story: Story) -> dict[str, Any]:
    """The story as JSON carries it."""
    return {
        "message_id": story.message,
        "sender": story.sender,
        "began": story.began.isoformat(),
        "endings": [
            {**asdict(it), "kind": str(it.kind), "at": it.at.isoformat()} for it in story.endings
        ],
        "steps": [
            {"at": at.isoformat(), "machine": machine, "what": words}
            for at, machine, words in sorted(_steps(story), key=lambda it: it[0])
        ],
        "notices": list(story.notices),
    }
