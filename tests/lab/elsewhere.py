"""Another mail server, which has nothing in common with ours: Debian's Dovecot on a machine of its own.

with server(folder, f"old{os.getpid()}", DOVECOT + "…", ("IP:127.0.0.1",)) as other:
    other.run("…")                      a shell script there
"""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mastio.lab import network
from mastio.lab.provider import Lab as Provider
from mastio.lab.transport import NspawnTransport
from mastio.transport import OUTSIDE
from tests.lab.conftest import LIMIT, Quiet, tiny

DOVECOT = """dovecot_config_version = 2.4.1
dovecot_storage_version = 2.4.1
protocols = imap
log_path = /var/log/dovecot.log
ssl = required
ssl_server_cert_file = /etc/dovecot/old.pem
ssl_server_key_file = /etc/dovecot/old.key
auth_mechanisms = plain
mail_driver = maildir
mail_path = ~/Maildir
mail_uid = mail
mail_gid = mail
first_valid_uid = 1
first_valid_gid = 1
"""
"""What all have in common; who may log in, and where mail is, is left out."""
ADDRESS = "10.9.1.10"
PACKAGES = ("dovecot-imapd", "rsync", "sqlite3")
"""The same for all: one image."""


@dataclass(frozen=True)
class Elsewhere:
    """It runs, and all mail there belongs to `mail`."""

    transport: NspawnTransport
    site: str
    certificate: Path

    def run(self, script: str, stdin: bytes = b"") -> str:
        """A shell script there; it must succeed."""
        done = self.transport.run(OUTSIDE, ["sh", "-euc", script], stdin, LIMIT)
        assert done.code == 0, done.stderr.decode()
        return done.stdout.decode()

    @contextmanager
    def reached(self, address: str, port: int) -> Iterator[None]:
        """This box reaches its `port` at a loopback address."""
        space = network.namespace(self.site, OUTSIDE)
        inner = f"EXEC:nsenter --net=/run/netns/{space} socat - TCP\\:{ADDRESS}\\:{port}"
        way = subprocess.Popen(["socat", f"TCP-LISTEN:{port},bind={address},reuseaddr,fork", inner])
        try:
            await_listener(address, port)
            yield
        finally:
            way.kill()
            way.wait()


def await_listener(address: str, port: int) -> None:
    """Until a program of this box that was just begun listens there."""
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((address, port), timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < end, f"nobody listens on port {port}"
            time.sleep(0.1)


@contextmanager
def server(folder: Path, site: str, dovecot: str, names: tuple[str, ...]) -> Iterator[Elsewhere]:
    """The machine, up with the configuration `dovecot`; `names` are its certificate's."""
    provider = Provider(site)
    key, certificate = folder / "old.key", folder / "old.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=old", "-addext", f"subjectAltName={','.join(names)}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    try:
        provider.up([tiny(OUTSIDE, PACKAGES)], Quiet())
        other = Elsewhere(NspawnTransport(site), site, certificate)
        other.run("cat > /etc/dovecot/old.key", key.read_bytes())
        other.run("cat > /etc/dovecot/old.pem", certificate.read_bytes())
        other.run("cat > /etc/dovecot/dovecot.conf; systemctl restart dovecot", dovecot.encode())
        yield other
    finally:
        provider.down(purge=True)
