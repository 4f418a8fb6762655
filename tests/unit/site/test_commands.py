"""`mastio init` and `mastio check`, as a user calls them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mastio.cli.common import App
from mastio.cli.site import check, init
from mastio.errors import Exit, MastioError

FLAGS = (
    "--organisation", "Fortress Ltd", "--domain", "fortress.test", "--public", "203.0.113.1",
    "--admin", "alice@fortress.test",
)  # fmt: skip
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3W1l8Y3mVbN0c0m2G6Vd1q0l0s8Xx7Yw0y8n6l0Q2b"
OVER_SSH = ("--admin-network", "198.51.100.0/28", "--admin-key")


def run_init(*args: str | Path) -> str:
    done = CliRunner().invoke(init, [str(it) for it in args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def run_check(folder: Path, *args: str) -> tuple[str, int]:
    done = CliRunner().invoke(
        check, args, obj=App(str(folder)), catch_exceptions=False, standalone_mode=False
    )
    return done.output, int(done.return_value or 0)


def test_init_then_check(tmp_path: Path) -> None:
    key = tmp_path / "id.pub"
    key.write_text(f"{ED25519} alice\n")
    folder = tmp_path / "My Site"
    run_init(folder, *FLAGS, *OVER_SSH, key)
    output, code = run_check(folder)
    assert code == 0
    assert "Fortress Ltd (my-site)" in output and "10.77.3.10" in output
    plain = json.loads(run_check(folder, "--json")[0])
    assert plain["machines"]["store"]["zone"] == "core"


def test_init_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("mine")
    with pytest.raises(MastioError, match="exists already"):
        run_init(tmp_path, *FLAGS, "--reach", "lab")
    assert (tmp_path / "site.toml").read_text() == "mine"


def test_init_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        MastioError, match=r"--organisation, --domain, --public, --admin, --admin-n"
    ) as caught:
        run_init(tmp_path / "new")
    assert caught.value.code is Exit.USAGE
    assert not (tmp_path / "new").exists()


def test_init_writes_nothing_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(MastioError, match="public: 'x' is not an IP address") as caught:
        run_init(tmp_path / "new", *FLAGS, "--public", "x", "--reach", "lab")
    assert caught.value.code is Exit.DATA
    assert not (tmp_path / "new").exists()


def test_init_refuses_private_keys(tmp_path: Path) -> None:
    key = tmp_path / "id"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET\n")
    with pytest.raises(MastioError, match="is a private key"):
        run_init(tmp_path / "new", *FLAGS, *OVER_SSH, key)


def test_check_tells_problems(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("nmae = 1\n")
    output, code = run_check(tmp_path, "--json")
    assert code == Exit.DATA
    assert {"name", "nmae"} <= {it["key"] for it in json.loads(output)["problems"]}
    with pytest.raises(MastioError, match="nmae: unknown key"):
        run_check(tmp_path)
