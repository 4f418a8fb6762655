"""The store's rendered state, its questions to the directory, and the password dialogue."""

import re
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from mastio import pki, services
from mastio.context import Context, Internet, bracketed
from mastio.flows import expand
from mastio.pki import fingerprint
from mastio.roles import store
from mastio.roles.store import poppassd
from mastio.site.model import Site
from mastio.state import HostState
from tests.sites import demo_site, split_site, v4_site


@cache
def certificates() -> dict[str, str]:
    """A certificate for every machine that the sites below have."""
    key, authority = pki.authority("test")
    names = {machine.name for site in (demo_site(), split_site()) for machine in site.machines}
    return {
        f"host/{name}/cert": pki.issue(key, authority, f"{name}.demo.internal")[1] for name in names
    }


def context(site: Site) -> Context:
    return Context(site, expand(site), site.machine("store"), Internet(), certificates())


def built(site: Site) -> HostState:
    return store.build(context(site))


def content(state: HostState, path: str) -> str:
    return next(file.content for file in state.files if file.path == path)


@pytest.mark.parametrize("site", [demo_site(), split_site(), v4_site()], ids=lambda it: it.name)
def test_building_twice_is_equal(site: Site) -> None:
    assert built(site) == built(site)


@pytest.mark.parametrize("site", [demo_site(), v4_site()], ids=["dual", "v4"])
def test_each_service_listens_on_each_address_of_the_machine(site: Site) -> None:
    state = built(site)
    master = content(state, "/etc/postfix/master.cf")
    dovecot = content(state, "/etc/dovecot/dovecot.conf")
    stunnel = content(state, "/etc/stunnel/mastio-password.conf")
    for address in site.machine("store").addresses:
        for service in (services.DELIVERY, services.SUBMISSIONS):
            assert f"\n{bracketed(address)}:{service.port} " in master
        assert str(address) in re.search(r"^listen = (.*)$", dovecot, re.M)[1]  # type: ignore[index]
        assert f"accept = {address}:{services.PASSWORD.port}\n" in stunnel
    families = len(site.machine("store").addresses)
    assert len(re.findall(r" inet ", master)) == 2 * families


@pytest.mark.parametrize("site", [demo_site(), split_site()], ids=["separated", "split"])
def test_delivery_knows_the_certificates_of_gateways_and_watch_and_no_other(site: Site) -> None:
    main = content(built(site), "/etc/postfix/main.cf")
    callers = [it.name for it in site.machines if it.name.startswith(("gateway", "watch"))]
    expected = {fingerprint(certificates()[f"host/{name}/cert"]) for name in callers}
    assert set(re.findall(r"(?:[0-9A-F]{2}:){31}[0-9A-F]{2}", main)) == expected


def test_only_the_webmail_may_change_passwords() -> None:
    stunnel = content(built(demo_site()), "/etc/stunnel/mastio-password.conf")
    assert re.findall(r"^checkHost = (.*)$", stunnel, re.M) == ["webmail.demo.internal"]
    assert "verifyChain = yes" in stunnel


def test_no_pop3_no_plain_imap_and_no_secret_files() -> None:
    state = built(demo_site())
    dovecot = content(state, "/etc/dovecot/dovecot.conf")
    assert "pop3" not in dovecot
    assert not [name for name in state.packages if "pop3" in name or "submission" in name]
    assert re.search(r"inet_listener imap \{\n    port = 0\n", dovecot)
    assert not any("PRIVATE KEY" in file.content for file in state.files)


# --- the directory


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(tmp_path / "directory.sqlite", isolation_level=None)
    schema = content(built(demo_site()), "/usr/local/share/mastio/directory.sql")
    database.executescript(schema)
    database.executescript(schema)  # it runs at every boot
    database.executescript("""
        INSERT INTO domain VALUES ('a.test', ''), ('all.test', 'ann@a.test');
        INSERT INTO account (address, domain, password, enabled, keep_copy) VALUES
            ('ann@a.test', 'a.test', 'x', 1, 1),
            ('bob@a.test', 'a.test', 'x', 1, 1),
            ('off@a.test', 'a.test', 'x', 0, 1),
            ('gone@a.test', 'a.test', 'x', 1, 0),
            ('nofwd@a.test', 'a.test', 'x', 1, 0),
            ('both@a.test', 'a.test', 'x', 1, 1),
            ('tim@all.test', 'all.test', 'x', 1, 1);
        INSERT INTO forward VALUES ('gone@a.test', 'g@out.test'), ('both@a.test', 'b@out.test');
        INSERT INTO alias VALUES
            ('info@a.test', 'a.test', 'team@a.test'),
            ('team@a.test', 'a.test', 'ann@a.test'), ('team@a.test', 'a.test', 'off@a.test'),
            ('ring1@a.test', 'a.test', 'ring2@a.test'), ('ring2@a.test', 'a.test', 'ring1@a.test');
    """)
    yield database
    database.close()


