"""Logging in, with passwords that must not work."""

from __future__ import annotations

import base64
import imaplib
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def imap(address: str, port: int, pairs: list[list[str]]) -> list[dict[str, Any]]:
    """For each [user, password], side by side: whether it is let in, the words, and the seconds."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def one(pair: list[str]) -> dict[str, Any]:
        with imaplib.IMAP4_SSL(address, port, ssl_context=context, timeout=25) as client:
            began = time.monotonic()
            try:
                client.login(*pair)
                entered, words = True, "let in"
            except imaplib.IMAP4.error as error:
                entered, words = False, str(error)
            return {"in": entered, "words": words, "seconds": time.monotonic() - began}

    with ThreadPoolExecutor(len(pairs)) as pool:
        return list(pool.map(one, pairs))


def smtp(address: str, port: int, pairs: list[list[str]]) -> list[dict[str, Any]]:
    """The same by SMTP AUTH on a port that begins with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def one(pair: list[str]) -> dict[str, Any]:
        token = base64.b64encode("\0".join(["", *pair]).encode()).decode()
        plain = socket.create_connection((address, port), timeout=25)
        with plain, context.wrap_socket(plain) as secure:
            file = secure.makefile("rb")
            _reply(file)
            secure.sendall(b"EHLO probe.test\r\n")
            _reply(file)
            began = time.monotonic()
            secure.sendall(f"AUTH PLAIN {token}\r\n".encode())
            words = _reply(file)
            return {"in": words[:1] == "2", "words": words, "seconds": time.monotonic() - began}

    with ThreadPoolExecutor(len(pairs)) as pool:
        return list(pool.map(one, pairs))


def _reply(file: Any) -> str:
    while line := str(file.readline(2048), errors="replace").rstrip():
        if line[3:4] != "-":
            return line
    return "closed"
