"""A message is the same on the store's disk, as the door tells it, and by IMAP on the scratch store."""

from pathlib import Path

import pytest

from mastio.roles.restore import door, scratch


@pytest.mark.parametrize(
    ("on_disk", "by_imap"),
    [
        (b"Subject: a\n\nb\n", b"Subject: a\r\n\r\nb\r\n"),
        (b"Subject: a\n\nzero \0 in it\n", b"Subject: a\r\n\r\nzero \x80 in it\r\n"),
    ],
)
def test_what_imap_cannot_say_is_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_disk: bytes, by_imap: bytes
) -> None:
    folder = tmp_path / "Maildir" / "cur"
    folder.mkdir(parents=True)
    (folder / "1.M1P1.store:2,").write_bytes(on_disk)
    monkeypatch.setattr(door, "home", lambda user: tmp_path)
    (told,) = door.hashed("a@b.test")["folders"][""].values()
    assert told[0] == scratch.digest(on_disk) == scratch.digest(by_imap)
    assert told[0] != scratch.digest(by_imap + b"more\r\n")
