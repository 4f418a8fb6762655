#!/usr/bin/python3
"""poppassd: a user changes the own password.

    S: 200 ready                      started for one connection, speaking on stdin and stdout;
    C: user alice@example.org         TLS and the caller's certificate are stunnel's affair
    S: 200 your password
    C: pass old secret
    S: 200 your new password
    C: newpass new secret
    S: 200 password changed           (500 and a reason when something is wrong)
    C: quit

Usage: poppassd DIRECTORY AUTH, the SQLite accounts directory and a socket of Dovecot's auth service.
The old password is judged by Dovecot (so disabled accounts are out, and its
auth_failure_delay slows guessing), the new one hashed
by doveadm; both travel through pipes, never in arguments or logs. Only the standard library is used.
"""

import base64
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import syslog

SHORTEST = 12
"""A password's least length, in characters (NIST SP 800-63B asks for 8 or more)."""
LINE = 1024
"""The longest line, in bytes."""
PATIENCE = 90
"""The longest dialogue, in seconds."""


class RefusedError(Exception):
    """Ends the dialogue with 500 and these words, which a user may read."""


def argument(verb: str) -> str:
    """The rest of the next line, which must start with `verb`."""
    line = sys.stdin.buffer.readline(LINE)
    if not line.endswith(b"\n"):
        raise RefusedError("line too long or connection lost")
    try:
        said, _, rest = line.decode().rstrip("\r\n").partition(" ")
    except UnicodeDecodeError:
        raise RefusedError("not UTF-8") from None
    if said.lower() != verb or not rest or not rest.isprintable():
        raise RefusedError(f"expected: {verb}")
    return rest


def reply(code: int, words: str) -> None:
    """One line to the caller."""
    sys.stdout.write(f"{code} {words}\r\n")
    sys.stdout.flush()


def is_right(auth: str, user: str, password: str) -> bool:
    """Whether Dovecot lets `user` in (its auth client protocol 1.2, mechanism PLAIN of RFC 4616)."""
    response = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(auth)
        with connection.makefile("rw", encoding="utf-8", newline="\n") as stream:
            stream.write(f"VERSION\t1\t2\nCPID\t{os.getpid()}\n")
            stream.write(f"AUTH\t1\tPLAIN\tservice=password\tsecured\tresp={response}\n")
            stream.flush()
            for line in stream:
                verdict = line.split("\t", 1)[0].strip()
                if verdict in ("OK", "FAIL"):
                    return verdict == "OK"
    raise RefusedError("try again later")


def hashed(password: str) -> str:
    """`password` as `{ARGON2ID}…`."""
    return subprocess.run(
        ("/usr/bin/doveadm", "-O", "pw", "-s", "ARGON2ID"),
        input=f"{password}\n{password}\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    ).stdout.strip()


def store(directory: str, user: str, secret: str) -> None:
    """Writes the hash to the account."""
    with sqlite3.connect(f"file:{directory}?mode=rw", uri=True, timeout=10) as database:
        changed = database.execute(
            "UPDATE account SET password = ? WHERE address = ? AND enabled = 1", (secret, user)
        ).rowcount
    database.close()
    if changed != 1:
        raise RefusedError("no such account")


def converse(directory: str, auth: str) -> str:
    """The dialogue; returns the user whose password has changed."""
    reply(200, "ready")
    user = argument("user").lower()
    reply(200, "your password")
    old = argument("pass")
    if not is_right(auth, user, old):
        syslog.syslog(syslog.LOG_WARNING, f"{user!r}: the old password is wrong")
        raise RefusedError("wrong user or password")
    reply(200, "your new password")
    new = argument("newpass")
    if len(new) < SHORTEST:
        raise RefusedError(f"a password needs at least {SHORTEST} characters")
    if new == old:
        raise RefusedError("that is the old password")
    store(directory, user, hashed(new))
    return user


def main() -> int:
    """Speaks one dialogue; 1 when something here is broken (a refusal is not)."""
    syslog.openlog("poppassd", syslog.LOG_PID, syslog.LOG_AUTH)
    signal.alarm(PATIENCE)
    try:
        user = converse(*sys.argv[1:])
    except RefusedError as refused:
        reply(500, str(refused))
    except (OSError, sqlite3.Error, subprocess.SubprocessError) as error:
        syslog.syslog(syslog.LOG_ERR, f"cannot change a password: {type(error).__name__}")
        reply(500, "try again later")
        return 1
    else:
        syslog.syslog(f"{user}: password changed")
        reply(200, "password changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
