"""Probes for integrity: what AIDE does not see."""

from pathlib import Path

import pytest

from mastio.verify.probes import state


def test_suid_files_are_found_where_nobody_else_looks(tmp_path: Path) -> None:
    for name, mode in (("plain", 0o755), ("u", 0o4755), ("g", 0o2755), ("lock", 0o2644)):
        for folder in ("a/b", "measured", "mail"):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            path.chmod(mode)
    (tmp_path / "a/link").symlink_to(tmp_path / "mail/u")
    found = state.suid([f"{tmp_path}/measured"], [f"{tmp_path}/mail"], str(tmp_path))
    assert found == [f"{tmp_path}/a/b/g 2755", f"{tmp_path}/a/b/u 4755"]


class Person:
    pw_name, pw_uid, pw_shell = "eve", 1000, "/bin/sh"

    def __init__(self, home: Path) -> None:
        self.pw_dir = str(home)


def test_keys_are_told_one_by_one_without_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        state.pwd, "getpwall", lambda: [Person(tmp_path / "eve"), Person(tmp_path / "no")]
    )
    (tmp_path / "eve/.ssh").mkdir(parents=True)
    path = tmp_path / "eve/.ssh/authorized_keys2"
    path.write_text("# whose\nssh-ed25519 AAAA one\n\nssh-ed25519 BBBB two\n")
    found = state.keys([])
    assert len(found) == 2 and all(it.startswith(f"{path} ") and "AAAA" not in it for it in found)
    assert state.keys([str(tmp_path)]) == []
    assert state.accounts() == ["eve (uid 1000, shell /bin/sh)"] * 2
