"""What the box lacks is said once, clearly, with what to do."""

import socket
from pathlib import Path

import pytest

from mastio.errors import Exit, MastioError
from mastio.lab import host


def test_only_root() -> None:
    with pytest.raises(MastioError) as error:
        host.require_root(uid=1000)
    assert error.value.code == Exit.NOPERM
    assert "sudo" in error.value.hint
    host.require_root(uid=0)


def test_programs_that_lack_are_named_by_their_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {"systemd-container", "mmdebstrap", "socat"} <= set(host.missing())


def test_what_cannot_be_installed_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MastioError, match="systemd-container") as error:
        host.install(("systemd-container",))
    assert error.value.code == Exit.CANT_CREATE


@pytest.mark.parametrize("succeeds", [True, False])
def test_an_apt_that_does_not_help_says_what_to_do_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, succeeds: bool
) -> None:
    for name in ("apt-get", "env"):
        (tmp_path / name).symlink_to("/bin/true" if succeeds else "/bin/false")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MastioError, match="systemd-container") as error:
        host.install(("systemd-container",))
    assert "apt install systemd-container" in error.value.hint


def test_too_little_disk(tmp_path: Path) -> None:
    with pytest.raises(MastioError, match=r"0\.5 GiB left") as error:
        host.require_space(tmp_path, free=lambda path: 1 << 29)
    assert "MASTIO_CACHE" in error.value.hint
    host.require_space(tmp_path, free=lambda path: 1 << 40)


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert host.free_bytes(tmp_path / "not" / "yet") > 0


def test_a_taken_port() -> None:
    with socket.socket() as other:
        other.bind((host.LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(MastioError, match=str(port)) as error:
            host.require_port(port)
        assert "--port" in error.value.hint
    host.require_port(port)
