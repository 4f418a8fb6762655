"""Keys of before: gone once sshd does not read them, and not sooner."""

import json
from pathlib import Path

import pytest

from mastio.adopt import old_keys, pins

OURS = "authorizedkeysfile /etc/ssh/authorized_keys.d/%u"


@pytest.mark.parametrize(
    ("said", "reads"),
    [
        (f"port 22\n{OURS}\n", False),
        ("port 22\nauthorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2\n", True),
        (f"{OURS} .ssh/authorized_keys\n", True),
        (f"{OURS} /home/%u/keys %h/.ssh/keys\n", True),
        ("port 22\n", True),
    ],
)
def test_what_sshd_still_reads_is_left(said: str, reads: bool) -> None:
    assert old_keys.reads_homes(said) is reads


def test_keys_go_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    for name in ("authorized_keys", "id_ed25519"):
        (tmp_path / ".ssh" / name).write_text("x")
    there = old_keys.files(tmp_path)
    assert old_keys.remove(there) == [str(tmp_path / ".ssh" / "authorized_keys")]
    assert [it.name for it in (tmp_path / ".ssh").iterdir()] == ["id_ed25519"]
    assert old_keys.files(tmp_path) == []


def test_of_others_those_go_that_an_administrators_key_opens(tmp_path: Path) -> None:
    homes = [tmp_path / it for it in ("debian", "carol", "nobody")]
    for home, key in zip(homes, ("ssh-ed25519 AAAAours x", "ssh-ed25519 AAAAhers y"), strict=False):
        (home / ".ssh").mkdir(parents=True)
        (home / ".ssh/authorized_keys").write_text(f"# cloud-init\nno-pty {key}\n")
    (tmp_path / "nobody/.ssh").mkdir(parents=True)
    (tmp_path / "nobody/.ssh/authorized_keys").symlink_to("/nowhere")
    found = [*old_keys.doors(homes, ["ssh-ed25519 AAAAours alice@laptop"])]
    assert found == [tmp_path / "debian/.ssh/authorized_keys"]


def test_it_is_done_once_and_again_after_another_adoption(tmp_path: Path) -> None:
    assert pins.old_doors(tmp_path) == frozenset()
    pins.remember(tmp_path, "store", through_watch=True)
    assert pins.old_doors(tmp_path) == {"store"}
    pins.closed(tmp_path, "store")
    assert pins.old_doors(tmp_path) == frozenset()
    assert json.loads((tmp_path / "adopted.json").read_text())["store"]["through_watch"]
    pins.remember(tmp_path, "store", through_watch=True)
    assert pins.old_doors(tmp_path) == {"store"}
