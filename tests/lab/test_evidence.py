"""`mastio evidence` on the real site: all of it, signed, without a secret; what cannot be had is named."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mastio.cli.evidence import COMMANDS
from mastio.context import PKI
from mastio.errors import Exit
from mastio.lab.machine import Machine
from mastio.site.model import Role
from mastio.vault import Vault
from tests.lab.conftest import TheLab as Lab
from tests.lab.conftest import mastio
from tests.lab.mail import the
from tests.unit.test_evidence import checked

pytestmark = pytest.mark.lab


def collected(lab: Lab, place: Path) -> tuple[int, dict[str, Any], Path]:
    """How it ended, what it says is in it, and the unpacked archive."""
    done = mastio(lab.folder, "evidence", "--json", "--out", str(place))
    assert done.stdout, done.stderr
    subprocess.run(["tar", "--extract", "--file", place], cwd=place.parent, check=True)
    (folder,) = (it for it in place.parent.iterdir() if it.is_dir())
    return done.returncode, json.loads(done.stdout), folder


@pytest.fixture(scope="module")
def whole(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any], Path]:
    return collected(lab, tmp_path_factory.mktemp("evidence") / "it.tar.gz")


def test_all_of_it_is_there_and_signed_by_the_site(
    lab: Lab, whole: tuple[int, dict[str, Any], Path]
) -> None:
    code, about, folder = whole
    assert code == 0, about
    there = {it.name for it in folder.iterdir()}
    assert {*COMMANDS, "site.toml", "machines.json", "about.json"} <= there
    assert (folder / "site.toml").read_bytes() == (lab.folder / "site.toml").read_bytes()
    machines = json.loads((folder / "machines.json").read_text())
    assert set(machines) == {it.name for it in lab.site.machines}
    store = machines[the(lab, Role.STORE).name]
    assert store["release"].startswith("13") and store["packages"]["dovecot-core"].startswith(
        "1:2.4"
    )
    for file in COMMANDS:
        if file.endswith(".json"):
            assert json.loads((folder / file).read_text()) is not None
    ours = folder.parent / "ca.pem"
    ours.write_bytes(lab.run(the(lab, Role.STORE).name, ["cat", f"{PKI}/ca.pem"]).stdout)
    assert checked(folder, str(ours))
    with (folder / "status.json").open("a") as file:
        file.write("\n")
    assert not checked(folder, str(ours))


def test_it_is_for_its_owner_and_has_no_secret(
    lab: Lab, whole: tuple[int, dict[str, Any], Path]
) -> None:
    _, _, folder = whole
    assert (folder.parent / "it.tar.gz").stat().st_mode & 0o077 == 0
    text = b"\n".join(it.read_bytes() for it in folder.iterdir()).decode(errors="replace")
    public = ("/cert", "/public")
    secrets = [value for name, value in Vault.open(lab.folder).items() if not name.endswith(public)]
    secrets += lab.accounts.values()
    assert len(secrets) > 10
    for value in secrets:
        for line in value.splitlines():
            assert len(line) < 16 or "-----" in line or line not in text


def test_what_cannot_be_had_is_named_and_the_rest_is_there(lab: Lab, tmp_path: Path) -> None:
    webmail = the(lab, Role.WEBMAIL).name
    Machine(lab.site.name, webmail).stop()
    try:
        code, about, folder = collected(lab, tmp_path / "part.tar.gz")
    finally:
        assert mastio(lab.folder, "lab", "up").returncode == 0
    assert code == Exit.UNAVAILABLE
    missing = {it["file"]: it["missing"] for it in about["parts"] if it["missing"]}
    assert webmail in missing["machines.json"]
    assert about["parts"] == json.loads((folder / "about.json").read_text())["parts"]
    assert webmail not in json.loads((folder / "machines.json").read_text())
    assert checked(folder)


def test_nothing_is_overwritten(lab: Lab, tmp_path: Path) -> None:
    place = tmp_path / "kept.tar.gz"
    place.write_text("mine")
    done = mastio(lab.folder, "evidence", "--out", str(place))
    assert done.returncode == Exit.CANT_CREATE and "is there already" in done.stderr
    assert place.read_text() == "mine"
