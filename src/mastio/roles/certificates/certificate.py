#!/usr/bin/python3 -IS
"""Shows the public certificate that watch brings: the forced command of watch's key for that (sshd(8)).

    mastio-certificate settle     by `mastio apply`: the best chain for the key that is here now, no server is told

With no words it takes one line of JSON on stdin, `op` and what belongs to it:

    bring       `chains`: [PEM, …], the best one is shown, servers are reloaded and asked
    show        nothing changes
    challenge   `token`, `answer`: where an authority looks for it (RFC 8555, 8.3), where this machine is the webmail
    done        `token`

and answers with a line of JSON. A chain is shown only when strangers would believe it: it is for the key and for all
names, in date, and leads to an authority that is trusted here. When servers do not show it, the former one returns.
So who holds the key can neither have another certificate shown, nor learn anything that is not public. All else is
refused with exit code 77, and said in the log. Standard library only.
"""

import fcntl
import hashlib
import json
import os
import re
import smtplib
import socket
import ssl
import subprocess
import sys
import syslog
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OWN = Path("/etc/mastio/certificate.json")
LOCK = Path("/run/mastio/certificate.lock")
REFUSED = 77
MOST = 400_000
"""Octets of a question."""
PATIENCE = 20.0
"""Seconds in which all servers must show a new chain."""
FOREIGN = "it is not for the key that is here"
MOST_KEPT = 8
"""Chains that are kept when none of them is of use now."""
_BLOCK = re.compile(
    r"-----BEGIN CERTIFICATE-----\n(?:[A-Za-z0-9+/=]+\n)+-----END CERTIFICATE-----\n?"
)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")
_DAY = 86400


class RefusedError(Exception):
    """Why nothing is done."""


def believed(chain: Path, own: dict[str, Any]) -> tuple[str, float]:
    """Why strangers would not believe a chain with this machine's key, and until when they would.

    A handshake in memory asks what a handshake on the wire would (ssl, MemoryBIO).
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(chain, own["key"])
    except (ssl.SSLError, OSError):
        return FOREIGN, 0.0
    client = ssl.create_default_context()
    # Not all authorities write what RFC 5280 wants; strangers do not insist.
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if Path(own["authorities"]).stat().st_size:
        client.load_verify_locations(own["authorities"])
    end = 0.0
    for name in own["names"]:
        try:
            end = ssl.cert_time_to_seconds(str(_handshake(server, client, name)["notAfter"]))
        except ssl.SSLCertVerificationError as error:
            return f"{name}: {error.verify_message}", 0.0
        except ssl.SSLError as error:
            return f"{name}: {error}", 0.0
    return "", end


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> dict[str, Any]:
    """What the client has seen of the server's certificate."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there, server_hostname=name)
    theirs = server.wrap_bio(there, back, server_side=True)
    for _ in range(10):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
        if ours.version() and theirs.version() and ours.getpeercert():
            return dict(ours.getpeercert() or {})
    raise ssl.SSLError("the handshake does not end")


def best(own: dict[str, Any]) -> str:
    """The chain to show: of those that watch brought what lasts longest, else the fallback."""
    found = []
    for path in sorted(Path(own["stored"]).glob("*.pem")):
        wrong, end = believed(path, own)
        if not wrong:
            found.append((end, path))
    return (max(found)[1] if found else Path(own["fallback"])).read_text()


def put(path: Path, text: str) -> None:
    """A file, whole."""
    making = path.with_name(f".{path.name}.new")
    with making.open("w") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    making.rename(path)


def first(chain: str) -> str:
    """SHA-256 of a chain's first certificate (DER)."""
    block = _BLOCK.search(chain)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(block[0])).hexdigest() if block else ""


