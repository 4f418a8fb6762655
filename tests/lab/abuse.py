"""What is done on a machine when SMTP servers are tried: sent there by `mail.remote`, standard library only. And
how what they answered is read."""

import re
from email.message import Message
from typing import Any


def relaying(
    address: str, port: int, sources: list[str], name: str, tries: list[list[str]]
) -> list[Any]:
    """The first reply that is not 2xx, or the last, to each [sender, recipient], in a connection of its own."""
    import smtplib
    from concurrent.futures import ThreadPoolExecutor

    def one(numbered: tuple[int, list[str]]) -> list[Any]:
        number, (sender, recipient) = numbered
        source = (sources[number % len(sources)], 0)
        with smtplib.SMTP(local_hostname=name, timeout=120, source_address=source) as client:
            client.connect(address, port)
            client.ehlo()
            code, text = client.docmd(f"MAIL FROM:{sender}")
            if code < 300:
                code, text = client.docmd(f"RCPT TO:{recipient}")
            return [sender, recipient, code, text.decode(errors="replace")]

    with ThreadPoolExecutor(24) as pool:
        return list(pool.map(one, enumerate(tries)))


def at_doors(doors: list[list[Any]], name: str, tries: list[list[str]]) -> list[Any]:
    """The same at each [address, port, whether TLS comes first] that takes a connection: address, port and reply."""
    import contextlib
    import smtplib
    import socket
    import ssl
    from concurrent.futures import ThreadPoolExecutor

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def one(door: list[Any]) -> list[Any]:
        address, port, wrapped = door
        replies: list[Any] = []
        for sender, recipient in tries:
            try:
                socket.create_connection((address, port), timeout=3).close()
            except OSError:
                break
            code, text = 0, b"hung up"
            with contextlib.suppress(smtplib.SMTPServerDisconnected, OSError):
                if wrapped:
                    client: smtplib.SMTP = smtplib.SMTP_SSL(
                        address, port, name, timeout=60, context=context
                    )
                else:
                    client = smtplib.SMTP(address, port, name, timeout=60)
                client.ehlo()
                if client.has_extn("starttls"):
                    client.starttls(context=context)
                    client.ehlo()
                code, text = client.docmd(f"MAIL FROM:{sender}")
                if code < 300:
                    code, text = client.docmd(f"RCPT TO:{recipient}")
                client.close()
            replies.append([address, port, code, text.decode(errors="replace")])
        return replies

    with ThreadPoolExecutor(24) as pool:
        return [it for replies in pool.map(one, doors) for it in replies]


def segments(address: str, port: int, source: str, steps: list[list[str]], tls: bool) -> str:
    """All that the server says. Each step: wait until a text was said ("" for nothing), then send.

    With `tls`, a handshake follows the last step, and what is said after it comes behind "TLS ".
    """
    import socket
    import ssl

    said, heard = "", 0
    with socket.create_connection((address, port), timeout=30, source_address=(source, 0)) as plain:
        for awaited, data in steps:
            while awaited not in said[heard:]:
                got = plain.recv(65536)
                if not got:
                    return said
                said += got.decode(errors="replace")
            heard = said.index(awaited, heard) + len(awaited)
            plain.sendall(data.encode("latin-1"))
        try:
            if tls:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                before = len(said)
                while "\n" not in said[before:]:
                    got = plain.recv(65536)
                    if not got:
                        return said
                    said += got.decode(errors="replace")
                with context.wrap_socket(plain) as secure:
                    said += "TLS "
                    secure.settimeout(3)
                    return said + secure.recv(65536).decode(errors="replace")
            while got := plain.recv(65536):
                said += got.decode(errors="replace")
        except (TimeoutError, ConnectionError, ssl.SSLError):
            pass
    return said


def raw_submissions(host: str, port: int, pki: str, name: str, user: str, password: str,
                    recipient: str, contents: list[str]) -> list[int]:  # fmt: skip
    """Submits octets as they are, each message in a connection of its own; the last replies, 0 for none."""
    import smtplib
    import ssl
    from concurrent.futures import ThreadPoolExecutor

    context = ssl.create_default_context(cafile=f"{pki}/ca.pem")

    def one(content: str) -> int:
        with smtplib.SMTP_SSL(host, port, name, timeout=60, context=context) as client:
            client.login(user, password)
            client.mail(user)
            client.rcpt(recipient)
            client.docmd("DATA")
            try:
                client.send(content.encode("latin-1") + b"\r\n.\r\n")
                return client.getreply()[0]
            except (smtplib.SMTPServerDisconnected, ConnectionError):
                return 0

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, contents))


def sink(address: str, port: int, kept: str) -> None:
    """Takes every message; what came between DATA and its end is a line of JSON in `kept`. Never returns."""
    import json
    import pathlib
    import socket
    import threading

    lock = threading.Lock()

    def serve(client: socket.socket) -> None:
        buffer, data = b"", False
        client.sendall(b"220 sink\r\n")
        while got := client.recv(65536):
            buffer += got
            while (end := b"\r\n.\r\n" if data else b"\r\n") in buffer:
                part, _, buffer = buffer.partition(end)
                if data:
                    with lock, pathlib.Path(kept).open("a") as file:
                        file.write(json.dumps(part.decode("latin-1")) + "\n")
                data = not data and part.upper() == b"DATA"
                word = part[:4].upper()
                code = "354" if data else "221" if word == b"QUIT" else "250"
                client.sendall(f"{code} sink\r\n".encode())
                if code == "221":
                    client.close()
                    return

    with socket.create_server((address, port)) as server:
        pathlib.Path(kept).touch()  # by that whoever started it knows that it listens
        while True:
            threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()


def accepted(said: str) -> set[str]:
    """The ids under which messages were queued."""
    return set(re.findall(r"^250 .*queued as ([0-9A-Za-z]{10,})", said, re.MULTILINE))


def results(letter: Message) -> str:
    """What one who knows the grammar reads in Authentication-Results: no comments, nothing quoted (RFC 8601, 2.2)."""
    seen, depth, quoted, escaped = "", 0, False, False
    for sign in "\n".join(map(str, letter.get_all("Authentication-Results", []))):
        if escaped or sign == "\\":
            escaped = not escaped
        elif depth:
            depth += (sign == "(") - (sign == ")")
        elif quoted or sign == '"':
            quoted = quoted != (sign == '"')
        elif sign == "(":
            depth = 1
        else:
            seen += sign
    return seen
