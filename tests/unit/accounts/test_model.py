"""What can be said about a change without the directory; passwords; tables."""

import pytest

from mastio.accounts import passwords, table
from mastio.accounts.model import (
    AddAlias,
    AddDomain,
    AddUser,
    Change,
    ChangeUser,
    DeleteUser,
    clean,
    plain,
)
from mastio.errors import MastioError

HASH = "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=4$n9lZoAzGLcASONC3cbvAzg$XutN1BuP6i3r8tILbC3eLL"


def test_canonical_form() -> None:
    change, wrong = clean(
        AddAlias("Info@Bücher.Test", ("Alice+List@Bücher.Test", "bob@outside.test"))
    )
    assert not wrong
    assert change == AddAlias(
        "info@xn--bcher-kva.test", ("alice+list@xn--bcher-kva.test", "bob@outside.test")
    )
    assert clean(AddDomain("BÜCHER.test"))[0] == AddDomain("xn--bcher-kva.test")


@pytest.mark.parametrize(
    "address",
    [
        "alice", "@x.test", "alice@", "alice@x", "a b@x.test", "a..b@x.test", ".a@x.test", "a.@x.test",
        "al+ice@x.test", "a/b@x.test", "../b@x.test", "a%b@x.test", "a!b@x.test", "-rf@x.test",
        '"a b"@x.test', "é@x.test", "a@x..test", "a@[203.0.113.1]", f"{'a' * 65}@x.test", "a|b@x.test",
        "a\n@x.test",
    ],
)  # fmt: skip
def test_bad_addresses(address: str) -> None:
    assert clean(AddUser(address, HASH))[1]


@pytest.mark.parametrize(
    "address", ["o'brien@x.test", "a.b-c_d@x.test", f"{'a' * 64}@x.test", "1@x.test"]
)
def test_good_addresses(address: str) -> None:
    assert clean(AddUser(address, HASH)) == (AddUser(address, HASH), ())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (AddUser("a@x.test", "plain text"), "not a password hash"),
        (AddUser("a@x.test", "{PLAIN}$secretsecretsecretsecret"), "not a password hash"),
        (AddUser("a@x.test", HASH, quota_mib=-1), "a quota of -1 MiB"),
        (AddUser("a@x.test", HASH, name="a\nb"), "a name has"),
        (AddUser("a@x.test", HASH, forwards=("x",)), "'x' is not a mail address"),
        (AddAlias("a@x.test", ()), "give it a target"),
        (AddDomain("x"), "not a full domain"),
        (AddDomain("x.test", "y"), "'y' is not a mail address"),
    ],
)
def test_bad_values(change: Change, said: str) -> None:
    assert any(said in words for words in clean(change)[1])


def test_hashes_are_not_shown() -> None:
    assert "argon2" not in repr(AddUser("a@x.test", HASH)) + repr(ChangeUser("a@x.test", HASH))
    assert "secret" not in "".join(clean(AddUser("a@x.test", "{PLAIN}secret"))[1])


def test_plain_says_only_what_changes() -> None:
    assert plain(ChangeUser("a@x.test", quota_mib=5)) == {
        "do": "change_user",
        "address": "a@x.test",
        "quota_mib": 5,
    }
    assert plain(DeleteUser("a@x.test"))["do"] == "delete_user"


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("short", "at least 12"),
        ("a" * 200, "at most 128"),
        ("aaaaaaaaaaaaaa", "repeats"),
        ("correct\thorse\tbattery", "printable"),
        ("alice@fortress.test", "little more than the address"),
        ("Alicefortress12", "little more than the address"),
    ],
)
def test_weak_passwords(password: str, said: str) -> None:
    assert said in passwords.weakness(password, "alice@fortress.test")


def test_good_passwords() -> None:
    assert not passwords.weakness("correct horse battery", "alice@fortress.test")
    one, other = passwords.generate(), passwords.generate()
    assert one != other and len(one) == 20 and not passwords.weakness(one, "alice@fortress.test")


def test_hashed_is_argon2id_by_rfc_9106() -> None:
    found = passwords.hashed("correct horse battery")
    assert found.startswith("{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=4$")
    assert not clean(AddUser("a@x.test", found))[1]


def test_table() -> None:
    rows = table.read(
        '\ufeffAddress,Name,quota\na@x.test,"B, C",100\n\nb@x.test,,\nc@x.test\nA@x.test,,x\nd@x.test,,y\n',
        "f",
    )
    assert [(it.line, it.address, it.name, it.quota_mib) for it in rows[:2]] == [
        (2, "a@x.test", "B, C", 100),
        (4, "b@x.test", "", 0),
    ]
    assert [(it.line, it.problem.partition(" ")[2]) for it in rows[2:]] == [
        (5, "cells instead of 3"),
        (6, "stands in line 2 already"),
        (7, "quota 'y' is no whole number of MiB"),
    ]


@pytest.mark.parametrize(
    "text", ["", "a@x.test\n", "address,address\n", "address,qouta\n", 'address\n"a']
)
def test_tables_that_are_none(text: str) -> None:
    with pytest.raises(MastioError):
        table.read(text, "f")