def served(own: dict[str, Any]) -> dict[str, str]:
    """What each door shows: SHA-256 of its certificate, or why it shows none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    found = {}
    for address, port, opening in own["doors"]:
        try:
            found[f"{address} {port}"] = hashlib.sha256(
                _shown(context, address, port, opening)
            ).hexdigest()
        except (OSError, smtplib.SMTPException) as error:
            found[f"{address} {port}"] = f"{type(error).__name__}: {error}"
    return found


def _shown(context: ssl.SSLContext, address: str, port: int, opening: str) -> bytes:
    if opening:
        with smtplib.SMTP(address, port, timeout=PATIENCE) as client:
            client.starttls(context=context)
            if not isinstance(client.sock, ssl.SSLSocket):
                raise OSError("no TLS")
            return client.sock.getpeercert(binary_form=True) or b""
    with (
        socket.create_connection((address, port), PATIENCE) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True) or b""


def settle(own: dict[str, Any]) -> bool:
    """Makes the best chain the one that servers read; whether it is another than before."""
    live = Path(own["live"])
    text = best(own)
    if live.exists() and live.read_text() == text:
        return False
    put(live, text)
    return True


def shows(own: dict[str, Any], chain: str) -> dict[str, str]:
    """What servers show, when they all show `chain` or when it is too late for it."""
    end = time.monotonic() + PATIENCE
    while True:
        found = served(own)
        if not set(found.values()) - {first(chain)} or time.monotonic() > end:
            return found
        time.sleep(0.5)


def keep(own: dict[str, Any], chains: list[str]) -> str:
    """Keeps what may be of use: what is believed, and what is for a key that is not here (yet).

    When one of them is believed, what was kept before goes. Returns why none is; nothing when one is.
    """
    stored, found, why = Path(own["stored"]), set(), ""
    making = stored / ".brought"
    for text in chains:
        put(making, text)
        wrong, _ = believed(making, own)
        if wrong and wrong != FOREIGN:
            why = why or wrong
            continue
        place = stored / f"{first(text)}.pem"
        making.rename(place)
        found.add(place)
        why = why or wrong
    making.unlink(missing_ok=True)
    useful = {it for it in stored.glob("*.pem") if not believed(it, own)[0]}
    if fits := bool(useful & found):
        gone = {*stored.glob("*.pem")} - found
    else:
        others = sorted({*stored.glob("*.pem")} - useful, key=lambda it: it.stat().st_mtime)
        gone = set(others[:-MOST_KEPT])
    for path in gone:
        path.unlink()
    return "" if fits else why


def bring(own: dict[str, Any], chains: list[str]) -> dict[str, Any]:
    """Keeps the chains, shows the best, and has servers take it."""
    why = keep(own, chains)
    live = Path(own["live"])
    former = live.read_text() if live.exists() else ""
    text, error = best(own), ""
    if text != former or set(served(own).values()) - {first(text)}:
        put(live, text)
        error = _reload(own)
        found = shows(own, text)
        if not error and set(found.values()) - {first(text)}:
            error = f"servers do not show it: {found}"
        if error and former:
            put(live, former)
            _reload(own)
    return {"error": error, "unfit": why}


def _reload(own: dict[str, Any]) -> str:
    done = subprocess.run(own["reload"], capture_output=True, text=True, check=False, timeout=60)
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return f"{' '.join(own['reload'])}: {(lines or ['failed'])[-1]}" if done.returncode else ""


def shown(own: dict[str, Any]) -> dict[str, Any]:
    """How things are here."""
    live = Path(own["live"])
    text = live.read_text() if live.exists() else ""
    why = believed(live, own)[0] if text else "there is none"
    return {"live": text, "first": first(text), "served": served(own), "why": why}


def challenge(own: dict[str, Any], token: str, answer: str) -> dict[str, Any]:
    """An answer where an authority will look for it; an empty one takes it away. Old ones go as well."""
    folder = Path(own["challenges"])
    for path in folder.iterdir():
        if path.stat().st_mtime < time.time() - _DAY:
            path.unlink()
    if answer:
        put(folder / token, answer)
    else:
        (folder / token).unlink(missing_ok=True)
    return {}


def judged(asked: Any, own: dict[str, Any]) -> tuple[str, list[Any]]:
    """What is asked, and with what; RefusedError when it is nothing that may be."""
    match asked:
        case {"op": "show"}:
            return "show", []
        case {"op": "bring", "chains": list(rows)} if len(rows) <= 4:
            for text in rows:
                if (
                    not isinstance(text, str)
                    or not _BLOCK.search(text)
                    or _BLOCK.sub("", text).strip()
                ):
                    raise RefusedError("not a chain of certificates")
            return "bring", [rows]
        case {"op": "challenge", "token": str(token), "answer": str(answer)} if (
            own["challenges"]
            and _TOKEN.fullmatch(token)
            and re.fullmatch(rf"{token}\.{_TOKEN.pattern}", answer)
        ):
            return "challenge", [token, answer]
        case {"op": "done", "token": str(token)} if own["challenges"] and _TOKEN.fullmatch(token):
            return "challenge", [token, ""]
    raise RefusedError("nothing that may be asked")


def main(words: list[str]) -> int:
    """The exit code."""
    os.umask(0o022)
    own = json.loads(OWN.read_text())
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if words == ["settle"]:
            settle(own)
            return 0
        try:
            if words:
                raise RefusedError("words")
            try:
                asked = json.loads(sys.stdin.buffer.read(MOST))
            except ValueError:
                raise RefusedError("not JSON") from None
            what, rest = judged(asked, own)
        except RefusedError as error:
            syslog.openlog("mastio-certificate", 0, syslog.LOG_AUTHPRIV)
            syslog.syslog(syslog.LOG_WARNING, f"refused: {error}")
            print(f"refused: {error}", file=sys.stderr)
            return REFUSED
        does: dict[str, Callable[..., dict[str, Any]]] = {
            "show": shown,
            "bring": bring,
            "challenge": challenge,
        }
        answer = does[what](own, *rest)
    json.dump(answer, sys.stdout)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
