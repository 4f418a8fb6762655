"""SMTP as an attacker's client speaks it: every octet is ours (RFC 5321)."""

from __future__ import annotations

import socket
import ssl
import time

_SIDE_BY_SIDE = 16


def dialogue(
    address: str, port: int, lines: list[str], tls: str = "", patience: float = 15
) -> list[str]:
    """The replies to connecting and to each line: `250 text / more text`.

    `tls` is "" (none), "starttls" or "at once"; certificates are not judged here. A server that hangs up
    ends the list with "closed".
    """
    with socket.create_connection((address, port), timeout=patience) as plain:
        if tls == "at once":
            plain = _wrap(plain)
        client = _Client(plain)
        replies = [client.reply()]
        if tls == "starttls":
            replies[0] = client.reply() if client.say("EHLO probe.test") else "closed"
            client.say("STARTTLS")
            if not client.reply().startswith("220"):
                raise ValueError(f"{address}:{port} does not offer STARTTLS")
            client = _Client(_wrap(plain))
        for line in lines:
            replies.append(client.reply() if client.say(line) else "closed")
            if replies[-1] == "closed":
                break
        return replies


def guessing(address: str, port: int, times: int) -> int:
    """Try to log in where nobody may, in so many connections one after the other; how many were let in
    to try.
    """
    tried = 0
    for _ in range(times):
        try:
            dialogue(address, port, ["EHLO probe.test", "AUTH PLAIN AGEAYg==", "QUIT"], patience=5)
        except OSError:
            break
        tried += 1
    return tried


def opens(address: str, port: int, wanted: bool, seconds: float) -> bool:
    """Whether a connection is taken; asked again until it is as `wanted`, for so many seconds."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((address, port), timeout=2).close()
            found = True
        except OSError:
            found = False
        if found == wanted or time.monotonic() > end:
            return found
        time.sleep(0.5)


def relayed(
    address: str, port: int, senders: list[str], recipients: list[str], tls: str
) -> list[list[str]]:
    """`[sender, recipient, reply]` for every pair, a new connection each, many at a time."""
    # Dear to load, and all else here does without.
    from concurrent.futures import ThreadPoolExecutor

    def one(pair: tuple[str, str]) -> list[str]:
        lines = ["EHLO probe.test", f"MAIL FROM:{pair[0]}", f"RCPT TO:{pair[1]}", "QUIT"]
        replies = dialogue(address, port, lines, tls, 30)
        # A sender that is refused protects as well as a recipient that is.
        refused = next((it for it in replies[1:4] if it[:1] in ("4", "5")), "")
        return [*pair, refused or (replies[3] if len(replies) > 3 else replies[-1])]

    pairs = [(sender, recipient) for sender in senders for recipient in recipients]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        return list(pool.map(one, pairs))


def smuggled(address: str, port: int, sender: str, recipient: str, content: str,
             endings: dict[str, str]) -> dict[str, list[str]]:  # fmt: skip
    """For each way to end a message that is none: all replies from the content on.

    `content` is a message that the server refuses anyway, so that nothing is delivered. Behind each
    ending stands a second envelope; a server that takes the ending for one answers it too.
    """
    second = f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n"
    found = {}
    for name, ending in endings.items():
        with socket.create_connection((address, port), timeout=20) as plain:
            client = _Client(plain)
            client.reply()
            for line in (
                "EHLO probe.test",
                f"MAIL FROM:<{sender}>",
                f"RCPT TO:<{recipient}>",
                "DATA",
            ):
                client.say(line)
                reply = client.reply()
            if not reply.startswith("354"):
                raise ValueError(f"{address}:{port} wants no test message: {reply}")
            text = (
                content.replace("\n", "\r\n")
                + "smuggle"
                + ending.encode().decode("unicode_escape")
                + second
            )
            client.raw((text + content.replace("\n", "\r\n") + "\r\n.\r\nQUIT\r\n").encode())
            replies: list[str] = []
            while len(replies) < 10 and (reply := client.reply()) != "closed":
                replies.append(reply)
            found[name] = [it for it in replies if not it.startswith("221")]
    return found


def pipelined(address: str, port: int, sender: str) -> list[str]:
    """All replies when EHLO, MAIL and RCPT come in one packet, before the server has said it may."""
    with socket.create_connection((address, port), timeout=20) as plain:
        client = _Client(plain)
        client.reply()
        client.raw(f"EHLO probe.test\r\nMAIL FROM:<{sender}>\r\nRSET\r\n".encode())
        replies: list[str] = []
        while len(replies) < 3 and (reply := client.reply()) != "closed":
            replies.append(reply)
        return replies


def injected(address: str, port: int) -> str:
    """What a server answers, inside TLS, to a command that came in the clear behind STARTTLS.

    "" when nothing (CVE-2011-0411).
    """
    with socket.create_connection((address, port), timeout=15) as plain:
        client = _Client(plain)
        client.reply()
        client.say("EHLO probe.test")
        client.reply()
        client.raw(b"STARTTLS\r\nNOOP\r\n")
        reply = client.reply()
        if not reply.startswith("220"):
            return ""
        try:
            inside = _wrap(plain)
            inside.settimeout(1.5)
            return inside.recv(200).decode(errors="replace").strip()
        except (TimeoutError, ssl.SSLError, ConnectionError):
            return ""


def send(address: str, port: int, sender: str, recipient: str, content: str) -> str:
    """The last reply to a whole message."""
    lines = ["EHLO probe.test", f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"]
    with socket.create_connection((address, port), timeout=40) as plain:
        client = _Client(plain)
        reply = client.reply()
        for line in lines:
            client.say(line)
            reply = client.reply()
            if not reply.startswith(("2", "3")):
                return reply
        client.raw(content.replace("\r\n", "\n").replace("\n", "\r\n").encode() + b"\r\n.\r\n")
        reply = client.reply()
        client.say("QUIT")
        return reply


def _wrap(plain: socket.socket) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


class _Client:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")

    def raw(self, data: bytes) -> None:
        self._connection.sendall(data)

    def say(self, line: str) -> bool:
        try:
            self.raw(f"{line}\r\n".encode())
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return False
        return True

    def reply(self) -> str:
        lines = []
        try:
            while line := self._file.readline(2048).decode(errors="replace").rstrip():
                lines.append(line)
                if line[3:4] != "-":
                    break
        except (ConnectionResetError, ssl.SSLError):
            pass
        if not lines:
            return "closed"
        return f"{lines[-1][:3]} " + " / ".join(line[4:] for line in lines)
