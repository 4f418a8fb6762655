"""`mastio import imap` as a user meets it: whose mail comes, and what stays on this box."""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest
from click.testing import CliRunner

from mastio.cli.common import App
from mastio.cli.importing import import_
from mastio.errors import Exit
from mastio.site.model import Site
from mastio.transport import PYTHON, Transport
from tests.sites import demo_site

STORE = """
import json, sys
stream = sys.stdin.buffer
lengths = int(stream.readline()), int(stream.readline())
stream.read(lengths[0])
order = json.loads(stream.read(lengths[1]))
have = json.load(open(sys.argv[1]))
mine = have.setdefault(order["user"], {"": []})
if order["do"] == "look":
    print(json.dumps({"folder": "", "digests": mine[""]}))
    about = {"used": 0, "limit": 0, "free": 1 << 40, "seen": len(mine[""])}
    print(json.dumps({**about, "exists": True, "generation": "1"}))
else:
    assert order["generation"] == "1"
    while told := json.loads(stream.readline()):
        stream.read(told["size"])
        mine[""].append(told["digest"])
    json.dump(have, open(sys.argv[1], "w"))
    print(json.dumps({"taken": len(mine[""]), "end": True}))
"""
"""Stands for the store's program."""


class Store(Transport):
    """The store is this process' box; what it has is in `file`."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        assert machine == "store" and tuple(command) == PYTHON
        return [sys.executable, "-c", STORE, str(self.file)]


class Fake(App):
    """The default site with that store."""

    def site(self) -> Site:
        return demo_site()

    def transport(self) -> Store:
        return Store(Path(self.given))


class Session(StreamRequestHandler):
    """An IMAP server: each user has one message, under the same UID and UIDVALIDITY as everybody's."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Old)
        text = b""
        self.wfile.write(b"* OK ready\r\n")
        for line in self.rfile:
            tag, command = line.decode().split(" ", 1)
            match re.sub(r"^UID ", "", command).split()[0].upper():
                case "CAPABILITY":
                    said = b"* CAPABILITY IMAP4rev1\r\n"
                case "LOGIN":
                    text = server.text(command.split()[1].strip('"'))
                    said = b""
                case "LIST":
                    said = b'* LIST () "/" INBOX\r\n'
                case "EXAMINE":
                    said = b"* 1 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n"
                case "FETCH" if "BODY" in command:
                    server.fetched += 1
                    said = b"* 1 FETCH (UID 1 BODY[] {%d}\r\n%b)\r\n" % (len(text), text)
                case "FETCH":
                    said = b"* 1 FETCH (UID 1 FLAGS () INTERNALDATE "
                    said += b'"17-Jul-1996 02:44:25 +0000" RFC822.SIZE %d)\r\n' % server.size(text)
                case _:
                    said = b""
            self.wfile.write(said + tag.encode() + b" OK done\r\n")


class Old(ThreadingTCPServer):
    """The other server."""

    daemon_threads = True
    fetched = 0
    more = b""
    wrong = 0

    def text(self, user: str) -> bytes:
        return b"Subject: for %b\r\n\r\n%b" % (user.encode(), self.more)

    def size(self, text: bytes) -> int:
        """As it is told; some servers estimate."""
        return len(text) + self.wrong


@pytest.fixture
def old() -> Iterator[Old]:
    with Old(("127.0.0.1", 0), Session) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site's folder, in which mail waits for a while."""
    folder = tmp_path / "site"
    folder.mkdir(mode=0o755)
    (folder / "site.toml").write_text("x")
    (tmp_path / "store").write_text("{}")
    return folder


def bring(old: Old, site: Path, name: str, *words: str, code: Exit = Exit.OK) -> str:
    given = (
        "imap", f"{name}@a.test", "--login", name, "--host", "127.0.0.1", "--port", str(old.server_address[1]),
        "--tls", "none", "--password-stdin", "--stage", str(site), *words,
    )  # fmt: skip
    app = Fake(str(site.parent / "store"))
    done = CliRunner().invoke(import_, given, obj=app, standalone_mode=False, input="secret\n")
    assert done.exception is None and done.return_value is code, done.output
    return done.output


def left(site: Path) -> list[str]:
    assert (site / "site.toml").exists() and site.stat().st_mode & 0o777 == 0o755
    return sorted(it.name.rpartition(".")[0] for it in site.iterdir() if it.is_dir())


def test_only_what_was_fetched_goes(old: Old, site: Path) -> None:
    bring(old, site, "ann")
    assert left(site) == []


def test_one_place_for_several_users_mixes_nothing(old: Old, site: Path) -> None:
    bring(old, site, "ann", "--keep")
    bring(old, site, "bob", "--keep")
    assert left(site) == ["ann@a.test", "bob@a.test"]
    have = json.loads((site.parent / "store").read_text())
    assert have["ann@a.test"] != have["bob@a.test"]
    assert all(len(it[""]) == 1 for it in have.values())


def test_what_stays_is_said_and_used(old: Old, site: Path) -> None:
    assert f"what was fetched waits in {site}" in bring(old, site, "ann", "--dry-run")
    assert left(site) == ["ann@a.test"]
    bring(old, site, "ann", "--verify-only", code=Exit.FAILED)
    assert left(site) == ["ann@a.test"]
    bring(old, site, "ann", "--keep")
    assert old.fetched == 1


def test_a_comparison_that_succeeds_leaves_nothing(old: Old, site: Path) -> None:
    bring(old, site, "ann", "--keep")
    assert "waits in" not in bring(old, site, "ann", "--verify-only")
    assert left(site) == []


def test_another_size_is_another_message(old: Old, site: Path) -> None:
    # As behind the other end of ssh -L: the same address, UID and UIDVALIDITY, another server.
    bring(old, site, "ann", "--dry-run")
    old.more = b"another\r\n"
    bring(old, site, "ann", "--dry-run")
    assert old.fetched == 2


def test_a_size_that_is_an_estimate_does(old: Old, site: Path) -> None:
    old.wrong = 7
    bring(old, site, "ann", "--dry-run")
    bring(old, site, "ann")
    assert old.fetched == 1 and left(site) == []


def test_help_says_what_is_told_by_whom() -> None:
    said = " ".join(CliRunner().invoke(import_, ["--help"]).output.split())
    assert "Maildirs and mbox files do not tell: --rename Gesendet=Sent does" in said
    said = " ".join(CliRunner().invoke(import_, ["imap", "--help"]).output.split())
    assert "--dry-run fetches too, changes nothing else, and leaves it" in said
