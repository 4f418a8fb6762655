#!/usr/bin/python3 -IS
"""A store for some minutes, made of an archive: unpacks it, starts a Dovecot, logs in, reads everything, and is gone.

    mastio-scratch < order and tar     one line of JSON, then a tar archive; answers with lines of JSON

Runs as a unit of systemd's that has its own user, its own /tmp and a network with nobody else in it
(`mastio-scratch@.service`), so that nothing of it can be reached, and nothing of it stays, however it ends. The order
says whom to log in as (`users`), and what of the archive is what (`vmail`, `directory`). The password is made here,
for this run. Standard library only.
"""

import hashlib
import imaplib
import json
import os
import pwd
import secrets
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PORT = 1143
_START = 20.0
_BATCH = 200
_CONF = """dovecot_config_version = 2.4.1
dovecot_storage_version = 2.4.1
protocols = imap
listen = 127.0.0.1
base_dir = {run}
state_dir = {run}/state
log_path = {run}/log
ssl = no
auth_allow_cleartext = yes
auth_mechanisms = plain
default_internal_user = {me}
default_internal_group = {group}
default_login_user = {me}
first_valid_uid = 1
sql_driver = sqlite
sqlite_path = {directory}
sqlite_readonly = yes
passdb static {{
  password = {{PLAIN}}{password}
}}
userdb sql {{
  query = SELECT '{home}' AS home FROM account WHERE address = '%{{user}}'
  iterate_query = SELECT address AS user FROM account
}}
mail_driver = maildir
mail_path = ~/Maildir
mail_home = {home}
mail_uid = {me}
mail_gid = {group}
namespace inbox {{
  inbox = yes
  separator = /
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""


def unpack(folder: Path) -> float:
    """The archive from stdin; seconds."""
    begin = time.monotonic()
    # Whoever wrote the archive, tar strips leading slashes and goes up nowhere (tar(1)).
    done = subprocess.run(
        ["tar", "--extract", "--no-same-owner", "--no-same-permissions", "--mode=u+rwX", "--directory", str(folder)],
        stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    if done.returncode:
        raise OSError(f"the archive does not unpack: {_last(done.stderr)}")
    return time.monotonic() - begin


def _last(said: bytes) -> str:
    lines = [it for it in said.decode(errors="replace").splitlines() if it.strip()]
    return lines[-1] if lines else "no word"


def digest(content: bytes) -> str:
    """A message's, as IMAP has it: Dovecot keeps LF and says CRLF, and says 0x80 for NUL (RFC 3501, 4.3)."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n").replace(b"\0", b"\x80")).hexdigest()


def folders(maildir: Path) -> Iterator[tuple[str, Path]]:
    """The folders of a mailbox (Maildir++): "" is the inbox, ".Junk" another."""
    if (maildir / "cur").is_dir():
        yield "", maildir
    for it in sorted(maildir.iterdir()) if maildir.is_dir() else ():
        if it.name.startswith(".") and (it / "cur").is_dir():
            yield it.name, it


def messages(folder: Path) -> Iterator[tuple[str, Path]]:
    """Each message's base name, that is without its flags, and its file."""
    for part in ("cur", "new"):
        if (folder / part).is_dir():
            for it in os.scandir(folder / part):
                if it.is_file(follow_symlinks=False):
                    yield it.name.partition(":")[0], Path(it.path)


