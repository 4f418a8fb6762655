"""The gateway's door for learning lets nothing else through; people whom users have written to come by it, too."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mastio.roles.gateway import learnd
from tests.unit.roles.test_learning import line


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[tuple[str, list[tuple[str, bytes, set[str]]]]]:
    """A unix socket that answers as Rspamd's controller, and what it was told."""
    told: list[tuple[str, bytes, set[str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.append((self.path, body, {it.lower() for it in self.headers}))
            self.send_response(208)
            self.end_headers()
            self.wfile.write(b"known")

        def log_message(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return ""

    class Server(HTTPServer):
        address_family = socket.AF_UNIX

        def server_bind(self) -> None:
            self.socket.bind(str(self.server_address))

        def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
            return self.socket.accept()[0], ("", 0)

    path = str(tmp_path / "controller.sock")
    with Server(path, Handler) as server:  # type: ignore[arg-type]  # a path is an address here
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield path, told
        server.shutdown()
        thread.join()


class Valkey:
    """Stands for Valkey at `path`: answers each line with `said`, and remembers."""

    def __init__(self, path: Path, said: bytes) -> None:
        self.path, self.said, self.lines = str(path), said, list[bytes]()

    def __enter__(self) -> "Valkey":
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()
        return self

    def serve(self) -> None:
        caller, _ = self.socket.accept()
        with caller, caller.makefile("rb") as lines:
            for each in lines:
                self.lines.append(each)
                caller.sendall(self.said)

    def __exit__(self, *_: object) -> None:
        self.thread.join()
        self.socket.close()


def knock(controller: str, lines: bytes, valkey: str = "/nowhere") -> bytes:
    """All that the door says to these bytes."""
    ours, theirs = socket.socketpair()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", str(Path(learnd.__file__)), controller, valkey, "200"],
        {},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
    )
    theirs.close()
    ours.sendall(lines)
    ours.shutdown(socket.SHUT_WR)
    said = b""
    while piece := ours.recv(4096):
        said += piece
    ours.close()
    os.waitpid(pid, 0)
    return said


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    head = b"\r\n".join((b"POST %s HTTP/1.1" % path, b"Host: x", *headers))
    return b"%b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


def test_lessons_pass_one_after_the_other_and_only_their_bodies(
    controller: tuple[str, list[tuple[str, bytes, set[str]]]],
) -> None:
    path, told = controller
    lines = post(b"/learnspam", b"one", b"Password: x", b"Settings: {}") + post(
        b"/learnham", b"two"
    )
    said = knock(path, lines)
    assert said.count(b"HTTP/1.1 208") == 2 and said.endswith(b"known")
    assert [it[:2] for it in told] == [("/learnspam", b"one"), ("/learnham", b"two")]
    assert not {"password", "settings"} & told[0][2]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (post(b"/saveactions", b"[]"), b"403"),
        (post(b"/learnspam/../stat", b"[]"), b"403"),
        (post(b"/learnspam?x", b"[]"), b"403"),
        (post(b"/learnspam", b"x" * 201), b"413"),
        (post(b"/wrote", b"x" * 201), b"413"),
        (b"POST /learnspam HTTP/1.1\r\nHost: x\r\n\r\n", b"411"),
        (b"POST /learnspam HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"411"),
        (b"GET /stat HTTP/1.1\r\nHost: x\r\n\r\n", b"501"),
    ],
)
def test_nothing_but_learning_passes(
    controller: tuple[str, list[tuple[str, bytes, set[str]]]], lines: bytes, code: bytes
) -> None:
    path, told = controller
    assert knock(path, lines + post(b"/learnspam", b"hidden")).split()[1] == code
    assert not told, "after a refusal nothing more is read"


def test_people_come_into_the_memory_of_greylisting(tmp_path: Path) -> None:
    with Valkey(tmp_path / "valkey.sock", b"+OK\r\n") as valkey:
        said = knock("/nowhere", post(b"/wrote", line("a", 60) + line("b", 7)), valkey.path)
    assert said.startswith(b"HTTP/1.1 200") and said.endswith(b"\r\n2")
    assert valkey.lines == [
        b"SETEX mastio:wrote:%b 1\r\n" % it.strip() for it in (line("a", 60), line("b", 7))
    ]


@pytest.mark.parametrize(
    "words",
    [
        b"somebody@y.test 60\n", line("a", 60)[1:], line("a", 0), line("a", -1), line("a", 10**8),
        line("a", 60).strip() + b" NX\n", line("a", 60) + b"FLUSHALL\n", line("a", 60).upper(),
    ],
)  # fmt: skip
def test_only_digests_and_numbers_come_to_valkey(tmp_path: Path, words: bytes) -> None:
    said = knock("/nowhere", post(b"/wrote", words), str(tmp_path / "none"))
    assert said.split()[1] == b"400", "and Valkey has not been asked: else it were 503"


def test_when_valkey_does_not_take_people_the_store_shall_come_again(tmp_path: Path) -> None:
    words = post(b"/wrote", line("a", 60))
    assert knock("/nowhere", words, str(tmp_path / "none")).split()[1] == b"503"
    with Valkey(tmp_path / "valkey.sock", b"-OOM no room\r\n") as valkey:
        said = knock("/nowhere", words, valkey.path)
    assert said.split()[1] == b"503" and b"OOM" in said


def test_half_a_message_is_not_learned(
    controller: tuple[str, list[tuple[str, bytes, set[str]]]],
) -> None:
    path, told = controller
    assert knock(path, post(b"/learnspam", b"a whole message")[:-3]) == b""
    assert not told


def test_without_rspamd_the_store_shall_come_again(tmp_path: Path) -> None:
    assert knock(str(tmp_path / "none"), post(b"/learnham", b"one")).split()[1] == b"503"
