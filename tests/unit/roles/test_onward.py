"""Only what waits because of the store is tried when it answers."""

import json
import socketserver
import threading
from collections.abc import Iterator

import pytest

from mastio.roles.gateway import flush

STORE = "store.demo.internal"


def entry(name: str, queue: str, *reasons: str) -> str:
    recipients = [{"address": "a@x", **({"delay_reason": it} if it else {})} for it in reasons]
    return json.dumps({"queue_id": name, "queue_name": queue, "recipients": recipients})


def test_the_queue_is_read() -> None:
    queue = [
        entry("A", "deferred", f"connect to {STORE}[10.0.0.1]:24: Connection refused"),
        entry("B", "deferred", "connect to mx.far.test[192.0.2.1]:25: Connection timed out"),
        entry("C", "active", ""),
        entry("D", "deferred", "", f"lost connection with {STORE}[10.0.0.1] while receiving"),
        entry("E", "hold", f"connect to {STORE}[10.0.0.1]:24: Connection refused"),
    ]
    assert list(flush.waiting(queue, STORE)) == ["A", "D"]


class Greeting(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 ready\r\n")
        self.rfile.readline()
        self.wfile.write(b"221 bye\r\n")


class Refusal(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"421 not now\r\n")


@pytest.fixture
def serve() -> Iterator[dict[str, int]]:
    servers = {
        "well": socketserver.TCPServer(("127.0.0.1", 0), Greeting),
        "ill": socketserver.TCPServer(("127.0.0.1", 0), Refusal),
    }
    for it in servers.values():
        threading.Thread(target=it.serve_forever, daemon=True).start()
    yield {name: it.server_address[1] for name, it in servers.items()}
    for it in servers.values():
        it.shutdown()
        it.server_close()


def test_who_greets_answers(serve: dict[str, int]) -> None:
    assert flush.answers("127.0.0.1", serve["well"])
    assert not flush.answers("127.0.0.1", serve["ill"])
    assert not flush.answers("127.0.0.1", 1)
