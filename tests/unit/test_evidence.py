"""An auditor's archive is checked by other people's programs; whatever was changed in it shows."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from mastio import pki
from mastio.evidence import AUTHORITY, MANIFEST, SIGNATURE, pack, seal

KEY, CERTIFICATE = pki.authority("demo")
PARTS = {"status.json": b'{"machines": {}}\n', "site.toml": b"# a site\n"}
SIGNER = "evidence.demo.internal"


def unpacked(files: Mapping[str, bytes], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    argv = ["tar", "--extract", "--gzip", "--directory", str(folder)]
    subprocess.run(argv, input=pack(files, "evidence", 1e9), check=True)
    return folder / "evidence"


def checked(folder: Path, authority: str = AUTHORITY) -> bool:
    """As the archive's README says."""
    for argv in (
        ["sha256sum", "--quiet", "--check", MANIFEST],
        ["openssl", "cms", "-verify", "-inform", "DER", "-in", SIGNATURE, "-content", MANIFEST,
         "-binary", "-CAfile", authority, "-out", "/dev/null"],
    ):  # fmt: skip
        if subprocess.run(argv, cwd=folder, capture_output=True, check=False).returncode:
            return False
    return True


def test_it_is_as_it_was_signed(tmp_path: Path) -> None:
    folder = unpacked(seal(PARTS, KEY, CERTIFICATE, SIGNER), tmp_path)
    assert checked(folder)
    for name, content in PARTS.items():
        assert (folder / name).read_bytes() == content
    listed = {it.split("  ")[1] for it in (folder / MANIFEST).read_text().splitlines()}
    assert listed == {it.name for it in folder.iterdir()} - {MANIFEST, SIGNATURE}


@pytest.mark.parametrize("name", ["status.json", "README", AUTHORITY, MANIFEST])
def test_what_was_changed_shows(tmp_path: Path, name: str) -> None:
    folder = unpacked(seal(PARTS, KEY, CERTIFICATE, SIGNER), tmp_path)
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    assert not checked(folder)


def test_who_signs_it_anew_is_not_the_site(tmp_path: Path) -> None:
    """The archive's own certificate proves nothing: the auditor has it from elsewhere."""
    ours, theirs = tmp_path / "ca.pem", pki.authority("demo")
    ours.write_text(CERTIFICATE)
    folder = unpacked(seal(PARTS, *theirs, SIGNER), tmp_path)
    assert checked(folder)
    assert not checked(folder, str(ours))
    assert checked(unpacked(seal(PARTS, KEY, CERTIFICATE, SIGNER), tmp_path / "own"), str(ours))


def test_the_same_files_are_the_same_octets() -> None:
    assert pack(PARTS, "a", 1e9) == pack(dict(reversed(PARTS.items())), "a", 1e9)


def test_a_signers_certificate_opens_no_door(tmp_path: Path) -> None:
    files = seal(PARTS, KEY, CERTIFICATE, SIGNER)
    (tmp_path / "it.p7s").write_bytes(files[SIGNATURE])
    argv = [
        "openssl",
        "pkcs7",
        "-inform",
        "DER",
        "-in",
        "it.p7s",
        "-print_certs",
        "-out",
        "one.pem",
    ]
    subprocess.run(argv, cwd=tmp_path, check=True)
    (tmp_path / "ca.pem").write_text(CERTIFICATE)

    def good_for(purpose: str) -> bool:
        argv = ["openssl", "verify", "-CAfile", "ca.pem", "-purpose", purpose, "one.pem"]
        return not subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False).returncode

    assert good_for("smimesign")
    assert not good_for("sslclient") and not good_for("sslserver")
