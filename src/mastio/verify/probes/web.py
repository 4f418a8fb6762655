"""HTTP as a browser without trust speaks it."""

from __future__ import annotations

import http.client
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