class Scratch:
    """The Dovecot of this run."""

    def __init__(self, folder: Path, directory: str, vmail: str) -> None:
        self.run, self.password, self.directory = folder / "run", secrets.token_hex(24), directory
        (self.run / "state").mkdir(parents=True)
        me = pwd.getpwuid(os.getuid())
        home = f"{vmail}/%{{user | domain}}/%{{user | username}}"
        self.conf = folder / "dovecot.conf"
        self.conf.write_text(
            _CONF.format(
                run=self.run, me=me.pw_name, group=me.pw_name, directory=directory, home=home,
                password=self.password, port=PORT,
            )
        )  # fmt: skip
        self.conf.chmod(0o600)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers."""
        self.process = subprocess.Popen(
            ["/usr/sbin/dovecot", "-F", "-c", str(self.conf)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        end = time.monotonic() + _START
        while time.monotonic() < end:
            if self.process.poll() is not None:
                said = self.process.stdout.read() if self.process.stdout else b""
                raise OSError(f"Dovecot does not start: {_last(said)}")
            try:
                socket.create_connection(("127.0.0.1", PORT), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise OSError("Dovecot does not answer")

    def stop(self) -> None:
        """Ends it."""
        if self.process:
            self.process.terminate()
            self.process.wait(20)

    def read(self, user: str) -> tuple[float, dict[str, list[str]]]:
        """Logs in; seconds that took, and the digests of all messages by folder, as IMAP has them."""
        begin = time.monotonic()
        with imaplib.IMAP4("127.0.0.1", PORT, 60) as imap:
            imap.login(user, self.password)
            took = time.monotonic() - begin
            found: dict[str, list[str]] = {}
            for row in imap.list()[1]:
                if not isinstance(row, bytes) or b"\\Noselect" in row:
                    continue
                name = row.rpartition(b' "/" ')[2].decode()
                code, data = imap.select(name, readonly=True)
                if code != "OK" or not data[0]:
                    raise OSError(f"{user}: {name} does not open: {data[0]!r}")
                bare = name.strip('"')
                key = "" if bare.upper() == "INBOX" else "." + bare.replace("/", ".")
                found[key] = list(_fetch(imap, int(data[0])))
            return took, found


def _fetch(imap: imaplib.IMAP4, count: int) -> Iterator[str]:
    for first in range(1, count + 1, _BATCH):
        _, rows = imap.fetch(f"{first}:{min(first + _BATCH - 1, count)}", "(BODY.PEEK[])")
        for row in rows:
            if isinstance(row, tuple):
                yield digest(row[1])


def examine(scratch: Scratch, vmail: Path, user: str) -> dict[str, Any]:
    """What there is of a user: by base name from the files, and whether IMAP says the same."""
    name, _, domain = user.partition("@")
    maildir = vmail / domain / name / "Maildir"
    files = {
        key: {base: digest(it.read_bytes()) for base, it in messages(folder)}
        for key, folder in folders(maildir)
    }
    with sqlite3.connect(f"file:{scratch.directory}?mode=ro", uri=True) as base:
        if not base.execute("SELECT 1 FROM account WHERE address = ?", (user,)).fetchone():
            return {"user": user, "error": "", "files": files}  # whoever came since cannot log in
    try:
        took, seen = scratch.read(user)
    except (OSError, imaplib.IMAP4.error) as error:
        return {"user": user, "error": f"cannot log in or read: {error}", "files": files}
    differ = [
        f"{key.lstrip('.') or 'INBOX'}: {len(seen.get(key, []))} by IMAP, {len(rows)} files"
        for key, rows in files.items()
        if sorted(seen.get(key, [])) != sorted(rows.values())
    ]
    return {"user": user, "error": "", "login": round(took, 3), "differ": differ, "files": files}


def say(what: Any) -> None:
    """A line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> int:
    """The exit code."""
    os.umask(0o077)
    order = json.loads(_line())
    folder = Path(order.get("folder", "/var/tmp/scratch"))  # noqa: S108 — the unit's own (PrivateTmp=)
    folder.mkdir()
    try:
        took = unpack(folder)
        vmail, directory = folder / order["vmail"], folder / order["directory"]
        if not directory.is_file():
            raise OSError("the archive has no accounts directory")
        scratch = Scratch(folder, str(directory), str(vmail))
        begin = time.monotonic()
        scratch.start()
        say({"unpacked": round(took, 2), "started": round(time.monotonic() - begin, 2)})
        try:
            for user in order["users"]:
                say(examine(scratch, vmail, user))
        finally:
            scratch.stop()
    except OSError as error:
        say({"error": str(error)})
        return 1
    say({"done": True})
    return 0


def _line() -> bytes:
    """The first line of stdin, and not an octet more: the rest is tar's."""
    found = bytearray()
    while (octet := os.read(0, 1)) not in (b"", b"\n"):
        found += octet
    return bytes(found)


if __name__ == "__main__":
    sys.exit(main())
