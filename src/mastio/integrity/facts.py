"""What AIDE does not see, as plain lists of sentences: read, and compared. Pure.

>>> compare({"listener": []}, {"listener": ["tcp 0.0.0.0 port 4444 (nc)"]})[0].line
'tcp 0.0.0.0 port 4444 (nc): new listener'
"""

from collections.abc import Collection, Mapping, Sequence

from mastio.integrity.difference import Difference, Kind

Facts = Mapping[str, Sequence[str]]
"""Kind → what there is of it."""
KINDS = {
    "listener": (Kind.LISTENER, "it was not there when the reference was taken, and the site file does not have it so"),
    "deleted": (Kind.DELETED, "what it runs from is not on the disk any more"),
    "key": (Kind.KEY, ""),
    "suid": (Kind.SUID, "outside of what is measured whole"),
    "unit": (Kind.UNIT, "made while the machine ran; the next boot forgets it"),
    "account": (Kind.ACCOUNT, ""),
}  # fmt: skip
"""The kinds of facts, what a new one is called, and what to say of it."""


def checked(answer: Mapping[str, object]) -> dict[str, list[str]]:
    """A machine's answer as facts. Raises ValueError when it is none: what lacks a kind would be clean of it."""
    found = {}
    for kind in KINDS:
        rows = answer.get(kind)
        if not isinstance(rows, list) or not all(isinstance(it, str) for it in rows):
            raise ValueError(f"its answer of kind {kind} is no list of words")
        found[kind] = rows
    return found


def listeners(
    undeclared: Mapping[tuple[str, str, int], str], usurped: Mapping[tuple[str, str, int], str]
) -> list[str]:
    """As facts, by kind, address, port: the programs that listen where no flow declares it, and who has a declared door
    instead of whom."""
    rows = {**undeclared, **{it: f"held by {words}" for it, words in usurped.items()}}
    return sorted(
        f"{kind} {address} port {port} ({it})" for (kind, address, port), it in rows.items()
    )


def compare(old: Facts, new: Facts) -> tuple[Difference, ...]:
    """What is there and was not. What is gone is no alarm here: verification says what must be there."""
    return tuple(
        Difference(it, kind, words)
        for name, (kind, words) in KINDS.items()
        for it in sorted({*new.get(name, ())} - {*old.get(name, ())})
    )


def merge(old: Facts, new: Facts, accepted: Collection[str]) -> dict[str, list[str]]:
    """`old` without what is gone, and with what is new and accepted."""
    return {
        name: sorted(it for it in new.get(name, ()) if it in old.get(name, ()) or it in accepted)
        for name in KINDS
    }