@pytest.fixture
def ask(directory: sqlite3.Connection) -> Callable[[str, str], set[str]]:
    """Asks a map as sqlite_table(5) does: %s, %u and %d, quotes doubled."""
    state = built(demo_site())

    def look(name: str, key: str) -> set[str]:
        table = content(state, f"/etc/postfix/directory/{name}.cf")
        lines = (line for line in table.splitlines() if not line.startswith("#"))
        query = "\n".join(lines).partition("\nquery = ")[2]
        user, _, domain = key.rpartition("@")
        values = {"%s": key, "%u": user, "%d": domain, "%%": "%"}
        filled = re.sub(r"%[sud%]", lambda it: values[it[0]].replace("'", "''"), query)
        return {row[0] for row in directory.execute(filled)}

    return look


@pytest.mark.parametrize(
    ("name", "key", "answer"),
    [
        ("domains", "a.test", {"a.test"}),
        ("domains", "b.test", set()),
        ("accounts", "ann@a.test", {"ann@a.test"}),
        ("accounts", "off@a.test", set()),
        ("accounts", "' OR 1=1 --@a.test", set()),
        ("disabled", "off@a.test", {"550 5.1.1 User unknown"}),
        ("disabled", "ann@a.test", set()),
        ("own", "ann@a.test", {"ann@a.test"}),
        ("own", "ann+tag@a.test", {"ann+tag@a.test"}),
        ("own", "gone+tag@a.test", {"g@out.test"}),
        ("own", "nofwd@a.test", {"nofwd@a.test"}),
        ("own", "both@a.test", {"both@a.test", "b@out.test"}),
        ("own", "off@a.test", set()),
        ("own", "o'hara@a.test", set()),
        ("aliases", "team@a.test", {"ann@a.test", "off@a.test"}),
        ("duties", "postmaster@a.test", {"alice@fortress.test"}),
        ("duties", "postmaster@b.test", set()),
        ("duties", "ann@a.test", set()),
        ("catch-all", "@all.test", {"ann@a.test"}),
        ("catch-all", "@a.test", set()),
        ("senders", "ann@a.test", {"ann@a.test"}),
        ("senders", "info@a.test", {"ann@a.test"}),
        ("senders", "off@a.test", set()),
        ("senders", "ring1@a.test", set()),
        ("senders", "x@out.test", set()),
    ],
)
def test_postfix_asks_the_directory(
    ask: Callable[[str, str], set[str]], name: str, key: str, answer: set[str]
) -> None:
    assert ask(name, key) == answer


# --- poppassd


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[Path]:
    """A socket that answers as Dovecot's auth service: ann's password is "old password"."""
    path = tmp_path / "auth"
    right = "AGFubkBhLnRlc3QAb2xkIHBhc3N3b3Jk"  # \0ann@a.test\0old password
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            try:
                connection, _ = server.accept()
            except OSError:
                return  # the test is over, and nobody has asked
            with connection, connection.makefile("rw") as stream:
                stream.write("VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nDONE\n")
                stream.flush()
                line = next((it for it in stream if it.startswith("AUTH")), "")  # "": it hung up
                good = line.rstrip().endswith(f"\tsecured\tresp={right}")
                stream.write("OK\t1\tuser=ann@a.test\n" if good else "FAIL\t1\tuser=ann@a.test\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def talk(directory: Path, auth: Path, *lines: str) -> list[str]:
    done = subprocess.run(
        (sys.executable, "-I", str(Path(store.__file__).with_name("poppassd.py")), directory, auth),
        input="".join(f"{line}\r\n" for line in lines),
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stderr == ""
    return [line[:3] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        (["user ann@a.test", "pass wrong"], ["200", "200", "500"]),
        (["user Ann@a.test", "pass old password", "newpass short"], ["200"] * 3 + ["500"]),
        (["user ann@a.test", "pass old password", "newpass old password"], ["200"] * 3 + ["500"]),
        (["pass x"], ["200", "500"]),
        (["user a\tb"], ["200", "500"]),
        (["user " + "x" * 2000], ["200", "500"]),
        ([], ["200", "500"]),
    ],
)
def test_poppassd_refuses(tmp_path: Path, auth: Path, lines: list[str], codes: list[str]) -> None:
    assert talk(tmp_path / "none", auth, *lines) == codes


def test_poppassd_writes_only_accounts_that_are_enabled(
    directory: sqlite3.Connection, tmp_path: Path
) -> None:
    path = str(tmp_path / "directory.sqlite")
    poppassd.store(path, "ann@a.test", "{ARGON2ID}new")
    with pytest.raises(poppassd.RefusedError):
        poppassd.store(path, "off@a.test", "{ARGON2ID}new")
    changed = directory.execute("SELECT address FROM account WHERE password = '{ARGON2ID}new'")
    assert changed.fetchall() == [("ann@a.test",)]
