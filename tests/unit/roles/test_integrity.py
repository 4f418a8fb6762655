"""Integrity: what the machine that is measured takes, and who may bring it."""

import hashlib
import io
import json
import re

import pytest

from mastio import pki
from mastio.build import build
from mastio.context import Internet
from mastio.roles.integrity import measure
from mastio.state import HostState
from mastio.vault import Vault
from mastio.verify import kit
from mastio.watch.measuring import parcel
from tests import sites

CONFIG, TOOLS = b"/etc R\n", {"aide": b"1", "ld-linux-x86-64.so.2": b"22"}
NAMED = hashlib.sha256(CONFIG).hexdigest(), measure.digest(TOOLS)


def text(state: HostState, path: str) -> str:
    return next(it.content for it in state.files if it.path == path)


def taken(stdin: bytes, config: str = NAMED[0], tools: str = NAMED[1]) -> object:
    return measure.taken(io.BytesIO(stdin), config, tools)


def test_what_apply_has_named_is_taken() -> None:
    assert taken(parcel(CONFIG, TOOLS)) == (CONFIG, TOOLS)


@pytest.mark.parametrize(
    "stdin",
    [
        b"", b"x\n", b"{}\n", b"[]\n",
        parcel(CONFIG + b"@@x_include /evil\n", TOOLS),
        parcel(CONFIG, {**TOOLS, "aide": b"evil"}),
        parcel(CONFIG, {**TOOLS, "libevil.so": b""}),
        parcel(CONFIG, {"../../bin/sh": b"1"}),
        parcel(CONFIG, {}),
        parcel(CONFIG, TOOLS)[:-1],
        b'{"config": -1, "tools": []}\n',
        b'{"config": 999999999999, "tools": []}\n',
    ],
)  # fmt: skip
def test_all_else_is_refused(stdin: bytes) -> None:
    with pytest.raises(measure.RefusedError):
        taken(stdin)


def test_nothing_is_taken_before_tools_are_named() -> None:
    with pytest.raises(measure.RefusedError):
        taken(parcel(CONFIG, TOOLS), tools="")


def test_every_machine_takes_the_key_for_one_program_and_names_one_configuration(
    built: dict[str, HostState], vault: Vault
) -> None:
    public = pki.ssh_public(vault["integrity/watch/cert"])
    config = text(built["watch"], "/etc/mastio/integrity-aide.conf")
    for name, state in built.items():
        allowed = json.loads(text(state, measure.ALLOWED))
        assert allowed == {"config": hashlib.sha256(config.encode()).hexdigest()}
        paths = {it.path for it in state.files}
        if name == "watch":
            assert "aide" in state.packages
            continue
        line = text(state, "/etc/ssh/authorized_keys.d/integrity")
        assert public in line and line.startswith("restrict,from=") and "mastio-measure" in line
        sshd = text(state, "/etc/ssh/sshd_config.d/10-mastio.conf")
        assert "authorized_keys.d/integrity" in sshd.partition("Match User root Address ")[2]
        assert "/etc/mastio/integrity.key" not in paths and "aide" not in state.packages


def test_the_configuration_leaves_out_no_place_where_a_program_could_hide(
    built: dict[str, HostState],
) -> None:
    config = text(built["watch"], "/etc/mastio/integrity-aide.conf")
    left_out = [line for line in config.splitlines() if line.startswith("!")]
    # Single files, whole names: nothing that ends or begins with anything.
    assert left_out and all(line.endswith("$ f") and ".*" not in line for line in left_out)
    assert not re.search(r"^@@x_", config, re.MULTILINE)


def test_in_the_lab_nothing_begins_by_itself(built: dict[str, HostState], vault: Vault) -> None:
    names = {it.name for it in built["watch"].units}
    assert {f"mastio-integrity-{it}.timer" for it in ("check", "deep", "late")} <= names
    asleep = build(sites.demo_site(), vault, Internet(), kit.kit(awake=False))["watch"]
    assert not any("integrity" in it.name for it in asleep.units)
