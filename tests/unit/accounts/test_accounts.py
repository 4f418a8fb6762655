"""Changes on a real directory, by the programs that run on the store and the gateway."""

import sqlite3
import time
from contextlib import suppress
from threading import Thread

import pytest

from mastio.accounts.client import Outcome, RefusedError, User
from mastio.accounts.model import (
    AddAlias,
    AddDomain,
    AddUser,
    Change,
    ChangeAlias,
    ChangeDomain,
    ChangeUser,
    DeleteAlias,
    DeleteDomain,
    DeleteUser,
)
from mastio.errors import Exit, MastioError
from tests.unit.accounts.local import House
from tests.unit.accounts.test_model import HASH

D = "fortress.test"
ALICE = AddUser(f"alice@{D}", HASH, "Alice")
BOB = AddUser(f"bob@{D}", HASH)


def refused(house: House, *changes: Change) -> str:
    before = house.dump()
    with pytest.raises(RefusedError) as caught:
        house.accounts.change(changes)
    assert caught.value.code is Exit.DATA
    assert house.dump() == before
    return caught.value.message


def test_a_user_and_what_follows(house: House) -> None:
    outcome = house.accounts.change([ALICE])
    assert outcome == Outcome(updated=("gateway",))
    found = house.accounts.listing()
    assert found.users == (User(f"alice@{D}", "Alice", 0, True, (), True),)
    assert [(it.name, it.users) for it in found.domains] == [(D, 1)]
    assert house.recipients() == [
        f"{it}@{D}"
        for it in (
            "abuse",
            "alice",
            "dmarc-reports",
            "hostmaster",
            "mailer-daemon",
            "postmaster",
            "root",
            "tls-reports",
        )
    ]
    assert (house.maps / "domains").read_text() == f"{D} OK\n"
    assert house.directory.stat().st_mode & 0o777 == 0o640
    assert (house.maps / "recipients").stat().st_mode & 0o777 == 0o644


def test_the_administrator_is_missed(house: House) -> None:
    (note,) = house.accounts.change([BOB]).notes
    assert f"make the administrator's mailbox alice@{D}" in note
    assert house.recipients() == [f"bob@{D}", f"dmarc-reports@{D}", f"tls-reports@{D}"]


def test_changes_of_a_user(house: House) -> None:
    house.accounts.change([ALICE, BOB])
    house.accounts.change([
        ChangeUser(f"alice@{D}", name="A", quota_mib=7, forwards=(f"bob+x@{D}", "a@outside.test"), keep_copy=False),
        ChangeUser(f"bob@{D}", enabled=False),
    ])  # fmt: skip
    alice, bob = house.accounts.listing().users
    assert alice == User(f"alice@{D}", "A", 7, True, ("a@outside.test", f"bob+x@{D}"), False)
    assert not bob.enabled and f"bob@{D}" not in house.recipients()
    house.accounts.change([ChangeUser(f"alice@{D}", quota_mib=0, forwards=())])
    assert house.accounts.listing().users[0].quota_mib == 0
    with sqlite3.connect(house.directory) as database:
        assert database.execute("SELECT quota_mib, password FROM account").fetchall()[0] == (
            None,
            HASH,
        )
    database.close()


def test_aliases_and_catch_alls(house: House) -> None:
    house.accounts.change([
        ALICE,
        AddDomain("b.test", f"alice@{D}"),
        AddAlias(f"info@{D}", (f"sales@{D}", "x@outside.test")),
        AddAlias(f"sales@{D}", (f"alice@{D}",)),
    ])  # fmt: skip
    assert {"@b.test", f"info@{D}", f"sales@{D}"} <= set(house.recipients())
    house.accounts.change([ChangeAlias(f"info@{D}", (f"alice@{D}",)), ChangeDomain("b.test", "")])
    assert house.accounts.listing().aliases[0].targets == (f"alice@{D}",)
    assert "@b.test" not in house.recipients()
    house.accounts.change([DeleteAlias(f"info@{D}"), DeleteDomain("b.test")])
    assert [it.name for it in house.accounts.listing().domains] == [D]


def test_an_alias_of_disabled_users_only_is_unknown(house: House) -> None:
    house.accounts.change([ALICE, BOB, AddAlias(f"b@{D}", (f"bob@{D}",))])
    house.accounts.change([ChangeUser(f"bob@{D}", enabled=False)])
    assert not {f"b@{D}", f"bob@{D}"} & set(house.recipients())


def test_deleting_keeps_the_mail_unless_purged(house: House) -> None:
    house.accounts.change([ALICE, BOB])
    mail = house.vmail / D / "bob" / "cur"
    mail.mkdir(parents=True)
    (note,) = house.accounts.change([DeleteUser(f"bob@{D}")]).notes
    assert "stays in" in note and mail.exists()
    (note,) = house.accounts.change([BOB]).notes
    assert "old mail is still there" in note
    assert not house.accounts.change([DeleteUser(f"bob@{D}", purge=True)]).notes
    assert not mail.parent.exists() and mail.parent.parent.exists()


def test_a_mailbox_goes_while_it_is_indexed(house: House) -> None:
    house.accounts.change([ALICE, BOB])
    mail = house.vmail / D / "bob" / "Maildir"
    mail.mkdir(parents=True)
    files = [mail / str(number) for number in range(2000)]
    for it in files:
        it.touch()

    def index() -> None:
        while all(it.exists() for it in files[::100]):
            time.sleep(0.001)
        with suppress(FileNotFoundError):  # all was gone before this thread got its turn
            (mail / "dovecot.index").touch()

    indexer = Thread(target=index)
    indexer.start()
    house.accounts.change([DeleteUser(f"bob@{D}", purge=True)])
    indexer.join(10)
    assert not indexer.is_alive() and not mail.parent.exists()


