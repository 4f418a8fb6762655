"""Verification by watch: what its key may have run, and who takes it."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mastio import pki
from mastio.build import build
from mastio.context import Internet
from mastio.roles.inspection import look
from mastio.site import plain
from mastio.state import HostState
from mastio.transport import PYTHON, parcel
from mastio.vault import Vault
from mastio.verify import commands, kit
from mastio.verify.probes import host
from mastio.verify.vantage import program
from tests import sites

KIT = kit.kit()
ALLOWED = json.loads(
    json.dumps({"boot": KIT.boot, "programs": KIT.programs, "commands": KIT.commands})
)


def text(state: HostState, path: str) -> str:
    return next(it.content for it in state.files if it.path == path)


def judged(words: list[str], stdin: bytes = b"") -> bytes:
    return look.judged(words, io.BytesIO(stdin), ALLOWED)


def test_commands_of_checks_and_probes_of_this_version_are_run() -> None:
    assert judged(["true"]) == b""
    assert judged(list(commands.ROUNDCUBE)) == b""
    parcelled = parcel(program(host.__name__), b"{}")
    assert judged(list(PYTHON), parcelled) == parcelled


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        ([], b""),
        (["cat", "/etc/shadow"], b""),
        (["true", "x"], b""),
        (["sh", "-c", "true"], b""),
        (list(PYTHON), parcel("import os", b"{}")),
        (list(PYTHON), parcel(program(host.__name__) + " ", b"{}")),
        (list(PYTHON), b"-1\n5\nhello"),
        (list(PYTHON), b"x\n"),
        (list(PYTHON), b"9999999\n9999999\n"),
        ([*PYTHON[:-1], "print(1)"], b""),
    ],
)
def test_all_else_is_refused(words: list[str], stdin: bytes) -> None:
    with pytest.raises(look.RefusedError):
        judged(words, stdin)


def test_no_probe_shows_what_not_everybody_may_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("secret")
    path.chmod(0o640)
    with pytest.raises(ValueError, match="everybody"):
        host.text(str(path))
    path.chmod(0o644)
    assert host.text(str(path)) == "secret"


def test_every_machine_but_watch_takes_the_key_and_runs_one_program(
    built: dict[str, HostState], vault: Vault
) -> None:
    public = pki.ssh_public(vault["inspection/watch/cert"])
    for name, state in built.items():
        paths = {it.path for it in state.files}
        if name == "watch":
            assert "/etc/ssh/authorized_keys.d/inspection" not in paths
            continue
        line = text(state, "/etc/ssh/authorized_keys.d/inspection")
        assert public in line and line.startswith("restrict,from=") and 'command="' in line
        assert "inspection.key" not in " ".join(paths)
        sshd = text(state, "/etc/ssh/sshd_config.d/10-mastio.conf")
        match = sshd.partition("Match User root Address ")[2]
        assert {*match.splitlines()[0].split(",")} == {
            str(it) for it in sites.demo_site().machine("watch").addresses
        }
        assert "authorized_keys.d/inspection" in match


def test_watch_has_the_site_the_way_and_the_program(
    built: dict[str, HostState], tmp_path: Path
) -> None:
    watch = built["watch"]
    assert plain.recall(text(watch, "/etc/mastio/inspection-site.json")) == sites.demo_site()
    settings = json.loads(text(watch, "/etc/mastio/inspection.json"))
    assert set(settings["ssh"]) == {"firewall", "gateway", "store", "webmail"}
    assert settings["stores"] == ["store"]
    (key,) = (it for it in watch.files if it.path == "/etc/mastio/inspection.key")
    assert key.secret and key.mode == 0o600
    packed = base64.b64decode(text(watch, "/usr/local/lib/mastio/mastio.tar.gz.b64"))
    subprocess.run(["tar", "-xz", "-C", str(tmp_path)], input=packed, check=True)
    assert not (tmp_path / "mastio/lab").exists()
    # It starts without what only an administrator's machine has.
    blocked = "import sys; sys.modules.update(dict.fromkeys(('click', 'rich', 'pyrage', 'argon2')))"
    done = subprocess.run(
        [sys.executable, "-c", f"{blocked}; import mastio.watch.schedule as it; print(it.__file__)"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith(str(tmp_path)), done.stderr


def test_in_the_lab_nothing_begins_by_itself(built: dict[str, HostState], vault: Vault) -> None:
    names = {it.name for it in built["watch"].units}
    assert {
        "mastio-verify-fast.timer",
        "mastio-verify-full.timer",
        "mastio-verify-late.timer",
    } <= names
    asleep = build(sites.demo_site(), vault, Internet(), kit.kit(awake=False))["watch"]
    assert not any("verify" in it.name for it in asleep.units)
    assert any("verify-fast.timer" in it.path for it in asleep.files)


def test_the_package_is_the_same_each_time_and_no_check_asks_for_more_than_the_list() -> None:
    assert kit.package() == kit.package()
    checks = Path(kit.__file__).parent / "checks"
    for path in checks.glob("*.py"):
        for called in re.findall(r"vantage\.(?:output|run)\(([^)\s]*)", path.read_text()):
            on_outside = path.name == "network.py" and called in ("", '"nmap",')
            assert on_outside or called.lstrip("*").startswith("commands."), (
                f"{path.name}: {called}"
            )
