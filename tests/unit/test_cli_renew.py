"""`mastio renew` as a timer runs it: DKIM keys that are due, and the units that start it each day."""

import configparser
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mastio import secrets
from mastio.cli import renew as module
from mastio.cli.common import App
from mastio.cli.renew import renew
from mastio.dns import rings
from mastio.errors import Exit, MastioError
from mastio.site.model import Site
from mastio.vault import Vault
from tests import sites

DOMAIN = sites.demo_site().domains[0]


class Fake(App):
    """A site folder whose DKIM keys may sign for `days`."""

    days = 0

    def site(self) -> Site:
        site = sites.demo_site()
        return replace(site, policy=replace(site.policy, dkim_days=self.days))


@pytest.fixture
def brought() -> list[str]:
    """What happened beside the vault."""
    return []


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brought: list[str]) -> Fake:
    monkeypatch.setenv("MASTIO_IDENTITY", str(tmp_path / "keys" / "identity"))
    vault = Vault.open(tmp_path)
    secrets.ensure(vault, sites.demo_site())
    vault.save()
    monkeypatch.setattr(module, "_waiting", lambda app: False)
    monkeypatch.setattr(
        module, "bring", lambda *_, **__: (brought.append("apply"), ({}, Exit.OK))[1]
    )
    monkeypatch.setattr(module, "must_be_published", lambda *_: brought.append("asked"))
    return Fake(str(tmp_path))


def run(app: App, *words: str) -> Result:
    return CliRunner().invoke(renew, words, obj=app, standalone_mode=False)


def signing(app: Fake) -> int:
    return rings.signing(secrets.ring_of(Vault.open(Path(app.folder)), DOMAIN)).number


def test_keys_that_are_due_change_and_go_to_the_machines(app: Fake, brought: list[str]) -> None:
    before = signing(app)
    assert json.loads(run(app, "--dry-run", "--json").stdout)["dkim"] == [DOMAIN]
    assert (signing(app), brought) == (before, [])
    result = run(app, "--json")
    assert result.return_value == Exit.OK, result.exception
    assert json.loads(result.stdout)["renewed"] == [f"dkim/{DOMAIN}"]
    assert (signing(app), brought) == (before + 1, ["asked", "apply"])


def test_keys_that_are_not_due_stay(app: Fake, brought: list[str]) -> None:
    app.days = 180
    before = signing(app)
    assert run(app).return_value == Exit.OK
    assert (signing(app), brought) == (before, [])


def test_keys_whose_successors_nobody_published_stay_and_it_is_told(
    app: Fake, brought: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise MastioError("the next keys are not in DNS", hint="publish them")

    monkeypatch.setattr(module, "must_be_published", missing)
    before = signing(app)
    result = run(app, "--json")
    assert result.return_value == Exit.DATA
    assert json.loads(result.stdout)["late"] == [f"{DOMAIN}: the next keys are not in DNS"]
    assert "→ publish them" in result.stderr
    assert (signing(app), brought) == (before, [])


@pytest.mark.parametrize(("age", "asked"), [(6, False), (7, True)])
def test_next_keys_that_nobody_has_published_for_a_week_are_told_long_before_they_are_due(
    app: Fake, brought: list[str], monkeypatch: pytest.MonkeyPatch, age: int, asked: bool
) -> None:
    def missing(_: App, domains: list[str], __: str) -> None:
        raise MastioError(f"the next keys of {domains} are not in DNS", hint="publish them")

    app.days = 180
    vault = Vault.open(Path(app.folder))
    since = secrets.today() - timedelta(days=age)
    ring = tuple(replace(it, since=since) for it in secrets.ring_of(vault, DOMAIN))
    vault.put(rings.name(DOMAIN), rings.unparse(ring))
    vault.save()
    assert run(app).return_value == Exit.OK
    assert brought == (["asked"] if asked else [])
    monkeypatch.setattr(module, "must_be_published", missing)
    before = signing(app)
    result = run(app, "--json")
    late = [f"{DOMAIN}: the next keys of {[DOMAIN]} are not in DNS"] if asked else []
    assert result.return_value == (Exit.DATA if asked else Exit.OK)
    assert (json.loads(result.stdout)["late"], signing(app)) == (late, before)
    assert ("→ publish them" in result.stderr) is asked


def test_a_timer_runs_it_each_day_on_this_site_with_this_identity(
    app: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr("sys.argv", ["/opt/mastio/mastio", "renew", "--timer"])
    service, timer = run(app, "--timer").output.split("# ~/.config/systemd/user/mastio-renew.timer")
    units = []
    for text in (service, timer):
        parser = configparser.ConfigParser(interpolation=None, strict=True)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read_string(text)
        units.append(parser)
    assert units[0]["Service"]["ExecStart"] == f'/opt/mastio/mastio --site "{app.folder}" renew'
    identity = Path(app.folder) / "keys" / "identity"
    assert units[0]["Service"]["Environment"].startswith(f'"MASTIO_IDENTITY={identity}"')
    assert (units[1]["Timer"]["OnCalendar"], units[1]["Timer"]["Persistent"]) == ("daily", "yes")
