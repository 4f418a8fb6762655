#!/usr/bin/python3 -IS
"""learnd: the learning part of Rspamd's controller, and nothing else of it; and whom users have written to.

    C: POST /learnspam HTTP/1.1        or /learnham; the message is the body
    S: HTTP/1.1 200 OK                 Rspamd's own code and words; 503 when it is away
    C: POST /wrote HTTP/1.1            lines of a person (SHA-256 of the address) and for how many seconds
    S: HTTP/1.1 200 OK                 Valkey has them, where greylisting asks; 503 when it is away

Usage: learnd CONTROLLER VALKEY LIMIT, two unix sockets and the largest message in bytes. Started for
one connection, which is its standard input (systemd.socket(5), Accept=yes); TLS and the caller's
certificate are stunnel's affair. The controller trusts everybody who can open its socket with everything, from
reading mail to changing settings, so only the path's two values and the body pass through here, none
of the caller's headers; and of Valkey's commands one, with nothing in it but digits of a digest and of a
number. Only the standard library is used.
"""

import http.client
import re
import socket
import sys
from http.server import BaseHTTPRequestHandler

LESSONS = ("/learnspam", "/learnham")
WROTE = "/wrote"
PATIENCE = 60
"""The longest silence, in seconds."""
_PERSON = re.compile(rb"([0-9a-f]{64}) ([1-9][0-9]{0,7})")


class Controller(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def connect(self) -> None:
        """Opens the socket at the path that stands for the host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.host)


class Door(BaseHTTPRequestHandler):
    """One connection; several messages may come through it."""

    protocol_version = "HTTP/1.1"
    server_version = sys_version = ""
    timeout = PATIENCE
    controller = valkey = ""
    limit = 0

    def do_POST(self) -> None:
        """Passes one message on, or refuses it and hangs up."""
        length = self.headers.get("Content-Length", "")
        if self.path not in (*LESSONS, WROTE):
            return self.refuse(403, "only learning")
        if not length.isascii() or not length.isdigit():
            return self.refuse(411, "how long?")
        if int(length) > self.limit:
            return self.refuse(413, "too large")
        message = self.rfile.read(int(length))
        if len(message) < int(length):
            self.close_connection = True
            return None
        if self.path == WROTE:
            return self.reply(*wrote(self.valkey, message))
        return self.reply(*learn(self.controller, self.path, message))

    def refuse(self, code: int, words: str) -> None:
        """Says no. The body has not been read, so nothing can follow."""
        self.close_connection = True
        self.reply(code, words.encode())

    def reply(self, code: int, words: bytes) -> None:
        """One answer."""
        self.send_response(code)
        self.send_header("Content-Length", str(len(words)))
        self.end_headers()
        self.wfile.write(words)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """To the journal."""
        sys.stderr.write(format % arguments + "\n")


def learn(controller: str, path: str, message: bytes) -> tuple[int, bytes]:
    """What Rspamd says to a message: an HTTP code and a body.

    `Learn-Type: bulk`: a person has judged, so it counts even if Rspamd thinks so already.
    """
    rspamd = Controller(controller)
    try:
        rspamd.request("POST", path, message, {"Learn-Type": "bulk"})
        reply = rspamd.getresponse()
        words = reply.read()
    except (OSError, http.client.HTTPException) as error:
        return 503, type(error).__name__.encode()
    finally:
        rspamd.close()
    # 204, too few words to learn from, goes with no length (RFC 9110, 8.6): here every answer has one
    return (200 if reply.status == 204 else reply.status), words


def wrote(valkey: str, lines: bytes) -> tuple[int, bytes]:
    """Remembers people, all or (malformed) none: an HTTP code and a body."""
    people = [_PERSON.fullmatch(it) for it in lines.splitlines()]
    commands = [b"SETEX mastio:wrote:%b %b 1\r\n" % it.groups() for it in people if it]
    if len(commands) < len(people):
        return 400, b"a person and for how long?"
    try:
        with socket.socket(socket.AF_UNIX) as memory:
            memory.settimeout(PATIENCE)
            memory.connect(valkey)
            memory.sendall(b"".join(commands))
            with memory.makefile("rb") as replies:
                for _ in commands:
                    if (said := replies.readline(200)) != b"+OK\r\n":
                        return 503, said.strip() or b"Valkey hung up"
    except OSError as error:
        return 503, type(error).__name__.encode()
    return 200, b"%d" % len(commands)


def main() -> int:
    """Serves the connection on standard input."""
    Door.controller, Door.valkey, Door.limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with socket.socket(fileno=0) as caller:
        Door(caller, ("", 0), None)  # type: ignore[arg-type]  # there is no server
    return 0


if __name__ == "__main__":
    sys.exit(main())
