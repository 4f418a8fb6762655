#!/usr/bin/python3 -IS
"""learn: what users do that the gateways' filters must know, on its way there.

    learn take spam USER < MESSAGE     Dovecot has seen a user move a message; never waits for a network
    learn hand-over                    gives what waits to each gateway; what it does not take waits on
    learn tell                         tells each gateway whom users have written to since it last heard
    learn retell GATEWAY               has this one told everything: it is new, or knows no more than its archive did

Between the two lies a spool, a folder for each gateway: SPOOL/GATEWAY/SHA256.VERDICT. A message is one
file there however often it is moved, and its last verdict counts. The gateway speaks the learning part of
Rspamd's HTTP, over TLS in which each side proves its certificate.

Whom users have written to stands in the database of mastio-outbound, numbered; for each gateway it says up to
which number that one knows. A gateway that is away, or new, hears the rest later: lines of a digest and the
seconds for which it holds. Settings: /etc/mastio/learn.json. Only the standard library is used.
"""

import hashlib
import http.client
import json
import os
import sqlite3
import ssl
import sys
import syslog
import tempfile
import time
from contextlib import closing, suppress
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
MEMORY = 180 * 86_400
"""How long somebody is known whom a user has written to, in seconds."""
MOST = 250_000
"""So many people are known, the latest: some 50 MB in each gateway's Valkey."""
BATCH = 1000
GATHER = 1
"""What comes within so many seconds is told together."""


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


def tell(
    book: sqlite3.Connection, gateway: str, door: http.client.HTTPConnection, now: float
) -> str:
    """Tells a gateway all that it does not know, in the order of writing; what stopped it, or ""."""
    try:
        while rows := book.execute(
            "SELECT n, person, at, known FROM wrote,"
            " (SELECT coalesce((SELECT n FROM told WHERE gateway = ?), 0) AS known)"
            " WHERE n > known ORDER BY n LIMIT ?",
            (gateway, BATCH),
        ).fetchall():
            lines = (f"{person} {max(1, int(at + MEMORY - now))}\n" for _, person, at, _ in rows)
            door.request("POST", "/wrote", "".join(lines).encode())
            reply = door.getresponse()
            words = reply.read().decode(errors="replace").strip()[:200]
            if reply.status != 200:
                return f"{reply.status} {words}"
            # Not when it was forgotten meanwhile what the gateway knows (`retell`).
            book.execute(
                "INSERT OR REPLACE INTO told SELECT ?1, ?2"
                " WHERE coalesce((SELECT n FROM told WHERE gateway = ?1), 0) = ?3",
                (gateway, rows[-1][0], rows[-1][3]),
            )
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        door.close()
    return ""


def waits(file: Path) -> bool:
    """Whether mastio-outbound has made its tables yet: it does when the first user writes."""
    if not file.exists():
        return False
    with closing(sqlite3.connect(file, timeout=20)) as book:
        return bool(book.execute("SELECT 1 FROM sqlite_master WHERE name = 'told'").fetchone())


def forget(book: sqlite3.Connection, gateways: list[str], now: float) -> None:
    """Drops who is known no more, who is too many, and what gateways knew that are none now."""
    book.execute("DELETE FROM wrote WHERE at < ?", (now - MEMORY,))
    book.execute(
        "DELETE FROM wrote WHERE n IN (SELECT n FROM wrote ORDER BY n DESC LIMIT -1 OFFSET ?)",
        (MOST,),
    )
    names = ",".join("?" * len(gateways))
    book.execute(f"DELETE FROM told WHERE gateway NOT IN ({names})", gateways)  # noqa: S608 — marks only


def retell(book: sqlite3.Connection, gateway: str) -> None:
    """What a gateway has been told counts no more."""
    book.execute("DELETE FROM told WHERE gateway = ?", (gateway,))


def connection(settings: dict[str, Any], gateway: str) -> http.client.HTTPSConnection:
    """A gateway's door; the key is systemd's to give (LoadCredential=)."""
    context = ssl.create_default_context(cafile=settings["authority"])
    context.load_cert_chain(
        settings["certificate"], Path(os.environ["CREDENTIALS_DIRECTORY"]) / "host.key"
    )
    return http.client.HTTPSConnection(gateway, settings["port"], timeout=PATIENCE, context=context)


def main() -> int:
    """One of the uses above; 1 when a message could not be kept."""
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
        case ["tell"]:
            time.sleep(GATHER)
            # First: what comes meanwhile raises it anew.
            Path(settings["news"]).unlink(missing_ok=True)
            file = Path(settings["wrote"])
            if not waits(file):
                return 0
            with closing(sqlite3.connect(file, timeout=20, isolation_level=None)) as book:
                forget(book, gateways, time.time())
                for gateway in gateways:
                    if why := tell(book, gateway, connection(settings, gateway), time.time()):
                        syslog.syslog(syslog.LOG_WARNING, f"{gateway}: whom users wrote to: {why}")
        case ["retell", gateway]:
            if waits(file := Path(settings["wrote"])):
                with closing(sqlite3.connect(file, timeout=20, isolation_level=None)) as book:
                    retell(book, gateway)
                Path(settings["news"]).touch()
        case _:
            sys.stderr.write(
                "usage: learn take spam|ham USER < MESSAGE; learn hand-over | tell | retell GATEWAY\n"
            )
            return 64
    return 0


if __name__ == "__main__":
    sys.exit(main())
