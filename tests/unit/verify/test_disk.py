"""The probe that looks what lies on a disk: each kind is found by its content, and a sound twin is not."""

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mastio import pki
from mastio.accounts.passwords import hashed
from mastio.verify.model import Kind
from mastio.verify.probes import disk

MAIL = (
    b"MIME-Version: 1.0\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nFrom: a@b.test\r\n\r\nHello.\r\n"
)
AUTHORITY = pki.authority("test")
KEY, CERTIFICATE = pki.issue(*AUTHORITY, "store.demo.internal", "other.demo.internal")
OPENSSH = (
    ed25519.Ed25519PrivateKey.generate()
    .private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    .decode()
)
ED25519 = base64.b64encode(bytes(64)).decode()
AGE_KEY = "AGE-SECRET-" + "KEY-1" + "Q" * 58


def look(folder: Path, *certificates: str) -> list[dict[str, Any]]:
    said = disk.secrets(str(folder), list(certificates))
    assert said["unread"] == []
    found: list[dict[str, Any]] = said["found"]
    return found


@pytest.mark.parametrize(("content", "kind"), [
    (KEY, Kind.PRIVATE_KEY),
    ("junk\0" * 9 + KEY, Kind.PRIVATE_KEY),
    (KEY.replace("\n", "\\n"), Kind.PRIVATE_KEY),
    (f"{ED25519}\n", Kind.PRIVATE_KEY),
    (OPENSSH, Kind.SSH_KEY),
    ("age-encryption.org/v1\n-> X25519", Kind.VAULT),
    (f"# a comment\n{AGE_KEY}\n", Kind.VAULT_KEY),
    (f"alice:{hashed('x')}", Kind.PASSWORD_HASH),
    ("root:$6$saltsalt$" + "a" * 86 + ":1::::::", Kind.PASSWORD_HASH),
    ("$config['des_key'] = 'abcdefghijklmnopqrstuvwx';", Kind.SESSION_KEY),
    ("SQLite format 3\0 \0 CREATE TABLE session (", Kind.SESSION),
    (f"[Interface]\nPrivateKey = {base64.b64encode(bytes(32)).decode()}\n", Kind.WIREGUARD_KEY),
    ("C\x5f           512             212               1               0 ", Kind.QUEUED_MAIL),
    ("From alice Thu Jan  1 00:00:00 2026\nSubject: x\n\n", Kind.MAIL),
    ('{"id": 1}\nReceived: from x\n', Kind.MAIL),
    (MAIL.decode(), Kind.MAIL),
])  # fmt: skip
def test_each_kind_is_found_by_its_content(tmp_path: Path, content: str, kind: Kind) -> None:
    (tmp_path / "harmless.txt").write_text(content)
    (found,) = look(tmp_path)
    assert (found["kind"], found["count"]) == (kind, 1)
    assert found["path"] == str(tmp_path / "harmless.txt")


@pytest.mark.parametrize("content", [
    "", CERTIFICATE, "-----BEGIN PRIVATE KEY----- is how it begins", "a\nFrom: x\nDate: y\n",
    "Subject: nobody wrote it\n\nFrom: x\n", "root:!*:1::::::", "$6$x$y",
    "$config['des_key'] = 'rcmail-!24ByteDESkey*Str';", "SQLite format 3\0 CREATE TABLE account (",
    "-----BEGIN PUBLIC KEY-----\n" + "A" * 64,
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA somebody",
])  # fmt: skip
def test_what_only_looks_like_it_is_not(tmp_path: Path, content: str) -> None:
    (tmp_path / "harmless.txt").write_text(content)
    assert look(tmp_path) == []


def test_who_may_log_in_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "authorized_keys.d"
    folder.mkdir()
    (folder / "root").write_text('restrict,command="x" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA me\n')
    (folder / "nobody").write_text("# ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA me\n")
    assert [(it["kind"], it["path"]) for it in look(tmp_path)] == [
        (Kind.LOGIN_KEY, str(folder / "root"))
    ]


def test_a_key_is_told_by_the_certificate_beside_it_or_by_a_known_one(tmp_path: Path) -> None:
    names = ["store.demo.internal", "other.demo.internal"]
    one, two, known = (tmp_path / name for name in ("one", "two", "known"))
    for folder in (one, two, known):
        folder.mkdir()
    (one / "host.key").write_text(KEY)
    (one / "host.pem").write_text(CERTIFICATE)
    (two / "copy").write_text(KEY)
    (known / "certificate.pem").write_text(CERTIFICATE)
    assert {it["path"]: it["of"] for it in look(tmp_path)} == {
        str(one / "host.key"): names,
        str(two / "copy"): [],
    }
    assert [it["of"] for it in look(two, str(known / "certificate.pem"))] == [names]
    (one / "host.key").write_text(pki.server_key())
    assert [it["of"] for it in look(one)] == [[]]


def test_a_maildir_is_one_find_with_its_folders(tmp_path: Path) -> None:
    box = tmp_path / "alice"
    for folder in (box, box / ".Junk"):
        for name in ("cur", "new", "tmp"):
            (folder / name).mkdir(parents=True)
        (folder / "cur" / "1").write_bytes(MAIL)
    (box / "new" / "2").write_bytes(MAIL)
    (box / "extra").mkdir()
    (box / "extra" / "stray").write_bytes(MAIL)
    found = {it["path"]: it["count"] for it in look(tmp_path)}
    assert found == {str(box): 3, str(box / "extra/stray"): 1}


def test_only_where_it_is_leaves_the_machine(tmp_path: Path) -> None:
    secret = tmp_path / "k\x1b[31m\udcff"
    secret.write_text(KEY)
    secret.chmod(0o640)
    (found,) = look(tmp_path)
    assert found["mode"] == "0640" and found["owner"].count(":") == 1
    assert found["path"].endswith("k\\x1b[31m\\xdcff")
    assert "PRIVATE" not in str(found)


def test_links_are_not_followed_and_pipes_not_opened(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "link").symlink_to("key")
    os.mkfifo(tmp_path / "pipe")
    assert len(look(tmp_path)) == 1


def test_what_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(KEY)

    def refused(path: str) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(disk, "_head", refused)
    said = disk.secrets(str(tmp_path), [])
    assert said == {"found": [], "unread": [f"{tmp_path}/key: Permission denied"]}


def test_a_log_of_json_lines_is_no_mail(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"at": 1}\n{"at": 2}\n')
    assert look(tmp_path) == []
