"""The vault: encrypted, private, and clear about what is wrong."""

import stat
from pathlib import Path

import pytest

from mastio.errors import Exit, MastioError
from mastio.vault import Vault


@pytest.fixture(autouse=True)
def identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "keys" / "identity"
    monkeypatch.setenv("MASTIO_IDENTITY", str(path))
    return path


def made(folder: Path) -> Vault:
    vault = Vault.open(folder)
    vault.put("webmail/des-key", "hush-hush")
    vault.save()
    return vault


def test_what_is_put_comes_back(tmp_path: Path) -> None:
    made(tmp_path)
    assert dict(Vault.open(tmp_path)) == {"webmail/des-key": "hush-hush"}


def test_nothing_readable_reaches_the_disk(tmp_path: Path, identity: Path) -> None:
    made(tmp_path)
    vault = tmp_path / "secrets.age"
    assert b"hush" not in vault.read_bytes()
    for path in (vault, identity):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_saving_twice_writes_once(tmp_path: Path) -> None:
    assert made(tmp_path).save() is False


def test_a_repr_shows_no_secret(tmp_path: Path) -> None:
    assert "hush" not in repr(made(tmp_path))


def test_a_missing_key_is_said(tmp_path: Path, identity: Path) -> None:
    made(tmp_path)
    identity.unlink()
    with pytest.raises(MastioError, match="key to this site's vault is not here") as error:
        Vault.open(tmp_path)
    assert error.value.code is Exit.DATA


def test_a_foreign_key_is_said(tmp_path: Path, identity: Path) -> None:
    made(tmp_path)
    identity.unlink()
    made(tmp_path / "other")
    with pytest.raises(MastioError, match="cannot be opened"):
        Vault.open(tmp_path)


def test_a_damaged_vault_is_said(tmp_path: Path) -> None:
    made(tmp_path)
    path = tmp_path / "secrets.age"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(MastioError, match="cannot be opened"):
        Vault.open(tmp_path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path, identity: Path) -> None:
    made(tmp_path)
    identity.chmod(0o644)
    with pytest.raises(MastioError, match="others can read"):
        Vault.open(tmp_path)


def test_a_key_that_is_none_is_refused(tmp_path: Path, identity: Path) -> None:
    made(tmp_path)
    identity.write_text("not a key\n")
    with pytest.raises(MastioError, match="not an age identity"):
        Vault.open(tmp_path)


def test_after_a_new_key_the_former_opens_nothing_new(tmp_path: Path, identity: Path) -> None:
    vault = made(tmp_path)
    former, copy = identity.read_text(), (tmp_path / "secrets.age").read_bytes()
    assert vault.rekey() == identity
    assert dict(Vault.open(tmp_path)) == dict(vault)
    both = identity.read_text()
    assert both.endswith(former)
    # Older copies still open, until the former key is taken out.
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "secrets.age").write_bytes(copy)
    assert dict(Vault.open(tmp_path / "old")) == dict(vault)
    identity.write_text(former)
    with pytest.raises(MastioError, match="cannot be opened"):
        Vault.open(tmp_path)
    identity.write_text(both.removesuffix(former))
    assert dict(Vault.open(tmp_path)) == dict(vault)


def test_a_new_key_that_was_interrupted_costs_nothing(tmp_path: Path, identity: Path) -> None:
    vault = made(tmp_path)
    copy = (tmp_path / "secrets.age").read_bytes()
    vault.rekey()
    (tmp_path / "secrets.age").write_bytes(copy)  # killed before this was written
    again = Vault.open(tmp_path)
    again.put("more", "hush")
    assert again.save()
    identity.write_text(identity.read_text().splitlines()[0])
    assert Vault.open(tmp_path)["more"] == "hush"
