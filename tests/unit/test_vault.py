"""The vault: encrypted, private, and clear about what is wrong."""

import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


ANOTHER = """
import sys
from pathlib import Path
from mastio.errors import MastioError
from mastio.vault import Vault
vault = Vault.open(Path(sys.argv[1]))
print("open", flush=True)
for line in sys.stdin:
    name, _, what = line.strip().partition(" ")
    vault.put(name, what)
    try:
        print("saved" if vault.save() else "the same", flush=True)
    except MastioError as error:
        print(int(error.code), error.message, "|", error.hint, flush=True)
"""
"""A command that opens a vault, then keeps what it is told, a secret a line."""
SAVING = """
import sys
from pathlib import Path
from mastio.vault import Vault
vault = Vault.open(Path(sys.argv[1]))
for number in range(1_000_000):
    vault.put("number", f"{number}")
    vault.save()
    print(number, flush=True)
"""


class Another:
    """Another command at work on a vault."""

    def __init__(self, running: "subprocess.Popen[str]") -> None:
        self.running = running

    def heard(self) -> str:
        assert self.running.stdout
        return self.running.stdout.readline().strip()

    def told(self, name: str, value: str) -> None:
        assert self.running.stdin
        self.running.stdin.write(f"{name} {value}\n")
        self.running.stdin.flush()


@contextmanager
def another(folder: Path, program: str = ANOTHER) -> Iterator[Another]:
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        try:
            yield Another(running)
        finally:
            running.kill()


def test_who_saves_last_does_not_undo_what_another_saved(tmp_path: Path) -> None:
    made(tmp_path)
    with another(tmp_path) as timer:
        assert timer.heard() == "open"
        mine = Vault.open(tmp_path)
        mine.put("host/store/key", "rotated")
        assert mine.save()
        file = (tmp_path / "secrets.age").read_bytes()
        timer.told("host/webmail/key", "renewed")
        refused = timer.heard()
        assert refused.startswith(f"75 {tmp_path}/secrets.age: another command has changed it")
        assert "nothing was saved; run this again" in refused
        assert (tmp_path / "secrets.age").read_bytes() == file
        timer.told("host/webmail/key", "renewed, later")  # refused however often it tries
        assert timer.heard().startswith("75 ")
    assert dict(Vault.open(tmp_path)) == {
        "host/store/key": "rotated",
        "webmail/des-key": "hush-hush",
    }


def test_one_after_the_other_keeps_what_both_saved(tmp_path: Path) -> None:
    made(tmp_path)
    mine = Vault.open(tmp_path)
    mine.put("host/store/key", "rotated")
    assert mine.save()
    with another(tmp_path) as timer:
        assert timer.heard() == "open"
        for value in ("renewed", "renewed again"):  # one command may save more than once
            timer.told("host/webmail/key", value)
            assert timer.heard() == "saved"
        timer.told("host/webmail/key", "renewed again")
        assert timer.heard() == "the same"
    assert dict(Vault.open(tmp_path)) == {
        "host/store/key": "rotated",
        "host/webmail/key": "renewed again",
        "webmail/des-key": "hush-hush",
    }


def test_what_changes_nothing_is_not_refused(tmp_path: Path) -> None:
    mine = made(tmp_path)
    other = Vault.open(tmp_path)
    other.put("more", "hush")
    assert other.save()
    assert mine.save() is False


@pytest.mark.parametrize("fresh", [True, False], ids=["a new site", "a vault"])
def test_of_many_at_once_one_saves(tmp_path: Path, identity: Path, fresh: bool) -> None:
    if not fresh:
        made(tmp_path)
    with (
        another(tmp_path) as one, another(tmp_path) as two, another(tmp_path) as three,
        another(tmp_path) as four,
    ):  # fmt: skip
        everybody = {"one": one, "two": two, "three": three, "four": four}
        assert {it.heard() for it in everybody.values()} == {"open"}
        for name, command in everybody.items():
            command.told(name, "mine")
        heard = {name: command.heard() for name, command in everybody.items()}
    (winner,) = [name for name, words in heard.items() if words == "saved"]
    assert all(words.startswith("75 ") for name, words in heard.items() if name != winner)
    assert {it for it in Vault.open(tmp_path) if it in everybody} == {winner}
    left = {it.name for folder in (tmp_path, identity.parent) for it in folder.iterdir()}
    assert left == {"keys", "secrets.age", "identity"}


def test_two_new_sites_at_once_share_one_key(tmp_path: Path, identity: Path) -> None:
    """Each would make the administrator's identity, and the one that was replaced opens nothing any more."""
    for number in range(5):
        here, there = tmp_path / f"here{number}", tmp_path / f"there{number}"
        with another(here) as one, another(there) as two:
            assert one.heard() == two.heard() == "open"
            one.told("a", "here")
            two.told("a", "there")
            assert one.heard() == two.heard() == "saved"
        assert Vault.open(here)["a"] == "here"
        assert Vault.open(there)["a"] == "there"
        identity.unlink()


def test_a_new_key_is_refused_to_who_has_an_old_vault(tmp_path: Path, identity: Path) -> None:
    mine = made(tmp_path)
    with another(tmp_path) as timer:
        assert timer.heard() == "open"
        timer.told("more", "hush")
        assert timer.heard() == "saved"
    keys = identity.read_text()
    with pytest.raises(MastioError, match="another command has changed it"):
        mine.rekey()
    assert identity.read_text() == keys
    assert Vault.open(tmp_path)["more"] == "hush"


def test_a_vault_that_is_gone_is_not_made_anew_in_silence(tmp_path: Path) -> None:
    mine = made(tmp_path)
    (tmp_path / "secrets.age").rename(tmp_path / "elsewhere")
    mine.put("more", "hush")
    with pytest.raises(MastioError, match="is gone") as error:
        mine.save()
    assert error.value.code is Exit.DATA
    assert not (tmp_path / "secrets.age").exists()


def test_killed_at_any_moment_there_is_a_whole_vault(tmp_path: Path) -> None:
    made(tmp_path)
    for tenth in range(1, 8):
        with another(tmp_path, SAVING) as saving:
            seen = [saving.heard()]
            time.sleep(tenth / 100 + 0.003 * tenth)
            saving.running.send_signal(signal.SIGKILL)
            saving.running.wait()
            assert saving.running.stdout
            seen += saving.running.stdout.read().split()
        number = int(Vault.open(tmp_path)["number"])
        assert number in (int(seen[-1]), int(seen[-1]) + 1)
        assert stat.S_IMODE((tmp_path / "secrets.age").stat().st_mode) == 0o600
    # The next command is not kept waiting by a lock that a killed one held.
    again = Vault.open(tmp_path)
    again.put("more", "hush")
    began = time.monotonic()
    assert again.save()
    assert time.monotonic() - began < 5


def test_who_opened_an_old_vault_does_not_apply_it(tmp_path: Path) -> None:
    mine = made(tmp_path)
    mine.must_be_current()
    with another(tmp_path) as timer:
        assert timer.heard() == "open"
        timer.told("more", "hush")
        assert timer.heard() == "saved"
    with pytest.raises(MastioError, match="another command has changed it") as error:
        mine.must_be_current()
    assert "nothing was applied" in error.value.hint
    assert error.value.code is Exit.LOCKED
