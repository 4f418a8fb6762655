#!/usr/bin/python3 -IS
"""learn: what users call spam and ham, on its way from their mailboxes to the gateways' filters.

    learn take spam USER < MESSAGE     Dovecot has seen a user move a message; never waits for a network
    learn hand-over                    gives what waits to each gateway; what it does not take waits on

Between the two lies a spool, a folder for each gateway: SPOOL/GATEWAY/SHA256.VERDICT. A message is one
file there however often it is moved, and its last verdict counts. The gateway speaks the learning part of
Rspamd's HTTP, over TLS in which each side proves its certificate. Settings: /etc/mastio/learn.json. Only
the standard library is used.
"""

import hashlib
import http.client
import json
import os
import ssl
import sys
import syslog
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/mastio/learn.json")
VERDICTS = ("spam", "ham")
FREE = 0.1
"""A disk with less than this part free takes no more: mail matters more than lessons."""
HOPELESS = (400, 413)
"""Empty, or too large: asking again will not make it better."""
PATIENCE = 60
"""How long a gateway may take for one message, in seconds."""


class NoSpaceError(Exception):
    """The disk is nearly full."""


def take(spool: Path, gateways: list[str], verdict: str, message: bytes) -> None:
    """Puts a message and its verdict into each gateway's folder, durably; raises NoSpaceError."""
    disk = os.statvfs(spool)
    if disk.f_bavail < FREE * disk.f_blocks:
        raise NoSpaceError
    name = hashlib.sha256(message).hexdigest()
    with tempfile.NamedTemporaryFile(dir=spool) as file:
        file.write(message)
        file.flush()
        os.fsync(file.fileno())
        for gateway in gateways:
            for other in VERDICTS:
                (spool / gateway / f"{name}.{other}").unlink(missing_ok=True)
            with suppress(FileExistsError):  # the same move, at the same moment
                os.link(file.name, spool / gateway / f"{name}.{verdict}")


def hand_over(folder: Path, door: http.client.HTTPConnection) -> str:
    """Gives all of one gateway's folder to it, oldest first; what stopped it, or "" when all is done."""
    try:
        while waiting := _oldest_first(folder):
            for path in waiting:
                with suppress(FileNotFoundError):  # the user has changed the verdict meanwhile
                    if why := _teach(path, door):
                        return why
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        door.close()
    return ""


def _teach(path: Path, door: http.client.HTTPConnection) -> str:
    digest, _, verdict = path.name.partition(".")
    door.request("POST", f"/learn{verdict}", path.read_bytes())
    reply = door.getresponse()
    words = reply.read().decode(errors="replace").strip()[:200]
    if reply.status // 100 != 2 and reply.status not in HOPELESS:
        return f"{reply.status} {words}"
    # 2xx: learned, known already, or too few words to learn from
    syslog.syslog(f"{digest[:16]} as {verdict}: {reply.status} {words}")
    path.unlink(missing_ok=True)
    return ""


def _oldest_first(folder: Path) -> list[Path]:
    dated = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            dated.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(dated)]


def connection(settings: dict[str, Any], gateway: str) -> http.client.HTTPSConnection:
    """A gateway's door; the key is systemd's to give (LoadCredential=)."""
    context = ssl.create_default_context(cafile=settings["authority"])
    context.load_cert_chain(
        settings["certificate"], Path(os.environ["CREDENTIALS_DIRECTORY"]) / "host.key"
    )
    return http.client.HTTPSConnection(gateway, settings["port"], timeout=PATIENCE, context=context)


def main() -> int:
    """One of the two uses above; 1 when a message could not be kept."""
    syslog.openlog("mastio-learn", syslog.LOG_PID, syslog.LOG_MAIL)
    settings = json.loads(SETTINGS.read_text())
    spool, gateways = Path(settings["spool"]), list(settings["gateways"])
    match sys.argv[1:]:
        case ["take", ("spam" | "ham") as verdict, user]:
            message = sys.stdin.buffer.read()
            digest = hashlib.sha256(message).hexdigest()[:16]
            try:
                take(spool, gateways, verdict, message)
            except (OSError, NoSpaceError) as error:
                name = type(error).__name__
                syslog.syslog(syslog.LOG_ERR, f"{user!r}: {verdict} {digest} not kept: {name}")
                return 1
            syslog.syslog(f"{user!r} says {verdict}: {digest}")
        case ["hand-over"]:
            for gateway in gateways:
                if why := hand_over(spool / gateway, connection(settings, gateway)):
                    left = len(list((spool / gateway).iterdir()))
                    syslog.syslog(syslog.LOG_WARNING, f"{gateway}: {left} wait: {why}")
        case _:
            sys.stderr.write("usage: learn take spam|ham USER < MESSAGE; learn hand-over\n")
            return 64
    return 0


if __name__ == "__main__":
    sys.exit(main())
