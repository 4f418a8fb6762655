"""Where fetched mail waits: a folder of its own, whatever is around it."""

from pathlib import Path

import pytest

from mastio.errors import Exit, MastioError
from mastio.importing.remote import Account
from mastio.importing.stage import Stage

USER = "bob@fortress.test"
ACCOUNT = Account("imap.old.test", "bob")


def test_nothing_around_it_is_touched(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "site.toml").write_text("name = 'x'")
    stage = Stage.of(tmp_path, USER, ACCOUNT)
    stage.make()
    assert stage.path.stat().st_mode & 0o777 == 0o700
    (stage.path / "1.5").write_text("hello")
    stage.make()  # what a run before left stays
    assert (stage.path / "1.5").exists()
    stage.remove()
    assert [it.name for it in tmp_path.iterdir()] == ["site.toml"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("user", "account"),
    [
        ("ann@fortress.test", ACCOUNT),
        (USER, Account("imap.old.test", "ann")),
        (USER, Account("imap.other.test", "bob")),
        (USER, Account("imap.old.test", "bob", 1993)),
    ],
)
def test_no_two_mailboxes_share_one(tmp_path: Path, user: str, account: Account) -> None:
    assert Stage.of(tmp_path, user, account) != Stage.of(tmp_path, USER, ACCOUNT)
    assert Stage.of(tmp_path, USER, Account("imap.old.test", "bob")) == Stage.of(tmp_path, USER, ACCOUNT)  # fmt: skip


def test_what_somebody_else_put_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    stage = Stage.of(tmp_path, USER, ACCOUNT)
    stage.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MastioError, match="is not a folder of this user") as caught:
        stage.make()
    assert caught.value.code is Exit.CANT_CREATE
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o755
    stage.path.unlink()
    stage.path.write_text("a file")
    with pytest.raises(MastioError, match="File exists"):
        stage.make()
