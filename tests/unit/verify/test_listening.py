"""Who listens where no flow says so, whatever it calls itself and however high its port is: H1, and integrity alike."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

import pytest

from mastio.integrity import facts
from mastio.verify.checks import host as checks
from mastio.verify.listening import listening
from mastio.verify.probes import host
from mastio.verify.vantage import Vantage
from tests.unit.verify.fakes import Here, vantage


@contextmanager
def ear() -> Iterator[socket.socket]:
    """A UDP socket that anybody may send to, on a port that the kernel gives to clients."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("0.0.0.0", 0))
        yield one


def heard(one: socket.socket, *, declared: bool = False) -> bool:
    port = one.getsockname()[1]
    known: list[list[object]] = [["udp", "0.0.0.0", port]] if declared else []
    return ["udp", "0.0.0.0", port] in [it[:3] for it in host.listeners(known)]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_REPLY", 1.5)


def test_what_stays_open_listens_however_high_its_port() -> None:
    with ear() as one:
        assert one.getsockname()[1] >= 32768
        assert heard(one)


def test_a_client_that_waits_for_a_reply_does_not() -> None:
    with ear() as one:
        Timer(1.5, one.close).start()
        assert not heard(one) and one.fileno() == -1
    with ear() as one:
        one.connect(("127.0.0.1", 9))
        assert not heard(one)


def test_what_a_flow_declares_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_REPLY", 60.0)
    monkeypatch.setattr(host, "_sockets", lambda: {("udp", "0.0.0.0", 51820): "0"})
    begin = time.monotonic()
    assert host.listeners([["udp", "0.0.0.0", 51820]]) == [["udp", "0.0.0.0", 51820, "?"]]
    assert time.monotonic() - begin < 10


def looked(monkeypatch: pytest.MonkeyPatch, *more: list[object]) -> tuple[list[str], list[str]]:
    """What H1 and integrity say of a gateway on which `more` listens beside what is declared."""

    def ask(self: Vantage, function: Any, declared: list[list[object]]) -> list[list[object]]:
        assert function is host.listeners
        return [*([*it, "its own"] for it in declared), *more]

    monkeypatch.setattr(Vantage, "ask", ask)
    gateway = vantage("gateway", Here())
    return list(checks.only_declared(gateway)), facts.listeners(*listening(gateway))


def test_no_name_and_no_port_excuses_a_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch) == ([], [])
    for program, port in (("unbound", 5353), ("chronyd", 40000)):
        verified, measured = looked(monkeypatch, ["udp", "0.0.0.0", port, program])
        assert verified == [
            f"gateway: {program} listens on 0.0.0.0 {port}/udp, which no flow declares"
        ]
        assert measured == [f"udp 0.0.0.0 port {port} ({program})"]


def test_what_should_listen_and_does_not_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vantage, "ask", lambda *_: [])
    found = list(checks.only_declared(vantage("gateway", Here())))
    assert "gateway: nobody listens on 10.77.1.10 25/tcp, as the flow matrix says" in found
