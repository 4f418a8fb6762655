"""The books of chaos: what was promised (250), what is in the mailboxes, and why something is there twice. Pure.

A message that is there twice was handed over twice at one hop: the same queue id up to there, two ids from there on,
as its `Received` fields say. That is allowed where the one who handed it over could not know that it had arrived: its
answer was lost (RFC 5321, 4.5.3.2.6, RFC 1047). So something must have gone wrong there at that time, or its sender,
who waits for seconds and not for ten minutes as that RFC wants, was gone when the answer came.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.faults import FIREWALL, Done

MARGIN = 40.0
"""Seconds before which a fault may have begun to last: a connection that broke is noticed late."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a sender knows of one message in the end."""

    number: int
    recipient: str
    first: str
    """The machine that it was handed to."""
    code: int
    text: str
    tries: int
    unsure: int
    """How often all was sent, and no answer came."""
    late: int = 0
    """How often of these the sender did not wait for it any longer."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A message in a mailbox."""

    number: int
    mailbox: str
    folder: str
    hops: tuple[tuple[str, str], ...]
    """Who took it and under which id, the first hop first."""
    at: float
    """When it was written (CLOCK_MONOTONIC)."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A message that is there more than once."""

    number: int
    hop: str
    """The machine that was given it twice; "" when they are the same to the last hop."""
    why: str
    """Which faults explain it; empty: none."""


@dataclass(frozen=True, slots=True)
class Result:
    """How it ended."""

    promised: int
    refused: tuple[Promise, ...]
    """Nobody took responsibility for them: a permanent refusal, or given up."""
    lost: tuple[int, ...]
    waiting: tuple[int, ...]
    """In a queue of the site still when the benchmark's patience was over."""
    astray: tuple[Copy, ...]
    """In another mailbox or folder than they should be."""
    twins: tuple[Twin, ...]
    tries: Counter[int]

    @property
    def unexplained(self) -> tuple[Twin, ...]:
        """There twice, and nobody knows why."""
        return tuple(it for it in self.twins if not it.why)

    @property
    def good(self) -> bool:
        """Whether nothing was lost."""
        return not (self.refused or self.lost or self.waiting or self.astray or self.unexplained)


def hops(head: str) -> tuple[tuple[str, str], ...]:
    """The machines that took a message, with its id at each, from its header; the first first.

    >>> hops("Received: from a by store (mail) with LMTP\\n\\tid 7xY\\n\\tfor <b>; now\\nReceived: by mx.a id 42;")
    (('mx.a', '42'), ('store', '7xY'))
    """
    unfolded = re.sub(r"\n[ \t]+", " ", head)
    fields = re.findall(r"^Received: (.*)$", unfolded, re.M)
    found = []
    for field in reversed(fields):
        by, number = re.search(r"\bby (\S+)", field), re.search(r"\bid (\w+)", field)
        if by and number:
            found.append((by[1], number[1]))
    return tuple(found)


def judge(
    promises: Sequence[Promise], copies: Iterable[Copy], faults: Sequence[Done], before: Mapping[str, str],
    queued: frozenset[int] = frozenset(), names: Mapping[str, str] | None = None,
) -> Result:  # fmt: skip
    """Compare. `before` says who hands over to whom: `{"store": "gateway"}` for a hop into the store; `queued` are
    the numbers in the site's queues; `names` are machines by the names that they have outside."""
    there: dict[int, list[Copy]] = defaultdict(list)
    for copy in copies:
        there[copy.number].append(copy)
    kept = [it for it in promises if it.code == 250]
    nowhere = [it.number for it in kept if not there[it.number]]
    lost = tuple(it for it in nowhere if it not in queued)
    late = tuple(it for it in nowhere if it in queued)
    astray, twins = [], []
    for promise in promises:
        found = there[promise.number]
        astray += [it for it in found if (it.mailbox, it.folder) != (promise.recipient, "INBOX")]
        if len(found) > 1:
            twins.append(_twin(promise, found, faults, before, names or {}))
    refused = tuple(it for it in promises if it.code != 250)
    return Result(
        len(kept),
        refused,
        lost,
        late,
        tuple(astray),
        tuple(twins),
        Counter(it.tries for it in promises),
    )


def _twin(
    promise: Promise, copies: Sequence[Copy], faults: Sequence[Done], before: Mapping[str, str],
    names: Mapping[str, str],
) -> Twin:  # fmt: skip
    rows = [it.hops for it in copies]
    for step in zip(*rows, strict=False):
        if len({number for _, number in step}) > 1:
            by = step[0][0]
            break
    else:
        return Twin(promise.number, "", "")
    machine = names.get(by) or by.split(".")[0]
    # What a user submits does not say so to others: its first hop may be the second.
    first = machine == promise.first and step == tuple(row[0] for row in rows)
    if first and not promise.unsure:
        return Twin(promise.number, by, "")
    touched = {machine, "" if first else before.get(machine, ""), FIREWALL}
    begin, end = min(it.at for it in copies), max(it.at for it in copies)
    why = [
        it.fault.words
        for it in faults
        if it.began <= end and it.ended >= begin - MARGIN
        and (it.fault.kind in ("cut", "bad") or it.fault.target in touched)
    ]  # fmt: skip
    if not why and first and promise.late:
        why = ["its sender did not wait for the answer any longer"]
    return Twin(promise.number, by, why[-1] if why else "")
