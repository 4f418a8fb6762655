"""Learning: the spool on the store, and by the same way whom users have written to. The gateway's door: test_learnd."""

import hashlib
import http.client
import socket
import sqlite3
from pathlib import Path

import pytest

from mastio import secrets, services
from mastio.context import Context, Internet
from mastio.flows import expand
from mastio.roles.gateway import learning
from mastio.roles.store import learn
from mastio.roles.store import learning as store_learning
from mastio.roles.store.book import DAY, Book
from mastio.site.model import Site
from mastio.vault import Vault
from tests.sites import demo_site, split_site, v4_site

SITES = pytest.mark.parametrize(
    "site", [demo_site(), split_site(), v4_site()], ids=["separated", "split", "v4"]
)


def context(site: Site, machine: str) -> Context:
    return Context(site, expand(site), site.machine(machine), Internet(), {})


# --- the store's spool


class Rspamd(http.client.HTTPConnection):
    """Stands for a gateway: answers with `codes` in turn, and remembers."""

    def __init__(self, *codes: int) -> None:
        super().__init__("gateway")
        self.codes, self.learned = list(codes), [("", b"")][:0]

    def request(self, method: str, url: str, body: object = None, *_: object, **__: object) -> None:
        assert method == "POST" and isinstance(body, bytes)
        if not self.codes:
            raise ConnectionRefusedError
        self.learned.append((url, body))

    def getresponse(self) -> http.client.HTTPResponse:
        ours, theirs = socket.socketpair()
        theirs.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % self.codes.pop(0))
        theirs.close()
        reply = http.client.HTTPResponse(ours)
        reply.begin()
        ours.close()
        return reply


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name.partition(".")[2] for path in folder.iterdir() if path.is_file())


def test_a_message_waits_for_each_gateway_once_and_with_its_last_verdict(spool: Path) -> None:
    for verdict in ("spam", "spam", "ham"):
        learn.take(spool, ["a", "b"], verdict, b"one")
    learn.take(spool, ["a", "b"], "spam", b"two")
    assert names(spool / "a") == names(spool / "b") == ["ham", "spam"]
    assert not names(spool), "half a message is left"


def test_a_full_disk_takes_no_lessons(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn, "FREE", 1.1)
    with pytest.raises(learn.NoSpaceError):
        learn.take(spool, ["a"], "spam", b"one")


def test_each_gateway_is_taught_by_itself(spool: Path) -> None:
    for verdict, message in (("spam", b"one"), ("ham", b"two")):
        learn.take(spool, ["a", "b"], verdict, message)
    door = Rspamd(200, 208)
    assert learn.hand_over(spool / "a", door) == ""
    assert door.learned == [("/learnspam", b"one"), ("/learnham", b"two")]
    assert names(spool / "a") == [] and names(spool / "b") == ["ham", "spam"]


@pytest.mark.parametrize(
    ("codes", "left"), [((), 2), ((503,), 2), ((200, 503), 1), ((200, 403), 1), ((204, 413), 0)]
)
def test_what_a_gateway_does_not_take_waits(spool: Path, codes: tuple[int, ...], left: int) -> None:
    for message in (b"one", b"two"):
        learn.take(spool, ["a"], "spam", message)
    assert bool(learn.hand_over(spool / "a", Rspamd(*codes))) == bool(left)
    assert len(names(spool / "a")) == left


# --- whom users have written to


LIMITS = {"exempt": ["news@x.test"]}


def wrote(book: Book, now: float, *people: str) -> None:
    book.wrote([f"{it}@y.test" for it in people], now)


def line(person: str, seconds: int) -> bytes:
    return b"%b %d\n" % (hashlib.sha256(f"{person}@y.test".encode()).hexdigest().encode(), seconds)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(str(tmp_path / "outbound.sqlite"), LIMITS)


def test_each_gateway_is_told_what_it_does_not_know_and_for_how_long(book: Book) -> None:
    wrote(book, 1000, "a")
    wrote(book, 2000, "b")
    first, second, third = Rspamd(200), Rspamd(200), Rspamd()
    assert learn.tell(book.db, "a", first, 3000) == ""
    assert first.learned == [
        ("/wrote", line("a", learn.MEMORY - 2000) + line("b", learn.MEMORY - 1000))
    ]
    wrote(book, 2000 + DAY, "a", "b", "c")  # b: within a day
    assert learn.tell(book.db, "a", second, 2000 + DAY) == ""
    assert {*second.learned[0][1].splitlines(True)} == {
        line("a", learn.MEMORY), line("b", learn.MEMORY), line("c", learn.MEMORY)
    }  # fmt: skip
    assert learn.tell(book.db, "a", third, 2000 + DAY) == "" and not third.learned
    new = Rspamd(200)
    assert learn.tell(book.db, "b", new, 2000 + DAY) == ""
    assert len(new.learned[0][1].splitlines()) == 3, "a new gateway hears of everybody"


