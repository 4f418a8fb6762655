"""The benchmarks' sender, against a server in a thread: it tries again what was deferred, nothing else."""

import json
import socket
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from bench.corpus import clean
from bench.sender import send

SENDER = "carol@outside.test"


class Server(socketserver.ThreadingTCPServer):
    """Counts the tries of each recipient."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Dialogue)
        self.tries: Counter[str] = Counter()
        self.received: list[bytes] = []


class Dialogue(socketserver.StreamRequestHandler):
    """What the server says depends on the recipient's name."""

    server: Server

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client may hang up without waiting for an answer
            self.talk()

    def talk(self) -> None:
        self.wfile.write(b"220 ready\r\n")
        name = ""
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                self.wfile.write(b"250-server\r\n250 SIZE\r\n")
            elif verb == b"RCPT":
                name = line.decode().partition("<")[2].partition("@")[0]
                self.server.tries[name] += 1
                self.wfile.write(b"550 no such user\r\n" if name == "nobody" else b"250 ok\r\n")
            elif verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                self.data(name)
            else:
                self.wfile.write(b"250 ok\r\n")

    def data(self, name: str) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line)
        first = self.server.tries[name] == 1
        if name == "broken" and first:
            self.connection.shutdown(socket.SHUT_RDWR)
        elif name == "never" or (name == "later" and first):
            self.wfile.write(b"451 later\r\n")
        else:
            if name == "slow" and first:
                time.sleep(0.5)
            self.server.received.append(b"".join(lines))
            self.wfile.write(b"250 queued\r\n")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def outcomes(server: Server, *names: str) -> list[Any]:
    mails = [[SENDER, f"{name}@here.test", "Subject: x\n\n.dot\nend\n"] for name in names]
    sent = send(
        "127.0.0.1", server.server_address[1], "127.0.0.1", "me.test", mails, 3, [0.01, 0.01]
    )
    assert sent["began"] <= sent["ended"]
    assert len(sent["vain"]) == sum(tries - 1 for _, _, tries, _ in sent["outcomes"])
    assert all(sent["began"] <= when <= sent["ended"] for when, _ in sent["vain"])
    return [(code, tries) for code, _, tries, _ in sent["outcomes"]]


def test_accepted_and_refused_at_once(server: Server) -> None:
    assert outcomes(server, "alice", "nobody") == [(250, 1), (550, 1)]
    assert server.received == [b"Subject: x\r\n\r\n..dot\r\nend\r\n"]


def test_deferred_and_broken_are_tried_again(server: Server) -> None:
    assert outcomes(server, "later", "broken") == [(250, 2), (250, 2)]


def test_who_does_not_wait_for_the_answer_says_so(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    mails = [[SENDER, f"{it}@here.test", "Subject: x\n\nhi\n"] for it in ("slow", "alice")]
    port = server.server_address[1]
    send("127.0.0.1", port, "", "me.test", mails, 2, [0.5], patience=0.2, tell=True)
    told = [json.loads(it)[:2] for it in capsys.readouterr().out.splitlines()]
    assert [it for it in told if it[1] == 0] == [["dot", 0], ["late", 0], ["dot", 0], ["end", 0]]
    assert [it for it in told if it[1] == 1] == [["dot", 1], ["end", 1]]


def test_patience_ends(server: Server) -> None:
    assert outcomes(server, "never") == [(451, 3)]


def test_a_letter_loses_what_its_collector_added() -> None:
    text = "From a@b Mon\nX-Spam-Status: No,\n hits=1\nSubject: x\nDelivered-To: c\nX-A: 1\n\nFrom me\n"
    assert clean(text, 7) == "X-Bench: 7\nSubject: x\nX-A: 1\n\nFrom me\n"
