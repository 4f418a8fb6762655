"""What counts as an answer to a scan."""

import struct
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from mastio.verify.probes import scan

TARGET = ip_address("192.0.2.1")


def heard(theirs: int, mine: int) -> set[tuple[str, int]]:
    """What a datagram from the target opens for a scan from port 40000 that asked port 53."""
    way: Any = SimpleNamespace(port=40000, asked={53}, open=set(), closed=set())
    packet = bytearray(28)
    packet[0], packet[9], packet[12:16] = 0x45, 17, TARGET.packed
    struct.pack_into("!HHHH", packet, 20, theirs, mine, 8, 0)
    scan._take(bytes(packet), {TARGET: way})
    return set(way.open)


@pytest.mark.parametrize(
    ("theirs", "mine", "answers"), [(53, 40000, True), (49419, 40000, False), (53, 40001, False)]
)
def test_a_datagram_answers_only_from_the_port_that_was_asked(
    theirs: int, mine: int, answers: bool
) -> None:
    assert heard(theirs, mine) == ({("udp", 53)} if answers else set())