def test_a_gateway_that_was_rebuilt_hears_of_everybody_again(book: Book) -> None:
    for now, person in enumerate("ab", 1):
        wrote(book, now, person)
    for gateway in ("a", "b"):
        assert learn.tell(book.db, gateway, Rspamd(200), 3) == ""
    learn.retell(book.db, "a")
    again, other = Rspamd(200), Rspamd()
    assert learn.tell(book.db, "a", again, 3) == ""
    assert len(again.learned[0][1].splitlines()) == 2
    assert learn.tell(book.db, "b", other, 3) == "" and not other.learned


def test_who_is_rebuilt_while_it_is_told_hears_all_again(book: Book) -> None:
    """What it was told first, it heard before."""

    class Rebuilt(Rspamd):
        def getresponse(self) -> http.client.HTTPResponse:
            learn.retell(book.db, "a")
            return super().getresponse()

    wrote(book, 1, "a")
    assert learn.tell(book.db, "a", Rspamd(200), 3) == ""
    wrote(book, 2, "b")
    rebuilt = Rebuilt(200, 200)
    assert learn.tell(book.db, "a", rebuilt, 3) == ""
    assert [len(it[1].splitlines()) for it in rebuilt.learned] == [1, 2]


@pytest.mark.parametrize(
    ("codes", "told"), [((), 0), ((503,), 0), ((200,), 2), ((200, 403), 2), ((200, 200), 3)]
)
def test_what_a_gateway_was_not_told_it_hears_later(
    book: Book, codes: tuple[int, ...], told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "BATCH", 2)
    for now, person in enumerate("abc", 1):
        wrote(book, now, person)
    assert bool(learn.tell(book.db, "a", Rspamd(*codes), 4)) == (told < 3)
    later = Rspamd(200, 200)
    assert learn.tell(book.db, "a", later, 4) == ""
    heard = b"".join(body for _, body in later.learned).splitlines(True)
    assert heard == [line(it, learn.MEMORY - 4 + now) for now, it in enumerate("abc", 1)][told:]


def test_people_are_forgotten_after_their_time_or_when_they_are_too_many(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "MOST", 2)
    for now, person in enumerate("abc", 1):
        wrote(book, now, person)
    learn.tell(book.db, "gone", Rspamd(200), 4)
    learn.tell(book.db, "here", Rspamd(200), 4)
    learn.forget(book.db, ["here"], 4)
    assert book.db.execute("SELECT at FROM wrote ORDER BY n").fetchall() == [(2,), (3,)]
    assert book.db.execute("SELECT gateway FROM told").fetchall() == [("here",)]
    learn.forget(book.db, ["here"], 2.5 + learn.MEMORY)
    assert book.db.execute("SELECT at FROM wrote").fetchall() == [(3,)]
    wrote(book, 5 + learn.MEMORY, "d")
    door = Rspamd(200)
    assert learn.tell(book.db, "here", door, 5 + learn.MEMORY) == ""
    assert door.learned == [("/wrote", line("d", learn.MEMORY))], "numbers are not used again"


def test_before_the_first_user_writes_there_is_nothing_to_tell(tmp_path: Path) -> None:
    file = tmp_path / "outbound.sqlite"
    assert not learn.waits(file) and not file.exists()
    sqlite3.connect(file).close()
    assert not learn.waits(file)
    Book(str(file), LIMITS)
    assert learn.waits(file)


# --- what is rendered


@SITES
def test_every_receiving_gateway_is_taught_and_only_by_the_store(site: Site) -> None:
    gateways = [it.name for it in site.machines if it.name in ("gateway", "gateway-in")]
    settings = store_learning.build(context(site, "store"), "/var/vmail", "counter")
    (listed,) = [it.content for it in settings.files if it.path == "/etc/mastio/learn.json"]
    for name in gateways:
        assert f'"{site.internal_name(name)}"' in listed
        state = learning.build(context(site, name))
        (stunnel,) = [it.content for it in state.files if it.path.startswith("/etc/stunnel/")]
        assert stunnel.count("checkHost") == 1
        assert f"checkHost = {site.internal_name('store')}\n" in stunnel
        assert "verifyChain = yes" in stunnel
        for address in site.machine(name).addresses:
            assert f"accept = {address}:{services.LEARN.port}\n" in stunnel


def test_a_lone_sending_gateway_is_not_taught(tmp_path: Path) -> None:
    from mastio.roles import gateway

    site = split_site()
    vault = Vault(tmp_path, {})
    secrets.ensure(vault, site)
    for name, taught in (("gateway-in", True), ("gateway-out", False)):
        machine = site.machine(name)
        known = secrets.for_machine(vault, site, machine)
        ctx = Context(site, expand(site), machine, Internet(), known)
        files = {file.path for file in gateway.build(ctx).files}
        assert ("/etc/rspamd/local.d/classifier-bayes.conf" in files) == taught
