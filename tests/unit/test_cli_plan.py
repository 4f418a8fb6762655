"""`mastio plan` and `apply` as a user meets them: output, exit codes, refusals."""

import getpass
import grp
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mastio.adopt import pins
from mastio.apply import Outcome, site_lock
from mastio.cli.common import App
from mastio.cli.plan import apply_, plan
from mastio.errors import Exit, MastioError
from mastio.state import File, HostState
from mastio.transport import Transport, unavailable
from mastio.vault import Vault
from tests import sites


class Nearby(Transport):
    """Every machine is this one, but `away`, which is down."""

    key = ""

    def argv(self, machine: str, command: Sequence[str]) -> list[str]:
        if machine == "away":
            raise unavailable(machine, "no route to host")
        return [sys.executable, *command[1:]]

    def opened_by(self, machine: str) -> str:
        return self.key


@dataclass
class Fake(App):
    """A site folder with given states."""

    given_states: dict[str, HostState]

    def states(self) -> dict[str, HostState]:
        return self.given_states

    def transport(self) -> Transport:
        return Nearby()


@pytest.fixture
def app(tmp_path: Path) -> Fake:
    owner, group = getpass.getuser(), grp.getgrgid(os.getgid()).gr_name
    (tmp_path / "conf").write_text("one\n")
    file = File(str(tmp_path / "conf"), "two\n", owner, group, 0o644)
    return Fake(str(tmp_path), {"near": HostState(files=(file,))})


def run(command: object, app: App, *words: str) -> Result:
    return CliRunner().invoke(command, words, obj=app, standalone_mode=False)  # type: ignore[arg-type]


def test_plan_shows_the_diff_and_says_that_there_are_changes(app: Fake) -> None:
    result = run(plan, app)
    assert result.return_value is Exit.CHANGES
    assert "near · 1 change\n" in result.output
    assert "-one\n" in result.output
    assert "+two\n" in result.output
    assert result.output.endswith("1 change on 1 of 1 machine.\n")
    assert "+two" not in run(plan, app, "--no-diff").output


def test_plan_as_json(app: Fake) -> None:
    result = run(plan, app, "--json")
    assert json.loads(result.stdout)["near"]["paths"][0]["kind"] == "change"


def test_an_unreachable_machine_does_not_hide_the_others(app: Fake) -> None:
    app.given_states["away"] = HostState()
    result = run(plan, app)
    assert result.return_value is Exit.UNAVAILABLE
    assert "near · 1 change" in result.output
    assert "away cannot be reached: no route to host" in result.output
    assert json.loads(run(plan, app, "--json").stdout)["away"]["error"]


def test_a_machine_that_does_not_exist(app: Fake) -> None:
    with pytest.raises(MastioError, match="no such machine: far") as caught:
        raise run(plan, app, "far").exception or AssertionError
    assert caught.value.code is Exit.USAGE


def test_apply_asks_and_needs_somebody_to_ask(app: Fake) -> None:
    error = run(apply_, app).exception
    assert isinstance(error, MastioError)
    assert error.code is Exit.USAGE
    assert "--yes" in error.hint


def test_two_applies_at_once(app: Fake) -> None:
    with site_lock(app.folder):
        error = run(apply_, app, "--yes").exception
    assert isinstance(error, MastioError)
    assert error.code is Exit.LOCKED
    assert f"pid {os.getpid()}" in error.message


def test_apply_with_nothing_to_do_takes_no_second_trip(app: Fake) -> None:
    app.given_states = {"near": HostState()}
    result = run(apply_, app, "--yes", "--json")
    assert result.return_value == Exit.OK
    assert json.loads(result.stdout)["near"]["words"] == "nothing to do"


def test_apply_to_a_machine_that_is_away(app: Fake) -> None:
    app.given_states = {"away": HostState()}
    result = run(apply_, app, "--yes")
    assert result.return_value == Exit.UNAVAILABLE
    assert "failed" in result.output


def test_a_machine_that_is_away_does_not_keep_apply_from_the_others(
    app: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.given_states |= {"away": HostState(), "other": HostState()}
    monkeypatch.setattr(
        "mastio.cli.plan.apply_all",
        lambda _, ready, __: {it: Outcome(True, "done", 0.0, Exit.OK) for it in ready},
    )
    for hook in ("must_be_current", "site"):
        monkeypatch.setattr(Fake, hook, lambda self: sites.demo_site())
    result = run(apply_, app, "--yes", "--json")
    assert result.return_value == Exit.UNAVAILABLE
    told = json.loads(result.stdout)
    assert told["near"]["ok"] and told["other"]["ok"] and not told["away"]["ok"]
    assert "no route to host" in told["away"]["words"]


def test_apply_with_a_vault_that_was_rotated_meanwhile(
    app: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question and its answer, say: what was rotated away must not come back to the machines."""
    monkeypatch.setenv("MASTIO_IDENTITY", str(tmp_path / "keys" / "identity"))
    mine = app.__dict__["vault"] = Vault.open(
        tmp_path
    )  # as `App.vault` has it once it was asked for
    mine.put("host/near/key", "former")
    mine.save()
    other = Vault.open(tmp_path)
    other.put("host/near/key", "rotated")
    other.save()
    error = run(apply_, app, "--yes").exception
    assert isinstance(error, MastioError)
    assert error.code is Exit.LOCKED
    assert "another command has changed it" in error.message
    assert (tmp_path / "conf").read_text() == "one\n"
    app.__dict__["vault"] = Vault.open(tmp_path)
    app.must_be_current()


def test_nobody_takes_away_the_key_by_which_he_comes(
    app: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = (f"ssh-ed25519 {it * 68} somebody" for it in "AB")
    monkeypatch.setattr("mastio.cli.plan.ROOT_KEYS", str(tmp_path / "conf"))
    monkeypatch.setattr(Nearby, "key", pins.fingerprint(mine))
    monkeypatch.setattr(Fake, "site", lambda self: replace(sites.demo_site(), admin_keys=(other,)))
    monkeypatch.setattr(Fake, "must_be_current", lambda self: None)
    error = run(apply_, app, "--yes").exception
    assert isinstance(error, MastioError) and "would lock yourself out" in error.message
    assert error.code is Exit.DATA and (tmp_path / "conf").read_text() == "one\n"
    done: list[str] = []
    monkeypatch.setattr("mastio.cli.plan.apply_all", lambda *_: done.append("applied") or {})
    for key, keys in ((mine, (other, mine)), ("", (other,))):
        monkeypatch.setattr(Nearby, "key", pins.fingerprint(key) if key else "")
        monkeypatch.setattr(
            Fake, "site", lambda self, keys=keys: replace(sites.demo_site(), admin_keys=keys)
        )
        run(apply_, app, "--yes")
    assert done == ["applied"] * 2
