"""What AIDE does not see."""

import pytest

from mastio.integrity import facts
from mastio.integrity.difference import Kind


def test_listeners_are_named_by_their_place_and_by_who_they_are() -> None:
    undeclared = {("tcp", "0.0.0.0", 4444): "nc", ("udp", "0.0.0.0", 40000): "chronyd"}
    usurped = {("tcp", "10.0.0.1", 25): "/usr/bin/nc, not /usr/sbin/x"}
    assert facts.listeners(undeclared, usurped) == [
        "tcp 0.0.0.0 port 4444 (nc)",
        "tcp 10.0.0.1 port 25 (held by /usr/bin/nc, not /usr/sbin/x)",
        "udp 0.0.0.0 port 40000 (chronyd)",
    ]
    assert facts.listeners({}, {}) == []


def test_an_answer_that_lacks_a_kind_is_none() -> None:
    """It would be clean of it."""
    whole: dict[str, object] = {it: ["x"] for it in facts.KINDS}
    assert facts.checked(whole) == whole
    for wrong in (None, "x", {"x": 1}, [1], [["x"]]):
        with pytest.raises(ValueError, match="its answer of kind suid is no list of words"):
            facts.checked({**whole, "suid": wrong})
    with pytest.raises(ValueError, match="kind listener"):
        facts.checked({})


def test_what_is_new_is_told_and_what_is_gone_is_not() -> None:
    old = {"listener": ["a"], "key": ["k"]}
    new = {"listener": ["b"], "key": ["k"], "deleted": ["nc: its program"]}
    assert [(it.what, it.kind) for it in facts.compare(old, new)] == [
        ("b", Kind.LISTENER),
        ("nc: its program", Kind.DELETED),
    ]
    assert facts.compare(new, new) == ()


def test_only_what_is_accepted_is_taken_over_and_what_is_gone_is_forgotten() -> None:
    old, new = {"listener": ["a", "c"]}, {"listener": ["b", "c", "d"]}
    assert facts.merge(old, new, {"b"})["listener"] == ["b", "c"]
