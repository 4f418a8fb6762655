"""HTTP as a browser without trust speaks it, and as a mail server that believes only authorities."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Any


def get(address: str, port: int, host: str, path: str, secure: bool) -> dict[str, Any]:
    """Status, headers (lower-case names; repeated ones joined by a line break) and the beginning of the body."""
    connection: http.client.HTTPConnection
    if secure:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(address, port, timeout=20, context=context)
    else:
        connection = http.client.HTTPConnection(address, port, timeout=20)
    try:
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        headers: dict[str, str] = {}
        for name, value in response.getheaders():
            key = name.lower()
            headers[key] = f"{headers[key]}\n{value}" if key in headers else value
        body = response.read(100_000).decode(errors="replace")
        return {"status": response.status, "headers": headers, "body": body}
    except http.client.HTTPException as error:
        raise ValueError(f"{address}:{port} does not speak HTTP: {error}") from None
    finally:
        connection.close()


def believed(address: str, port: int, host: str, path: str) -> dict[str, Any]:
    """Status, type and body of what a server shows to whoever believes its certificate; or `{"error": words}`.

    Nothing is followed elsewhere (RFC 8461, 3.3).
    """
    context = ssl.create_default_context()
    try:
        with context.wrap_socket(
            socket.create_connection((address, port), timeout=20), server_hostname=host
        ) as secure:
            connection = http.client.HTTPConnection(host)
            connection.sock = secure
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read(65_536).decode(errors="replace")
            kind = response.headers.get_content_type()
            return {"status": response.status, "type": kind, "body": body}
    except ssl.SSLCertVerificationError as error:
        return {"error": f"its certificate is not believed: {error.verify_message}"}
    except http.client.HTTPException as error:
        return {"error": f"it does not speak HTTP: {error}"}