def test_refused_purge_purges_nothing(house: House) -> None:
    house.accounts.change([ALICE])
    (house.vmail / D / "alice").mkdir(parents=True)
    refused(house, DeleteUser(f"alice@{D}", purge=True), DeleteUser(f"nobody@{D}"))
    assert (house.vmail / D / "alice").exists()


REFUSED: tuple[tuple[Change, str], ...] = (
    (ALICE, "is a user already"),
    (AddUser(f"info@{D}", HASH), "is an alias already"),
    (AddUser("x@unknown.test", HASH), "unknown domain unknown.test; known: fortress.test"),
    (AddUser("nonsense", HASH), "is not a mail address"),
    (AddUser(f"x@{D}", HASH, forwards=(f"x@{D}",)), f"a loop: x@{D} → x@{D}"),
    (AddUser(f"x@{D}", HASH, forwards=(f"y@{D}",)), f"leads to y@{D}, which does not exist"),
    (ChangeUser(f"nobody@{D}", name="x"), f"there is no user nobody@{D}"),
    (
        ChangeUser(f"alice@{D}", forwards=(f"info@{D}",)),
        f"a loop: alice@{D} → info@{D} → alice@{D}",
    ),
    (
        ChangeUser(f"alice@{D}", forwards=(f"postmaster@{D}",)),
        f"a loop: alice@{D} → postmaster@{D}",
    ),
    (DeleteUser(f"nobody@{D}"), "there is no user"),
    (DeleteUser(f"alice@{D}"), f"alias info@{D} leads to alice@{D}, which does not exist"),
    (AddAlias(f"info@{D}", (f"alice@{D}",)), "is an alias already"),
    (AddAlias(f"alice@{D}", (f"info@{D}",)), "is a user already"),
    (AddAlias(f"x@{D}", (f"nobody@{D}",)), f"leads to nobody@{D}, which does not exist"),
    (AddAlias("x@unknown.test", ("a@outside.test",)), "unknown domain"),
    (ChangeAlias(f"info@{D}", (f"info@{D}",)), f"a loop: info@{D} → info@{D}"),
    (ChangeAlias(f"info@{D}", (f"team@{D}",)), f"a loop: info@{D} → team@{D} → info@{D}"),
    (ChangeAlias(f"nobody@{D}", (f"alice@{D}",)), "there is no alias"),
    (DeleteAlias(f"nobody@{D}"), "there is no alias"),
    (DeleteAlias(f"info@{D}"), f"alias team@{D} leads to info@{D}, which does not exist"),
    (AddDomain(D), "is there already"),
    (AddDomain("new.test", f"nobody@{D}"), "which does not exist"),
    (ChangeDomain("unknown.test", ""), "there is no domain"),
    (ChangeDomain(D, f"nobody@{D}"), f"catch-all of {D} is nobody@{D}, which does not exist"),
    (DeleteDomain(D), "is in the site file"),
    (DeleteDomain("unknown.test"), "there is no domain"),
    (DeleteDomain("used.test"), "has 1 aliases"),
)


def test_refusals(house: House) -> None:
    house.accounts.change([
        ALICE,
        AddDomain("used.test"),
        AddAlias("x@used.test", ("x@outside.test",)),
        AddAlias(f"info@{D}", (f"alice@{D}",)),
        AddAlias(f"team@{D}", (f"info@{D}", "x@outside.test")),
    ])  # fmt: skip
    for change, said in REFUSED:
        assert said in refused(house, change), change


def test_all_reasons_at_once_and_nothing_changed(house: House) -> None:
    house.accounts.sync()
    message = refused(
        house, BOB, BOB, AddUser("x@unknown.test", HASH), AddAlias(f"l@{D}", (f"bob@{D}",))
    )
    assert len(message.splitlines()) == 2
    with pytest.raises(RefusedError) as caught:
        house.accounts.judge([AddUser("bad", HASH), BOB, AddUser("x@unknown.test", HASH)])
    assert [it.change for it in caught.value.refusals] == [0, 2]
    assert not house.accounts.listing().users


def test_a_gateway_that_is_away_gets_it_later(house: House) -> None:
    house.transport.down.add("gateway")
    ((name, why),) = house.accounts.change([ALICE]).late
    assert name == "gateway" and "switched off" in why
    house.transport.down.clear()
    assert house.accounts.sync().updated == ("gateway",)
    assert house.accounts.sync() == Outcome()


def test_a_store_that_is_away(house: House) -> None:
    house.transport.down.add("store")
    with pytest.raises(MastioError) as caught:
        house.accounts.change([ALICE])
    assert caught.value.code is Exit.UNAVAILABLE


def test_an_unbuilt_store_says_so(house: House) -> None:
    house.directory.parent.rmdir()
    with pytest.raises(MastioError, match="not built yet"):
        house.accounts.listing()


def test_a_cut_off_push_is_completed(house: House) -> None:
    house.accounts.change([ALICE])
    (house.maps / "recipients.lmdb").unlink()
    assert house.accounts.sync().updated == ("gateway",)
    (house.maps / "recipients").write_text("")
    assert house.accounts.sync().updated == ("gateway",)
    assert f"alice@{D}" in house.recipients()


def test_a_newer_directory_is_left_alone(house: House) -> None:
    house.accounts.sync()
    with sqlite3.connect(house.directory) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(MastioError, match="format 2"):
        house.accounts.sync()
